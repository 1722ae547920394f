//! What the core keeps its clients to, with virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::{num::NonZeroU32, time::Duration};

use support::*;
use wardline_core::{ClientLimits, ConnectionId, Limit, Limits, Open};
use wardline_wire::{Packet, Publish, PublishProperties, QoS, ReasonCode, SubAck, SubscribeOptions, Will};

const SECOND: Duration = Duration::from_secs(1);

fn reached(ward: &Ward) -> Vec<(Limit, u64)> {
    ward.broker.limits_reached().map(|(_, limit, count)| (limit, count)).collect()
}

#[test]
fn a_client_that_is_not_heard_is_not_silent() {
    let mut ward = Ward::new();
    let mut connect = connect("slowed");
    connect.keep_alive = 1;
    let (slowed, _) = ward.connect(connect);
    for _ in 0..10 {
        ward.pass(SECOND);
        ward.broker.unheard(slowed, ward.now);
    }
    assert_eq!(ward.hear(slowed), (vec![], false));
    ward.pass(2 * SECOND);
    let (heard, closed) = ward.hear(slowed);
    assert!(closed, "what is heard again and says nothing is silent");
    assert!(matches!(&heard[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::KeepAliveTimeout));
}

#[test]
fn a_principal_has_its_connections_and_gets_a_place_back_however_one_ends() {
    let limits = ClientLimits { connections_per_principal: NonZeroU32::new(2), ..ClientLimits::default() };
    let mut ward = Ward::with_client_limits(limits);
    let try_connect = |ward: &mut Ward, client: &str, principal: &str| {
        ward.connect_as(resume(client), principal, &mut Open).map_err(|answer| answer.reason)
    };
    let full = Err(ReasonCode::QuotaExceeded);
    let (first, _) = try_connect(&mut ward, "a", "staff:a").unwrap();
    let (second, _) = try_connect(&mut ward, "b", "staff:a").unwrap();
    assert_eq!(try_connect(&mut ward, "c", "staff:a").map(|_| ()), full);
    // Somebody else's are not his, and his own session he may take over.
    try_connect(&mut ward, "d", "staff:d").unwrap();
    let (again, _) = try_connect(&mut ward, "a", "staff:a").unwrap();
    assert_eq!(try_connect(&mut ward, "c", "staff:a").map(|_| ()), full);
    // The connection that was taken over ends after that, and gives back nothing twice.
    ward.lose(first);
    assert_eq!(try_connect(&mut ward, "c", "staff:a").map(|_| ()), full);
    ward.lose(again);
    let (third, _) = try_connect(&mut ward, "c", "staff:a").unwrap();
    ward.send(second, disconnect());
    try_connect(&mut ward, "e", "staff:a").unwrap();
    assert_eq!(try_connect(&mut ward, "f", "staff:a").map(|_| ()), full);
    ward.lose(second);
    ward.lose(third);
    try_connect(&mut ward, "f", "staff:a").unwrap();
    assert_eq!(try_connect(&mut ward, "g", "staff:a").map(|_| ()), full);
    assert_eq!(reached(&ward), [(Limit::ConnectionsPerPrincipal, 5)]);
}

/// Connects and leaves at once; whether it was let in.
fn visit(ward: &mut Ward, connect: Connect, principal: &str) -> bool {
    match ward.connect_as(connect, principal, &mut Open) {
        Ok((id, _)) => ward.send(id, disconnect()),
        Err(answer) => {
            assert_eq!(answer.reason, ReasonCode::QuotaExceeded);
            return false;
        }
    }
    true
}

#[test]
fn a_client_that_rotates_its_id_leaves_so_many_sessions_and_no_more() {
    let mut ward = Ward::with_limits(Limits { sessions_max: 3, ..Limits::default() });
    let let_in = (0..10).filter(|n| visit(&mut ward, resume(&format!("c{n}")), "staff:a")).count();
    assert_eq!((let_in, ward.broker.counters().sessions), (3, 3));
    assert_eq!(reached(&ward), [(Limit::Sessions, 7)]);
    // What is there goes on, a clean start takes the place of what it ends, and who leaves nothing is let in.
    assert!(visit(&mut ward, resume("c0"), "staff:a"));
    assert!(visit(&mut ward, Connect { clean_start: true, ..resume("c1") }, "staff:a"));
    let (passing, _) = ward.connect(connect("passing"));
    assert_eq!(ward.broker.counters().sessions, 4);
    // A session that ends with its connection gives nobody a place for one that does not.
    assert!(!visit(&mut ward, resume("passing"), "service:lab"));
    assert!(!ward.hear(passing).1, "who is refused takes over nothing");
    ward.lose(passing);
    assert!(!visit(&mut ward, resume("c9"), "staff:a"));
    // They are all there again after a restart.
    let mut ward = ward.restart();
    assert_eq!(ward.broker.counters().sessions, 3);
    assert!(!visit(&mut ward, resume("c9"), "staff:a"));
    let mut ward = ward.restore(ward.now);
    assert_eq!(ward.broker.counters().sessions, 3);
    ward.pass(Duration::from_secs(3_600));
    assert_eq!(ward.broker.counters().sessions, 0);
    assert!(visit(&mut ward, resume("c9"), "staff:a"));
}

#[test]
fn a_principal_has_its_sessions_and_takes_nobody_elses() {
    let limits = ClientLimits { sessions_per_principal: NonZeroU32::new(2), ..ClientLimits::default() };
    let mut ward = Ward::with_client_limits(limits);
    for (client, principal, is_let_in) in [
        ("a1", "staff:a", true),
        ("a2", "staff:a", true),
        ("a3", "staff:a", false),
        ("b1", "staff:b", true),
        ("a1", "staff:a", true),
    ] {
        assert_eq!(visit(&mut ward, resume(client), principal), is_let_in, "{client}");
    }
    assert_eq!(reached(&ward), [(Limit::SessionsPerPrincipal, 1)]);
    for mut ward in [ward.restart(), ward.restore(ward.now)] {
        assert!(!visit(&mut ward, resume("a3"), "staff:a"));
        // One that is given up makes room.
        assert!(visit(&mut ward, connect("a1"), "staff:a"));
        assert!(visit(&mut ward, resume("a3"), "staff:a"));
        assert!(!visit(&mut ward, resume("a4"), "staff:a"));
    }
}

fn retain(topic: &str, payload: &str, qos: u8) -> Packet {
    Packet::Publish(Publish { retain: true, ..publish(topic, payload, qos, qos.into()) })
}

/// Publishes at QoS 1; how it was answered.
fn answered(ward: &mut Ward, device: ConnectionId, packet: Packet) -> ReasonCode {
    match &ward.ask(device, packet)[..] {
        [Packet::PubAck(ack)] => ack.reason,
        other => panic!("{other:?}"),
    }
}

/// What somebody who comes now is sent of `filter`.
fn retained(ward: &mut Ward, filter: &str) -> Vec<String> {
    let (reader, _) = ward.connect(connect("reader"));
    ward.send(reader, subscribe(filter, 0));
    let payloads = ward.payloads(reader);
    ward.send(reader, disconnect());
    payloads
}

#[test]
fn clients_retain_so_many_messages_and_the_node_and_its_plugins_all_they_have() {
    let mut ward = Ward::with_limits(Limits { retained_messages_max: 2, ..Limits::default() });
    let (device, _) = ward.connect(connect("device"));
    for (topic, payload, reason) in [
        ("a", "1", ReasonCode::Success),
        ("b", "2", ReasonCode::Success),
        ("c", "3", ReasonCode::QuotaExceeded),
        ("c", "", ReasonCode::Success),
        ("a", "4", ReasonCode::Success),
    ] {
        assert_eq!(answered(&mut ward, device, retain(topic, payload, 1)), reason, "{topic}");
    }
    let not_kept = Packet::Publish(publish("c", "5", 1, 1));
    assert_eq!(answered(&mut ward, device, not_kept), ReasonCode::Success);
    // At QoS 0 nobody can be told; it is in the record.
    let denied = ward.broker.counters().publishes_denied;
    assert_eq!(ward.ask(device, retain("d", "6", 0)), []);
    assert_eq!(ward.broker.counters().publishes_denied, denied + 1);
    assert_eq!(reached(&ward), [(Limit::RetainedMessages, 2)]);

    let Packet::Publish(alarm) = retain("alarms/icu-3/b12/hr-low", "alarm", 0) else { unreachable!() };
    ward.broker.publish("plugin:escalation".into(), &alarm, ward.now);
    assert_eq!(retained(&mut ward, "#"), ["alarm", "4", "2"]);
    // As many as there were are there after a restart; what is cleared makes room once there are fewer than the limit.
    for mut ward in [ward.restart(), ward.restore(ward.now)] {
        assert_eq!(retained(&mut ward, "#"), ["alarm", "4", "2"]);
        let (device, _) = ward.connect(connect("device"));
        for (topic, payload, reason) in [
            ("a", "", ReasonCode::Success),
            ("c", "7", ReasonCode::QuotaExceeded),
            ("b", "", ReasonCode::Success),
            ("c", "7", ReasonCode::Success),
        ] {
            assert_eq!(answered(&mut ward, device, retain(topic, payload, 1)), reason, "{topic}");
        }
    }
}

#[test]
fn retained_messages_have_so_many_bytes_of_topics_payloads_and_properties() {
    let mut ward = Ward::with_limits(Limits { retained_bytes_max: 4_096, ..Limits::default() });
    let (device, _) = ward.connect(connect("device"));
    let with = |topic: &str, payload: usize, property: usize| {
        let Packet::Publish(mut publish) = retain(topic, &"x".repeat(payload), 1) else { unreachable!() };
        publish.properties.user = vec![("name".into(), "v".repeat(property).into())];
        Packet::Publish(publish)
    };
    for (packet, reason) in [
        (with("large", 2_000, 0), ReasonCode::Success),
        (with("payload", 2_000, 0), ReasonCode::QuotaExceeded),
        (with("property", 10, 2_000), ReasonCode::QuotaExceeded),
        (with(&"topic".repeat(400), 10, 0), ReasonCode::QuotaExceeded),
        (with("small", 1_000, 0), ReasonCode::Success),
        // In its place more counts for what it is more.
        (with("large", 2_200, 0), ReasonCode::Success),
        (with("large", 3_000, 0), ReasonCode::QuotaExceeded),
        (with("large", 1_000, 0), ReasonCode::Success),
        (with("payload", 1_000, 0), ReasonCode::Success),
    ] {
        assert_eq!(answered(&mut ward, device, packet), reason);
    }
    assert_eq!(reached(&ward), [(Limit::RetainedBytes, 4)]);
    let counters = ward.broker.counters();
    assert_eq!(counters.retained, 3);
    assert!((3_000..=4_096).contains(&counters.retained_bytes), "{}", counters.retained_bytes);
    for topic in ["large", "small", "payload"] {
        answered(&mut ward, device, retain(topic, "", 1));
    }
    assert_eq!(ward.broker.counters().retained_bytes, 0);
}

#[test]
fn a_retained_message_that_has_expired_takes_no_room() {
    let mut ward = Ward::with_limits(Limits { retained_messages_max: 2, ..Limits::default() });
    let (device, _) = ward.connect(connect("device"));
    let passing = |topic: &str, seconds| {
        let Packet::Publish(mut publish) = retain(topic, topic, 1) else { unreachable!() };
        publish.properties.message_expiry = Some(seconds);
        Packet::Publish(publish)
    };
    assert_eq!(answered(&mut ward, device, passing("a", 10)), ReasonCode::Success);
    assert_eq!(answered(&mut ward, device, passing("b", 10)), ReasonCode::Success);
    // One that is replaced has the new one's end.
    assert_eq!(answered(&mut ward, device, passing("b", 60)), ReasonCode::Success);
    assert_eq!(answered(&mut ward, device, retain("c", "c", 1)), ReasonCode::QuotaExceeded);
    ward.pass(10 * SECOND);
    assert_eq!(retained(&mut ward, "#"), ["b"]);
    assert_eq!(answered(&mut ward, device, retain("c", "c", 1)), ReasonCode::Success);
    assert_eq!(retained(&mut ward, "#"), ["b", "c"]);
    assert_eq!(answered(&mut ward, device, retain("d", "d", 1)), ReasonCode::QuotaExceeded);
}

#[test]
fn a_will_that_finds_no_room_is_heard_and_not_retained() {
    let mut ward = Ward::with_limits(Limits { retained_messages_max: 1, ..Limits::default() });
    let (pager, _) = ward.connect(resume("pager"));
    let as_published =
        SubscribeOptions { qos: QoS::AtLeastOnce, retain_as_published: true, ..Default::default() };
    ward.ask(pager, subscribe_with("wills/#", as_published, None));
    for (client, retained) in [("first", true), ("second", false)] {
        let will = Will {
            topic: format!("wills/{client}").into(),
            payload: "gone".into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            delay: None,
            properties: PublishProperties::default(),
        };
        let (dying, _) = ward.connect(Connect { will: Some(will), ..connect(client) });
        ward.lose(dying);
        let heard = ward.publishes(pager);
        assert_eq!(heard.iter().map(|publish| publish.retain).collect::<Vec<_>>(), [retained]);
        ward.send(pager, Packet::PubAck(ack(number(&heard[0]))));
    }
    assert_eq!(reached(&ward), [(Limit::RetainedMessages, 1)]);
    assert_eq!(ward.broker.counters().retained, 1);
    assert_eq!(ward.restart().broker.counters().retained, 1);
}

#[test]
fn answers_that_wait_for_the_disk_are_as_few_as_packet_identifiers() {
    const ANSWERS_MAX: usize = 2 * 65_535;
    let mut ward = Ward::new();
    let (device, _) = ward.connect(connect("device"));
    let (other, _) = ward.connect(connect("other"));
    ward.sync = false;
    ward.send(device, Packet::Publish(publish("t", "1", 2, 1)));
    for _ in 1..ANSWERS_MAX {
        // Each is answered, and none adds to the journal.
        ward.send(device, Packet::PubRel(ack(7)));
    }
    ward.send(other, Packet::Publish(publish("t", "1", 1, 1)));
    assert_eq!(ward.hear(device), (vec![], false));
    ward.send(device, Packet::PubRel(ack(7)));
    let (heard, closed) = ward.hear(device);
    assert!(closed && matches!(&heard[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::QuotaExceeded));
    ward.sync = true;
    assert!(matches!(&ward.hear(other).0[..], [Packet::PubAck(_)]), "nobody else notices");
    // What has left makes room.
    let (again, _) = ward.connect(connect("again"));
    for _ in 0..2 {
        ward.sync = false;
        ward.send(again, Packet::Publish(publish("t", "1", 0, 0)));
        for _ in 0..ANSWERS_MAX - 1 {
            ward.send(again, Packet::PubRel(ack(7)));
        }
        ward.sync = true;
        let (heard, closed) = ward.hear(again);
        assert_eq!((heard.len(), closed), (ANSWERS_MAX - 1, false));
    }
}

#[test]
fn a_topic_beyond_the_limit_is_refused_before_anybody_is_asked_and_recorded() {
    let limits = ClientLimits { topic_levels: 2, ..ClientLimits::default() };
    let mut ward = Ward::with_client_limits(limits);
    let (device, _) = ward.connect(connect("device"));
    let heard = ward.ask(device, subscribe("a/+/#", 1));
    assert!(
        matches!(&heard[..], [Packet::SubAck(SubAck { reasons, .. })] if reasons == &[ReasonCode::TopicFilterInvalid])
    );
    let records = ward.broker.log().records;
    let heard = ward.ask(device, Packet::Publish(publish("a/b/c", "x", 1, 1)));
    assert!(matches!(&heard[..], [Packet::PubAck(ack)] if ack.reason == ReasonCode::TopicNameInvalid));
    assert_eq!(ward.broker.log().records, records + 1);
    assert_eq!((ward.broker.counters().publishes_denied, ward.broker.counters().publishes_accepted), (1, 0));
    assert_eq!(reached(&ward), [(Limit::TopicLevels, 2)]);
}

#[test]
fn packets_and_publishes_are_counted_in_both_directions() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("t", 1));
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(publish("t", "12345", 1, 1)));
    ward.ask(device, Packet::PingReq);
    assert_eq!(ward.payloads(pager), ["12345"]);
    let counters = ward.broker.counters();
    // CONNECT, SUBSCRIBE, PUBACK; CONNECT, PUBLISH, PINGREQ. CONNACK, SUBACK, PUBLISH; CONNACK, PUBACK, PINGRESP.
    assert_eq!((counters.packets_received, counters.packets_sent), (6, 6));
    assert_eq!((counters.publishes_received, counters.publishes_sent), (1, 1));
    assert_eq!((counters.publish_bytes_received, counters.publish_bytes_sent), (5, 5));
    assert_eq!((counters.connects, counters.connections_peak), (2, 2));
}
