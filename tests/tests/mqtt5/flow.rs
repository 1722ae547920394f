//! Flow control (sections 3.3.4 and 4.9).

use std::num::NonZeroU16;

use wardline_tests::RawClient;
use wardline_wire::{Packet, QoS, ReasonCode};

use crate::support::*;

/// A client that takes `maximum` publishes at a time, subscribed to `t`.
fn limited(lab: &Lab, maximum: u16) -> RawClient {
    let mut connect = connect5("limited");
    connect.properties.receive_maximum = NonZeroU16::new(maximum);
    let (mut client, _) = lab.connected(connect);
    subscribe(&mut client, "t", QoS::ExactlyOnce);
    client
}

/// Nothing comes before the answer to a ping.
fn nothing_comes(client: &mut RawClient) {
    client.send(&Packet::PingReq);
    assert_eq!(client.receive(), Packet::PingResp);
}

/// A client is sent as many as it takes, and the next when one is acknowledged: [MQTT-3.3.4-9] [MQTT-4.9.0-1]
/// [MQTT-4.9.0-2]. Everything else goes on meanwhile: [MQTT-3.3.4-10] [MQTT-4.9.0-3].
#[test]
fn a_client_is_sent_no_more_than_its_receive_maximum() {
    let lab = Lab::new();
    for maximum in [1, 3] {
        let mut client = limited(&lab, maximum);
        let mut device = lab.client("device");
        for id in 1..=8 {
            device.deliver("t", id.to_string(), id);
        }
        let mut open: Vec<u16> = (0..maximum).map(|_| id_of(&next_publish(&mut client))).collect();
        nothing_comes(&mut client);
        assert_eq!(
            ask_subscribe(&mut client, 2, &[("u", at(QoS::AtMostOnce))]).reasons,
            [ReasonCode::Success]
        );
        assert_eq!(ask_unsubscribe(&mut client, 3, &["u"]).reasons, [ReasonCode::Success]);
        client.deliver("elsewhere", "x", 4);
        for _ in maximum..8 {
            client.send(&Packet::PubAck(ack(open.remove(0))));
            open.push(id_of(&next_publish(&mut client)));
            nothing_comes(&mut client);
        }
    }
}

/// At QoS 2 a place is free after PUBCOMP, or after a PUBREC that refuses: [MQTT-3.3.4-9] [MQTT-4.9.0-2].
#[test]
fn an_exchange_holds_its_place_until_pubcomp_or_refusal() {
    let lab = Lab::new();
    let mut client = limited(&lab, 1);
    let mut device = lab.client("device");
    for id in 1..=3 {
        device.send(&publish("t", &id.to_string(), QoS::ExactlyOnce, id));
        assert_eq!(device.receive(), Packet::PubRec(ack(id)));
    }
    let id = id_of(&next_publish(&mut client));
    client.send(&Packet::PubRec(ack(id)));
    assert_eq!(client.receive(), Packet::PubRel(ack(id)));
    nothing_comes(&mut client);
    client.send(&Packet::PubComp(ack(id)));
    let publish = next_publish(&mut client);
    assert_eq!(text(&publish), "2");
    client.send(&Packet::PubRec(ack_with(id_of(&publish), ReasonCode::QuotaExceeded)));
    assert_eq!(text(&next_publish(&mut client)), "3");
}

/// A client that has more unacknowledged than the broker takes is disconnected with 0x93: [MQTT-3.3.4-7].
#[test]
fn a_client_that_exceeds_the_receive_maximum_is_disconnected() {
    let lab = Lab::with(&[("WARDLINE__LIMITS__RECEIVE_MAX", "2")]);
    let (mut client, answer) = lab.connected(connect5("eager"));
    assert_eq!(answer.properties.receive_maximum, NonZeroU16::new(2));
    // One after the other is no excess, at either QoS.
    for id in 1..=5 {
        client.deliver("t", "x", id);
    }
    for id in [6, 7] {
        client.send(&publish("t", "x", QoS::ExactlyOnce, id));
        assert_eq!(client.receive(), Packet::PubRec(ack(id)));
    }
    client.send(&publish("t", "x", QoS::AtMostOnce, 0));
    nothing_comes(&mut client);
    client.send(&publish("t", "x", QoS::ExactlyOnce, 8));
    assert_eq!(client.goodbye(), ReasonCode::ReceiveMaximumExceeded);
}
