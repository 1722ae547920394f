//! Delivery (sections 4.3 to 4.6). What depends on time: `broker/core/tests/conformance.rs`.

use wardline_tests::RawClient;
use wardline_wire::{Packet, Publish, QoS, ReasonCode};

use crate::support::*;

/// QoS 0 goes out as QoS 0 without DUP, once: [MQTT-4.3.1-1].
#[test]
fn at_most_once() {
    let lab = Lab::new();
    let mut client = lab.client("client");
    subscribe(&mut client, "t", QoS::ExactlyOnce);
    client.send(&publish("t", "x", QoS::AtMostOnce, 0));
    assert_eq!(client.receive_bytes(7), [0x30, 5, 0, 1, b't', 0, b'x']);
}

/// A PUBLISH of QoS 1 is acknowledged, and the same identifier is then another publish, DUP or not: [MQTT-4.3.2-4]
/// [MQTT-4.3.2-5].
#[test]
fn at_least_once_received() {
    let lab = Lab::new();
    let mut client = lab.listener("client");
    subscribe(&mut client, "t", QoS::AtMostOnce);
    let mut device = lab.client("device");
    for dup in [false, true, false] {
        device.send(&Packet::Publish(Publish { dup, ..message("t", "x", QoS::AtLeastOnce, 9) }));
        assert_eq!(device.receive(), Packet::PubAck(ack(9)));
    }
    assert_eq!(payloads(&mut client).len(), 3);
}

/// What was sent at QoS 1 is unacknowledged until PUBACK, and sent again, with DUP and its identifier, when the client comes
/// back, and only then: [MQTT-3.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.2-3] [MQTT-4.4.0-1].
#[test]
fn at_least_once_sent() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    let (mut pager, _) = lab.connected(resume("pager"));
    subscribe(&mut pager, "t", QoS::AtLeastOnce);
    device.deliver("t", "x", 1);
    let first = next_publish(&mut pager);
    assert_eq!((first.qos, first.dup), (QoS::AtLeastOnce, false));
    for _ in 0..2 {
        drop(std::mem::replace(&mut pager, lab.connected(resume("pager")).0));
        let again = next_publish(&mut pager);
        assert_eq!(again, Publish { dup: true, ..first.clone() });
    }
    pager.send(&Packet::PubAck(ack(id_of(&first))));
    assert_eq!(heard(&mut come_back(&lab, pager)), []);
}

/// Waits until the broker has all that the client has sent, and connects again.
fn come_back(lab: &Lab, mut client: RawClient) -> Listener {
    client.send(&Packet::PingReq);
    assert_eq!(client.receive(), Packet::PingResp);
    let (back, answer) = lab.connected(resume("pager"));
    assert!(answer.session_present);
    Listener::new(back)
}

/// A PUBLISH of QoS 2 is taken once, however often it is repeated before its PUBREL; then its identifier is free:
/// [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12].
#[test]
fn exactly_once_received() {
    let lab = Lab::new();
    let mut client = lab.listener("client");
    subscribe(&mut client, "t", QoS::AtMostOnce);
    let (mut device, _) = lab.connected(resume("device"));
    for round in 0..4 {
        if round == 2 {
            device = lab.connected(resume("device")).0;
        }
        let dup = round > 0;
        device.send(&Packet::Publish(Publish { dup, ..message("t", "once", QoS::ExactlyOnce, 3) }));
        assert_eq!(device.receive(), Packet::PubRec(ack(3)));
    }
    device.send(&Packet::PubRel(ack(3)));
    assert_eq!(device.receive(), Packet::PubComp(ack(3)));
    assert_eq!(payloads(&mut client), ["once"]);
    device.send(&publish("t", "another", QoS::ExactlyOnce, 3));
    assert_eq!(device.receive(), Packet::PubRec(ack(3)));
    assert_eq!(payloads(&mut client), ["another"]);
}

/// After a PUBREC that refuses, the identifier is free for another publish: [MQTT-4.3.3-9].
#[test]
fn a_refused_exactly_once_is_not_remembered() {
    let lab = Lab::new();
    let mut client = lab.listener("client");
    subscribe(&mut client, "t", QoS::AtMostOnce);
    let mut device = lab.client("device");
    device.send(&publish("secret/t", "x", QoS::ExactlyOnce, 3));
    assert!(matches!(device.receive(), Packet::PubRec(ack) if ack.reason.is_error()));
    device.send(&publish("t", "allowed", QoS::ExactlyOnce, 3));
    assert_eq!(device.receive(), Packet::PubRec(ack(3)));
    assert_eq!(payloads(&mut client), ["allowed"]);
}

/// A publish that was sent at QoS 2 is repeated until PUBREC, then its PUBREL until PUBCOMP, and never the publish again:
/// [MQTT-3.3.1-1] [MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1].
#[test]
fn exactly_once_sent() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    let (mut pager, _) = lab.connected(resume("pager"));
    subscribe(&mut pager, "t", QoS::ExactlyOnce);
    device.send(&publish("t", "x", QoS::ExactlyOnce, 1));
    let first = next_publish(&mut pager);
    assert_eq!((first.qos, first.dup), (QoS::ExactlyOnce, false));
    let id = id_of(&first);

    drop(std::mem::replace(&mut pager, lab.connected(resume("pager")).0));
    assert_eq!(next_publish(&mut pager), Publish { dup: true, ..first });
    pager.send(&Packet::PubRec(ack(id)));
    assert_eq!(pager.receive(), Packet::PubRel(ack(id)));

    drop(std::mem::replace(&mut pager, lab.connected(resume("pager")).0));
    assert_eq!(pager.receive(), Packet::PubRel(ack(id)));
    pager.send(&Packet::PubComp(ack(id)));
    assert_eq!(heard(&mut come_back(&lab, pager)), []);
}

/// A client that answers with an error has the publish nevertheless behind it: [MQTT-4.4.0-2].
#[test]
fn what_a_client_refuses_is_not_sent_again() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    let (mut pager, _) = lab.connected(resume("pager"));
    subscribe(&mut pager, "t", QoS::ExactlyOnce);
    for (qos, id) in [(QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)] {
        device.send(&publish("t", "x", qos, id));
        let publish = next_publish(&mut pager);
        let refusal = ack_with(id_of(&publish), ReasonCode::ImplementationSpecificError);
        pager.send(&if qos == QoS::AtLeastOnce { Packet::PubAck(refusal) } else { Packet::PubRec(refusal) });
    }
    assert_eq!(heard(&mut come_back(&lab, pager)), []);
}

/// What a client publishes on a topic reaches every subscriber in the order in which it came: [MQTT-4.6.0-5] [MQTT-4.6.0-6].
#[test]
fn a_topic_is_ordered() {
    let lab = Lab::new();
    let mut subscribers: Vec<Listener> = ["one", "two"].map(|id| lab.listener(id)).into();
    for subscriber in &mut subscribers {
        subscribe(subscriber, "t/#", QoS::AtLeastOnce);
    }
    let mut device = lab.client("device");
    let numbers: Vec<String> = (1..=200).map(|number: u16| number.to_string()).collect();
    for (id, number) in (1..).zip(&numbers) {
        device.send(&publish("t/1", number, QoS::AtLeastOnce, id));
    }
    for id in 1..=200 {
        assert_eq!(device.receive(), Packet::PubAck(ack(id)));
    }
    for subscriber in &mut subscribers {
        assert_eq!(payloads(subscriber), numbers);
    }
}

/// A client should acknowledge in order; one that does not harms nobody: [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4].
#[test]
fn acknowledgements_in_another_order_settle_what_they_name() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    let (mut pager, _) = lab.connected(resume("pager"));
    subscribe(&mut pager, "t", QoS::ExactlyOnce);
    for (id, qos) in
        [(1, QoS::AtLeastOnce), (2, QoS::AtLeastOnce), (3, QoS::ExactlyOnce), (4, QoS::ExactlyOnce)]
    {
        device.send(&publish("t", "x", qos, id));
    }
    let ids: Vec<u16> = (0..4).map(|_| id_of(&next_publish(&mut pager))).collect();
    for id in [ids[1], ids[0]] {
        pager.send(&Packet::PubAck(ack(id)));
    }
    for id in [ids[3], ids[2]] {
        pager.send(&Packet::PubRec(ack(id)));
        assert_eq!(pager.receive(), Packet::PubRel(ack(id)));
    }
    for id in [ids[2], ids[3]] {
        pager.send(&Packet::PubComp(ack(id)));
    }
    assert_eq!(heard(&mut come_back(&lab, pager)), []);
}

/// The same for the releases of what a client publishes: [MQTT-4.6.0-4].
#[test]
fn releases_in_another_order_settle_what_they_name() {
    let lab = Lab::new();
    let mut watcher = lab.listener("watcher");
    subscribe(&mut watcher, "t", QoS::AtMostOnce);
    let mut device = lab.client("device");
    for id in 1..=3 {
        device.send(&publish("t", &id.to_string(), QoS::ExactlyOnce, id));
        assert_eq!(device.receive(), Packet::PubRec(ack(id)));
    }
    for id in [3, 1, 2] {
        device.send(&Packet::PubRel(ack(id)));
        assert_eq!(device.receive(), Packet::PubComp(ack(id)));
    }
    assert_eq!(payloads(&mut watcher), ["1", "2", "3"]);
}
