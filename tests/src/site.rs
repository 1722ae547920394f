//! A hospital in a temporary directory: certificates, tokens, policy, rules, configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;
use wardline_acl::Thumbprint;
use wardline_certs::{Authority, DEFAULT_LIFETIME, Overwrite, Reason, Subject, TokenKey, TokenRequest};

const ISSUER: &str = "wardline-development";
const AUDIENCE: &str = "wardline";
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);

/// One listener of each kind, all on ports that the system chooses.
const CONFIG: &str = r#"
[node]
id = 1
data = "data"

[[listener]]
name = "lab"
bind = "127.0.0.1:0"
transport = "tcp"
anonymous = "service:lab"

[[listener]]
name = "ward"
bind = "127.0.0.1:0"
transport = "tls"
certificate = "certs/server.pem"
key = "certs/server.key"
client_ca = "certs/ca.pem"
crl = ["certs/ca.crl"]
require = ["certificate", "token"]

[[listener]]
name = "bedside"
bind = "127.0.0.1:0"
transport = "tls"
certificate = "certs/server.pem"
key = "certs/server.key"
client_ca = "certs/ca.pem"
crl = ["certs/ca.crl"]
require = ["certificate"]

[[listener]]
name = "gateway"
bind = "127.0.0.1:0"
transport = "tcp"
require = ["token"]

[[listener]]
name = "web"
bind = "127.0.0.1:0"
transport = "ws"
anonymous = "service:lab"

[[identity.issuer]]
issuer = "wardline-development"
audience = "wardline"
jwks = "certs/jwks.json"
algorithms = ["EdDSA"]

[policy]
file = "policy.toml"

[plugins]
rules = "rules.toml"

[audit]
store = "sqlite:audit.db"

[http]
bind = "127.0.0.1:0"
"#;

const POLICY: &str = r##"
[roles.monitor]
publish = ["telemetry/{unit}/{bed}/{id}/#", "telemetry/{unit}/{bed}/{id}"]
[roles.nurse]
subscribe = ["alerts/{unit}/nurse/#", "alarms/{unit}/#", "wardline/heartbeat/#"]
publish = ["responses/{unit}/#"]
[roles.lab]
publish = ["#"]
subscribe = ["#", "$SYS/#"]
deny_publish = ["secret/#"]
deny_subscribe = ["secret/#"]

[principals."device:mon-12"]
roles = ["monitor"]
unit = "icu-3"
bed = "b12"
[principals."staff:n.ito"]
roles = ["nurse"]
unit = "icu-3"
[principals."service:lab"]
roles = ["lab"]
"##;

const RULES: &str = r#"
[[limit]]
signal = "spo2"
low = 88
severity = "death"
onset = "prompt"
delay = "0s"

[[escalation]]
priority = "high"
tiers = [{ to = "nurse", wait = "30s" }, { to = "charge", wait = "60s" }]
"#;

/// A site; gone when dropped.
#[derive(Debug)]
pub struct Site {
    directory: TempDir,
}

/// The files of a client certificate.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl Site {
    /// Listeners `lab` (TCP, everybody is `service:lab`), `ward` (TLS, certificate and token), `bedside` (TLS, certificate),
    /// `gateway` (TCP, token) and `web` (WebSocket, everybody is `service:lab`); principals `device:mon-12`, `staff:n.ito` and `service:lab`; a SQLite store.
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("wardline-site-").expect("a temporary directory can be made");
        let site = Self { directory };
        wardline_certs::init(
            &site.certs(),
            &["localhost".to_owned(), "127.0.0.1".to_owned()],
            Overwrite::No,
            now(),
        )
        .expect("a PKI can be made");
        site.write("wardline.toml", CONFIG);
        site.write("policy.toml", POLICY);
        site.write("rules.toml", RULES);
        site
    }

    /// Stays where it is when dropped, for inspection.
    pub fn keep(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.path()
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `wardline.toml`.
    pub fn config(&self) -> PathBuf {
        self.path().join("wardline.toml")
    }

    /// The SQLite file of the audit store.
    pub fn audit_db(&self) -> PathBuf {
        self.path().join("audit.db")
    }

    /// The certificate of the authority.
    pub fn ca(&self) -> PathBuf {
        self.certs().join("ca.pem")
    }

    /// Writes a file of the site, or replaces it.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a temporary directory can be written");
    }

    /// Replaces `old`, which must be there, in a file of the site.
    pub fn edit(&self, name: &str, old: &str, new: &str) {
        let path = self.path().join(name);
        let text = fs::read_to_string(&path).expect("the site has this file");
        assert!(text.contains(old), "{name} has no {old:?}");
        fs::write(path, text.replace(old, new)).expect("a temporary directory can be written");
    }

    /// Adds a listener with these lines of configuration; `[listener.limits]` may follow them.
    pub fn add_listener(&self, name: &str, lines: &str) {
        let listener = format!("[[listener]]\nname = \"{name}\"\n{lines}\n\n[[identity.issuer]]");
        self.edit("wardline.toml", "[[identity.issuer]]", &listener);
    }

    /// Lets `device:mon-12` publish and subscribe below `ward/`, so that it can be both ends of a round trip.
    pub fn allow_round_trip(&self) {
        let role = "[roles.round]\npublish = [\"ward/#\"]\nsubscribe = [\"ward/#\"]\n[roles.nurse]";
        self.edit("policy.toml", "[roles.nurse]", role);
        self.edit("policy.toml", "roles = [\"monitor\"]", "roles = [\"monitor\", \"round\"]");
    }

    /// Issues a certificate for `device:ID`.
    pub fn device(&self, id: &str) -> Credentials {
        self.issue(&Subject::device(id).expect("a valid id"))
    }

    /// Issues a certificate for `staff:ID`.
    pub fn staff(&self, id: &str) -> Credentials {
        self.issue(&Subject::staff(id).expect("a valid id"))
    }

    /// Revokes the certificate of `device:ID`; a broker learns of it by a reload.
    pub fn revoke_device(&self, id: &str) {
        let authority = Authority::open(&self.certs()).expect("the site has an authority");
        authority.revoke(&format!("device-{id}"), Reason::KeyCompromise, now()).expect("it was issued");
    }

    /// A token for `principal`, good for an hour.
    pub fn token(&self, principal: &str) -> String {
        self.token_at(principal, now())
    }

    /// A token for `principal` that was good for an hour from `issued_at` on.
    pub fn token_at(&self, principal: &str, issued_at: Timestamp) -> String {
        self.sign(request(principal), issued_at)
    }

    /// A token for `principal` from `issuer`, signed with the site's own key.
    pub fn token_of(&self, issuer: &str, principal: &str) -> String {
        self.sign(TokenRequest { issuer: issuer.to_owned(), ..request(principal) }, now())
    }

    /// A token for `principal` bound to the certificate of `credentials`.
    pub fn token_bound_to(&self, principal: &str, credentials: &Credentials) -> String {
        let certificate =
            CertificateDer::from_pem_file(&credentials.certificate).expect("an issued certificate");
        let bind = Some(Thumbprint::of(&certificate).to_string());
        self.sign(TokenRequest { bind, ..request(principal) }, now())
    }

    /// A token for `principal` that narrows what its roles grant to `scope` (AIF-MQTT).
    pub fn token_narrowed_to(&self, principal: &str, scope: serde_json::Value) -> String {
        self.sign(TokenRequest { scope: Some(scope), ..request(principal) }, now())
    }

    fn certs(&self) -> PathBuf {
        self.path().join("certs")
    }

    fn issue(&self, subject: &Subject) -> Credentials {
        let authority = Authority::open(&self.certs()).expect("the site has an authority");
        authority
            .issue(subject, DEFAULT_LIFETIME, Overwrite::No, now())
            .expect("a certificate can be issued");
        let file = |extension: &str| self.certs().join(format!("{}.{extension}", subject.name()));
        Credentials { certificate: file("pem"), key: file("key") }
    }

    fn sign(&self, request: TokenRequest, issued_at: Timestamp) -> String {
        let key = TokenKey::open(&self.certs()).expect("the site has a token key");
        key.issue(&request, issued_at).expect("a token can be signed")
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

fn request(principal: &str) -> TokenRequest {
    TokenRequest {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        principal: principal.to_owned(),
        roles: None,
        scope: None,
        lifetime: TOKEN_LIFETIME,
        bind: None,
    }
}

/// Certificates and tokens are judged by the broker's clock, which is the machine's.
fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the broker under test is another process")]
    Timestamp::now()
}
