//! `wardline token`: issue development tokens, and explain what a token grants.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use wardline_acl::{
    Algorithm, Claims, Grants, Identity, IssuerSource, Issuers, Kind, Principal, Require, Scope,
    TOKEN_BYTES_MAX, Thumbprint, UriPrefix, authenticate, unverified_claims,
};
use wardline_certs::{TokenKey, TokenRequest};

use super::acl::{PolicyFile, load_policy, read};
use super::{Failure, Outcome};
use crate::clock;
use crate::config::Config;

/// The `iss` of development tokens.
pub const DEVELOPMENT_ISSUER: &str = "wardline-development";

/// The `aud` of development tokens.
pub const DEVELOPMENT_AUDIENCE: &str = "wardline";

/// Where `wardline certs init` puts the development issuer's keys.
const DEVELOPMENT_KEYS: &str = "certs/jwks.json";

/// Options of `wardline token`.
#[derive(clap::Subcommand, Debug)]
pub enum Args {
    /// Sign a token with the key that `wardline certs init` made, and print it
    #[command(after_help = "Examples:\n  wardline token issue --principal device:mon-12\n  \
        wardline token issue --principal staff:n.ito --role nurse --expires 8h\n  \
        wardline token issue --principal device:mon-12 --bind certs/device-mon-12.pem \\\n    \
        --scope '[[\"telemetry/icu-3/b12/#\",[\"pub\"]]]'\n\n\
        The broker takes it when its configuration has:\n\n  \
        [[identity.issuer]]\n  issuer = \"wardline-development\"\n  audience = \"wardline\"\n  \
        jwks = \"certs/jwks.json\"\n  algorithms = [\"EdDSA\"]")]
    Issue(Box<Issue>),
    /// Explain what a token grants here, or why it is refused
    ///
    /// Exit status 0: it would be taken. 1: it is refused. 2: wrong usage or configuration.
    #[command(after_help = "Examples:\n  wardline token inspect \"$TOKEN\" --policy policy.toml\n  \
        wardline token issue --principal device:mon-12 | wardline token inspect - --config wardline.toml")]
    Inspect(Box<Inspect>),
}

/// Options of `wardline token issue`.
#[derive(clap::Args, Debug)]
pub struct Issue {
    /// Who it is for: device:ID, staff:ID, service:ID
    #[arg(long)]
    principal: Principal,
    /// Of the roles that the policy gives, only this one; repeat for several
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Of what the roles grant, only this: AIF-MQTT in JSON
    #[arg(long, value_name = "JSON")]
    scope: Option<Scope>,
    /// How long it is good
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = lifetime)]
    expires: Duration,
    /// Bind it to this client certificate: nobody else can use it
    #[arg(long, value_name = "PEM")]
    bind: Option<PathBuf>,
    /// Folder of token.key
    #[arg(long, default_value = "certs")]
    dir: PathBuf,
    /// The token's iss
    #[arg(long, default_value = DEVELOPMENT_ISSUER)]
    issuer: String,
    /// The token's aud
    #[arg(long, default_value = DEVELOPMENT_AUDIENCE)]
    audience: String,
}

/// Options of `wardline token inspect`.
#[derive(clap::Args, Debug)]
pub struct Inspect {
    /// The token, or - to read it from standard input
    token: String,
    #[command(flatten)]
    policy: PolicyFile,
    /// An issuer's keys, instead of a configuration's issuers [default without configuration: certs/jwks.json]
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    jwks: Option<PathBuf>,
    /// The issuer these keys belong to
    #[arg(long, requires = "jwks", default_value = DEVELOPMENT_ISSUER)]
    issuer: String,
    /// The audience that the token must be for
    #[arg(long, requires = "jwks", default_value = DEVELOPMENT_AUDIENCE)]
    audience: String,
    /// The client certificate it would come with
    #[arg(long, value_name = "PEM")]
    certificate: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    let out = &mut io::stdout().lock();
    match args {
        Args::Issue(args) => issue(&args, clock::now(), out),
        Args::Inspect(args) => inspect(&args, clock::now(), &mut io::stdin().lock(), out),
    }
}

fn issue(args: &Issue, now: Timestamp, out: &mut dyn Write) -> Outcome {
    if args.principal.kind() == Kind::Plugin {
        return Err(Failure::usage("plugins are parts of the broker and have no tokens"));
    }
    let scope = args.scope.as_ref().map(serde_json::to_value).transpose();
    let bind = args.bind.as_deref().map(read_certificate).transpose()?;
    let request = TokenRequest {
        issuer: args.issuer.clone(),
        audience: args.audience.clone(),
        principal: args.principal.to_string(),
        roles: (!args.roles.is_empty()).then(|| args.roles.clone()),
        scope: scope.map_err(|error| Failure::usage(error.to_string()))?,
        lifetime: args.expires,
        bind: bind.map(|certificate| Thumbprint::of(&certificate).to_string()),
    };
    let token = TokenKey::open(&args.dir)?.issue(&request, now)?;
    if token.len() > TOKEN_BYTES_MAX {
        let length = token.len();
        return Err(Failure::usage(format!(
            "the token has {length} bytes, and brokers take {TOKEN_BYTES_MAX}: shorten --scope"
        )));
    }
    write(out, &format!("{token}\n"))
}

fn inspect(args: &Inspect, now: Timestamp, input: &mut dyn Read, out: &mut dyn Write) -> Outcome {
    let token = read_token(&args.token, input)?;
    let config = if args.jwks.is_some() { None } else { args.policy.config()? };
    let (issuers, prefix) = match &config {
        Some(config) => (configured_issuers(config)?, config.identity.uri_prefix.clone()),
        None => (args.development_issuer()?, UriPrefix::default()),
    };
    let policy = args.policy.policy.as_deref().or(config.as_ref().map(|config| config.policy.as_path()));
    let policy = policy.map(load_policy).transpose()?;
    let certificate = args.certificate.as_deref().map(read_certificate).transpose()?;
    let require = if certificate.is_some() { Require::Both } else { Require::Token };
    let identity =
        authenticate(require, certificate.as_ref(), Some(token.as_bytes()), &issuers, &prefix, now);
    let identity = match identity {
        Ok(identity) => identity,
        Err(refused) => {
            let claims = unverified_claims(token.as_bytes());
            let claims = claims.map(|claims| format!("it says, unverified: {claims:#}\n"));
            write(out, &format!("refused: {refused}\n{}", claims.unwrap_or_default()))?;
            return Err(Failure::failed(""));
        }
    };
    let mut text = identity.claims.as_ref().map(|claims| describe(claims, now)).unwrap_or_default();
    let Some(policy) = policy else {
        text += "grants      not looked at: give --policy FILE or --config FILE\n";
        return write(out, &text);
    };
    if !policy.knows(&identity.principal) {
        let _ = writeln!(text, "refused: the policy does not name {}", identity.principal);
        write(out, &text)?;
        return Err(Failure::failed(""));
    }
    let Identity { principal, claims, .. } = &identity;
    text += &describe_grants(&policy.grants(principal, claims.as_deref()));
    write(out, &text)
}

impl Inspect {
    fn development_issuer(&self) -> Result<Issuers, Failure> {
        let path = self.jwks.as_deref().unwrap_or(Path::new(DEVELOPMENT_KEYS));
        let jwks = read(path)?;
        let algorithms = &Algorithm::ALL;
        let source = IssuerSource { issuer: &self.issuer, audience: &self.audience, jwks: &jwks, algorithms };
        let fault = |(_, error)| Failure::usage(format!("{}: {error}", path.display()));
        Issuers::load([source]).map_err(fault)
    }
}

fn configured_issuers(config: &Config) -> Result<Issuers, Failure> {
    let issuers = &config.identity.issuers;
    let keys = issuers.iter().map(|issuer| read(&issuer.jwks)).collect::<Result<Vec<_>, _>>()?;
    let sources = issuers.iter().zip(&keys).map(|(issuer, jwks)| IssuerSource {
        issuer: &issuer.issuer,
        audience: &issuer.audience,
        jwks,
        algorithms: &issuer.algorithms,
    });
    Issuers::load(sources).map_err(|(issuer, error)| Failure::usage(format!("the keys of {issuer}: {error}")))
}

fn describe(claims: &Claims, now: Timestamp) -> String {
    let left = SignedDuration::from_secs(claims.expires.duration_since(now).as_secs());
    let mut text = format!(
        "principal   {}\nissuer      {}\nexpires     {} (in {left:#})\n",
        claims.principal, claims.issuer, claims.expires
    );
    if let Some(id) = &claims.id {
        let _ = writeln!(text, "id          {id}");
    }
    if let Some(certificate) = &claims.bound_to {
        let _ = writeln!(text, "bound to    the certificate {certificate}");
    }
    if let Some(roles) = &claims.roles {
        let _ = writeln!(text, "only roles  {}", roles.join(", "));
    }
    for entry in claims.scope.iter().flat_map(|scope| &scope.0) {
        let may = match (entry.publish, entry.subscribe) {
            (true, true) => "publish, subscribe",
            (true, false) => "publish",
            (false, true) => "subscribe",
            (false, false) => "nothing",
        };
        let _ = writeln!(text, "only scope  {}: {may}", entry.filter);
    }
    text
}

fn describe_grants(grants: &Grants) -> String {
    let rules: String = grants.rules().map(|rule| format!("grants      {rule}\n")).collect();
    if rules.is_empty() { "grants      nothing\n".to_owned() } else { rules }
}

fn read_token(argument: &str, input: &mut dyn Read) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    // One byte more than is allowed is enough to be told that it is too long; white space comes on top.
    let limit = u64::try_from(TOKEN_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1024);
    let read = input.take(limit).read_to_string(&mut text);
    read.map_err(|error| Failure::failed(format!("cannot read the token from standard input: {error}")))?;
    Ok(text.trim().to_owned())
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, Failure> {
    CertificateDer::from_pem_slice(&read(path)?)
        .map_err(|_| Failure::usage(format!("{} has no certificate in PEM", path.display())))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let span: SignedDuration =
        text.parse().map_err(|error| format!("{error}; write it as 90s, 1h, 8h, PT10M"))?;
    Duration::try_from(span)
        .ok()
        .filter(|lifetime| !lifetime.is_zero())
        .ok_or_else(|| "a token lives longer than no time".to_owned())
}

fn write(out: &mut dyn Write, text: &str) -> Outcome {
    out.write_all(text.as_bytes())
        .map_err(|error| Failure::failed(format!("cannot write the answer: {error}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use wardline_certs::{Authority, DEFAULT_LIFETIME, Overwrite, Subject, TokenKey};

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(subcommand)]
        args: Args,
    }

    /// A folder with an authority, two devices, a token key and a policy.
    struct Site(tempfile::TempDir);

    fn now() -> Timestamp {
        "2026-11-21T08:00:00Z".parse().unwrap()
    }

    impl Site {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let authority = Authority::create(dir.path(), Overwrite::No, now()).unwrap();
            for id in ["mon-12", "mon-13"] {
                let device = Subject::device(id).unwrap();
                authority.issue(&device, DEFAULT_LIFETIME, Overwrite::No, now()).unwrap();
            }
            TokenKey::create(dir.path(), Overwrite::No).unwrap();
            let policy = "[roles.monitor]\npublish = [\"telemetry/{id}/#\"]\n[roles.display]\nsubscribe = [\"a\"]\n\
                          [principals.\"device:mon-12\"]\nroles = [\"monitor\", \"display\"]\n";
            std::fs::write(dir.path().join("policy.toml"), policy).unwrap();
            Self(dir)
        }

        /// As typed after `wardline token`, with DIR for the folder: the exit status, and what was printed.
        fn token(&self, words: &[&str], input: &str, at: Timestamp) -> (u8, String) {
            let dir = self.0.path().to_str().unwrap();
            let words = words.iter().map(|word| word.replace("DIR", dir));
            let command = Command::try_parse_from(["token".to_owned()].into_iter().chain(words)).unwrap();
            let mut out = Vec::new();
            let outcome = match command.args {
                Args::Issue(args) => issue(&args, at, &mut out),
                Args::Inspect(args) => inspect(&args, at, &mut input.as_bytes(), &mut out),
            };
            let text = String::from_utf8(out).unwrap();
            outcome.map_or_else(
                |failure| (failure.status, text.clone() + &failure.message),
                |()| (0, text.clone()),
            )
        }

        fn issued(&self, words: &[&str]) -> String {
            let words = [&["issue", "--dir", "DIR", "--principal", "device:mon-12"], words].concat();
            let (status, token) = self.token(&words, "", now());
            assert_eq!(status, 0, "{token}");
            token
        }

        fn inspected(&self, token: &str, words: &[&str], at: Timestamp) -> (u8, String) {
            let words = [&["inspect", "-", "--jwks", "DIR/jwks.json"], words].concat();
            self.token(&words, token, at)
        }
    }

    const POLICY: [&str; 2] = ["--policy", "DIR/policy.toml"];

    #[test]
    fn what_is_issued_is_taken_and_explained() {
        let site = Site::new();
        let (status, says) = site.inspected(&site.issued(&[]), &POLICY, now());
        assert_eq!(status, 0, "{says}");
        assert!(says.contains("principal   device:mon-12\n"), "{says}");
        assert!(says.contains("grants      role monitor: publish telemetry/mon-12/#\n"), "{says}");
        assert!(says.contains("role display"), "{says}");

        let narrow = site.issued(&["--role", "monitor", "--scope", r##"[["telemetry/mon-12/hr",["pub"]]]"##]);
        let (status, says) = site.inspected(&narrow, &POLICY, now());
        assert_eq!(status, 0, "{says}");
        assert!(says.contains("only roles  monitor\n") && !says.contains("role display"), "{says}");
        assert!(says.contains("only scope  telemetry/mon-12/hr: publish\n"), "{says}");
    }

    #[test]
    fn a_refusal_says_why_and_what_the_token_claims() {
        let site = Site::new();
        let expires = now() + Duration::from_secs(60);
        let token = site.issued(&["--expires", "1m"]);
        let (status, says) = site.inspected(&token, &POLICY, expires);
        assert_eq!(status, 1);
        assert!(says.starts_with("refused: the token expired at 2026-11-21T08:01:00Z\n"), "{says}");
        assert!(says.contains("\"sub\": \"device:mon-12\""), "{says}");
        assert!(!says.contains(token.trim()), "never the token itself");

        for (words, why) in [
            (&["--audience", "other"] as &[&str], "for another audience"),
            (&["--issuer", "other"], "from another issuer"),
        ] {
            let (status, says) = site.inspected(&token, words, now());
            assert_eq!(status, 1);
            assert!(says.contains(why), "{says}");
        }
        let (status, says) = site.inspected("rubbish", &[], now());
        assert_eq!(
            (status, says.as_str()),
            (1, "refused: the token is malformed: a signed JWT has three parts with dots between\n")
        );
        let stranger = site.token(&["issue", "--dir", "DIR", "--principal", "staff:x"], "", now()).1;
        let (status, says) = site.inspected(&stranger, &POLICY, now());
        assert_eq!(status, 1);
        assert!(says.contains("the policy does not name staff:x"), "{says}");
        assert_eq!(site.inspected(&stranger, &[], now()).0, 0, "without a policy only the token is judged");
    }

    #[test]
    fn a_bound_token_needs_its_certificate() {
        let site = Site::new();
        let token = site.issued(&["--bind", "DIR/device-mon-12.pem"]);
        for (words, status, why) in [
            (&["--certificate", "DIR/device-mon-12.pem"] as &[&str], 0, "bound to    the certificate"),
            (&["--certificate", "DIR/device-mon-13.pem"], 1, "bound to another certificate"),
            (&[], 1, "the connection has none"),
        ] {
            let (got, says) = site.inspected(&token, words, now());
            assert_eq!(got, status, "{says}");
            assert!(says.contains(why), "{says}");
        }
        let unbound = site.issued(&[]);
        let (status, says) = site.inspected(&unbound, &["--certificate", "DIR/device-mon-13.pem"], now());
        assert_eq!(status, 1);
        assert!(says.contains("certificate is of device:mon-13, but the token of device:mon-12"), "{says}");
    }

    #[test]
    fn what_cannot_be_issued_is_wrong_usage() {
        let site = Site::new();
        let plugin = ["issue", "--dir", "DIR", "--principal", "plugin:escalation"];
        assert_eq!(site.token(&plugin, "", now()).0, 2);
        let elsewhere = ["issue", "--dir", "DIR/none", "--principal", "device:mon-12"];
        let (status, says) = site.token(&elsewhere, "", now());
        assert_eq!(status, 1);
        assert!(says.contains("wardline certs init"), "{says}");
        let unreadable = ["issue", "--dir", "DIR", "--principal", "device:a", "--bind", "DIR/token.key"];
        assert_eq!(site.token(&unreadable, "", now()).0, 2);
        for wrong in [["--expires", "0s"], ["--expires", "soon"], ["--expires", "-1h"], ["--scope", "openid"]]
        {
            let words = ["token", "issue", "--principal", "device:a"].into_iter().chain(wrong);
            assert!(Command::try_parse_from(words).is_err(), "{wrong:?}");
        }
    }
}
