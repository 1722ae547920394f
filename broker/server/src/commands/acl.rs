//! `wardline acl`: explain a permission.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use wardline_acl::{Decision, Policy, Principal};
use wardline_wire::topic;

use super::{Failure, Outcome};
use crate::config::Config;

/// Options of `wardline acl`.
#[derive(clap::Subcommand, Debug)]
pub enum Args {
    /// Say whether a principal may publish or subscribe, and by which rule
    ///
    /// Exit status 0: allowed. 1: denied. 2: wrong usage or policy.
    #[command(after_help = "Examples:\n  \
        wardline acl check --principal device:mon-12 publish telemetry/icu-3/b12/mon-12/hr\n  \
        wardline acl check --principal staff:n.ito --policy policy.toml subscribe 'alerts/icu-3/#'")]
    Check(Check),
}

/// Options of `wardline acl check`.
#[derive(clap::Args, Debug)]
pub struct Check {
    /// To do what
    action: Asked,
    /// Topic to publish to, or filter to subscribe
    topic: String,
    /// Who: device:ID, staff:ID, service:ID
    #[arg(long)]
    principal: Principal,
    #[command(flatten)]
    policy: PolicyFile,
}

/// Where the policy is.
#[derive(clap::Args, Debug)]
pub struct PolicyFile {
    /// The broker's configuration, which names the policy [default: wardline.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The policy, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Asked {
    Publish,
    Subscribe,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    let Args::Check(args) = args;
    check(&args, &mut io::stdout().lock())
}

fn check(args: &Check, out: &mut dyn Write) -> Outcome {
    let topic = args.topic.as_str();
    let (valid, rule) = match args.action {
        Asked::Publish => (topic::is_valid_name(topic), "a topic to publish to has no + and no #"),
        Asked::Subscribe => {
            (topic::is_valid_subscription(topic), "+ and # stand for whole levels, # only for the last")
        }
    };
    if !valid {
        return Err(Failure::usage(format!("{topic:?} cannot be used: {rule}")));
    }
    let grants = args.policy.load()?.grants(&args.principal, None);
    let decision = match args.action {
        Asked::Publish => grants.publish(topic),
        Asked::Subscribe => grants.subscribe(topic),
    };
    let answer = match decision {
        Decision::Granted(rule) => format!("allowed: {rule}"),
        Decision::Denied(rule) => format!("denied: {rule}"),
        refused => format!("denied: {refused}"),
    };
    writeln!(out, "{answer}").map_err(|e| Failure::failed(format!("cannot write the answer: {e}")))?;
    if decision.allowed() { Ok(()) } else { Err(Failure::failed("")) }
}

/// The broker's configuration when none is named.
const CONFIG_FILE: &str = "wardline.toml";

impl PolicyFile {
    /// The configuration that is named, or the one that is here; `None` without either.
    pub(super) fn config(&self) -> Result<Option<Config>, Failure> {
        let here = Path::new(CONFIG_FILE);
        let Some(path) = self.config.as_deref().or_else(|| here.exists().then_some(here)) else {
            return Ok(None);
        };
        Config::load(path, crate::config::environment())
            .map(Some)
            .map_err(|problems| Failure::usage(problems.to_string()))
    }

    /// The policy that is named, or else the configuration's.
    fn load(&self) -> Result<Policy, Failure> {
        if let Some(policy) = &self.policy {
            return load_policy(policy);
        }
        match self.config()? {
            Some(config) => load_policy(&config.policy),
            None => Err(Failure::usage(format!(
                "there is no {CONFIG_FILE} here: give --config FILE or --policy FILE"
            ))),
        }
    }
}

/// Reads a policy file.
pub(super) fn load_policy(path: &Path) -> Result<Policy, Failure> {
    let text = read(path)?;
    let text =
        String::from_utf8(text).map_err(|_| Failure::usage(format!("{} is not text", path.display())))?;
    Policy::parse(&text).map_err(|errors| {
        let lines: Vec<String> = errors.0.iter().map(|e| format!("{}: {e}", path.display())).collect();
        Failure::usage(lines.join("\n"))
    })
}

/// Reads a file that a command line or configuration names.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const POLICY: &str = r##"
        [roles.monitor]
        publish = ["telemetry/{unit}/{bed}/{id}/#"]
        [roles.lab]
        subscribe = ["#"]
        deny_subscribe = ["secret/#"]
        [principals."device:mon-12"]
        roles = ["monitor"]
        unit = "icu-3"
        bed = "b12"
        [principals."service:lab"]
        roles = ["lab"]
    "##;

    #[derive(Parser)]
    struct Command {
        #[command(subcommand)]
        args: Args,
    }

    /// As typed after `wardline acl check`: the exit status, and what was printed.
    fn checked(policy: &str, line: &str) -> (u8, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.toml");
        std::fs::write(&file, policy).unwrap();
        let words = ["acl", "check", "--policy", file.to_str().unwrap()];
        let command = Command::try_parse_from(words.into_iter().chain(line.split(' '))).unwrap();
        let Args::Check(args) = command.args;
        let mut out = Vec::new();
        match check(&args, &mut out) {
            Ok(()) => (0, String::from_utf8(out).unwrap()),
            Err(failure) => (failure.status, String::from_utf8(out).unwrap() + &failure.message),
        }
    }

    #[test]
    fn the_answer_is_the_exit_status_and_the_rule() {
        for (line, status, says) in [
            (
                "--principal device:mon-12 publish telemetry/icu-3/b12/mon-12/hr",
                0,
                "allowed: role monitor: publish telemetry/icu-3/b12/mon-12/#\n",
            ),
            (
                "--principal device:mon-12 publish telemetry/icu-3/b12/mon-13/hr",
                1,
                "denied: no rule grants publish telemetry/icu-3/b12/mon-13/hr\n",
            ),
            ("--principal service:lab subscribe secret/x", 1, "denied: role lab: deny_subscribe secret/#\n"),
            ("--principal staff:nobody subscribe a", 1, "denied: the policy does not name staff:nobody\n"),
            ("--principal service:lab subscribe $share/g/a/+", 0, "allowed: role lab: subscribe #\n"),
        ] {
            assert_eq!(checked(POLICY, line), (status, says.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_wrong_usage() {
        for line in ["publish a/+", "publish a/#", "subscribe a/#/b", "subscribe $share/g"] {
            let (status, says) = checked(POLICY, &format!("--principal service:lab {line}"));
            assert_eq!(status, 2, "{line}: {says}");
        }
        let (status, says) = checked("[roles.a]\npublsh = []\n", "--principal service:lab publish a");
        assert_eq!(status, 2);
        assert!(says.contains("policy.toml: line 2"), "{says}");
        assert!(Command::try_parse_from(["acl", "check", "--principal", "nurse:x", "publish", "a"]).is_err());
    }
}
