//! A client's acknowledgements that do not fit what it was sent: a protocol error (section 4.13), or nothing at all.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use support::{Ward, ack, connect, publish, resume, subscribe};
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

/// What is given in advance cannot be meant: else a client that guesses identifiers would settle what it never got.
#[test]
fn an_answer_to_what_waits_for_the_disk_settles_nothing() {
    let kinds: [Kind; 3] = [Packet::PubAck, Packet::PubRec, Packet::PubComp];
    for kind in kinds {
        let mut ward = Ward::new();
        let (subscriber, _) = ward.connect(resume("sub"));
        ward.ask(subscriber, subscribe("t", 2));
        let (publisher, _) = ward.connect(connect("pub"));
        ward.sync = false;
        ward.send(publisher, Packet::Publish(publish("t", "x", 2, 1)));
        assert!(ward.hear(subscriber).0.is_empty(), "its identifier is not on disk");
        ward.send(subscriber, kind(ack(1)));
        ward.sync = true;
        assert_eq!(ward.payloads(subscriber), ["x"]);
    }
}

#[test]
fn an_answer_that_comes_ahead_of_the_repeat_is_given_again() {
    for version in [Version::V311, Version::V5] {
        let mut asked = resume("sub");
        asked.version = version;
        let mut ward = Ward::new();
        let (subscriber, _) = ward.connect(asked.clone());
        ward.ask(subscriber, subscribe("t", 2));
        let (publisher, _) = ward.connect(connect("pub"));
        ward.send(publisher, Packet::Publish(publish("t", "x", 2, 1)));
        assert_eq!(ward.publishes(subscriber).len(), 1);
        ward.lose(subscriber);

        let subscriber = ward.connect_unheard(asked.clone());
        ward.send(subscriber, Packet::PubRec(ack(1)));
        let (heard, closed) = ward.hear(subscriber);
        let [Packet::ConnAck(_), Packet::Publish(repeat)] = &heard[..] else { panic!("{heard:?}") };
        assert!(repeat.dup && !closed);
        let release = ward.ask(subscriber, Packet::PubRec(ack(1)));
        assert!(matches!(&release[..], [Packet::PubRel(_)]), "{release:?}");
        ward.lose(subscriber);

        let subscriber = ward.connect_unheard(asked);
        ward.send(subscriber, Packet::PubComp(ack(1)));
        let (heard, closed) = ward.hear(subscriber);
        assert!(matches!(&heard[..], [Packet::ConnAck(_), Packet::PubRel(_)]), "{heard:?}");
        assert!(!closed);
        assert!(ward.ask(subscriber, Packet::PubComp(ack(1))).is_empty());
        assert_eq!(ward.broker.owed(subscriber), 0);
    }
}
