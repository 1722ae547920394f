//! One TOML file, environment variables laid over it, and what the two mean.
//!
//! [`Config::load`] reads everything and reports every mistake it finds, each with its place and its mend; what comes back
//! is typed and consistent, so nothing behind it validates again. It opens the files that are named, to know that they can
//! be read, and does not look inside: that is for whoever uses them, and for `wardline check`.
//!
//! A value is overridden by `WARDLINE__SECTION__KEY`, one in an array of tables by its number: `WARDLINE__LISTENER__0__BIND`.
//! Relative paths start at the file's directory, those from the environment too.

mod document;
mod limits;
mod problem;
mod read;
mod section;
mod transport;
mod units;

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;
use wardline_acl::{Algorithm, UriPrefix};
use wardline_audit::{PayloadPolicy, Store};
use wardline_journal::JournalOptions;

pub use self::limits::{Limits, ListenerLimits};
pub use self::problem::{Place, Problem, Problems};
use self::section::{Desk, Section};
use crate::door::Demand;
use crate::network::Network;
use crate::tls::TlsFiles;
use crate::websocket::Origins;

/// A valid configuration.
#[derive(Debug)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[[listener]]`, at least one.
    pub listeners: Vec<Listener>,
    /// `[identity]`
    pub identity: Identity,
    /// `[policy] file`
    pub policy: PathBuf,
    /// `[journal]`, in the node's data directory.
    pub journal: JournalOptions,
    /// `[journal] snapshot`: one is taken when so many bytes were journaled since the last.
    pub snapshot_bytes: u64,
    /// `[audit]`
    pub audit: Audit,
    /// `[plugins] rules`; without it the broker carries messages and raises no alerts.
    pub rules: Option<PathBuf>,
    /// `[http] bind`; none where it says `off`.
    pub http: Option<SocketAddr>,
    /// `[limits]`, as far as they are not each listener's.
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
    /// What is allowed and still deserves a second look.
    pub warnings: Vec<Problem>,
}

/// This node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// From 1; with a journal offset it names a record once in the world.
    pub id: u16,
    /// Where journal, keys and the embedded audit store live.
    pub data: PathBuf,
    /// How often `$SYS` is brought up to date; `None`: there is none.
    pub sys_interval: Option<Duration>,
    /// What an MQTT 5 client that asks is told to build its response topics from.
    pub response_information: Option<String>,
}

/// A socket that clients connect to.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique, for logs and the record.
    pub name: String,
    /// Address and port; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// What is spoken below MQTT.
    pub transport: Transport,
    /// Its files; set exactly for [`Transport::Tls`] and [`Transport::Wss`].
    pub tls: Option<TlsFiles>,
    /// Set where a PROXY protocol header comes first: those whose headers are believed. Nobody else is let in.
    pub proxies: Option<Vec<Network>>,
    /// Whose web pages may connect, where it speaks WebSocket.
    pub origins: Origins,
    /// How it knows who somebody is.
    pub demand: Demand,
    /// `[listener.limits]` over `[limits]`.
    pub limits: ListenerLimits,
    /// Where it is written.
    pub place: Place,
}

/// What is spoken below MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket within TLS.
    Wss,
}

impl Transport {
    /// As written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether what it carries is encrypted, and certificates can be asked for.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// The protocol that TLS carries here, by its name in ALPN (RFC 7301).
    pub const fn alpn(self) -> &'static [u8] {
        if self.is_websocket() { b"http/1.1" } else { b"mqtt" }
    }

    /// Whether MQTT is framed in WebSocket messages.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How clients are known.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `uri_prefix`: what stands before `device:ID` in a certificate's SAN URI.
    pub uri_prefix: UriPrefix,
    /// `[[identity.issuer]]`
    pub issuers: Vec<Issuer>,
}

/// Whose tokens are good.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The token's `iss`.
    pub issuer: String,
    /// The token's `aud`.
    pub audience: String,
    /// File of its keys, a JWK set.
    pub jwks: PathBuf,
    /// Signature algorithms it may use; at least one.
    pub algorithms: Vec<Algorithm>,
    /// Where `jwks` is written.
    pub place: Place,
}

/// Where the audit record goes. Its `Debug` does not show the store's password.
#[derive(Clone)]
pub struct Audit {
    /// The address of the database; `None`: no record is kept.
    pub store: Option<Store>,
    /// Which payloads are kept, and of which only the digest.
    pub payload: PayloadPolicy,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("payload", &self.payload).finish_non_exhaustive()
    }
}

/// What the process tells on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The shape of a line.
    pub format: LogFormat,
    /// The least that is told.
    pub level: Level,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON everywhere else.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The process's environment. A variable that is not text cannot be meant for the configuration.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl Config {
    /// Reads `path` with the variables of `environment` laid over it.
    ///
    /// # Errors
    /// Every mistake in them, in order.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Problems> {
        let text = fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot read the configuration: {error}");
            Problems(vec![Problem { place: Place::file(path), message }])
        })?;
        let mut problems = Vec::new();
        let mut table = document::parse(path, &text, &mut problems);
        // A parser's guess at what broken text meant would only add mistakes that nobody made.
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        document::lay_over(&mut table, environment, &mut problems);
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let desk = Desk::new(directory, problems);
        let config = read::config(Section::new("the file", Place::file(path), table, &desk));
        let mut problems = desk.into_problems();
        problems.sort_by(|left, right| left.place.cmp(&right.place));
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(Problems(problems)),
        }
    }
}

#[cfg(test)]
mod tests;
