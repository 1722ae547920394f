//! A broker from its configuration: everything started in order, and stopped in the reverse.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};
use wardline_acl::{IssuerSource, Issuers, Policy};
use wardline_audit::{
    JournalSource, Options as AuditOptions, Progress as AuditProgress, ProjectorError, SigningKey, Store,
};
use wardline_core::Limits;
use wardline_journal::{Journal, Progress};
use wardline_plugin_api::Plugin;

use crate::{
    audited::Audited,
    clock,
    config::{Config, Listener},
    descriptors, disk,
    door::{Door, Locks},
    heartbeat,
    host::Host,
    http, listener,
    metrics::Metrics,
    node::Node,
    queues, rules,
    snapshots::{self, Keeper},
    sys, tls,
};

/// How long clients may take to hear that the server stops.
const GOODBYE_MAX: Duration = Duration::from_secs(3);
/// How long the audit store may take for what it does not have yet; the journal keeps the rest for the next start. Less than
/// the ten seconds that container runtimes give by default.
const AUDIT_DRAIN_MAX: Duration = Duration::from_secs(5);

/// Why a broker does not start. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket.
    #[error("listener {name}: cannot listen on {address}: {source}; is another program using the port?")]
    Bind {
        /// The listener's name.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// File descriptors.
    #[error(transparent)]
    Descriptors(#[from] descriptors::TooFew),
    /// A file.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The journal.
    #[error("journal: {0}")]
    Journal(#[from] wardline_journal::OpenError),
    /// What the journal holds.
    #[error("{0}")]
    Recover(#[from] crate::node::RecoverError),
    /// The audit store.
    #[error("audit store: {0}")]
    Audit(String),
    /// Certificates and keys.
    #[error("listener {name}: {source}")]
    Tls {
        /// The listener's name.
        name: String,
        /// What does not fit.
        source: tls::TlsError,
    },
    /// The rules; each problem with file and line.
    #[error("{0}")]
    Rules(String),
    /// Issuers' keys.
    #[error("identity issuer {issuer}: {reason}")]
    Issuer {
        /// Its name.
        issuer: String,
        /// What is wrong.
        reason: String,
    },
}

/// Where a listener really listens.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Its name.
    pub name: String,
    /// `tcp`, `tls`, `ws` or `wss`.
    pub transport: &'static str,
    /// With the port that the system chose, where 0 was configured.
    pub address: SocketAddr,
}

/// A broker at work.
pub struct Running {
    config: Config,
    node: Arc<Node>,
    journal: Journal,
    keeper: Arc<Keeper>,
    listening: Vec<Listening>,
    http: Option<SocketAddr>,
    locks: Vec<(Listener, watch::Sender<Arc<Locks>>)>,
    places: Arc<Semaphore>,
    accepting: Vec<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    projector: Option<Projector>,
    audited: Audited,
    stop_http: watch::Sender<bool>,
}

/// Who writes the audit record.
struct Projector {
    shutdown: watch::Sender<bool>,
    progress: watch::Receiver<AuditProgress>,
    task: JoinHandle<Result<(), ProjectorError>>,
}

/// Starts a broker. When this returns it accepts connections.
///
/// # Errors
/// The first thing that cannot be had.
pub async fn start(mut config: Config) -> Result<Running, StartError> {
    if let Some(shortage) = descriptors::shortage(config.limits.connections, descriptors::raise())? {
        tracing::warn!("{shortage}");
        config.limits.connections = shortage.fit;
    }
    let plugins = plugins(&config)?;
    let security = Security::load(&config)?;
    let mut locks = Vec::new();
    for listener in &config.listeners {
        locks.push((listener.clone(), watch::channel(Arc::new(security.locks(listener)?)).0));
    }
    // Sockets first: a port in use is found before anything is written.
    let mut sockets = Vec::new();
    for listener in &config.listeners {
        let socket = listener::bind(listener.bind).map_err(|source| StartError::Bind {
            name: listener.name.clone(),
            address: listener.bind,
            source,
        })?;
        sockets.push(socket);
    }
    let http_socket = match config.http {
        None => None,
        Some(address) => Some(listener::bind(address).map_err(|source| StartError::Bind {
            name: "http".to_owned(),
            address,
            source,
        })?),
    };

    fs::create_dir_all(&config.node.data).map_err(|error| file(&config.node.data, &error))?;
    let shared: Arc<OnceLock<Weak<Node>>> = Arc::default();
    let journal = open_journal(&config, &shared)?;
    let metrics = Arc::new(Metrics::new());
    let host = Host::new(plugins);
    let node = {
        let response_information = config.node.response_information.clone();
        let limits = Limits { response_information, ..config.limits.core.clone() };
        let (node_id, journal, metrics) = (config.node.id, journal.clone(), Arc::clone(&metrics));
        // Reading the journal is blocking work.
        let recover = move || Node::recover(node_id, limits, journal, host, metrics);
        Arc::new(tokio::task::spawn_blocking(recover).await.map_err(|error| StartError::File {
            path: config.node.data.clone(),
            reason: format!("recovery ended early: {error}"),
        })??)
    };
    // What became durable before this moment is told now; nobody waits for it yet.
    let _ = shared.set(Arc::downgrade(&node));

    let store = config.audit.store.clone();
    let projector = store.map(|store| start_audit(&config, store, &journal, &node)).transpose()?;
    let progress = projector.as_ref().map(|projector| projector.progress.clone());
    let audited = Audited::new(journal.clone(), progress);
    metrics.audit(audited.is_kept());
    let places = Arc::new(Semaphore::new(config.limits.connections));
    let mut listening = Vec::new();
    let mut accepting = Vec::new();
    for (socket, (listener, locks)) in sockets.into_iter().zip(&locks) {
        let address = socket.local_addr().map_err(|source| StartError::Bind {
            name: listener.name.clone(),
            address: listener.bind,
            source,
        })?;
        listening.push(Listening {
            name: listener.name.clone(),
            transport: listener.transport.as_str(),
            address,
        });
        metrics.name_listener(&listener.name);
        let door = Arc::new(Door {
            name: listener.name.as_str().into(),
            demand: listener.demand.clone(),
            prefix: config.identity.uri_prefix.clone(),
            limits: listener.limits.clone(),
            locks: locks.subscribe(),
        });
        let listener = Arc::new(listener.clone());
        let accept = listener::run(socket, listener, door, Arc::clone(&node), Arc::clone(&places));
        accepting.push(tokio::spawn(accept));
    }

    let mut background = Vec::new();
    let timers = Arc::clone(&node);
    background.push(tokio::spawn(async move { timers.run_timers().await }));
    background.push(tokio::spawn(disk::run(Arc::clone(&node))));
    background.push(tokio::spawn(queues::run(Arc::clone(&node))));
    let (every_bytes, quota_bytes) = (config.snapshot_bytes, config.journal.quota_bytes);
    let keeper = Arc::new(Keeper::new(Arc::clone(&node), journal.clone(), every_bytes, quota_bytes));
    background.push(tokio::spawn(snapshots::run(Arc::clone(&keeper), audited.clone())));
    background.push(tokio::spawn(heartbeat::run(Arc::clone(&node), audited.clone())));
    if let Some(every) = config.node.sys_interval {
        background.push(tokio::spawn(sys::run(Arc::clone(&node), every)));
    }
    let (stop_http, stopped) = watch::channel(false);
    let mut http_address = None;
    if let Some(socket) = http_socket {
        http_address = socket.local_addr().ok();
        let serve =
            http::serve(socket, Arc::clone(&node), Arc::clone(&keeper), audited.clone(), async move {
                let mut stopped = stopped;
                let _ = stopped.wait_for(|stopped| *stopped).await;
            });
        background.push(tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the HTTP listener ended");
            }
        }));
    }
    Ok(Running {
        config,
        node,
        journal,
        keeper,
        listening,
        http: http_address,
        locks,
        places,
        accepting,
        background,
        projector,
        audited,
        stop_http,
    })
}

impl Running {
    /// Where clients connect.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Where health and metrics are, if anywhere.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Resolves when the broker cannot go on, with the reason.
    pub async fn failed(&self) -> String {
        let mut failure = self.node.failure();
        match failure.wait_for(Option::is_some).await {
            Ok(text) => text.clone().unwrap_or_default(),
            Err(_) => "the node is gone".to_owned(),
        }
    }

    /// Reads policy, rules, issuers' keys, certificates and revocation lists anew. Clients that may stay do; the others are told. When
    /// anything cannot be used, all stays as it was.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn reload(&self) -> Result<(), StartError> {
        let outcome = self.reload_all();
        let reason = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        self.node.reloaded("policy, rules, keys, certificates, revocation lists", &reason);
        outcome
    }

    fn reload_all(&self) -> Result<(), StartError> {
        let security = Security::load(&self.config)?;
        let plugins = plugins(&self.config)?;
        let mut fresh = Vec::with_capacity(self.locks.len());
        for (listener, _) in &self.locks {
            fresh.push(Arc::new(security.locks(listener)?));
        }
        self.node.replace_plugins(plugins).map_err(|error| StartError::Rules(error.to_string()))?;
        for ((_, sender), locks) in self.locks.iter().zip(fresh) {
            sender.send_replace(locks);
        }
        self.node.wake_all();
        Ok(())
    }

    /// Stops: nobody is let in, clients are told, the journal is closed, and the audit store gets what it has not.
    ///
    /// # Errors
    /// What could not be finished; the next start finishes it.
    pub async fn stop(self) -> Result<(), String> {
        for accept in &self.accepting {
            accept.abort();
        }
        self.node.stop();
        let everybody = u32::try_from(self.config.limits.connections).unwrap_or(u32::MAX);
        let _ = timeout(GOODBYE_MAX, self.places.acquire_many(everybody)).await;
        let (journal, keeper) = (self.journal.clone(), Arc::clone(&self.keeper));
        let close = move || {
            // So that the next start has nothing to read again.
            if journal.failure().is_none()
                && let Err(error) = keeper.take(None, snapshots::DURABLE_WITHIN_AT_STOP)
            {
                tracing::warn!(%error, "no snapshot was taken: the next start will take longer");
            }
            journal.close()
        };
        let closed = tokio::task::spawn_blocking(close).await;
        let audited = match self.projector {
            Some(Projector { shutdown, task, .. }) => {
                shutdown.send_replace(true);
                task.await
            }
            None => Ok(Ok(())),
        };
        self.stop_http.send_replace(true);
        for task in &self.background {
            task.abort();
        }
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err(format!("journal: {failure}")),
            Err(error) => return Err(format!("journal: {error}")),
        }
        match audited {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("audit: {error}")),
            Err(error) => return Err(format!("audit: {error}")),
        }
        match self.audited.error() {
            None => Ok(()),
            Some(error) => Err(format!(
                "the audit store does not have everything yet ({error}); the journal keeps it, and the next start goes on"
            )),
        }
    }
}

/// Policy and issuers, read together.
struct Security {
    policy: Arc<Policy>,
    issuers: Arc<Issuers>,
}

impl Security {
    fn load(config: &Config) -> Result<Self, StartError> {
        let text = read(&config.policy)?;
        let text = String::from_utf8(text).map_err(|_| file(&config.policy, &"it is not UTF-8 text"))?;
        let policy = Policy::parse(&text).map_err(|error| file(&config.policy, &error))?;
        let mut keys = Vec::new();
        for issuer in &config.identity.issuers {
            keys.push(read(&issuer.jwks)?);
        }
        let sources = config.identity.issuers.iter().zip(&keys).map(|(issuer, jwks)| IssuerSource {
            issuer: &issuer.issuer,
            audience: &issuer.audience,
            jwks,
            algorithms: &issuer.algorithms,
        });
        let issuers = Issuers::load(sources)
            .map_err(|(issuer, error)| StartError::Issuer { issuer, reason: error.to_string() })?;
        Ok(Self { policy: Arc::new(policy), issuers: Arc::new(issuers) })
    }

    fn locks(&self, listener: &Listener) -> Result<Locks, StartError> {
        let tls = listener.tls.as_ref().map(tls::lock).transpose();
        let tls = tls.map_err(|source| StartError::Tls { name: listener.name.clone(), source })?;
        Ok(Locks { issuers: Arc::clone(&self.issuers), policy: Arc::clone(&self.policy), tls })
    }
}

fn plugins(config: &Config) -> Result<Vec<Box<dyn Plugin>>, StartError> {
    let Some(path) = &config.rules else { return Ok(Vec::new()) };
    Ok(rules::plugins(&rules::load(path).map_err(|error| StartError::Rules(error.to_string()))?))
}

fn open_journal(config: &Config, shared: &Arc<OnceLock<Weak<Node>>>) -> Result<Journal, StartError> {
    let shared = Arc::clone(shared);
    let (journal, recovery) = Journal::open(config.journal.clone(), move |progress| {
        let Some(node) = shared.get().and_then(Weak::upgrade) else { return };
        match progress {
            Progress::Durable { entries, .. } => node.durable(entries),
            Progress::Synced(took) => node.synced(took),
            Progress::Failed(failure) => node.fail(&failure.to_string()),
        }
    })?;
    if let Some(torn) = &recovery.torn {
        tracing::warn!(
            file = %torn.file.display(),
            position = torn.position,
            bytes = torn.bytes,
            "the last stop was sudden: an unfinished record at the journal's end, never acknowledged, was cut off"
        );
    }
    Ok(journal)
}

fn start_audit(
    config: &Config,
    store: Store,
    journal: &Journal,
    node: &Arc<Node>,
) -> Result<Projector, StartError> {
    let audit = |error: &dyn std::fmt::Display| StartError::Audit(error.to_string());
    let key = SigningKey::open_or_create(&config.node.data, config.node.id).map_err(|error| audit(&error))?;
    let (shutdown, stopping) = watch::channel(false);
    let (tell, progress) = watch::channel(AuditProgress::default());
    let options = AuditOptions {
        node: config.node.id,
        payload: config.audit.payload.clone(),
        key,
        clock: clock::now,
        drain: AUDIT_DRAIN_MAX,
    };
    let run = wardline_audit::run(JournalSource::new(journal.clone()), store, options, stopping, tell);
    let (node, journal) = (Arc::clone(node), journal.clone());
    let task = tokio::spawn(async move {
        let outcome = run.await;
        if let Err(error) = &outcome {
            let text = match disk::cause(&journal).await {
                Some(failure) => failure.to_string(),
                None => format!("audit: {error}"),
            };
            node.fail(&text);
        }
        outcome
    });
    Ok(Projector { shutdown, progress, task })
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    fs::read(path).map_err(|error| file(path, &error))
}

fn file(path: &Path, reason: &dyn std::fmt::Display) -> StartError {
    StartError::File { path: path.to_owned(), reason: reason.to_string() }
}
