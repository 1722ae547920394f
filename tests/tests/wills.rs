//! Wills outlive the broker: who was connected when it was killed is missed at the restart, and nobody twice.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test asserts")]

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use wardline_tests::{Broker, DEADLINE, RawClient, Site, connect, record};
use wardline_wire::{
    Connect, Disconnect, Packet, Publish, PublishProperties, QoS, ReasonCode, Version, Will,
};

/// Of a client that comes back within it.
const SHORT_S: u32 = 4;
/// Longer, so that what comes then shows what did not come before.
const LONG_S: u32 = 5;

/// A client whose session, if it has one, lasts an hour, and whose will tells its name.
fn device(name: &str, lasting: bool, delay: Option<u32>) -> Connect {
    let mut connect = connect(Version::V5, name);
    connect.clean_start = false;
    connect.properties.session_expiry = lasting.then_some(3_600);
    connect.will = delay.map(|seconds| Will {
        topic: format!("wills/{name}").into(),
        payload: format!("{name} is gone").into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay: (seconds > 0).then_some(seconds),
        properties: PublishProperties::default(),
    });
    connect
}

fn nurse(broker: &Broker) -> RawClient {
    RawClient::connected_by(broker.address("lab"), device("nurse", true, None))
}

fn goodbye() -> Packet {
    Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        session_expiry: None,
        reason_string: None,
        user: Vec::new(),
        server_reference: None,
    })
}

/// The next will that the nurse is told of.
fn next(nurse: &mut RawClient) -> String {
    let Packet::Publish(publish) = nurse.receive() else { panic!("no will comes") };
    nurse.acknowledge(&publish);
    assert_eq!(&*publish.topic, format!("wills/{}", name(&publish.payload)));
    name(&publish.payload)
}

fn name(payload: &[u8]) -> String {
    std::str::from_utf8(payload).unwrap().strip_suffix(" is gone").unwrap().to_owned()
}

/// Waits until the broker has this many connections.
fn until_connected(broker: &Broker, count: u64) {
    let end = Instant::now() + DEADLINE;
    while broker.metric::<u64>("wardline_connections") != count {
        assert!(Instant::now() < end, "there are not {count} connections");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Who closes with something unread resets the connection. What was sent before counts all the same [MQTT-3.14.4-3].
#[test]
fn a_goodbye_counts_although_the_client_has_not_read_all() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut nurse = nurse(&broker);
    nurse.try_subscribe(&[("wills/#", QoS::AtLeastOnce), ("last/#", QoS::AtLeastOnce)]);
    let mut device = RawClient::connected_by(broker.address("lab"), device("mon-1", false, Some(0)));
    device.subscribe("flood/#");
    let mut publisher = RawClient::connected(broker.address("lab"), Version::V5, "publisher");
    // More than the socket takes.
    for id in 1..=200 {
        publisher.deliver("flood/mon-1", vec![b'x'; 20_000], id);
    }
    let word = Publish { topic: "last/word".into(), payload: "word".into(), ..Publish::default() };
    device.send(&Packet::Publish(word));
    device.send(&goodbye());
    drop(device);
    until_connected(&broker, 2);
    publisher.deliver("last/end", "end", 1_000);
    for expected in ["last/word", "last/end"] {
        let Packet::Publish(publish) = nurse.receive() else { panic!("{expected} does not come") };
        assert_eq!(&*publish.topic, expected);
        if publish.qos != QoS::AtMostOnce {
            nurse.acknowledge(&publish);
        }
    }
}

/// After `kill -9` [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.3-9] hold as if the broker had been there.
#[test]
fn after_kill_9_each_will_is_published_once_and_those_taken_back_are_not() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let open = |connect| RawClient::connected_by(broker.address("lab"), connect);
    nurse(&broker).subscribe("wills/#");
    let mut informed = nurse(&broker);

    // Was published before, and is not again.
    drop(open(device("told before", true, Some(0))));
    assert_eq!(next(&mut informed), "told before");
    // Left in order, and so left no will.
    let mut left = open(device("left", true, Some(0)));
    left.send(&goodbye());
    assert_eq!(left.until_closed(), []);
    // Its delay is running.
    drop(open(device("lost", true, Some(LONG_S))));
    until_connected(&broker, 1);
    let _connected = [
        open(device("passing", false, Some(0))),
        open(device("lasting", true, Some(0))),
        open(device("delayed", true, Some(LONG_S))),
        open(device("returning", true, Some(SHORT_S))),
    ];
    // Durable is what came before what is acknowledged.
    informed.deliver("ward/note", "all is quiet", 1);
    broker.kill();

    let broker = Broker::start(&site);
    let returned = RawClient::connected_by(broker.address("lab"), device("returning", true, None));
    let mut informed = nurse(&broker);
    let mut at_once = [next(&mut informed), next(&mut informed)];
    at_once.sort();
    assert_eq!(at_once, ["lasting", "passing"]);
    assert_eq!([next(&mut informed), next(&mut informed)], ["lost", "delayed"]);
    // And once more, with nothing left to tell.
    informed.deliver("ward/note", "all is quiet", 2);
    drop(returned);
    broker.kill();
    let broker = Broker::start(&site);
    let end = broker.terminate();
    assert_eq!(end.status, Some(0), "{}", end.said);

    let sql = "SELECT client_id, CAST(payload AS TEXT), principal, outcome FROM publishes WHERE topic LIKE 'wills/%'";
    let mut recorded = BTreeMap::new();
    for row in record::sqlite(&site.audit_db(), sql) {
        assert_eq!(
            (name(row[1].as_bytes()), &*row[2], &*row[3]),
            (row[0].clone(), "service:lab", "accepted")
        );
        *recorded.entry(row[0].clone()).or_insert(0) += 1;
    }
    let once = ["delayed", "lasting", "lost", "passing", "told before"].map(|name| (name.to_owned(), 1));
    assert_eq!(recorded, BTreeMap::from(once));
    record::verify(&format!("sqlite:{}", site.audit_db().display()));
}
