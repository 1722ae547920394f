//! `wardline certs`: the device PKI of a development machine or a small site.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::json;
use wardline_certs::{
    Authority, CRL_LIFETIME, Certificate, CertsError, IssuedCertificate, Overwrite, Reason, Subject,
};

use super::{Failure, Outcome};
use crate::clock;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Days before its end from which `list` points at a certificate.
const EXPIRES_SOON_DAYS: u32 = 30;

/// Options of `wardline certs`.
#[derive(clap::Subcommand, Debug)]
pub enum Args {
    /// Make an authority, a server certificate and a token key
    ///
    /// Writes ca.pem, ca.key, ca.crl, server.pem, server.key, token.key and jwks.json. Refuses to replace a key.
    #[command(after_help = "Example:\n  wardline certs init --name broker.ward.example --name 10.0.0.5")]
    Init(Init),
    /// Issue a certificate for a device, a person, a program or a server
    #[command(after_help = "Examples:\n  wardline certs issue device mon-12\n  \
                            wardline certs issue staff n.ito --days 90\n  \
                            wardline certs issue server standby --name standby.ward.example")]
    Issue(Issue),
    /// Issue a certificate anew for the same key; the one before stays good until it expires
    #[command(after_help = "Examples:\n  wardline certs renew device-mon-12\n  \
                            wardline certs renew crl     a new revocation list, before the old one is out of date")]
    Renew(Renew),
    /// Revoke every certificate of a name, or the one with a serial number
    #[command(after_help = "Example:\n  wardline certs revoke device-mon-12 --reason key-compromise\n\n\
                            The broker takes in the new ca.crl on SIGHUP, and ends connections it revokes.")]
    Revoke(Revoke),
    /// Show what was issued, and what is revoked or about to expire
    List(List),
}

/// Where the authority is.
#[derive(clap::Args, Debug)]
pub struct Folder {
    /// Folder of the authority
    #[arg(long, default_value = "certs")]
    dir: PathBuf,
}

/// Options of `wardline certs init`.
#[derive(clap::Args, Debug)]
pub struct Init {
    #[command(flatten)]
    folder: Folder,
    /// DNS name or IP address of the server; repeat for several
    #[arg(long = "name", value_name = "NAME", value_delimiter = ',')]
    #[arg(default_values = ["localhost", "127.0.0.1", "::1"])]
    names: Vec<String>,
    /// Replace existing keys: every certificate and token issued with them becomes useless
    #[arg(long)]
    force: bool,
}

/// Options of `wardline certs issue`.
#[derive(clap::Args, Debug)]
pub struct Issue {
    /// Who it is for
    kind: Kind,
    /// The id: mon-12 for the principal device:mon-12
    id: String,
    #[command(flatten)]
    folder: Folder,
    /// Days it is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// DNS name or IP address of a server, its id if left out; repeat for several
    #[arg(long = "name", value_name = "NAME", value_delimiter = ',')]
    names: Vec<String>,
    /// Replace an existing key
    #[arg(long)]
    force: bool,
}

/// Options of `wardline certs renew`.
#[derive(clap::Args, Debug)]
pub struct Renew {
    /// A name as `list` shows it, or `crl` for the revocation list
    name: String,
    #[command(flatten)]
    folder: Folder,
    /// Days it is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
}

/// Options of `wardline certs revoke`.
#[derive(clap::Args, Debug)]
pub struct Revoke {
    /// A name or serial number as `list` shows it
    name: String,
    #[command(flatten)]
    folder: Folder,
    /// Why
    #[arg(long, default_value = "unspecified")]
    reason: RevocationReason,
}

/// Options of `wardline certs list`.
#[derive(clap::Args, Debug)]
pub struct List {
    #[command(flatten)]
    folder: Folder,
    /// As a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Device,
    Staff,
    Service,
    Server,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RevocationReason {
    Unspecified,
    KeyCompromise,
    Superseded,
    CessationOfOperation,
}

impl From<RevocationReason> for Reason {
    fn from(reason: RevocationReason) -> Self {
        match reason {
            RevocationReason::Unspecified => Self::Unspecified,
            RevocationReason::KeyCompromise => Self::KeyCompromise,
            RevocationReason::Superseded => Self::Superseded,
            RevocationReason::CessationOfOperation => Self::CessationOfOperation,
        }
    }
}

impl From<CertsError> for Failure {
    fn from(error: CertsError) -> Self {
        match error {
            CertsError::Subject(_) | CertsError::Validity { .. } | CertsError::Time => {
                Self::usage(error.to_string())
            }
            _ => Self::failed(error.to_string()),
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    execute(args, clock::now(), &mut io::stdout().lock())
}

fn execute(args: Args, now: Timestamp, out: &mut dyn Write) -> Outcome {
    let text = match args {
        Args::Init(args) => init(&args, now)?,
        Args::Issue(args) => issue(&args, now)?,
        Args::Renew(args) => renew(&args, now)?,
        Args::Revoke(args) => revoke(&args, now)?,
        Args::List(args) => list(&args, now)?,
    };
    out.write_all(text.as_bytes())
        .map_err(|error| Failure::failed(format!("cannot write the answer: {error}")))
}

fn init(args: &Init, now: Timestamp) -> Result<String, Failure> {
    let dir = &args.folder.dir;
    wardline_certs::init(dir, &args.names, overwrite(args.force), now)?;
    let dir = dir.display();
    Ok(format!(
        "authority       {dir}/ca.pem, {dir}/ca.key (keep it secret), {dir}/ca.crl\n\
         server          {dir}/server.pem, {dir}/server.key for {}\n\
         token issuer    {dir}/jwks.json, {dir}/token.key (keep it secret)\n\
         next            wardline certs issue device ID --dir {dir}\n",
        args.names.join(", ")
    ))
}

fn issue(args: &Issue, now: Timestamp) -> Result<String, Failure> {
    let invalid = |error: wardline_certs::InvalidSubject| Failure::usage(error.to_string());
    let id = args.id.as_str();
    let own_name = [id.to_owned()];
    let subject = match args.kind {
        Kind::Server if args.names.is_empty() => Subject::server(Some(id), &own_name),
        Kind::Server => Subject::server(Some(id), &args.names),
        _ if !args.names.is_empty() => return Err(Failure::usage("--name is for a server; leave it out")),
        Kind::Device => Subject::device(id),
        Kind::Staff => Subject::staff(id),
        Kind::Service => Subject::service(id),
    }
    .map_err(invalid)?;
    let authority = Authority::open(&args.folder.dir)?;
    let issued = authority.issue(&subject, DAY.saturating_mul(args.days), overwrite(args.force), now)?;
    Ok(describe(&issued))
}

fn renew(args: &Renew, now: Timestamp) -> Result<String, Failure> {
    let authority = Authority::open(&args.folder.dir)?;
    if args.name == "crl" {
        authority.refresh(now)?;
        let days = CRL_LIFETIME.as_secs() / DAY.as_secs();
        return Ok(format!("{}/ca.crl is good for {days} days\n", args.folder.dir.display()));
    }
    let issued = authority.renew(&file_name(&args.name), DAY.saturating_mul(args.days), now)?;
    Ok(describe(&issued))
}

fn revoke(args: &Revoke, now: Timestamp) -> Result<String, Failure> {
    let authority = Authority::open(&args.folder.dir)?;
    let revoked = authority.revoke(&file_name(&args.name), args.reason.into(), now)?;
    if revoked.is_empty() {
        return Ok(format!("{} has expired; there is nothing to revoke\n", args.name));
    }
    let lines = revoked.iter().map(|c| format!("revoked         {} serial {}\n", c.name, c.serial));
    let next =
        format!("next            send the broker SIGHUP to take in {}/ca.crl\n", args.folder.dir.display());
    Ok(lines.chain([next]).collect())
}

fn list(args: &List, now: Timestamp) -> Result<String, Failure> {
    let certificates = Authority::open(&args.folder.dir)?.list()?;
    if args.json {
        let rows: Vec<serde_json::Value> = certificates.iter().map(|c| row(c, now)).collect();
        return Ok(format!("{:#}\n", serde_json::Value::from(rows)));
    }
    let width = certificates.iter().map(|c| c.name.len()).max().unwrap_or(0).max("name".len());
    let mut text = format!("{:width$}  {:32}  {:10}  state\n", "name", "serial", "expires");
    for certificate in &certificates {
        let expires = certificate.expires.strftime("%Y-%m-%d");
        let state = state(certificate, now);
        text += &format!("{:width$}  {:32}  {expires}  {state}\n", certificate.name, certificate.serial);
    }
    Ok(text)
}

fn row(certificate: &Certificate, now: Timestamp) -> serde_json::Value {
    json!({
        "name": certificate.name,
        "serial": certificate.serial,
        "principal": certificate.subject.principal(),
        "issued": certificate.issued,
        "expires": certificate.expires,
        "valid": certificate.is_valid(now),
        "revoked": certificate.revoked,
    })
}

fn state(certificate: &Certificate, now: Timestamp) -> String {
    let soon =
        now.checked_add(DAY.saturating_mul(EXPIRES_SOON_DAYS)).is_ok_and(|soon| soon >= certificate.expires);
    match certificate.revoked {
        Some(revocation) => format!("revoked {}", revocation.at.strftime("%Y-%m-%d")),
        None if !certificate.is_valid(now) => "expired".to_owned(),
        None if soon => "expires soon".to_owned(),
        None => "valid".to_owned(),
    }
}

fn describe(issued: &IssuedCertificate) -> String {
    format!(
        "certificate     {}, serial {}, until {}\nkey             {} (keep it secret)\n",
        issued.certificate_path.display(),
        issued.certificate.serial,
        issued.certificate.expires.strftime("%Y-%m-%d"),
        issued.key_path.display(),
    )
}

/// `device:mon-12`, as principals are written, is as good as `device-mon-12`.
fn file_name(name: &str) -> String {
    name.replacen(':', "-", 1)
}

fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Yes } else { Overwrite::No }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(subcommand)]
        args: Args,
    }

    /// As typed after `wardline certs`, in a folder of its own.
    fn certs(dir: &tempfile::TempDir, line: &str) -> Result<String, Failure> {
        let dir = dir.path().join("certs");
        let words = line.split(' ').chain(["--dir", dir.to_str().unwrap()]);
        let command = Command::try_parse_from(["certs"].into_iter().chain(words)).unwrap();
        let mut out = Vec::new();
        execute(command.args, "2026-11-21T08:00:00Z".parse().unwrap(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_certificate_lives_from_issue_to_revocation() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(certs(&dir, "issue device mon-12").unwrap_err().status, 1, "no authority yet");
        assert!(certs(&dir, "init").unwrap().contains("localhost, 127.0.0.1, ::1"));
        assert!(certs(&dir, "issue device mon-12 --days 20").unwrap().contains("device-mon-12.pem"));
        assert!(dir.path().join("certs/device-mon-12.key").exists());
        let listed = certs(&dir, "list").unwrap();
        assert!(listed.contains("device-mon-12") && listed.contains("expires soon"), "{listed}");
        certs(&dir, "renew device:mon-12").unwrap();
        let revoked = certs(&dir, "revoke device-mon-12 --reason key-compromise").unwrap();
        assert_eq!(revoked.matches("revoked ").count(), 2, "{revoked}");
        let json: Vec<serde_json::Value> =
            serde_json::from_str(&certs(&dir, "list --json").unwrap()).unwrap();
        let valid: Vec<(&str, bool)> =
            json.iter().map(|c| (c["name"].as_str().unwrap(), c["valid"].as_bool().unwrap())).collect();
        assert_eq!(valid, [("server", true), ("device-mon-12", false), ("device-mon-12", false)]);
        assert_eq!(json[1]["principal"], "device:mon-12");
        assert_eq!(json[1]["revoked"]["reason"], "key-compromise");
        assert!(certs(&dir, "renew crl").unwrap().contains("90 days"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_exit_status() {
        let dir = tempfile::tempdir().unwrap();
        certs(&dir, "init --name broker.example").unwrap();
        for (line, status, says) in [
            ("init", 1, "--force"),
            ("issue device a/b", 2, "letters, digits"),
            ("issue device a --name b", 2, "--name is for a server"),
            ("issue server a --name b..c", 2, "DNS name"),
            ("issue device a --days 9999", 2, "authority's own ends"),
            ("revoke device-none", 1, "wardline certs list"),
            ("renew device-none", 1, "wardline certs list"),
        ] {
            let failure = certs(&dir, line).unwrap_err();
            assert_eq!(failure.status, status, "{line}: {failure}");
            assert!(failure.message.contains(says), "{line}: {failure}");
        }
        certs(&dir, "issue server standby --name standby.example,10.0.0.6").unwrap();
        certs(&dir, "init --force").unwrap();
    }
}
