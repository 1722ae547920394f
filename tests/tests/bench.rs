//! `wardline bench` measures the real broker in every scenario, and says so when messages are lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests assert as tests do")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use bytes::BytesMut;
use serde_json::Value;
use wardline_tests::{Broker, DEADLINE, Site, record, ward, wardline};
use wardline_wire::{
    ConnAck, ConnAckProperties, Decoder, PACKET_SIZE_MAX, Packet, ReasonCode, SubAck, encode,
};

/// Short, because what is tested is whether it is right and not how fast the broker is.
const SHORT: [&str; 4] = ["--seconds", "0.3", "--warmup", "0.1"];

struct Run {
    status: Option<i32>,
    report: Value,
    table: String,
}

impl Run {
    fn count(&self, pointer: &str) -> u64 {
        self.number(pointer) as u64
    }

    fn number(&self, pointer: &str) -> f64 {
        let value = self.report.pointer(pointer).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("no {pointer} in {:#}\n{}", self.report, self.table))
    }

    /// Everything arrived, once, and the broker's cost is known.
    fn is_complete(&self, broker: &Broker) {
        assert_eq!((self.status, &self.report["complete"]), (Some(0), &Value::Bool(true)), "{}", self.table);
        assert_eq!(self.count("/broker/pid"), u64::from(broker.id()));
        assert!(!self.report["broker"]["name"].as_str().unwrap().is_empty());
        assert!(self.count("/broker/resident_bytes_after") > 1 << 20);
        assert!(!self.report["broker"]["threads"].as_array().unwrap().is_empty());
    }

    fn carried_messages(&self, broker: &Broker, receivers: u64) {
        self.is_complete(broker);
        let sent = self.count("/messages/sent");
        assert!(sent > 0 && self.count("/measured/sent") > 0 && self.count("/measured/sent") <= sent);
        assert_eq!(self.count("/messages/delivered"), sent * receivers);
        assert_eq!((self.count("/messages/lost"), self.count("/messages/duplicated")), (0, 0));
        assert!(self.count("/latency_us/samples") > 0);
        let percentiles =
            ["p50", "p90", "p99", "p99_9", "max"].map(|name| self.number(&format!("/latency_us/{name}")));
        assert!(percentiles[0] > 0.0 && percentiles.is_sorted(), "{percentiles:?}");
    }
}

fn bench(url: &str, arguments: &[&str]) -> Run {
    let mut command = wardline();
    command.arg("bench").args(arguments).args(SHORT).args(["--url", url, "--json", "-"]);
    let output = command.output().unwrap();
    let table = String::from_utf8(output.stderr).unwrap().replace("the load begins\n", "");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Run { status: output.status.code(), report, table }
}

fn lab(broker: &Broker) -> String {
    format!("mqtt://{}", broker.address("lab"))
}

fn on_a_broker(arguments: &[&str]) -> (Run, Broker) {
    let site = Site::new();
    let broker = Broker::start(&site);
    let run = bench(&lab(&broker), arguments);
    (run, broker)
}

#[test]
fn many_publishers_to_one_subscriber() {
    let (run, broker) = on_a_broker(&["fan-in", "--publishers", "4", "--topics", "10", "--threads", "2"]);
    run.carried_messages(&broker, 1);
    assert_eq!((&run.report["load"]["scenario"], run.count("/load/topics")), (&"fan-in".into(), 10));
    assert_eq!(run.count("/messages/acknowledged"), 0);
}

#[test]
fn at_qos_1_and_2_everything_sent_is_acknowledged() {
    for arguments in [["--qos", "1", "--mqtt", "5"], ["--qos", "2", "--mqtt", "3.1.1"]] {
        let all = [&["fan-in", "--publishers", "2", "--payload", "300"], &arguments[..]].concat();
        let (run, broker) = on_a_broker(&all);
        run.carried_messages(&broker, 1);
        assert_eq!(run.count("/messages/acknowledged"), run.count("/messages/sent"));
        assert!(run.number("/acknowledgement_us/p50") > 0.0);
    }
}

#[test]
fn one_publisher_to_many_subscribers_beside_subscriptions_that_do_not_match() {
    let (run, broker) = on_a_broker(&["fan-out", "--subscribers", "20", "--subscriptions", "1500"]);
    run.carried_messages(&broker, 20);
}

#[test]
fn each_publisher_to_a_subscriber_of_its_own() {
    let (run, broker) = on_a_broker(&["pairs", "--publishers", "5", "--qos", "1"]);
    run.carried_messages(&broker, 1);
    assert_eq!(run.count("/messages/out_of_order"), 0);
}

#[test]
fn at_a_fixed_rate_as_many_are_sent_as_are_due() {
    let (run, broker) = on_a_broker(&["rate", "--rate", "1000", "--publishers", "3", "--qos", "1"]);
    run.carried_messages(&broker, 1);
    // 0.4 seconds of 1000 a second; the publishers' shares are rounded.
    assert!(run.count("/messages/sent").abs_diff(400) <= 3, "{}", run.table);
    assert!(run.count("/measured/sent").abs_diff(300) <= 3, "{}", run.table);
    assert_eq!(run.count("/messages/unsent"), 0);
}

#[test]
fn a_slow_subscriber_has_what_it_was_owed_once_it_reads() {
    let (run, broker) = on_a_broker(&["slow", "--rate", "1000", "--qos", "1", "--payload", "1000"]);
    run.carried_messages(&broker, 1);
    assert_eq!(run.count("/slow/due"), run.count("/messages/sent"));
    assert_eq!((run.count("/slow/delivered"), run.count("/slow/lost")), (run.count("/slow/due"), 0));
}

#[test]
fn connections_are_opened_at_a_rate_and_held() {
    let (run, broker) = on_a_broker(&["connect", "--connections", "60", "--rate", "200"]);
    run.is_complete(&broker);
    assert_eq!((run.count("/connections/opened"), run.count("/connections/failed")), (60, 0));
    // The last is due after 59 of 200 parts of a second.
    assert!(run.number("/connections/open_seconds") > 0.294, "{}", run.table);
    assert!(run.number("/connections/connect_us/p50") > 0.0);
    assert!(run.report.pointer("/messages").is_none());
}

#[test]
fn idle_connections_take_memory_and_it_is_told_how_much() {
    let (run, broker) = on_a_broker(&["idle", "--connections", "300"]);
    run.is_complete(&broker);
    assert_eq!(run.count("/connections/opened"), 300);
    assert!(run.number("/connections/resident_bytes_each") > 0.0, "{}", run.table);
}

#[test]
fn mutual_tls_with_tokens_is_a_load_as_any_other() {
    let site = Site::new();
    site.allow_round_trip();
    let device = site.device("mon-12");
    site.write("token.jwt", &site.token_bound_to("device:mon-12", &device));
    let broker = Broker::start(&site);
    let (ca, token) = (site.ca(), site.path().join("token.jwt"));
    let identity =
        [("--ca", &ca), ("--cert", &device.certificate), ("--key", &device.key), ("--token", &token)];
    let identity = identity.iter().flat_map(|(name, path)| [*name, path.to_str().unwrap()]);
    let arguments: Vec<&str> = ["fan-in", "--publishers", "2", "--qos", "1", "--prefix", "ward/bench"]
        .into_iter()
        .chain(identity)
        .collect();
    let run = bench(&format!("mqtts://localhost:{}", broker.port("ward")), &arguments);
    run.carried_messages(&broker, 1);
}

#[test]
fn each_reading_beyond_its_limit_reaches_a_pager_and_each_reading_the_record() {
    let site = Site::new();
    ward::furnish(&site, 6, 2);
    let (certs, tokens) = ward::identify(&site, 6, 2);
    let broker = Broker::start(&site);
    let url = format!("mqtts://localhost:{}", broker.port("ward"));
    let load = ["ward", "--publishers", "6", "--subscribers", "2", "--rate", "600", "--alerts", "20"];
    let (certs, tokens) = (certs.to_str().unwrap(), tokens.to_str().unwrap());
    let identity = ["--prefix", ward::PREFIX, "--certs", certs, "--token-dir", tokens];
    let run = bench(&url, &[&load[..], &identity].concat());
    run.is_complete(&broker);
    let (sent, alerts) = (run.count("/messages/sent"), run.count("/messages/delivered"));
    assert!(sent.abs_diff(240) <= 6 && alerts > 0, "{}", run.table);
    assert_eq!((run.count("/messages/acknowledged"), run.count("/messages/due")), (sent, alerts));
    assert!(run.count("/acknowledgement_us/samples") > 100 && run.number("/latency_us/p99") > 0.0);
    assert!(run.number("/sent_late_us/p50") > 0.0);

    let began = std::time::Instant::now();
    while broker.metric::<f64>("wardline_audit_lag_records") > 0.0 {
        assert!(began.elapsed() < DEADLINE, "the record does not come");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let rows = record::sqlite(
        &site.audit_db(),
        "SELECT CAST(sum(topic LIKE 'telemetry/%') AS TEXT), CAST(sum(topic LIKE 'alerts/%' \
         AND payload LIKE '%\"phase\":\"start\"%') AS TEXT) FROM publishes WHERE outcome = 'accepted'",
    );
    assert_eq!(rows, [[sent.to_string(), alerts.to_string()]]);
}

#[test]
fn an_alert_that_does_not_come_is_said_first_and_is_a_failure() {
    let site = Site::new();
    ward::furnish(&site, 4, 1);
    site.edit("rules.toml", "signal = \"rr\"\nhigh = 30", "signal = \"rr\"\nhigh = 60");
    let broker = Broker::start(&site);
    let load = ["ward", "--publishers", "4", "--subscribers", "1", "--rate", "600", "--alerts", "50"];
    let run = bench(&lab(&broker), &[&load[..], &["--topics", "3"]].concat());
    assert_eq!((run.status, &run.report["complete"]), (Some(1), &Value::Bool(false)));
    let (due, lost) = (run.count("/messages/due"), run.count("/messages/lost"));
    assert!(lost > 0 && run.count("/messages/delivered") == due - lost, "{}", run.table);
    assert!(run.table.contains(&format!("NOT COMPLETE: {lost} of {due} alerts MISSING\n")), "{}", run.table);
}

#[test]
fn who_is_not_let_in_learns_why() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let run = bench(&lab(&broker), &["fan-in", "--prefix", "secret"]);
    assert_eq!(run.status, Some(1));
    assert!(
        run.table.contains("secret-sub-0: the broker refused the subscription to secret/+"),
        "{}",
        run.table
    );
    let run = bench(&format!("mqtt://{}", broker.address("gateway")), &["connect", "--connections", "2"]);
    assert_eq!((run.status, run.count("/connections/failed")), (Some(1), 2));
    assert!(run.table.starts_with("NOT COMPLETE: 2 connections failed or ended early"), "{}", run.table);
}

#[test]
fn lost_messages_are_said_first_and_are_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || swallow(stream.unwrap()));
        }
    });
    let run = bench(&format!("mqtt://{address}"), &["rate", "--rate", "100", "--qos", "0"]);
    assert_eq!((run.status, &run.report["complete"]), (Some(1), &Value::Bool(false)));
    let sent = run.count("/messages/sent");
    assert!(sent > 0);
    assert_eq!((run.count("/messages/lost"), run.count("/messages/delivered")), (sent, 0));
    let first = format!("NOT COMPLETE: {sent} of {sent} deliveries LOST\n");
    assert!(run.table.starts_with(&first), "{}", run.table);
}

/// A broker that lets everybody in and delivers nothing.
fn swallow(mut stream: TcpStream) {
    let mut decoder = Decoder::server_side(PACKET_SIZE_MAX);
    let (mut input, mut output, mut chunk) = (BytesMut::new(), BytesMut::new(), [0; 4_096]);
    loop {
        while let Some(packet) = decoder.decode(&mut input).unwrap() {
            let answer = match packet {
                Packet::Connect(_) => Packet::ConnAck(Box::new(ConnAck {
                    session_present: false,
                    reason: ReasonCode::Success,
                    properties: ConnAckProperties::default(),
                })),
                Packet::Subscribe(subscribe) => Packet::SubAck(SubAck {
                    packet_id: subscribe.packet_id,
                    reason_string: None,
                    user: Vec::new(),
                    reasons: vec![ReasonCode::Success; subscribe.filters.len()],
                }),
                _ => continue,
            };
            encode(&answer, decoder.version().unwrap(), &mut output).unwrap();
        }
        stream.write_all(&output).unwrap();
        output.clear();
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => input.extend_from_slice(&chunk[..count]),
        }
    }
}

#[test]
fn a_report_that_finds_no_place_is_noticed_before_the_load() {
    let directory = tempfile::tempdir().unwrap();
    let bench = |place: &Path| {
        let mut command = wardline();
        // Nobody listens there.
        command.args(["bench", "fan-in", "--url", "mqtt://127.0.0.1:1", "--json"]).arg(place);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = bench(&directory.path().join("missing/report.json"));
    assert_eq!(status, Some(2));
    assert!(said.contains("--json") && said.contains("missing/report.json"), "{said}");
    assert_eq!(bench(directory.path()).0, Some(2));
    let place = directory.path().join("report.json");
    assert_eq!(bench(&place).0, Some(1));
    assert!(!place.exists(), "a load that did not begin leaves no report");
    std::fs::write(&place, "of an earlier load").unwrap();
    assert_eq!(bench(&place).0, Some(1));
    assert_eq!(std::fs::read_to_string(&place).unwrap(), "of an earlier load");
}
