//! Statements of MQTT 3.1.1 about time and about numbers, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use support::*;
use wardline_core::{ClientLimits, Limits};
use wardline_wire::{Packet, Publish, PublishProperties, QoS, Version, Will};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A CONNECT of MQTT 3.1.1 that keeps its session.
fn keep(client: &str) -> Connect {
    Connect { version: Version::V311, clean_start: false, ..connect(client) }
}

/// [MQTT3-3.1.2-24]
#[test]
fn one_and_a_half_keep_alives_of_silence_end_a_connection() {
    for keep_alive in [1, 10, 60, u16::MAX] {
        let mut ward = Ward::new();
        let (watcher, _) = ward.connect(keep("watcher"));
        ward.ask(watcher, subscribe("gone", 0));
        let will = Will {
            topic: "gone".into(),
            payload: "silent".into(),
            qos: QoS::AtMostOnce,
            retain: false,
            delay: None,
            properties: PublishProperties::default(),
        };
        let (device, _) = ward.connect(Connect { keep_alive, will: Some(will), ..keep("device") });
        let grace = Duration::from_millis(u64::from(keep_alive) * 1_500);
        let almost = grace - Duration::from_millis(1);
        // [MQTT3-3.1.2-23]: any packet will do, PINGREQ where there is no other.
        for packet in [Packet::PingReq, Packet::Publish(publish("t", "x", 0, 0)), Packet::PubAck(ack(9))] {
            ward.pass(almost);
            ward.send(device, packet);
            assert!(!ward.hear(device).1, "keep alive {keep_alive}");
        }
        ward.pass(almost);
        assert_eq!(ward.hear(device), (vec![], false), "keep alive {keep_alive}");
        ward.pass(Duration::from_millis(1));
        // As if the network had failed: MQTT 3.1.1 has no DISCONNECT from a server, and the will is published
        // [MQTT3-3.1.2-8].
        assert_eq!(ward.hear(device), (vec![], true), "keep alive {keep_alive}");
        assert_eq!(ward.payloads(watcher), ["silent"]);
    }
}

#[test]
fn without_a_keep_alive_silence_ends_nothing() {
    let mut ward = Ward::new();
    let (device, _) = ward.connect(keep("device"));
    for _ in 0..365 {
        ward.pass(DAY);
    }
    assert_eq!(ward.hear(device), (vec![], false));
    assert_eq!(ward.ask(device, Packet::PingReq), [Packet::PingResp]);
}

/// [MQTT3-4.1.0-2]
#[test]
fn a_session_lasts_as_long_as_its_connection_and_the_limit_counts_from_its_end() {
    let limit = DAY * 7;
    for clean_start in [false, true] {
        let session_expiry_max = u32::try_from(limit.as_secs()).unwrap();
        let mut ward =
            Ward::with_client_limits(ClientLimits { session_expiry_max, ..ClientLimits::default() });
        let (device, _) = ward.connect(Connect { clean_start, ..keep("device") });
        ward.ask(device, subscribe("t", 1));
        ward.pass(limit * 10);
        let (writer, _) = ward.connect(connect("writer"));
        ward.ask(writer, Packet::Publish(publish("t", "still there", 1, 1)));
        assert_eq!(ward.payloads(device), ["still there"]);
        ward.lose(device);
        // [MQTT3-4.1.0-1] [MQTT3-3.1.2-4]
        ward.pass(limit - Duration::from_secs(1));
        let (device, connack) = ward.connect(keep("device"));
        assert_eq!(connack.session_present, !clean_start);
        ward.lose(device);
        ward.pass(limit);
        assert!(!ward.connect(keep("device")).1.session_present);
    }
}

#[test]
fn nothing_is_repeated_until_the_client_comes_back_and_then_always_in_order() {
    const COUNT: u16 = 60;
    let mut ward = Ward::new();
    let (mut reader, _) = ward.connect(keep("reader"));
    ward.ask(reader, subscribe("t", 2));
    let (writer, _) = ward.connect(connect("writer"));
    for number in 1..=COUNT {
        let qos = 1 + (number % 2) as u8;
        ward.ask(writer, Packet::Publish(publish("t", &number.to_string(), qos, number)));
        ward.ask(writer, Packet::PubRel(ack(number)));
    }
    let mut owed = ward.publishes(reader);
    assert_eq!(owed.len(), usize::from(COUNT));
    assert!(owed.iter().all(|publish| !publish.dup));
    while !owed.is_empty() {
        ward.pass(HOUR);
        assert_eq!(ward.hear(reader), (vec![], false), "repeated without a reconnect");
        // Some from the middle are settled, and the connection is gone.
        for (at, publish) in owed.iter().enumerate().filter(|(at, _)| at % 3 == 1 || owed.len() < 4) {
            let id = number(publish);
            if publish.qos == QoS::AtLeastOnce {
                ward.send(reader, Packet::PubAck(ack(id)));
            } else {
                assert_eq!(ward.ask(reader, Packet::PubRec(ack(id))), [Packet::PubRel(ack(id))], "{at}");
                ward.send(reader, Packet::PubComp(ack(id)));
            }
        }
        let few = owed.len() < 4;
        let mut at = 0;
        owed.retain(|_| {
            at += 1;
            at % 3 != 2 && !few
        });
        ward.lose(reader);
        ward.pass(HOUR);
        reader = ward.connect(keep("reader")).0;
        // [MQTT3-4.4.0-1] [MQTT3-4.6.0-1] [MQTT3-3.3.1-1] [MQTT3-2.3.1-4]
        owed.iter_mut().for_each(|publish| publish.dup = true);
        assert_eq!(ward.publishes(reader), owed);
    }
}

/// [MQTT3-2.3.1-4] [MQTT3-4.3.2-1]
#[test]
fn the_server_has_65_535_identifiers_and_gives_none_of_them_twice() {
    // Telemetry would leave some of the window free.
    let mut ward = Ward::with_limits(Limits { alert_roots: vec!["t".into()], ..Limits::default() });
    ward.client_limits = Arc::new(ClientLimits { in_flight: u16::MAX, ..ClientLimits::default() });
    let (reader, _) = ward.connect(keep("reader"));
    ward.ask(reader, subscribe("t", 1));
    let (writer, _) = ward.connect(keep("writer"));
    for _ in 0..2 {
        for number in 1..=u16::MAX {
            ward.send(writer, Packet::Publish(publish("t", "x", 1, number)));
        }
        ward.hear(writer);
    }
    let ids: BTreeSet<u16> = ward.publishes(reader).iter().map(number).collect();
    assert!(ids.iter().copied().eq(1..=u16::MAX), "{} are in use", ids.len());
    // The rest waits until one is free, and then has that one.
    assert_eq!(ward.hear(reader), (vec![], false));
    for id in [1, 65_535, 300] {
        ward.send(reader, Packet::PubAck(ack(id)));
        assert_eq!(ward.publishes(reader).iter().map(number).collect::<Vec<_>>(), [id]);
    }
}

/// [MQTT3-2.3.1-2] [MQTT3-4.3.3-2]
#[test]
fn a_client_may_have_all_65_535_identifiers_unreleased() {
    let mut ward = Ward::new();
    let (device, _) = ward.connect(keep("device"));
    for number in 1..=u16::MAX {
        ward.send(device, Packet::Publish(publish("t", "x", 2, number)));
    }
    let answered = ward.hear(device).0;
    assert!(answered.into_iter().eq((1..=u16::MAX).map(|number| Packet::PubRec(ack(number)))));
    // Each is taken for a repeat until it is released.
    let taken = ward.broker.counters().publishes_accepted;
    for number in [1, 2, 40_000, u16::MAX] {
        let again = Publish { dup: true, ..publish("t", "x", 2, number) };
        assert_eq!(ward.ask(device, Packet::Publish(again)), [Packet::PubRec(ack(number))]);
        assert_eq!(ward.broker.counters().publishes_accepted, taken);
    }
    assert_eq!(ward.ask(device, Packet::PubRel(ack(7))), [Packet::PubComp(ack(7))]);
    ward.ask(device, Packet::Publish(publish("t", "new", 2, 7)));
    assert_eq!(ward.broker.counters().publishes_accepted, taken + 1);
}
