//! A client's acknowledgements that do not fit what it was sent: a protocol error (section 4.13), or nothing at all.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use support::{Ward, ack, connect, publish, subscribe};
use wardline_core::ConnectionId;
use wardline_wire::{Ack, Packet, ReasonCode, Version};

type Kind = fn(Ack) -> Packet;

/// A subscriber that was sent a publish of this QoS with identifier 1 and has not answered.
fn owing(version: Version, qos: u8) -> (Ward, ConnectionId) {
    let mut ward = Ward::new();
    let mut asked = connect("sub");
    asked.version = version;
    let (subscriber, _) = ward.connect(asked);
    ward.ask(subscriber, subscribe("t", qos));
    let (publisher, _) = ward.connect(connect("pub"));
    ward.send(publisher, Packet::Publish(publish("t", "x", qos, 1)));
    let sent = ward.publishes(subscriber);
    assert!(matches!(&sent[..], [publish] if publish.packet_id == Some(support::id(1))), "{sent:?}");
    (ward, subscriber)
}

fn refusing(number: u16) -> Ack {
    Ack { reason: ReasonCode::QuotaExceeded, ..ack(number) }
}

#[test]
fn an_answer_of_the_wrong_kind_ends_the_connection() {
    let cases: &[(u8, &[Kind])] = &[
        (1, &[Packet::PubRec]),
        (1, &[Packet::PubComp]),
        (2, &[Packet::PubAck]),
        (2, &[Packet::PubComp]),
        (2, &[Packet::PubRec, Packet::PubAck]),
    ];
    for version in [Version::V311, Version::V5] {
        for (qos, answers) in cases {
            let (mut ward, subscriber) = owing(version, *qos);
            for answer in *answers {
                ward.send(subscriber, answer(ack(1)));
            }
            let (heard, closed) = ward.hear(subscriber);
            assert!(closed, "{version:?}, QoS {qos}: {heard:?}");
            match (version, heard.last()) {
                (Version::V5, Some(Packet::Disconnect(disconnect))) => {
                    assert_eq!(disconnect.reason, ReasonCode::ProtocolError);
                }
                (Version::V5, other) => panic!("no DISCONNECT but {other:?}"),
                (_, last) => assert!(!matches!(last, Some(Packet::Disconnect(_)))),
            }
        }
    }
}

#[test]
fn what_was_taken_cannot_be_refused_afterwards() {
    let (mut ward, subscriber) = owing(Version::V5, 2);
    ward.send(subscriber, Packet::PubRec(ack(1)));
    ward.send(subscriber, Packet::PubRec(refusing(1)));
    assert!(ward.hear(subscriber).1);
}

#[test]
fn a_pubrec_repeated_is_answered_again() {
    let (mut ward, subscriber) = owing(Version::V5, 2);
    for _ in 0..2 {
        let heard = ward.ask(subscriber, Packet::PubRec(ack(1)));
        assert!(matches!(&heard[..], [Packet::PubRel(release)] if !release.reason.is_error()), "{heard:?}");
    }
}

#[test]
fn answers_to_what_was_never_sent_are_harmless() {
    let (mut ward, subscriber) = owing(Version::V5, 1);
    assert_eq!(ward.ask(subscriber, Packet::PubAck(ack(7))), []);
    assert_eq!(ward.ask(subscriber, Packet::PubComp(ack(7))), []);
    // PUBREL follows a PUBREC below 0x80 only [MQTT-4.3.3-4].
    assert_eq!(ward.ask(subscriber, Packet::PubRec(refusing(7))), []);
    let heard = ward.ask(subscriber, Packet::PubRec(ack(7)));
    assert!(
        matches!(&heard[..], [Packet::PubRel(release)] if release.reason == ReasonCode::PacketIdentifierNotFound),
        "{heard:?}"
    );
    assert_eq!(ward.ask(subscriber, Packet::PubAck(ack(1))), []);
    assert!(!ward.hear(subscriber).1);
}
