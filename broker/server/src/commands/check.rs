//! `wardline check`: everything that `serve` would read, read and judged, and nothing started.

mod validity;

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use wardline_acl::{IssuerSource, Issuers, Policy, Require};

use self::validity::Period;
use super::{Failure, Outcome};
use crate::config::{Config, Issuer, Listener, Place, Problem};
use crate::descriptors;
use crate::door::Demand;
use crate::rules::{self, RulesError};
use crate::tls::{self, TlsFiles};
use crate::{clock, config};

/// How long before its end a certificate is pointed at: time to order, approve and roll out a new one.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Options of `wardline check`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command: one line for each finding, then a summary.
pub fn run(args: Args) -> Outcome {
    let report = check(&args.config, config::environment(), clock::now(), descriptors::allowed());
    // A closed pipe has read enough; the exit status still tells.
    let _ = write!(std::io::stdout().lock(), "{report}");
    match report.problems.len() {
        0 => Ok(()),
        1 => Err(Failure::usage("1 problem")),
        several => Err(Failure::usage(format!("{several} problems"))),
    }
}

/// What was found.
struct Report {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Of a configuration that could be read at all.
    config: Option<Config>,
}

/// As of `now`, for a process that may have so many file descriptors.
fn check(
    path: &Path,
    environment: impl Iterator<Item = (String, String)>,
    now: Timestamp,
    descriptors: u64,
) -> Report {
    let mut config = match Config::load(path, environment) {
        Ok(config) => config,
        Err(config::Problems(problems)) => return Report { problems, warnings: Vec::new(), config: None },
    };
    let mut report =
        Report { problems: Vec::new(), warnings: std::mem::take(&mut config.warnings), config: None };
    report.descriptors(Place::file(path), config.limits.connections, descriptors);
    for listener in &config.listeners {
        if let Some(files) = &listener.tls {
            report.tls(listener, files, now);
        }
    }
    for issuer in &config.identity.issuers {
        report.issuer(issuer);
    }
    report.policy(&config);
    if let Some(path) = &config.rules {
        report.rules(path);
    }
    report.config = Some(config);
    report
}

impl Report {
    fn problem(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem { place, message: message.into() });
    }

    fn warning(&mut self, place: Place, message: impl Into<String>) {
        self.warnings.push(Problem { place, message: message.into() });
    }

    fn descriptors(&mut self, place: Place, connections: usize, descriptors: u64) {
        match descriptors::shortage(connections, descriptors) {
            Ok(None) => {}
            Ok(Some(shortage)) => self.warning(place, shortage.to_string()),
            Err(error) => self.problem(place, error.to_string()),
        }
    }

    fn tls(&mut self, listener: &Listener, files: &TlsFiles, now: Timestamp) {
        if let Err(error) = tls::lock(files) {
            self.problem(listener.place.clone(), format!("listener `{}`: {error}", listener.name));
        }
        for path in [Some(&files.certificate), files.client_ca.as_ref()].into_iter().flatten() {
            for period in validity::certificates(path) {
                self.period(path, period, now);
            }
        }
        for path in &files.crl {
            if validity::next_updates(path).iter().any(|next| *next <= now) {
                let message = "a newer revocation list should have replaced this one; `wardline certs renew crl` makes one";
                self.warning(Place::file(path), message);
            }
        }
        let shared =
            fs::metadata(&files.key).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0);
        if shared {
            let message = format!(
                "other users can read this private key; mend it with: chmod 600 {}",
                files.key.display()
            );
            self.warning(Place::file(&files.key), message);
        }
    }

    fn period(&mut self, path: &Path, period: Period, now: Timestamp) {
        let place = Place::file(path);
        if now < period.from {
            self.problem(place, format!("this certificate is not valid before {}", period.from));
        } else if period.until <= now {
            self.problem(
                place,
                format!(
                    "this certificate expired at {}; `wardline certs renew` makes a new one",
                    period.until
                ),
            );
        } else if period.until.duration_since(now) < EXPIRES_SOON {
            self.warning(place, format!("this certificate expires at {}; renew it in time", period.until));
        }
    }

    fn issuer(&mut self, issuer: &Issuer) {
        let jwks = match fs::read(&issuer.jwks) {
            Ok(jwks) => jwks,
            Err(error) => return self.problem(Place::file(&issuer.jwks), error.to_string()),
        };
        let source = IssuerSource {
            issuer: &issuer.issuer,
            audience: &issuer.audience,
            jwks: &jwks,
            algorithms: &issuer.algorithms,
        };
        if let Err((name, error)) = Issuers::load([source]) {
            self.problem(Place::file(&issuer.jwks), format!("keys of issuer {name}: {error}"));
        }
    }

    fn policy(&mut self, config: &Config) {
        let path = &config.policy;
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problem(Place::file(path), error.to_string()),
        };
        let policy = match Policy::parse(&text) {
            Ok(policy) => policy,
            Err(errors) => {
                for error in errors.0 {
                    self.problem(Place::line(path, error.line), error.message);
                }
                return;
            }
        };
        for warning in policy.warnings() {
            self.warning(Place::line(path, warning.line), warning.message.clone());
        }
        for listener in &config.listeners {
            if let Demand::Anonymous(principal) = &listener.demand
                && !policy.knows(principal)
            {
                let message = format!(
                    "nobody can connect to listener `{}`: the policy {} does not name {principal}",
                    listener.name,
                    path.display()
                );
                self.warning(listener.place.clone(), message);
            }
        }
    }

    fn rules(&mut self, path: &Path) {
        match rules::load(path) {
            Ok(_) => {}
            Err(RulesError::Read { source, .. }) => self.problem(Place::file(path), source.to_string()),
            Err(RulesError::Wrong { problems, .. }) => {
                for problem in problems {
                    self.problem(Place::line(path, problem.line), problem.message);
                }
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "{}: warning: {}", warning.place, warning.message)?;
        }
        match &self.config {
            Some(config) if self.problems.is_empty() => summary(config, f),
            _ => Ok(()),
        }
    }
}

fn summary(config: &Config, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "configuration is good")?;
    writeln!(f, "  node {}, data in {}", config.node.id, config.node.data.display())?;
    for listener in &config.listeners {
        let demand = match &listener.demand {
            Demand::Anonymous(principal) => format!("everybody is {principal}"),
            Demand::Credentials(Require::Certificate) => "certificate".to_owned(),
            Demand::Credentials(Require::Token) => "token".to_owned(),
            Demand::Credentials(Require::Both) => "certificate and token".to_owned(),
        };
        writeln!(f, "  listener {}: {}://{}, {demand}", listener.name, listener.transport, listener.bind)?;
    }
    for issuer in &config.identity.issuers {
        writeln!(f, "  tokens of {}", issuer.issuer)?;
    }
    writeln!(f, "  policy {}", config.policy.display())?;
    match &config.rules {
        Some(rules) => writeln!(f, "  rules {}", rules.display())?,
        None => writeln!(f, "  no rules: no alerts are raised")?,
    }
    writeln!(f, "  journal: commit {}, quota {} bytes", config.journal.commit, config.journal.quota_bytes)?;
    match config.journal.keys.as_ref().and_then(|keys| keys.ids().next()) {
        Some(key) => writeln!(f, "  journal encrypted with key {key}")?,
        None => writeln!(f, "  journal not encrypted: whoever reads the disk reads it")?,
    }
    match &config.audit.store {
        Some(store) => writeln!(f, "  audit record in {}", store.name())?,
        None => writeln!(f, "  no audit record")?,
    }
    match config.http {
        Some(address) => writeln!(f, "  health and metrics on http://{address}"),
        None => writeln!(f, "  no health and metrics"),
    }
}

#[cfg(test)]
mod tests;
