//! Statements of MQTT 5.0 about what a sender may say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::num::NonZeroU16;

use bytes::BytesMut;
use wardline_wire::{
    Ack, Auth, ConnAck, ConnAckProperties, Disconnect, Packet, PacketId, ReasonCode, SubAck, Version, encode,
    encoded_len, fit,
};

/// A packet with this reason, and perhaps with words and user properties to explain it.
type Answer = fn(ReasonCode, bool) -> Packet;

fn words(explained: bool) -> Option<bytestring::ByteString> {
    explained.then(|| "because of this and that".into())
}

fn user(explained: bool) -> wardline_wire::UserProperties {
    if explained { vec![("name".into(), "value".into()); 3] } else { Vec::new() }
}

fn id() -> PacketId {
    PacketId(NonZeroU16::MIN)
}

fn ack(reason: ReasonCode, explained: bool) -> Ack {
    Ack { packet_id: id(), reason, reason_string: words(explained), user: user(explained) }
}

fn suback(reason: ReasonCode, explained: bool) -> SubAck {
    SubAck { packet_id: id(), reason_string: words(explained), user: user(explained), reasons: vec![reason] }
}

fn connack(reason: ReasonCode, explained: bool) -> Packet {
    let properties = ConnAckProperties {
        maximum_packet_size: Some(1_000),
        reason_string: words(explained),
        user: user(explained),
        ..ConnAckProperties::default()
    };
    Packet::ConnAck(Box::new(ConnAck { session_present: false, reason, properties }))
}

fn disconnect(reason: ReasonCode, explained: bool) -> Packet {
    Packet::Disconnect(Disconnect {
        reason,
        session_expiry: None,
        reason_string: words(explained),
        user: user(explained),
        server_reference: None,
    })
}

fn auth(reason: ReasonCode, explained: bool) -> Packet {
    Packet::Auth(Auth {
        reason,
        method: Some("method".into()),
        data: None,
        reason_string: words(explained),
        user: user(explained),
    })
}

/// Every answer, and the reasons of its table, those of both ends together.
const ANSWERS: [(&str, Answer, &[u8]); 9] = [
    (
        "CONNACK",
        connack,
        &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
            0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
    ),
    (
        "PUBACK",
        |reason, explained| Packet::PubAck(ack(reason, explained)),
        &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
    ),
    (
        "PUBREC",
        |reason, explained| Packet::PubRec(ack(reason, explained)),
        &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
    ),
    ("PUBREL", |reason, explained| Packet::PubRel(ack(reason, explained)), &[0x00, 0x92]),
    ("PUBCOMP", |reason, explained| Packet::PubComp(ack(reason, explained)), &[0x00, 0x92]),
    (
        "SUBACK",
        |reason, explained| Packet::SubAck(suback(reason, explained)),
        &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
    ),
    (
        "UNSUBACK",
        |reason, explained| Packet::UnsubAck(suback(reason, explained)),
        &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
    ),
    (
        "DISCONNECT",
        disconnect,
        &[
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
            0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
    ),
    ("AUTH", auth, &[0x00, 0x18, 0x19]),
];

/// Each packet has the reasons of its table and no other: [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1]
/// [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1] [MQTT-3.15.2-1].
#[test]
fn a_sender_has_only_the_reasons_of_the_packet() {
    for (name, answer, table) in ANSWERS {
        for code in 0..=u8::MAX {
            let sent = ReasonCode::from_u8(code).is_some_and(|reason| {
                encode(&answer(reason, false), Version::V5, &mut BytesMut::new()).is_ok()
            });
            assert_eq!(sent, table.contains(&code), "{name} {code:#04x}");
        }
    }
}

/// Words and user properties are left out where they would exceed what the receiver takes: [MQTT-3.2.2-19] [MQTT-3.2.2-20]
/// [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2]
/// [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
/// [MQTT-3.15.2-2] [MQTT-3.15.2-3].
#[test]
fn explanations_are_left_out_where_they_do_not_fit() {
    for (name, answer, table) in ANSWERS {
        let reason = ReasonCode::from_u8(table[table.len() - 1]).unwrap();
        let (bare, full) = (answer(reason, false), answer(reason, true));
        let (least, most) = [&bare, &full].map(|packet| encoded_len(packet, Version::V5).unwrap()).into();
        for max in least..=most {
            let mut packet = full.clone();
            fit(&mut packet, Version::V5, max as u32).unwrap();
            assert!(encoded_len(&packet, Version::V5).unwrap() <= max, "{name} within {max}");
            match max {
                max if max == least => assert_eq!(packet, bare, "{name}"),
                max if max == most => assert_eq!(packet, full, "{name}"),
                _ => {}
            }
        }
        assert!(
            fit(&mut full.clone(), Version::V5, least as u32 - 1).is_err(),
            "{name}: what it says is not cut"
        );
    }
}
