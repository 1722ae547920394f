//! From sections to [`Config`]: defaults, ranges, and what must fit together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::Level;
use wardline_acl::{Algorithm, Kind, Principal, Require, UriPrefix};
use wardline_audit::{PayloadKept, PayloadPolicy, Store};
use wardline_journal::{Commit, JournalOptions, KeyRing, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use wardline_wire::topic;

use super::problem::Problem;
use super::section::{Located, Section};
use super::{
    Audit, Config, Identity, Issuer, Listener, ListenerLimits, Log, LogFormat, Node, Transport, limits,
    transport, units,
};
use crate::door::Demand;
use crate::tls::TlsFiles;

/// Health and metrics unless configured.
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9180);
/// `$SYS` unless configured.
/// A snapshot is a file of its own: less would make them most of what is written.
const SNAPSHOT_BYTES_MIN: u64 = 1 << 20;
const SNAPSHOT_BYTES_DEFAULT: u64 = 64 << 20;
const SYS_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);

const CERTS_MEND: &str = "`wardline certs init` makes one";

/// In place of a store's address: no record is kept.
const NO_STORE: &str = "none";
const NO_RECORD: &str = "no audit record is kept: nothing shows afterwards what was published, denied or alarmed, and it cannot \
                         be made up for; only for a laboratory or a benchmark";

/// The whole file. `None` only where a problem was reported.
pub(super) fn config(mut file: Section<'_>) -> Option<Config> {
    let node = node(file.section("node", "[node]"));
    let identity = identity(file.section("identity", "[identity]"));
    let http = http(file.section("http", "[http]"));
    let (limits, listener_limits) = limits::of_node(file.section("limits", "[limits]"));
    let listeners = listeners(&mut file, &identity.issuers, http.as_ref(), &listener_limits);
    let policy = policy(file.section("policy", "[policy]"));
    let (journal, snapshot_bytes) = journal(file.section("journal", "[journal]"), &node);
    let mut warnings = Vec::new();
    let audit = audit(file.section("audit", "[audit]"), &node, &mut warnings);
    let rules = rules(file.section("plugins", "[plugins]"));
    let log = log(file.section("log", "[log]"));
    file.finish();
    let http = http.map(|http| http.value);
    Some(Config {
        node,
        listeners,
        identity,
        policy: policy?,
        journal,
        snapshot_bytes,
        audit: audit?,
        rules,
        http,
        limits,
        log,
        warnings,
    })
}

fn node(mut section: Section<'_>) -> Node {
    let id = section.number("id", 1..=u16::MAX, 1);
    let data = section.text("data");
    let data = section.desk.resolve(data.as_ref().map_or("data", |data| &data.value));
    if data.exists() && !data.is_dir() {
        section
            .desk
            .problem(&section.place, format!("`data` in [node]: {} is not a directory", data.display()));
    }
    let sys_interval = section.parsed("sys_interval", |text| match text {
        "off" => Ok(Duration::ZERO),
        text => units::duration(text),
    });
    let sys_interval = sys_interval.map_or(SYS_INTERVAL_DEFAULT, |interval| interval.value);
    let response_information = section.text("response_information").map(|text| text.value);
    section.finish();
    let sys_interval = (!sys_interval.is_zero()).then_some(sys_interval);
    Node { id, data, sys_interval, response_information }
}

fn identity(mut section: Section<'_>) -> Identity {
    let uri_prefix =
        section.text("uri_prefix").map_or_else(UriPrefix::default, |prefix| UriPrefix(prefix.value));
    let mut issuers: Vec<Issuer> = Vec::new();
    for issuer in section.sections("issuer", "[[identity.issuer]]").into_iter().filter_map(issuer) {
        if issuers.iter().any(|other| other.issuer == issuer.issuer) {
            let message =
                format!("[[identity.issuer]] `{}` is there twice; put its keys into one set", issuer.issuer);
            section.desk.problem(&issuer.place, message);
        }
        issuers.push(issuer);
    }
    section.finish();
    Identity { uri_prefix, issuers }
}

fn issuer(mut section: Section<'_>) -> Option<Issuer> {
    let issuer = section.required("issuer", "https://id.hospital.example");
    let audience = section.required("audience", "wardline");
    let jwks = section.required("jwks", "certs/jwks.json").and_then(|text| jwks(&section, &text));
    let listed = section.list("algorithms");
    let understood = listed.iter().filter_map(|text| {
        section.understood("algorithms", text, |text| {
            text.parse::<Algorithm>().map_err(|error| error.to_string())
        })
    });
    let mut algorithms: Vec<Algorithm> = understood.map(|algorithm| algorithm.value).collect();
    if listed.is_empty() {
        algorithms = vec![Algorithm::EdDSA, Algorithm::ES256];
    }
    section.finish();
    let Located { value: jwks, place } = jwks?;
    Some(Issuer { issuer: issuer?.value, audience: audience?.value, jwks, algorithms, place })
}

fn jwks(section: &Section<'_>, text: &Located<String>) -> Option<Located<PathBuf>> {
    if text.value.starts_with("https://") || text.value.starts_with("http://") {
        let message = "`jwks` in [[identity.issuer]]: this version reads keys from a file and does not fetch a URL; \
                       download the key set on a schedule and reload with SIGHUP";
        section.desk.problem(&text.place, message);
        return None;
    }
    section.readable(
        "jwks",
        text,
        "save the issuer's key set there, or make a development one with `wardline certs init`",
    )
}

fn listeners(
    file: &mut Section<'_>,
    issuers: &[Issuer],
    http: Option<&Located<SocketAddr>>,
    limits: &ListenerLimits,
) -> Vec<Listener> {
    let sections = file.sections("listener", "[[listener]]");
    if sections.is_empty() {
        file.desk.problem(
            &file.place,
            "no [[listener]]: nobody could connect; add one with name, bind and transport",
        );
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for listener in sections.into_iter().filter_map(|section| listener(section, issuers, limits)) {
        if let Some(other) = listeners.iter().find(|other| other.name == listener.name) {
            let message =
                format!("two listeners are named `{}`; the other is at {}", listener.name, other.place);
            file.desk.problem(&listener.place, message);
        }
        let taken = listeners.iter().find(|other| collide(other.bind, listener.bind));
        if let Some(other) = taken {
            let message =
                format!("{} is taken by listener `{}` at {}", listener.bind, other.name, other.place);
            file.desk.problem(&listener.place, message);
        }
        if http.is_some_and(|http| collide(http.value, listener.bind)) {
            file.desk.problem(&listener.place, format!("{} is taken by [http]", listener.bind));
        }
        listeners.push(listener);
    }
    listeners
}

/// Whether two sockets cannot both be bound.
fn collide(left: SocketAddr, right: SocketAddr) -> bool {
    let (one, other) = (left.ip().to_canonical(), right.ip().to_canonical());
    let same_address = one == other || one.is_unspecified() || other.is_unspecified();
    left.port() != 0 && left.port() == right.port() && same_address
}

fn listener(mut section: Section<'_>, issuers: &[Issuer], limits: &ListenerLimits) -> Option<Listener> {
    let place = section.place.clone();
    let name = section.required("name", "ward");
    let bind =
        section.required("bind", "0.0.0.0:8883").and_then(|text| section.understood("bind", &text, address));
    let transport = section.required("transport", "tls");
    let transport = transport.and_then(|text| section.understood("transport", &text, transport_of));
    let has = Pieces {
        certificate: section.mentions("certificate"),
        key: section.mentions("key"),
        client_ca: section.mentions("client_ca"),
        crl: section.mentions("crl"),
    };
    let certificate = section.file("certificate", CERTS_MEND);
    let key = section.file("key", CERTS_MEND);
    let client_ca = section.file("client_ca", CERTS_MEND);
    let crl = section.files("crl", CERTS_MEND);
    let demand = demand(&mut section);
    let spoken = transport.as_ref().map(|transport| transport.value);
    let oldest = transport::oldest_tls(&mut section, spoken);
    let origins = transport::origins(&mut section, spoken);
    let anonymous = matches!(&demand, Some(Located { value: Demand::Anonymous(_), .. }));
    let proxies = transport::proxies(&mut section, anonymous);
    let limits_name = name.as_ref().map_or("", |name| &name.value);
    let limits = limits::of_listener(section.section("limits", "[listener.limits]"), limits, limits_name);
    if let (Some(transport), Some(demand), Some(bind)) = (&transport, &demand, &bind) {
        fit(&section, transport.value, demand, bind.value, has, issuers);
    }
    section.finish();
    let (transport, demand) = (transport?.value, demand?.value);
    let tls = if transport.is_tls() {
        let require_certificate = matches!(&demand, Demand::Credentials(require) if require.certificate());
        let client_ca = client_ca.map(|file| file.value);
        Some(TlsFiles {
            certificate: certificate?.value,
            key: key?.value,
            client_ca,
            crl,
            require_certificate,
            oldest,
            protocol: transport.alpn(),
        })
    } else {
        None
    };
    Some(Listener {
        name: name?.value,
        bind: bind?.value,
        transport,
        tls,
        proxies,
        origins,
        demand,
        limits,
        place,
    })
}

/// Which TLS keys a listener has, readable or not.
#[derive(Clone, Copy)]
struct Pieces {
    certificate: bool,
    key: bool,
    client_ca: bool,
    crl: bool,
}

/// Reports what of a listener does not go together.
fn fit(
    section: &Section<'_>,
    transport: Transport,
    demand: &Located<Demand>,
    bind: SocketAddr,
    has: Pieces,
    issuers: &[Issuer],
) {
    let desk = section.desk;
    let encrypted = transport.is_tls();
    let loopback = bind.ip().to_canonical().is_loopback();
    if encrypted && !(has.certificate && has.key) {
        let message =
            format!("[[listener]] with transport {transport} needs `certificate` and `key`; {CERTS_MEND}");
        desk.problem(&section.place, message);
    }
    if !encrypted && (has.certificate || has.key || has.client_ca || has.crl) {
        let message = format!(
            "[[listener]] with transport {transport} has no use for certificate, key, client_ca or crl; \
             for an encrypted one write transport = \"tls\" or \"wss\""
        );
        desk.problem(&section.place, message);
    }
    if has.crl && !has.client_ca {
        desk.problem(
            &section.place,
            "`crl` in [[listener]] revokes certificates of `client_ca`, which is missing",
        );
    }
    match &demand.value {
        Demand::Anonymous(_) if !loopback => desk.problem(
            &demand.place,
            format!(
                "`anonymous` in [[listener]] is refused on {bind}: it is for loopback only; bind to 127.0.0.1, or write \
                 require = [\"certificate\"]"
            ),
        ),
        Demand::Anonymous(_) => {}
        Demand::Credentials(require) => {
            if require.certificate() && !encrypted {
                let message = format!("`require` in [[listener]]: a certificate needs transport tls or wss, not {transport}");
                desk.problem(&demand.place, message);
            }
            if require.certificate() && encrypted && !has.client_ca {
                let message = "`require` in [[listener]]: a certificate needs `client_ca`, the authority that issues them";
                desk.problem(&demand.place, message);
            }
            if require.token() && issuers.is_empty() {
                let message = "`require` in [[listener]]: a token needs an [[identity.issuer]] whose tokens are good";
                desk.problem(&demand.place, message);
            }
            if require.token() && !encrypted && !loopback {
                let message = format!(
                    "`require` in [[listener]]: tokens would cross the network in clear on {bind}; write transport = \
                     \"tls\" or \"wss\", or bind to 127.0.0.1"
                );
                desk.problem(&demand.place, message);
            }
        }
    }
}

fn demand(section: &mut Section<'_>) -> Option<Located<Demand>> {
    let asks = section.mentions("require");
    let required = section.list("require");
    let anonymous = section.text("anonymous");
    if let Some(text) = anonymous {
        if asks {
            let message = "[[listener]] has both `require` and `anonymous`; keep the one that is meant";
            section.desk.problem(&text.place, message);
        }
        let principal = section.understood("anonymous", &text, |text| {
            let principal: Principal = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
            if principal.kind() == Kind::Plugin {
                return Err("a plugin: is part of the broker and never a client; use service:NAME".to_owned());
            }
            Ok(Demand::Anonymous(principal))
        });
        return principal;
    }
    let (mut certificate, mut token) = (false, false);
    for text in &required {
        match text.value.as_str() {
            "certificate" => certificate = true,
            "token" => token = true,
            other => {
                let message =
                    format!("`require` in [[listener]]: `{other}` is neither \"certificate\" nor \"token\"");
                section.desk.problem(&text.place, message);
                return None;
            }
        }
    }
    let Some(require) = Require::of(certificate, token) else {
        let message = "[[listener]] lets nobody in and says so nowhere: write require = [\"certificate\"], [\"token\"] or both, \
                       or, on loopback, anonymous = \"service:NAME\"";
        section.desk.problem(&section.place, message);
        return None;
    };
    let place = required.into_iter().next().map_or_else(|| section.place.clone(), |text| text.place);
    Some(Located { value: Demand::Credentials(require), place })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an address and port; write one as \"0.0.0.0:8883\", \"127.0.0.1:1883\" or \"[::]:8883\"")
    })
}

fn transport_of(text: &str) -> Result<Transport, String> {
    let all = [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
    let found = all.into_iter().find(|transport| transport.as_str() == text);
    found.ok_or_else(|| format!("`{text}` is none of tcp, tls, ws, wss"))
}

fn policy(mut section: Section<'_>) -> Option<PathBuf> {
    let file = section.required("file", "policy.toml");
    let file = file.and_then(|text| {
        section.readable("file", &text, "write the policy there: who may publish and subscribe what")
    });
    section.finish();
    file.map(|file| file.value)
}

fn journal(mut section: Section<'_>, node: &Node) -> (JournalOptions, u64) {
    let mut options = JournalOptions::new(node.data.join("journal"), node.id);
    if let Some(commit) =
        section.parsed("commit", |text| text.parse::<Commit>().map_err(|error| error.to_string()))
    {
        options.commit = commit.value;
    }
    if let Some(quota) = section.parsed("quota", |text| bytes_within(text, 1 << 20, u64::MAX)) {
        options.quota_bytes = quota.value;
    }
    if let Some(segment) =
        section.parsed("segment", |text| bytes_within(text, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX))
    {
        options.segment_bytes = segment.value;
    }
    let snapshot = section.parsed("snapshot", |text| bytes_within(text, SNAPSHOT_BYTES_MIN, u64::MAX));
    let snapshot_bytes = snapshot.map_or(SNAPSHOT_BYTES_DEFAULT, |snapshot| snapshot.value);
    let desk = section.desk;
    let keys = section
        .parsed("key_file", |text| KeyRing::read(&desk.resolve(text)).map_err(|error| error.to_string()));
    options.keys = keys.map(|keys| keys.value);
    section.finish();
    (options, snapshot_bytes)
}

pub(super) fn bytes_within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let bytes = units::bytes(text)?;
    if (least..=most).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("`{text}` is not from {least} to {most} bytes"))
}

fn audit(mut section: Section<'_>, node: &Node, warnings: &mut Vec<Problem>) -> Option<Audit> {
    let password =
        section.file("password_file", "put the database password there, readable to the broker only");
    let store = match section.text("store") {
        Some(text) if text.value == NO_STORE => {
            if let Some(file) = &password {
                let message = "`password_file` in [audit] is of no use without a store; take it out";
                section.desk.problem(&file.place, message);
            }
            warnings.push(Problem { place: text.place, message: NO_RECORD.to_owned() });
            Some(None)
        }
        Some(text) => {
            if password.is_none() && holds_password(&text.value) {
                let message = "`store` in [audit] holds a password; better keep it in a file of its own and name that \
                               in `password_file`";
                warnings.push(Problem { place: text.place.clone(), message: message.to_owned() });
            }
            let parsed = section.understood("store", &text, |text| store(&section, text, password.as_ref()));
            parsed.map(|store| Some(store.value))
        }
        None => Some(Some(Store::sqlite(&node.data.join("audit.db")))),
    };
    let default = section.parsed("payload", kept).map_or_else(PayloadKept::default, |kept| kept.value);
    let overrides = section.sections("payload_by_topic", "[[audit.payload_by_topic]]");
    let overrides = overrides.into_iter().filter_map(payload_override).collect();
    section.finish();
    Some(Audit { store: store?, payload: PayloadPolicy { default, overrides } })
}

/// A SQLite path is relative to the configuration; a password from a file takes its place in the address.
fn store(section: &Section<'_>, text: &str, password: Option<&Located<PathBuf>>) -> Result<Store, String> {
    let sqlite = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"));
    match (sqlite, password) {
        (Some("" | ":memory:"), _) | (None, None) => Store::parse(text).map_err(|error| error.to_string()),
        (Some(_), Some(_)) => Err("a SQLite store has no password; take `password_file` out".to_owned()),
        (Some(path), None) => Ok(Store::sqlite(&section.desk.resolve(path))),
        (None, Some(file)) => {
            let secret = std::fs::read_to_string(&file.value).map_err(|error| error.to_string())?;
            Store::parse(&with_password(text, secret.trim_end())?).map_err(|error| error.to_string())
        }
    }
}

/// Whether the part between `//` and `@` has a colon.
fn holds_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

fn with_password(url: &str, password: &str) -> Result<String, String> {
    let parts = url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?)));
    match parts {
        Some((scheme, (user, rest))) if !user.is_empty() && !user.contains(':') => {
            Ok(format!("{scheme}://{user}:{}@{rest}", percent_encoded(password)))
        }
        _ => {
            Err("with `password_file` it is written postgres://USER@HOST/DATABASE, without a password"
                .to_owned())
        }
    }
}

/// Everything but the unreserved characters of RFC 3986 is encoded.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

fn kept(text: &str) -> Result<PayloadKept, String> {
    match text {
        "full" => Ok(PayloadKept::Full),
        "digest" => Ok(PayloadKept::Digest),
        other => Err(format!("`{other}` is neither \"full\" nor \"digest\"")),
    }
}

fn payload_override(mut section: Section<'_>) -> Option<(String, PayloadKept)> {
    let filter = section.required("filter", "telemetry/#").and_then(|text| {
        section.understood("filter", &text, |filter| {
            let valid = topic::is_valid_filter(filter).then(|| filter.to_owned());
            valid.ok_or_else(|| format!("`{filter}` is not a topic filter"))
        })
    });
    let payload =
        section.required("payload", "digest").and_then(|text| section.understood("payload", &text, kept));
    section.finish();
    Some((filter?.value, payload?.value))
}

fn rules(mut section: Section<'_>) -> Option<PathBuf> {
    let rules =
        section.file("rules", "write the alarm rules there, or leave `rules` out to run without alerts");
    section.finish();
    rules.map(|rules| rules.value)
}

fn http(mut section: Section<'_>) -> Option<Located<SocketAddr>> {
    let place = section.place.clone();
    let bind = section.text("bind");
    let http = match &bind {
        Some(text) if text.value == "off" => None,
        Some(text) => section.understood("bind", text, address),
        None => Some(Located { value: HTTP_DEFAULT, place }),
    };
    section.finish();
    http
}

fn log(mut section: Section<'_>) -> Log {
    let format = section.parsed("format", |text| match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("`{other}` is none of \"auto\", \"text\", \"json\"")),
    });
    let level = section.parsed("level", |text| {
        text.parse().map_err(|_| format!("`{text}` is none of error, warn, info, debug, trace"))
    });
    section.finish();
    Log {
        format: format.map_or(LogFormat::Auto, |format| format.value),
        level: level.map_or(Level::INFO, |level| level.value),
    }
}
