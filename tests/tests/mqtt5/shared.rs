//! Shared subscriptions (section 4.8.2). Their syntax: `topics.rs`; a session that ends: `broker/core/tests/conformance.rs`.

use wardline_wire::{Connect, Packet, QoS, ReasonCode};

use crate::support::*;

fn member(lab: &Lab, connect: Connect, qos: QoS) -> Listener {
    let mut member = Listener::new(lab.connected(connect).0);
    subscribe(&mut member, "$share/g/t", qos);
    member
}

/// Each member is sent at the QoS that it was granted: [MQTT-4.8.2-3].
#[test]
fn each_member_is_sent_at_its_granted_qos() {
    let lab = Lab::new();
    let mut members = [
        (member(&lab, connect5("zero"), QoS::AtMostOnce), QoS::AtMostOnce),
        (member(&lab, connect5("one"), QoS::AtLeastOnce), QoS::AtLeastOnce),
    ];
    let mut device = lab.client("device");
    for id in 1..=10 {
        device.send(&publish("t", &id.to_string(), QoS::ExactlyOnce, id));
        assert_eq!(device.receive(), Packet::PubRec(ack(id)));
    }
    let mut count = 0;
    for (member, granted) in &mut members {
        let heard = heard(member);
        assert!(!heard.is_empty(), "{granted:?} has its share");
        count += heard.len();
        for packet in heard {
            assert!(matches!(&packet, Packet::Publish(publish) if publish.qos == *granted), "{packet:?}");
        }
    }
    assert_eq!(count, 10, "each publish goes to one member");
}

/// A QoS 2 delivery that was begun to one member is completed to that member: [MQTT-4.8.2-4].
#[test]
fn an_exactly_once_delivery_is_completed_to_the_member_it_was_begun_with() {
    let lab = Lab::new();
    let mut chosen = member(&lab, resume("chosen"), QoS::ExactlyOnce);
    lab.client("device").send(&publish("t", "once", QoS::ExactlyOnce, 1));
    let sent = next_publish(&mut chosen);
    let mut other = member(&lab, resume("other"), QoS::ExactlyOnce);
    drop(chosen);
    let (mut chosen, answer) = lab.connected(resume("chosen"));
    assert!(answer.session_present);
    let again = next_publish(&mut chosen);
    assert_eq!((again.packet_id, again.dup, text(&again)), (sent.packet_id, true, "once".to_owned()));
    chosen.send(&Packet::PubRec(ack(id_of(&again))));
    assert_eq!(chosen.receive(), Packet::PubRel(ack(id_of(&again))));
    chosen.send(&Packet::PubComp(ack(id_of(&again))));
    assert_eq!(payloads(&mut other), [""; 0]);
}

/// What a member refuses is discarded, and not sent to another: [MQTT-4.8.2-6].
#[test]
fn what_a_member_refuses_is_sent_to_no_other() {
    let lab = Lab::new();
    let mut refusing = member(&lab, connect5("refusing"), QoS::ExactlyOnce);
    let mut device = lab.client("device");
    device.send(&publish("t", "1", QoS::AtLeastOnce, 1));
    device.send(&publish("t", "2", QoS::ExactlyOnce, 2));
    let (first, second) = (next_publish(&mut refusing), next_publish(&mut refusing));
    let mut other = member(&lab, connect5("other"), QoS::ExactlyOnce);
    refusing.send(&Packet::PubAck(ack_with(id_of(&first), ReasonCode::UnspecifiedError)));
    refusing.send(&Packet::PubRec(ack_with(id_of(&second), ReasonCode::QuotaExceeded)));
    refusing.send(&disconnect(ReasonCode::Success));
    refusing.until_closed();
    assert_eq!(payloads(&mut other), [""; 0]);
}
