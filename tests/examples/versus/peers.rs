//! The brokers, and how each is started.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wardline_bench::ward;
use wardline_tests::machine::installed;
use wardline_tests::{Broker, DEADLINE, Process, Site, workspace};

/// Where `tests/versus` installs rumqttd.
const RUMQTTD: &str = "target/versus/bin/rumqttd";

/// As Debian has it, but for what would make it wait (Nagle's algorithm) or drop (its queue of 1,000).
const MOSQUITTO_CONF: &str = "listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
log_type error
";

/// As its own example, without what is not used.
const RUMQTTD_TOML: &str = r#"id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 20480
max_inflight_count = 100
dynamic_filters = true
"#;

/// A broker that can be started.
pub(crate) struct Peer {
    pub(crate) name: String,
    kind: Kind,
}

enum Kind {
    /// With these variables.
    Wardline(&'static [(&'static str, &'static str)]),
    /// A command and the configuration file that it is given as `{dir}/conf`; in both, `{port}` and `{dir}` are replaced.
    Other { command: Vec<String>, configuration: &'static str },
}

/// One that runs; stopped when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    broker: Started,
    /// Removed after the broker has stopped.
    _directory: Option<TempDir>,
}

enum Started {
    Wardline { broker: Broker, _site: Site },
    Other(Process),
}

/// What can be compared without being asked for: Wardline as it is configured for a hospital, and without waiting for the
/// disk or keeping a record; and the others that are installed.
pub(crate) fn at_hand() -> Vec<Peer> {
    let wardline = |name: &str, variables| Peer { name: name.to_owned(), kind: Kind::Wardline(variables) };
    let mut peers = vec![
        wardline("wardline", &[]),
        // What the others do: keep nothing and record nothing.
        wardline(
            "wardline-bare",
            &[("WARDLINE__JOURNAL__COMMIT", "off"), ("WARDLINE__AUDIT__STORE", "none")],
        ),
    ];
    if let Some(path) = installed("mosquitto") {
        peers.push(Peer::other("mosquitto", &[&path, "-c", "{dir}/conf"], MOSQUITTO_CONF));
    }
    let built = workspace().join(RUMQTTD);
    let built = built.is_file().then(|| built.display().to_string());
    if let Some(path) = built.or_else(|| installed("rumqttd")) {
        // It takes its file for TOML only by its ending.
        peers.push(Peer::other("rumqttd", &[&path, "-q", "-c", "{dir}/conf.toml"], RUMQTTD_TOML));
    }
    peers
}

impl Peer {
    /// From `NAME=COMMAND`.
    pub(crate) fn of_command(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not NAME=COMMAND with {{port}} in it");
        let (name, command) =
            text.split_once('=').filter(|(_, command)| command.contains("{port}")).ok_or_else(wrong)?;
        let command = ["sh".to_owned(), "-c".to_owned(), format!("exec {command}")];
        let kind = Kind::Other { command: command.into(), configuration: "" };
        Ok(Self { name: name.to_owned(), kind })
    }

    fn other(name: &str, command: &[&str], configuration: &'static str) -> Self {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        Self { name: name.to_owned(), kind: Kind::Other { command, configuration } }
    }

    pub(crate) fn is_wardline(&self) -> bool {
        matches!(self.kind, Kind::Wardline(_))
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(&self) -> Running {
        match &self.kind {
            Kind::Wardline(variables) => {
                let site = Site::new();
                site.write("rules.toml", &ward::rules());
                let broker = Broker::start_with(&site, variables);
                let address = broker.address("lab");
                Running { address, broker: Started::Wardline { broker, _site: site }, _directory: None }
            }
            Kind::Other { command, configuration } => self.start_other(command, configuration),
        }
    }

    fn start_other(&self, command: &[String], configuration: &str) -> Running {
        let directory = TempDir::with_prefix("versus-").expect("a temporary directory can be made");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a port is free");
        let fill = |text: &str| {
            let dir = directory.path().display().to_string();
            text.replace("{port}", &address.port().to_string()).replace("{dir}", &dir)
        };
        for name in ["conf", "conf.toml"] {
            fs::write(directory.path().join(name), fill(configuration))
                .expect("a temporary directory can be written");
        }
        let words: Vec<String> = command.iter().map(|word| fill(word)).collect();
        let (program, arguments) = words.split_first().expect("a command has a program");
        let mut process = Process::start(Command::new(program).args(arguments).current_dir(directory.path()));
        wait_for(address, || {
            assert!(!process.has_ended(), "{} ended: {}", self.name, process.said());
        });
        Running { address, broker: Started::Other(process), _directory: Some(directory) }
    }
}

fn wait_for(address: SocketAddr, mut look: impl FnMut()) {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        look();
        assert!(began.elapsed() < DEADLINE, "nobody listens at {address}");
        // Nothing tells when another program begins to listen.
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        match &self.broker {
            Started::Wardline { broker, .. } => broker.id(),
            Started::Other(process) => process.id(),
        }
    }
}
