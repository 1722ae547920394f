//! The job done as it is done today: mosquitto, a rule process that is an MQTT client, and a consumer that inserts into
//! PostgreSQL. The two are this program again, with other arguments.

pub(crate) mod consumer;
pub(crate) mod rules;

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rumqttc::{MqttOptions, Transport};
use wardline_bench::ward;
use wardline_test_postgres::Postgres;
use wardline_tests::{Credentials, DEADLINE, Process, Site, rumqtt};

use crate::Order;

/// Names of the two in certificates and as client identifiers.
pub(crate) const RULES: &str = "rules";
pub(crate) const CONSUMER: &str = "consumer";

const TABLE: &str = "CREATE SCHEMA today; CREATE TABLE today.publishes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
     received_at timestamptz NOT NULL, topic text NOT NULL, payload bytea NOT NULL)";
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Packets that a client holds for its broker.
const REQUESTS_MAX: usize = 20_000;

/// All three, running.
pub(crate) struct Today {
    pub(crate) mosquitto: Process,
    pub(crate) rules: Process,
    pub(crate) consumer: Process,
    pub(crate) address: SocketAddr,
}

impl Today {
    /// # Panics
    /// If one of them does not start.
    pub(crate) fn start(mosquitto: &str, site: &Site, postgres: &Postgres, order: &Order) -> Self {
        let directory = site.path().join("mosquitto");
        fs::create_dir(&directory).expect("a temporary directory can be written");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a port is free");
        let configuration = directory.join("mosquitto.conf");
        fs::write(&configuration, configure(site, &directory, address, order)).expect("it can be written");
        let mut broker = Process::start(Command::new(mosquitto).arg("-c").arg(configuration));
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(!broker.has_ended() && began.elapsed() < DEADLINE, "mosquitto: {}", broker.said());
            // Nothing tells when another program begins to listen.
            std::thread::sleep(Duration::from_millis(20));
        }
        postgres.query(TABLE);
        let client = |name: &str, store: &str| {
            let program = std::env::current_exe().expect("a running program has a path");
            let mut command = Command::new(program);
            command.args([name, &address.port().to_string(), store]);
            if order.tls {
                let files = site.device(name);
                command.args([site.ca(), files.certificate, files.key]);
            }
            let process = Process::start(&mut command);
            process.wait_for("its subscription", |line| line == "subscribed");
            process
        };
        let rules = client(RULES, "");
        let consumer = client(CONSUMER, &postgres.url());
        Self { mosquitto: broker, rules, consumer, address }
    }

    /// Rows that the consumer has inserted.
    pub(crate) fn rows(&self) -> u64 {
        let said = self.consumer.said();
        said.lines().rev().find_map(|line| line.strip_prefix("rows ")?.parse().ok()).unwrap_or_default()
    }
}

/// As people run it: certificates, who may do what by name, sessions kept on disk now and then. Without what would make it
/// wait (Nagle's algorithm, few messages under way) or drop (its queue of 1,000).
fn configure(site: &Site, directory: &Path, address: SocketAddr, order: &Order) -> String {
    let port = address.port();
    let mut text = format!(
        "user root\nlistener {port} 127.0.0.1\nset_tcp_nodelay true\nmax_inflight_messages 0\nmax_queued_messages 0\n\
         persistence true\npersistence_location {}/\nlog_type error\n",
        directory.display()
    );
    if !order.tls {
        return text + "allow_anonymous true\n";
    }
    let certs = site.path().join("certs");
    let file = |name: &str| certs.join(name).display().to_string();
    let _ = write!(
        text,
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\nacl_file {}\n",
        file("ca.pem"),
        file("server.pem"),
        file("server.key"),
        directory.join("acl").display()
    );
    fs::write(directory.join("acl"), permissions(order)).expect("a temporary directory can be written");
    text
}

fn permissions(order: &Order) -> String {
    let prefix = wardline_tests::ward::PREFIX;
    let mut text = format!(
        "user device:{RULES}\ntopic read telemetry/#\ntopic write alerts/#\n\
         user device:{CONSUMER}\ntopic read telemetry/#\ntopic read alerts/#\n"
    );
    for device in 0..order.devices {
        let (id, unit, bed) =
            (ward::device_id(prefix, device), ward::unit(prefix, order.pagers, device), ward::bed(device));
        let _ = writeln!(text, "user device:{id}\ntopic write telemetry/{unit}/{bed}/{id}/#");
    }
    for pager in 0..order.pagers {
        let (id, unit) = (ward::pager_id(prefix, pager), ward::unit(prefix, order.pagers, pager));
        let _ = writeln!(text, "user staff:{id}\ntopic read alerts/{unit}/nurse/#");
    }
    text
}

/// How one of the two connects, from its arguments: port, store, and with TLS the authority, its certificate and key.
struct Link {
    store: String,
    options: MqttOptions,
}

impl Link {
    fn of(name: &str, words: &[String]) -> Self {
        let [port, store, files @ ..] = words else { panic!("{name} wants a port and a store") };
        let port = port.parse().expect("a port is a number");
        let mut options = MqttOptions::new(name, "localhost", port);
        // What comes while it is away is kept for it.
        options.set_clean_session(false).set_keep_alive(KEEP_ALIVE);
        if let [ca, certificate, key] = files {
            let files = Credentials { certificate: certificate.into(), key: key.into() };
            options.set_transport(rumqtt::tls(&PathBuf::from(ca), Some(&files)));
        } else {
            options.set_transport(Transport::tcp());
        }
        Self { store: store.clone(), options }
    }
}
