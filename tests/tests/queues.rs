//! Somebody hears of a queue that fills well before anything is lost, and that something was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests assert as tests do")]

use std::time::Instant;

use serde_json::Value;
use wardline_tests::{Broker, DEADLINE, RawClient, Site, connect, wardline};
use wardline_wire::{Connect, Packet, Version};

const READING: &str = "telemetry/icu-3/b12/mon-12/spo2";
const QUOTA: u16 = 100;

fn archive() -> Connect {
    let mut connect = connect(Version::V5, "archive");
    connect.clean_start = false;
    connect.properties.session_expiry = Some(3_600);
    connect
}

/// The next thing told of the alarm; `None`: it is over.
fn told(operator: &mut RawClient) -> Option<Value> {
    let Packet::Publish(publish) = operator.receive() else { panic!("no publish") };
    operator.acknowledge(&publish);
    assert_eq!(publish.topic, "wardline/alarms/1/queues");
    (!publish.payload.is_empty()).then(|| serde_json::from_slice(&publish.payload).unwrap())
}

fn status(broker: &Broker) -> Value {
    serde_json::from_str(&broker.http("/status").1).unwrap()
}

fn alarms(broker: &Broker) -> Value {
    status(broker)["alarms"].clone()
}

/// The client goes; from then on everything for it waits.
fn leave(client: RawClient, broker: &Broker) {
    let connected = |broker| status(broker)["sessions"]["connected"].as_u64().unwrap();
    let before = connected(broker);
    drop(client);
    let deadline = Instant::now() + DEADLINE;
    while connected(broker) == before {
        assert!(Instant::now() < deadline, "{}", broker.said());
    }
}

#[test]
fn an_absent_subscriber_is_told_of_before_its_queue_is_full_and_when_it_was() {
    let site = Site::new();
    let broker = Broker::start_with(&site, &[("WARDLINE__LIMITS__QUEUED_MESSAGES", &QUOTA.to_string())]);
    let mut operator = RawClient::connected(broker.address("lab"), Version::V5, "operator");
    operator.subscribe("wardline/alarms/#");
    let mut absent = RawClient::connected_by(broker.address("lab"), archive());
    absent.subscribe("telemetry/#");
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    leave(absent, &broker);

    (1..=74).for_each(|id| monitor.deliver(READING, "97", id));
    assert_eq!(alarms(&broker), Value::Array(Vec::new()));
    (75..=76).for_each(|id| monitor.deliver(READING, "97", id));
    let alarm = told(&mut operator).unwrap();
    assert_eq!(alarm["priority"], "low");
    assert!(alarm["text"].as_str().unwrap().contains("`archive`"), "{alarm}");

    // Who asks hears what is so now.
    (77..=80).for_each(|id| monitor.deliver(READING, "97", id));
    let now = &alarms(&broker)[0];
    assert_eq!((&now["condition"], &now["since"]), (&"queues".into(), &alarm["since"]));
    assert!(now["text"].as_str().unwrap().starts_with("80 of 100 publishes"), "{now}");

    // Nothing was lost yet.
    let mut back = RawClient::connected_by(broker.address("lab"), archive());
    for _ in 1..=80 {
        let Packet::Publish(publish) = back.receive() else { panic!("no publish") };
        back.acknowledge(&publish);
    }
    leave(back, &broker);
    assert_eq!(told(&mut operator), None);

    (1..=QUOTA + 5).for_each(|id| monitor.deliver(READING, "97", id));
    let said = wardline().args(["status", "--url", &format!("http://{}", broker.address("http"))]).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    assert!(said.contains("alarm     queues, priority medium"), "{said}");
    assert!(
        said.contains("5 publishes of telemetry went because a queue was full, last for `archive`"),
        "{said}"
    );
    // It may have been looked at before it was full, too.
    while told(&mut operator).unwrap()["priority"] != "medium" {}
    assert_eq!(broker.metric::<u16>("wardline_publishes_overflowed_total"), 5);
}
