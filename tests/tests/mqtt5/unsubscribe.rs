//! UNSUBSCRIBE and UNSUBACK (sections 3.10 and 3.11), PINGREQ (section 3.12).

use wardline_wire::{Packet, QoS, ReasonCode};

use crate::support::*;

/// An UNSUBSCRIBE from nothing is a protocol error: [MQTT-3.10.3-2].
#[test]
fn an_unsubscribe_names_a_filter() {
    let lab = Lab::new();
    assert_eq!(lab.broken_by(&[0xA2, 3, 0, 1, 0]), ReasonCode::ProtocolError);
}

/// A subscription ends when its very filter is named, character by character: [MQTT-3.10.4-1], and nothing new comes:
/// [MQTT-3.10.4-2]. Each UNSUBSCRIBE is answered once, with a reason for each filter in their order, whether anything ended
/// or not: [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2].
#[test]
fn an_unsubscribe_ends_exactly_what_it_names() {
    let lab = Lab::new();
    let mut client = lab.listener("client");
    for filter in ["a/b", "a/+", "c/#", "A/b"] {
        subscribe(&mut client, filter, QoS::AtMostOnce);
    }
    let answer = ask_unsubscribe(&mut client, 9, &["a/#", "a/b", "never", "a/B", "c/#", "a/b"]);
    assert_eq!(answer.packet_id, packet_id(9));
    let (gone, none) = (ReasonCode::Success, ReasonCode::NoSubscriptionExisted);
    assert_eq!(answer.reasons, [none, gone, none, none, gone, none]);
    let mut device = lab.client("device");
    for (id, topic) in (1..).zip(["a/b", "c/d", "A/b", "a/c"]) {
        device.deliver(topic, topic, id);
    }
    // `a/+` is still there.
    assert_eq!(payloads(&mut client), ["a/b", "A/b", "a/c"]);
    let answer = ask_unsubscribe(&mut client, 10, &["a/+", "A/b"]);
    assert_eq!(answer.reasons, [gone, gone]);
    device.deliver("a/b", "nobody", 5);
    assert_eq!(payloads(&mut client), [""; 0]);
}

/// What had begun to be sent is completed after the UNSUBSCRIBE: [MQTT-3.10.4-3].
#[test]
fn an_unsubscribe_does_not_break_off_what_is_being_sent() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    let (mut pager, _) = lab.connected(resume("pager"));
    subscribe(&mut pager, "t", QoS::ExactlyOnce);
    device.send(&publish("t", "1", QoS::AtLeastOnce, 1));
    device.send(&publish("t", "2", QoS::ExactlyOnce, 2));
    let (first, second) = (next_publish(&mut pager), next_publish(&mut pager));
    assert_eq!(ask_unsubscribe(&mut pager, 2, &["t"]).reasons, [ReasonCode::Success]);
    drop(std::mem::replace(&mut pager, lab.connected(resume("pager")).0));
    for sent in [&first, &second] {
        let again = next_publish(&mut pager);
        assert!(again.dup && again.packet_id == sent.packet_id && again.payload == sent.payload, "{again:?}");
    }
    pager.send(&Packet::PubRec(ack(id_of(&second))));
    assert_eq!(pager.receive(), Packet::PubRel(ack(id_of(&second))));
}

/// A shared subscription is left under its whole filter: [MQTT-3.10.4-1].
#[test]
fn a_shared_subscription_is_left_by_its_whole_filter() {
    let lab = Lab::new();
    let mut client = lab.listener("client");
    subscribe(&mut client, "$share/g/t", QoS::AtMostOnce);
    let reasons = ask_unsubscribe(&mut client, 1, &["t", "$share/h/t", "$share/g/t"]).reasons;
    let none = ReasonCode::NoSubscriptionExisted;
    assert_eq!(reasons, [none, none, ReasonCode::Success]);
    client.deliver("t", "nobody", 2);
    assert_eq!(payloads(&mut client), [""; 0]);
}

/// A ping is answered: [MQTT-3.12.4-1].
#[test]
fn a_ping_is_answered() {
    let lab = Lab::new();
    let mut client = lab.client("client");
    for _ in 0..3 {
        client.send_bytes(&[0xC0, 0x00]);
        assert_eq!(client.receive_bytes(2), [0xD0, 0x00]);
    }
}
