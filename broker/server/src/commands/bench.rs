//! `wardline bench`: load on any MQTT broker, and what it cost.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use wardline_bench::{Access, Accesses, Broker, Plan, Report, Scenario, ward};
use wardline_wire::{QoS, Version};

use super::{Failure, Outcome};
use crate::descriptors;
use crate::simulate::identity::{BrokerUrl, Credentials, client_config};

/// Publishes under way of each publisher: without a rate, and with one, where a stall must not hold them back.
const WINDOW: u16 = 16;
const WINDOW_QOS_0: u16 = 256;
const WINDOW_RATE: u16 = 1_024;
/// Microseconds that an idle thread of the load stays away, where latency is not what is measured.
const PAUSE_US: u64 = 200;
/// What standard error hears when all clients are connected.
const BEGINS: &str = "the load begins\n";
/// Descriptors that are not connections.
const DESCRIPTORS_KEPT: u64 = 64;

/// Options of `wardline bench`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What the clients do
    scenario: Kind,
    /// The broker: mqtt://HOST:PORT, or mqtts://HOST:PORT with TLS
    #[arg(long, default_value = "mqtt://127.0.0.1:1883")]
    url: BrokerUrl,
    /// 3.1.1 or 5
    #[arg(long, default_value = "3.1.1", value_parser = parse_version)]
    mqtt: Version,
    /// Seconds that are measured; for connections, that they are held [default: 10; connect 1]
    #[arg(long, value_name = "N", value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// Seconds of load before
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_seconds)]
    warmup: Duration,
    /// Messages, or connections, a second, all together [default: as fast as may be; rate, slow and ward 1000]
    #[arg(long, value_name = "HZ")]
    rate: Option<f64>,
    /// Threads of the load
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Microseconds that a thread with nothing to do stays away, so that the broker need not wake it for each message
    /// [default: 200; 0 with a rate, and for connections]
    #[arg(long, value_name = "MICROSECONDS")]
    pause: Option<u64>,
    /// Beginning of client identifiers and topics [default: bench-PID, so that no other run is met]
    #[arg(long)]
    prefix: Option<String>,
    /// Seconds of keep-alive; 0 is none
    #[arg(long, default_value_t = 60)]
    keep_alive: u16,
    /// The broker's process [default: who listens on the port, if that is on this machine]
    #[arg(long)]
    pid: Option<u32>,
    /// Write the report as JSON; - is standard output, and the table goes to standard error
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Quality of service of publishes and subscriptions [default: 0; ward 1]
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2), help_heading = "Messages")]
    qos: Option<u8>,
    /// Bytes of a payload, at least 16
    #[arg(long, default_value_t = 64, value_name = "BYTES", help_heading = "Messages")]
    payload: usize,
    /// Connections that publish [default: fan-in 8, pairs 8, ward 100, otherwise 1]
    #[arg(long, help_heading = "Messages")]
    publishers: Option<u32>,
    /// Connections that subscribe to everything, in a ward each to the alerts of its unit
    /// [default: fan-out 100, pairs as many as publishers, ward 4, otherwise 1]
    #[arg(long, help_heading = "Messages")]
    subscribers: Option<u32>,
    /// Topics that each publisher takes in turn; with pairs each has one of its own, in a ward each has as many
    /// [default: 1; ward 12]
    #[arg(long, help_heading = "Messages")]
    topics: Option<u32>,
    /// Readings of a ward beyond their limits, a second, all together
    #[arg(long, value_name = "HZ", default_value_t = 20.0, help_heading = "Messages")]
    alerts: f64,
    /// Subscriptions with wildcards, held beside, that no message matches
    #[arg(long, default_value_t = 0, help_heading = "Messages")]
    subscriptions: u32,
    /// Publishes of a publisher under way: at QoS 1 and 2 not acknowledged, at QoS 0 not delivered, where 0 is no limit
    /// [default: 16; QoS 0 256; with --rate 1024, and at QoS 0 no limit]
    #[arg(long, help_heading = "Messages")]
    window: Option<u16>,

    /// Connections that are opened and held
    #[arg(long, default_value_t = 1_000, help_heading = "Connections")]
    connections: u32,

    /// CA certificate that the broker's must chain to [default: ca.pem in --certs]
    #[arg(long, value_name = "FILE", help_heading = "Identity")]
    ca: Option<PathBuf>,
    /// Folder with each client's device-ID.pem and device-ID.key; IDs are PREFIX-pub-0, PREFIX-sub-0, PREFIX-con-0, …,
    /// in a ward device-PREFIX-mon-0 and staff-PREFIX-nurse-0, …
    #[arg(long, value_name = "DIR", help_heading = "Identity")]
    certs: Option<PathBuf>,
    /// File with the certificate that every client uses
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "certs", help_heading = "Identity")]
    cert: Option<PathBuf>,
    /// File with its private key
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "Identity")]
    key: Option<PathBuf>,
    /// Folder with each client's token, device-ID.jwt or staff-ID.jwt
    #[arg(long, value_name = "DIR", conflicts_with = "token", help_heading = "Identity")]
    token_dir: Option<PathBuf>,
    /// File with the token, or password, that every client uses
    #[arg(long, value_name = "FILE", help_heading = "Identity")]
    token: Option<PathBuf>,
    /// User name of every client
    #[arg(long, help_heading = "Identity")]
    username: Option<String>,
    /// Let clients that share a certificate resume TLS sessions of each other, which is cheaper than what devices do
    #[arg(long, help_heading = "Identity")]
    resume: bool,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Many publishers to few subscribers, as fast as they are taken
    FanIn,
    /// Few publishers to many subscribers, as fast as they are taken
    FanOut,
    /// Each publisher to a subscriber of its own, as fast as they are taken
    Pairs,
    /// At a fixed rate; latency counts from when a message was due
    Rate,
    /// One subscriber does not read until the publishers have ended; what it lost, and what others noticed
    Slow,
    /// Monitors publish readings at a fixed rate, some beyond a limit: how late, from when the reading was due, the
    /// alert is at a pager
    Ward,
    /// Connections are opened at a rate: how long each takes
    Connect,
    /// Connections are held and silent: what each takes
    Idle,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    let plan = plan(&args);
    plan.check().map_err(|error| Failure::usage(error.to_string()))?;
    let wanted = descriptors_for(&plan);
    let allowed = descriptors::raise();
    if wanted > allowed {
        return Err(Failure::usage(format!(
            "{wanted} file descriptors are needed and the process may have {allowed}: raise the limit with `ulimit -n`, or ask \
             for fewer connections"
        )));
    }
    if let Some(path) = args.json.as_deref().filter(|path| path.as_os_str() != "-") {
        has_place(path).map_err(|error| Failure::usage(format!("--json {}: {error}", path.display())))?;
    }
    let broker = Broker { url: args.url.to_string(), host: args.url.host.clone(), port: args.url.port };
    // For who measures other processes meanwhile; that nobody reads it is no reason to stop.
    let begins = || drop(print(&mut std::io::stderr(), BEGINS));
    let report = wardline_bench::run(&plan, &broker, accesses(&args)?, begins)
        .map_err(|error| Failure::failed(error.to_string()))?;
    tell(&report, args.json.as_deref())?;
    // The report has said what is wrong.
    if report.complete { Ok(()) } else { Err(Failure::failed("")) }
}

/// Whether a report can be written there: to learn of it after the load would be late. What is there stays as it is.
fn has_place(path: &Path) -> std::io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() || there.is_dir() => {
            OpenOptions::new().append(true).open(path).map(drop)
        }
        // A device or a pipe, which to open may be more than to look.
        Ok(_) => Ok(()),
        Err(_) => {
            OpenOptions::new().write(true).create_new(true).open(path)?;
            fs::remove_file(path)
        }
    }
}

fn tell(report: &Report, json: Option<&Path>) -> Outcome {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::failed(format!("{what}: {error}"));
    let Some(path) = json else { return print(&mut std::io::stdout(), &report.to_string()) };
    let mut text =
        serde_json::to_string_pretty(report).map_err(|error| failed("cannot write JSON", &error))?;
    text.push('\n');
    if path.as_os_str() == "-" {
        print(&mut std::io::stderr(), &report.to_string())?;
        return print(&mut std::io::stdout(), &text);
    }
    print(&mut std::io::stdout(), &report.to_string())?;
    fs::write(path, text).map_err(|error| failed(&path.display().to_string(), &error))
}

fn print(to: &mut impl Write, text: &str) -> Outcome {
    to.write_all(text.as_bytes())
        .map_err(|error| Failure::failed(format!("cannot write the report: {error}")))
}

fn plan(args: &Args) -> Plan {
    let kind = args.scenario;
    let scenario = match kind {
        Kind::FanIn | Kind::FanOut => Scenario::Flood,
        Kind::Pairs => Scenario::Pairs,
        Kind::Rate => Scenario::Rate,
        Kind::Slow => Scenario::Slow,
        Kind::Ward => Scenario::Ward,
        Kind::Connect | Kind::Idle => Scenario::Connect,
    };
    let qos = match args.qos.unwrap_or(u8::from(kind == Kind::Ward)) {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    let publishers = args.publishers.unwrap_or(match kind {
        Kind::FanIn | Kind::Pairs => 8,
        Kind::Ward => 100,
        _ => 1,
    });
    let subscribers = args.subscribers.unwrap_or(match kind {
        Kind::FanOut => 100,
        Kind::Pairs => publishers,
        Kind::Ward => 4,
        _ => 1,
    });
    let topics = args.topics.unwrap_or(if kind == Kind::Ward { ward::SIGNALS.len() as u32 } else { 1 });
    let at_rate = matches!(kind, Kind::Rate | Kind::Slow | Kind::Ward);
    let rate_per_second = args.rate.or(at_rate.then_some(1_000.0));
    let window = args.window.unwrap_or(match (rate_per_second, qos) {
        (Some(_), QoS::AtMostOnce) => 0,
        (Some(_), _) => WINDOW_RATE,
        (None, QoS::AtMostOnce) => WINDOW_QOS_0,
        (None, _) => WINDOW,
    });
    let flood = rate_per_second.is_none() && scenario != Scenario::Connect;
    let pause = Duration::from_micros(args.pause.unwrap_or(if flood { PAUSE_US } else { 0 }));
    let seconds = args.seconds.unwrap_or(Duration::from_secs(if kind == Kind::Connect { 1 } else { 10 }));
    let name = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    Plan {
        name,
        scenario,
        version: args.mqtt,
        qos,
        payload_bytes: args.payload,
        publishers,
        subscribers,
        topics,
        subscriptions: args.subscriptions,
        window,
        rate_per_second,
        alerts_per_second: args.alerts,
        connections: args.connections,
        warmup: args.warmup,
        measured: seconds,
        threads: args.threads,
        pause,
        keep_alive: args.keep_alive,
        prefix: args.prefix.clone().unwrap_or_else(|| format!("bench-{}", std::process::id())),
        pid: args.pid,
    }
}

fn descriptors_for(plan: &Plan) -> u64 {
    let connections = match plan.scenario {
        Scenario::Connect => u64::from(plan.connections),
        _ => u64::from(plan.publishers) + u64::from(plan.subscribers) + u64::from(plan.subscriptions) / 1_000,
    };
    connections + DESCRIPTORS_KEPT
}

/// How each client finds its certificate and token; what they share is read here.
fn accesses(args: &Args) -> Result<Arc<Accesses>, Failure> {
    let usage = |error: &dyn std::fmt::Display| Failure::usage(error.to_string());
    let name = ServerName::try_from(args.url.host.clone()).map_err(|error| usage(&error))?;
    let (tls, resume) = (args.url.tls, args.resume);
    let connector = move |credentials: &Credentials| -> Result<_, String> {
        if !tls {
            return Ok(None);
        }
        let mut config = client_config(credentials).map_err(|error| error.to_string())?;
        if !resume {
            config.resumption = Resumption::disabled();
        }
        Ok(Some((TlsConnector::from(Arc::new(config)), name.clone())))
    };
    let shared = Credentials {
        ca: args.ca.clone(),
        certificate: args.cert.clone().zip(args.key.clone()),
        token: args.token.clone().map(read_token).transpose().map_err(|error| usage(&error))?,
    };
    let (ca, certs, token_dir, username) =
        (args.ca.clone(), args.certs.clone(), args.token_dir.clone(), args.username.clone());
    let common = match certs {
        Some(_) => None,
        None => connector(&shared).map_err(|error| usage(&error))?,
    };
    Ok(Arc::new(move |file: &str| {
        let tls = match &certs {
            None => common.clone(),
            Some(dir) => {
                let own = Credentials::in_dir(dir, file);
                connector(&Credentials { ca: ca.clone().or(own.ca), ..own })?
            }
        };
        let password = match &token_dir {
            None => shared.token.clone(),
            Some(dir) => Some(read_token(dir.join(format!("{file}.jwt")))?),
        };
        Ok(Access { username: username.clone(), password, tls })
    }))
}

fn read_token(path: PathBuf) -> Result<String, String> {
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "3.1.1" | "4" => Ok(Version::V311),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err(format!("'{text}' is no version of MQTT that is spoken here; it is 3.1.1 or 5")),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("'{text}' is no number of seconds"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Result<Args, clap::Error> {
        Cli::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).map(|cli| cli.args)
    }

    fn planned(line: &str) -> Plan {
        plan(&args(line).unwrap())
    }

    #[test]
    fn each_scenario_has_the_numbers_that_make_it_what_it_is() {
        let numbers = |line: &str| {
            let plan = planned(line);
            assert_eq!(plan.check(), Ok(()), "{line}");
            (plan.publishers, plan.subscribers, plan.window, plan.rate_per_second)
        };
        assert_eq!(numbers("fan-in"), (8, 1, 256, None));
        assert_eq!(numbers("fan-in --qos 1 --subscribers 3"), (8, 3, 16, None));
        assert_eq!(numbers("fan-out"), (1, 100, 256, None));
        assert_eq!(numbers("pairs --publishers 5"), (5, 5, 256, None));
        assert_eq!(numbers("rate --rate 20000 --qos 1"), (1, 1, 1024, Some(20_000.0)));
        assert_eq!(numbers("ward"), (100, 4, 1024, Some(1_000.0)));
        assert_eq!((planned("ward").topics, planned("ward").qos), (12, QoS::AtLeastOnce));
        assert_eq!(numbers("slow"), (1, 1, 0, Some(1_000.0)));
        assert_eq!(planned("idle").scenario, Scenario::Connect);
        assert_eq!(planned("connect --seconds 0.5").measured, Duration::from_millis(500));
        let pauses = ["fan-in", "fan-in --pause 0", "rate", "fan-in --rate 9", "connect"];
        assert_eq!(pauses.map(|line| planned(line).pause.as_micros()), [200, 0, 0, 0, 0]);
        assert_eq!(planned("fan-in --mqtt 5").version, Version::V5);
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_sent() {
        let refused = |line: &str| match run(args(line).unwrap()) {
            Err(Failure { status: 2, message }) => message,
            other => panic!("{line}: {other:?}"),
        };
        assert!(refused("fan-in --payload 15").contains("15 bytes cannot be measured"));
        assert!(refused("fan-in --prefix a/+").contains("'a/+'"));
        assert!(refused("fan-in --qos 2 --window 0").contains("window of 0"));
        assert!(refused("fan-in --url mqtts://localhost").contains("--ca"));
        assert!(refused("fan-in --token /nonexistent.jwt").contains("/nonexistent.jwt"));
        for wrong in
            ["", "storm", "fan-in --mqtt 6", "fan-in --qos 3", "fan-in --seconds x", "fan-in --cert a"]
        {
            assert!(args(wrong).is_err(), "{wrong}");
        }
    }
}
