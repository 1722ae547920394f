//! CONNACK (section 3.2).

use wardline_tests::RawClient;
use wardline_wire::{Packet, QoS, ReasonCode, Version};

use crate::support::*;

/// CONNACK comes first, whatever waits for the client: [MQTT-3.2.0-1]; and once: [MQTT-3.2.0-2].
#[test]
fn connack_comes_first_and_once() {
    let lab = Lab::new();
    let (mut pager, _) = lab.connected(resume("pager"));
    subscribe(&mut pager, "t", QoS::AtLeastOnce);
    drop(pager);
    let mut device = lab.client("device");
    for id in 1..=10 {
        device.deliver("t", "waits", id);
    }
    let mut pager = lab.open();
    pager.send(&Packet::Connect(Box::new(resume("pager"))));
    assert!(matches!(pager.receive(), Packet::ConnAck(_)));
    for _ in 0..10 {
        next_publish(&mut pager);
    }
    pager.send(&Packet::PingReq);
    assert_eq!(pager.receive(), Packet::PingResp);
}

/// Bits 7 to 1 of the acknowledge flags are 0, bit 0 says whether there was a session: [MQTT-3.2.2-1] [MQTT-3.2.2-3].
#[test]
fn the_acknowledge_flags_hold_session_present_and_nothing_else() {
    let lab = Lab::new();
    for expected in [0, 1] {
        let mut client = lab.open();
        client.send(&Packet::Connect(Box::new(resume("flags"))));
        let head = client.receive_bytes(4);
        assert_eq!((head[0], head[2], head[3]), (0x20, expected, 0x00), "{head:02x?}");
    }
    let mut refused = RawClient::open(lab.broker.address("gateway"), Version::V5);
    refused.send(&Packet::Connect(Box::new(resume("flags"))));
    let head = refused.receive_bytes(4);
    assert_eq!((head[0], head[2]), (0x20, 0), "{head:02x?}");
    assert!(head[3] >= 0x80);
}

/// A refusal has no session present even where there is a session: [MQTT-3.2.2-6]; it has a reason of the table:
/// [MQTT-3.2.2-8], and the connection is closed after it: [MQTT-3.2.2-7].
#[test]
fn a_refusal_has_a_reason_no_session_and_an_end() {
    let lab = Lab::new();
    let (mut owner, _) = lab.connected(resume("pager"));
    let at_gateway = |id: &str, token: Option<String>| {
        let mut connect = resume(id);
        connect.password = token.map(Into::into);
        let mut client = RawClient::open(lab.broker.address("gateway"), Version::V5);
        client.send(&Packet::Connect(Box::new(connect)));
        match client.until_closed().as_slice() {
            [Packet::ConnAck(answer)] => {
                assert!(!answer.session_present, "{answer:?}");
                answer.reason
            }
            other => panic!("{other:?}"),
        }
    };
    let reasons = [
        at_gateway("pager", None),
        at_gateway("pager", Some("no token".to_owned())),
        at_gateway("pager", Some(lab.site.token("device:unknown"))),
        at_gateway("pager", Some(lab.site.token("staff:n.ito"))),
    ];
    let table =
        [ReasonCode::BadUserNameOrPassword, ReasonCode::NotAuthorized, ReasonCode::ClientIdentifierNotValid];
    assert!(reasons.iter().all(|reason| table.contains(reason)), "{reasons:?}");
    // There are no consequences for who is connected under that name.
    owner.send(&Packet::PingReq);
    assert_eq!(owner.receive(), Packet::PingResp);
}

/// What the CONNACK announces is what the broker does: a larger packet is refused with 0x95: [MQTT-3.2.2-15].
#[test]
fn a_packet_beyond_the_announced_maximum_is_refused() {
    let lab = Lab::with(&[("WARDLINE__LIMITS__MAX_PACKET", "4KiB")]);
    let (mut client, answer) = lab.connected(connect5("large"));
    assert_eq!(answer.properties.maximum_packet_size, Some(4_096));
    // 3 bytes of header, 3 of topic, 2 of identifier, 1 of property length.
    client.deliver("t", "x".repeat(4_096 - 9), 1);
    client.send(&publish("t", &"x".repeat(4_096 - 8), QoS::AtLeastOnce, 2));
    assert_eq!(client.goodbye(), ReasonCode::PacketTooLarge);
}

/// A refusal's reason in words is left out where it would exceed the client's maximum packet size: [MQTT-3.2.2-19]; user
/// properties, which the broker has none of, likewise: [MQTT-3.2.2-20].
#[test]
fn a_refusal_fits_the_client_s_maximum_packet_size() {
    let lab = Lab::new();
    let refused = |maximum: Option<u32>| {
        let mut client = RawClient::open(lab.broker.address("gateway"), Version::V5);
        let mut connect = connect5("small");
        connect.properties.maximum_packet_size = maximum;
        client.send(&Packet::Connect(Box::new(connect)));
        match client.until_closed().as_slice() {
            [Packet::ConnAck(answer)] => (**answer).clone(),
            other => panic!("{other:?}"),
        }
    };
    let (roomy, tight) = (refused(None), refused(Some(12)));
    assert!(roomy.properties.reason_string.is_some_and(|reason| !reason.is_empty()));
    assert_eq!((tight.reason, tight.properties.reason_string), (roomy.reason, None));
    assert_eq!((roomy.properties.user, tight.properties.user), (vec![], vec![]));
}

/// A topic alias beyond the announced maximum is refused with 0x94: [MQTT-3.2.2-17] [MQTT-3.3.2-9]; so is any where none is
/// taken: [MQTT-3.2.2-18].
#[test]
fn a_topic_alias_beyond_the_announced_maximum_is_refused() {
    for maximum in ["3", "0"] {
        let lab = Lab::with(&[("WARDLINE__LIMITS__TOPIC_ALIAS_MAX", maximum)]);
        let (mut client, answer) = lab.connected(connect5("aliases"));
        let announced = answer.properties.topic_alias_maximum.unwrap_or(0);
        assert_eq!(announced.to_string(), maximum);
        let mut publish = message("t", "x", QoS::AtMostOnce, 0);
        publish.properties.topic_alias = std::num::NonZeroU16::new(announced + 1);
        client.send(&Packet::Publish(publish));
        assert_eq!(client.goodbye(), ReasonCode::TopicAliasInvalid);
    }
}
