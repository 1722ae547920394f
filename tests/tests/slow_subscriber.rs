//! A subscriber that stops reading, or is away, holds the broker's memory flat and loses nothing that was promised.
//!
//! `cargo nextest run -p wardline-tests --test slow_subscriber --no-capture` prints what it measures.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests assert as tests do, and measure"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use wardline_tests::{Broker, DEADLINE, RawClient, Site, ack, connect, packet_id};
use wardline_wire::{Connect, Packet, Publish, QoS, ReasonCode, Version, encode};

/// What waits.
const MESSAGES: u32 = 200_000;
/// Who publish it, side by side.
const PUBLISHERS: u32 = 4;
/// Bytes of a payload: a reading with its units and time.
const PAYLOAD_BYTES: usize = 100;
/// What the broker's memory may grow by for it. Kept in memory it would be more than 100 MiB.
const GROWTH_BYTES_MAX: u64 = 40 << 20;
/// Publishes in flight to a client that acknowledges nothing.
const IN_FLIGHT_MAX: usize = 1_024;

/// As many as find room in flight beside telemetry that is not acknowledged.
const ALERTS: u16 = 16;
const ALERT_TOPIC: &str = "alerts/icu-3/nurse/high/b12/spo2-low";

/// QoS 0 telemetry in packets that soon fill the socket's buffers, and what of it may wait.
const NOISE: u32 = 4_000;
const NOISE_BYTES: usize = 4_096;
const NOISE_QUEUED_MAX: u32 = 500;

fn durable(client_id: &str) -> Connect {
    let mut connect = connect(Version::V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry = Some(3_600);
    connect
}

/// A payload that names its place among its publisher's.
fn payload(number: u32, bytes: usize) -> Vec<u8> {
    let mut payload = format!("{number:010}").into_bytes();
    payload.resize(bytes, b'.');
    payload
}

fn number(publish: &Publish) -> u32 {
    std::str::from_utf8(&publish.payload[..10]).unwrap().parse().unwrap()
}

/// Publishes `messages` at QoS 1 on `topic` as fast as the broker takes them, until all are acknowledged.
fn publish_all(address: SocketAddr, topic: &str, messages: u32) {
    // Nobody tells a client of MQTT 3.1.1 how many it may have under way.
    let mut client = RawClient::connected(address, Version::V311, topic);
    let mut stream = client.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut bytes = BytesMut::new();
            for first in (0..messages).step_by(500) {
                for number in first..messages.min(first + 500) {
                    let publish = Publish {
                        qos: QoS::AtLeastOnce,
                        topic: topic.into(),
                        packet_id: Some(packet_id(u16::try_from(number + 1).unwrap())),
                        payload: payload(number, PAYLOAD_BYTES).into(),
                        ..Publish::default()
                    };
                    encode(&Packet::Publish(publish), Version::V311, &mut bytes).unwrap();
                }
                std::io::Write::write_all(&mut stream, &bytes).unwrap();
                bytes.clear();
            }
        });
        for number in 0..messages {
            match client.receive() {
                Packet::PubAck(ack) => assert_eq!(u32::from(ack.packet_id.0.get()), number + 1),
                other => panic!("{other:?}"),
            }
        }
    });
}

/// All publishers at once.
fn publish_telemetry(address: SocketAddr) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            scope.spawn(move || publish_all(address, &format!("ward/{publisher}"), MESSAGES / PUBLISHERS));
        }
    });
    begun.elapsed()
}

/// What has come of the telemetry: of each publisher everything up to here, each once, in order.
#[derive(Default)]
struct Heard {
    next: [u32; PUBLISHERS as usize],
    repeated: u32,
}

impl Heard {
    fn take(&mut self, publish: &Publish) {
        let publisher: usize = publish.topic.strip_prefix("ward/").unwrap().parse().unwrap();
        let (number, next) = (number(publish), &mut self.next[publisher]);
        if number < *next {
            assert!(publish.dup, "{} {number} came twice", publish.topic);
            self.repeated += 1;
        } else {
            assert_eq!(number, *next, "{}: what was promised is missing, or out of order", publish.topic);
            *next += 1;
        }
    }

    fn total(&self) -> u32 {
        self.next.iter().sum()
    }
}

/// The acknowledgement of what has come, to be sent in one piece with others.
fn acknowledge(publish: &Publish, version: Version, out: &mut BytesMut) {
    if let Some(id) = publish.packet_id {
        encode(&Packet::PubAck(ack(id.0.get())), version, out).unwrap();
    }
}

/// Reads, acknowledging, until all telemetry is there. What else comes is handed to `other`.
fn read_telemetry(client: &mut RawClient, heard: &mut Heard, mut other: impl FnMut(&Publish)) -> Duration {
    let begun = Instant::now();
    let mut answers = BytesMut::new();
    while heard.total() < MESSAGES {
        let Packet::Publish(publish) = client.receive() else { continue };
        if publish.topic.starts_with("ward/") {
            heard.take(&publish);
        } else {
            other(&publish);
        }
        acknowledge(&publish, Version::V5, &mut answers);
        if answers.len() > 400 {
            client.send_bytes(&answers.split());
        }
    }
    client.send_bytes(&answers);
    begun.elapsed()
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn rate(duration: Duration) -> f64 {
    f64::from(MESSAGES) / duration.as_secs_f64()
}

#[test]
fn a_reader_that_stalls_loses_no_qos_1_and_its_alerts_come_first() {
    let site = Site::new();
    // Without plugins an alert is whoever's publish has its topic.
    site.edit("wardline.toml", "[plugins]\nrules = \"rules.toml\"\n", "");
    let limit = NOISE_QUEUED_MAX.to_string();
    let broker = Broker::start_with(&site, &[("WARDLINE__LIMITS__QUEUED_QOS0", &limit)]);
    let lab = broker.address("lab");
    let mut reader = RawClient::connected(lab, Version::V5, "reader");
    let filters = [("ward/#", QoS::AtLeastOnce), ("alerts/#", QoS::AtLeastOnce), ("noise", QoS::AtMostOnce)];
    assert!(reader.try_subscribe(&filters).iter().all(|reason| !reason.is_error()));
    // Buffers that are used once and kept are not what is measured.
    publish_all(lab, "elsewhere", 10_000);
    let before = broker.resident_bytes();

    let mut source = RawClient::connected(lab, Version::V5, "source");
    for number in 0..NOISE {
        source.send(&Packet::Publish(Publish {
            topic: "noise".into(),
            payload: payload(number, NOISE_BYTES).into(),
            ..Publish::default()
        }));
    }
    let published = publish_telemetry(lab);
    for id in 1..=ALERTS {
        source.deliver(ALERT_TOPIC, payload(id.into(), 10), id);
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    let waiting = broker.metric::<u64>("wardline_queued_messages");
    eprintln!(
        "{MESSAGES} QoS 1 publishes behind a stalled reader, published at {:.0}/s: {:.1} MiB resident before, {:.1} MiB more now",
        rate(published),
        mebibytes(before),
        mebibytes(grown)
    );
    assert!(waiting > u64::from(MESSAGES) - IN_FLIGHT_MAX as u64, "{waiting} wait");
    assert!(grown < GROWTH_BYTES_MAX, "{:.1} MiB more for what waits", mebibytes(grown));

    // It reads again, and acknowledges nothing before it has the alerts.
    let (mut heard, mut noise, mut unacknowledged) = (Heard::default(), Vec::new(), Vec::new());
    let mut alerts = 0;
    while alerts < u32::from(ALERTS) {
        let Packet::Publish(publish) = reader.receive() else { panic!("only publishes are owed") };
        match &*publish.topic {
            ALERT_TOPIC => {
                alerts += 1;
                assert_eq!(number(&publish), alerts);
            }
            "noise" => noise.push(number(&publish)),
            _ => heard.take(&publish),
        }
        unacknowledged.push(publish);
    }
    assert!(heard.total() as usize <= IN_FLIGHT_MAX, "{} came before the alerts", heard.total());
    let mut answers = BytesMut::new();
    unacknowledged.iter().for_each(|publish| acknowledge(publish, Version::V5, &mut answers));
    reader.send_bytes(&answers);
    let read = read_telemetry(&mut reader, &mut heard, |publish| {
        assert_eq!(publish.topic, "noise");
        noise.push(number(publish));
    });
    assert_eq!(heard.repeated, 0, "nothing came twice");
    eprintln!("read at {:.0}/s; {:.1} MiB resident then", rate(read), mebibytes(broker.resident_bytes()));

    // Of the QoS 0 telemetry the oldest that waited is gone, and nothing else.
    let shed = broker.metric::<u64>("wardline_publishes_shed_total");
    assert!(shed > 0 && noise.len() as u64 + shed == u64::from(NOISE), "{} and {shed} shed", noise.len());
    assert!(noise.is_sorted_by(|a, b| a < b), "in order, each once");
    let kept = noise.split_off(noise.len() - NOISE_QUEUED_MAX as usize);
    assert!(kept.into_iter().eq(NOISE - NOISE_QUEUED_MAX..NOISE), "the newest are kept");
    assert_eq!(broker.metric::<u64>("wardline_publishes_overflowed_total"), 0);
}

#[test]
fn an_absent_reader_gets_all_after_kill_9_and_holds_no_memory() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut reader = RawClient::connected_by(broker.address("lab"), durable("reader"));
    reader.subscribe("ward/#");
    drop(reader);
    publish_all(broker.address("lab"), "elsewhere", 10_000);
    let before = broker.resident_bytes();
    let published = publish_telemetry(broker.address("lab"));
    let grown = broker.resident_bytes().saturating_sub(before);
    eprintln!(
        "{MESSAGES} QoS 1 publishes for an absent reader, published at {:.0}/s: {:.1} MiB resident before, {:.1} MiB more now",
        rate(published),
        mebibytes(before),
        mebibytes(grown)
    );
    assert_eq!(broker.metric::<u64>("wardline_queued_messages"), u64::from(MESSAGES));
    assert!(grown < GROWTH_BYTES_MAX, "{:.1} MiB more for what waits", mebibytes(grown));
    broker.kill();

    let begun = Instant::now();
    let broker = Broker::start(&site);
    let resident = broker.resident_bytes();
    eprintln!("restarted in {:.1} s: {:.1} MiB resident", begun.elapsed().as_secs_f64(), mebibytes(resident));
    assert!(resident < before + GROWTH_BYTES_MAX, "{:.1} MiB after the restart", mebibytes(resident));
    assert_eq!(broker.metric::<u64>("wardline_queued_messages"), u64::from(MESSAGES));

    let begun = Instant::now();
    let mut reader = RawClient::connected_by(broker.address("lab"), durable("reader"));
    let mut heard = Heard::default();
    let Packet::Publish(first) = reader.receive() else { panic!("it is owed publishes") };
    eprintln!("the first publish {:.1} ms after CONNECT", begun.elapsed().as_secs_f64() * 1e3);
    heard.take(&first);
    let mut answer = BytesMut::new();
    acknowledge(&first, Version::V5, &mut answer);
    reader.send_bytes(&answer);
    let read = read_telemetry(&mut reader, &mut heard, |publish| panic!("{publish:?}"));
    assert_eq!(heard.repeated, 0, "nothing came twice");
    let grown = broker.resident_bytes().saturating_sub(resident);
    eprintln!("read at {:.0}/s; {:.1} MiB more resident then", rate(read), mebibytes(grown));
    assert!(grown < GROWTH_BYTES_MAX, "{:.1} MiB more while reading", mebibytes(grown));
}

#[test]
fn what_the_journal_does_not_give_back_is_never_passed_over() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let lab = broker.address("lab");
    let mut reader = RawClient::connected_by(lab, durable("reader"));
    reader.subscribe("ward/#");
    drop(reader);
    let mut source = RawClient::connected(lab, Version::V5, "source");
    source.deliver("ward/b12", b"no penicillin", 1);
    // Whoever reads the journal in order has passed the place before it is damaged.
    let deadline = Instant::now() + DEADLINE;
    while broker.metric::<u64>("wardline_audit_lag_records") > 0 {
        assert!(Instant::now() < deadline, "the audit store does not catch up");
    }
    let segment = site.path().join("data/journal/00000000000000000000.seg");
    let bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(10).position(|window| window == b"penicillin").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"P", at as u64).unwrap();

    let reader = RawClient::connected_by(lab, durable("reader"));
    let heard = { reader }.until_closed();
    assert!(
        matches!(&heard[..], [Packet::Disconnect(told)] if told.reason == ReasonCode::ImplementationSpecificError),
        "{heard:?}"
    );
    assert_eq!(broker.metric::<u64>("wardline_publishes_unreadable_total"), 1);
    broker.wait_for_log("which file is damaged, and where", |line| {
        line.contains("00000000000000000000.seg is damaged at byte")
    });
}
