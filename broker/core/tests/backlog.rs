//! Queues that go on in the journal, one promise a test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use support::*;
use wardline_core::{ConnectionId, Event, Limits, QueueFull, Queues, Transmit};
use wardline_journal::{DeliveryStep, Log};
use wardline_wire::{Decoder, Disconnect, Packet, Publish, PublishProperties, QoS, ReasonCode, Version};

/// A head of so many publishes, so that what follows waits in the journal.
const HEAD: usize = 4;

fn ward() -> Ward {
    ward_with(Limits::default())
}

fn ward_with(limits: Limits) -> Ward {
    Ward::with_limits(Limits { head_messages_max: HEAD, ..limits })
}

fn numbers(range: RangeInclusive<u16>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Publishes the numbers as payloads.
fn send(ward: &mut Ward, device: ConnectionId, topic: &str, qos: u8, range: RangeInclusive<u16>) {
    for number in range {
        let packet_id = if qos == 0 { 0 } else { number };
        ward.ask(device, Packet::Publish(publish(topic, &number.to_string(), qos, packet_id)));
    }
}

fn alert(id: &str) -> Publish {
    Publish {
        topic: "alerts/icu-3/nurse/high/b12/spo2-low".into(),
        payload: "alert".into(),
        qos: QoS::AtLeastOnce,
        properties: PublishProperties {
            correlation_data: Some(Bytes::copy_from_slice(id.as_bytes())),
            ..PublishProperties::default()
        }
        .into(),
        ..Publish::default()
    }
}

fn raise(ward: &mut Ward, id: &str) {
    ward.broker.publish(Arc::from("plugin:escalation"), &alert(id), ward.now);
}

/// What became of alerts since the last call.
fn receipts(ward: &mut Ward) -> Vec<(String, DeliveryStep)> {
    let mut events = Vec::new();
    ward.broker.take_events(&mut events);
    let receipt = |event| match event {
        Event::Receipt { alert, step, .. } => Some((alert.to_string(), step)),
        Event::Published(_) => None,
    };
    events.into_iter().filter_map(receipt).collect()
}

#[test]
fn a_long_queue_comes_whole_and_in_order() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("t", 1);
    send(&mut ward, device, "t", 1, 1..=3_000);
    assert_eq!(ward.broker.counters().queued_messages, 3_000);
    assert_eq!(ward.payloads(pager), numbers(1..=3_000));
    let counters = ward.broker.counters();
    assert_eq!((counters.queued_messages, counters.queued_bytes), (0, 0));
}

#[test]
fn what_comes_while_an_older_one_waits_in_the_journal_comes_after_it() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("t", 1);
    send(&mut ward, device, "t", 1, 1..=10);
    let mut heard = Vec::new();
    for next in 11..=40 {
        // Room in the head again, but not for what has just come.
        let (packets, _) = ward.hear(pager);
        for packet in packets {
            let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
            heard.push(String::from_utf8(publish.payload.to_vec()).unwrap());
            ward.send(pager, Packet::PubAck(ack(publish.packet_id.unwrap().0.get())));
        }
        send(&mut ward, device, "t", 1, next..=next);
    }
    heard.extend(ward.payloads(pager));
    assert_eq!(heard, numbers(1..=40));
}

#[test]
fn an_alert_passes_all_that_waits() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("#", 1);
    send(&mut ward, device, "t", 1, 1..=2_000);
    // Some of it is in flight, and is not acknowledged.
    assert_eq!(ward.publishes(pager).len(), 1_008);
    for number in 1..=16 {
        ward.ask(device, Packet::Publish(publish("alerts/a", &number.to_string(), 1, number)));
    }
    assert_eq!(payloads(&ward.publishes(pager)), numbers(1..=16), "four times what the head takes");
}

#[test]
fn an_alert_that_is_being_fetched_is_not_passed_by_telemetry() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("#", 1);
    ward.lose(pager);
    send(&mut ward, device, "alerts/a", 1, 1..=1);
    let (pager, _) = ward.connect(resume("pager"));
    drop(ward.hear(pager));
    ward.lose(pager);

    // Not through the harness, which fetches at once.
    let connection = ward.connect_unheard(resume("pager"));
    send(&mut ward, device, "t", 0, 2..=2);
    let mut out = BytesMut::new();
    assert_eq!(ward.broker.transmit(connection, &mut out, 4_096, ward.now), Transmit::Idle);
    let mut decoder = Decoder::client_side(Version::V5, u32::MAX);
    assert!(matches!(decoder.decode(&mut out), Ok(Some(Packet::ConnAck(_)))));
    assert!(out.is_empty(), "nothing goes before the alert");
    assert!(ward.fetch(connection));
    ward.broker.transmit(connection, &mut out, 4_096, ward.now);
    for expected in ["1", "2"] {
        let Ok(Some(Packet::Publish(publish))) = decoder.decode(&mut out) else { panic!("{expected}") };
        assert_eq!(publish.payload, expected);
    }
}

#[test]
fn what_is_not_written_yet_waits_for_the_disk_and_wakes() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("t", 1);
    ward.sync = false;
    send(&mut ward, device, "t", 1, 1..=10);
    assert_eq!(payloads(&ward.publishes(pager)), numbers(1..=4), "the head");
    let mut woken = Vec::new();
    ward.broker.take_woken(&mut woken);
    woken.clear();
    ward.sync();
    ward.broker.take_woken(&mut woken);
    assert!(woken.contains(&pager));
    assert_eq!(payloads(&ward.publishes(pager)), numbers(5..=10));
}

/// What of 13 publishes an absent pager gets whose queue takes 10; also after a restart.
fn kept_of_thirteen(queue_full: QueueFull) -> Vec<String> {
    let mut ward = ward_with(Limits { queued_messages_max: 10, queue_full, ..Limits::default() });
    let (pager, device) = ward.pager_and_device("t", 1);
    ward.lose(pager);
    send(&mut ward, device, "t", 1, 1..=13);
    assert_eq!(ward.broker.counters().overflowed, 3);
    let mut ward = ward.restart();
    let (pager, _) = ward.connect(resume("pager"));
    ward.payloads(pager)
}

#[test]
fn a_full_queue_keeps_what_was_promised_first() {
    assert_eq!(kept_of_thirteen(Limits::default().queue_full), numbers(1..=10));
}

#[test]
fn a_full_queue_keeps_the_newest_where_that_is_declared() {
    assert_eq!(kept_of_thirteen(QueueFull::DropOldest), numbers(4..=13));
}

#[test]
fn the_fullest_queue_is_named_and_so_is_whose_overflowed_last() {
    let limits = Limits { queued_messages_max: 10, queued_bytes_max: 10_000, ..Limits::default() };
    let mut ward = ward_with(limits.clone());
    let (pager, device) = ward.pager_and_device("t", 1);
    let (reader, _) = ward.connect(resume("reader"));
    ward.ask(reader, subscribe("$share/readers/#", 1));
    assert_eq!(ward.broker.queues(), Queues::default());
    ward.lose(pager);
    ward.lose(reader);

    send(&mut ward, device, "t", 1, 1..=3);
    send(&mut ward, device, "alerts/t", 1, 4..=20);
    send(&mut ward, device, "other", 1, 21..=24);
    let fullest = |ward: &Ward| {
        let queue = ward.broker.queues().fullest.unwrap();
        (queue.name.to_string(), queue.messages)
    };
    assert_eq!(fullest(&ward), ("$share/readers/#".to_owned(), 7), "alerts have no quota");
    assert_eq!(fullest(&ward.restart()), fullest(&ward));

    // Few, but large.
    let large = publish("t", &"x".repeat(7_000), 1, 30);
    ward.ask(device, Packet::Publish(large));
    let queue = ward.broker.queues().fullest.unwrap();
    assert_eq!((&*queue.name, queue.messages), ("$share/readers/#", 8));
    assert!(queue.messages_share(&limits) < queue.bytes_share(&limits) && queue.bytes_share(&limits) <= 1.0);

    assert_eq!(ward.broker.queues().overflowed, 0);
    send(&mut ward, device, "t", 1, 31..=40);
    let queues = ward.broker.queues();
    assert!(queues.overflowed > 0);
    assert_eq!(queues.overflowed_last.as_deref(), Some("$share/readers/#"));
    assert_eq!(queues.overflowed, ward.broker.counters().overflowed);

    // What goes for the journal's room is no queue's doing.
    let until = ward.broker.log().next_offset();
    assert!(ward.broker.shed_below(until) > 0);
    assert_eq!(ward.broker.queues(), Queues { fullest: None, ..queues });
}

#[test]
fn a_quota_of_bytes_counts_topic_payload_and_properties() {
    let one = {
        let mut ward = ward();
        let (pager, device) = ward.pager_and_device("t", 1);
        ward.lose(pager);
        send(&mut ward, device, "t", 1, 1..=1);
        ward.broker.counters().queued_bytes
    };
    for (full, kept) in [(QueueFull::DropNewest, ["1", "2", "3"]), (QueueFull::DropOldest, ["3", "4", "5"])] {
        let limits = Limits { queued_bytes_max: 3 * one + 1, queue_full: full, ..Limits::default() };
        let mut ward = ward_with(limits);
        let (pager, device) = ward.pager_and_device("t", 1);
        ward.lose(pager);
        send(&mut ward, device, "t", 1, 1..=5);
        assert_eq!(ward.broker.counters().overflowed, 2);
        // Larger than the whole quota: nothing goes but itself.
        ward.ask(device, Packet::Publish(publish("t", &"x".repeat(4 * one), 1, 6)));
        assert_eq!(ward.broker.counters().overflowed, 3);
        let mut ward = ward.restart();
        assert_eq!(ward.broker.counters().overflowed, 0, "counted from the start");
        let (pager, _) = ward.connect(resume("pager"));
        assert_eq!(ward.payloads(pager), kept);
    }
}

#[test]
fn alerts_have_no_quota() {
    let mut ward = ward_with(Limits { queued_messages_max: 1, queued_bytes_max: 1, ..Limits::default() });
    let (pager, device) = ward.pager_and_device("alerts/#", 1);
    send(&mut ward, device, "alerts/a", 1, 1..=100);
    assert_eq!(ward.payloads(pager), numbers(1..=100));
    assert_eq!(ward.broker.counters().overflowed, 0);
}

#[test]
fn qos_0_telemetry_is_shed_by_count_and_by_bytes_the_oldest_first() {
    let mut ward = ward_with(Limits { queued_qos0_max: 3, ..Limits::default() });
    let (pager, device) = ward.pager_and_device("t", 1);
    send(&mut ward, device, "t", 0, 1..=5);
    assert_eq!(payloads(&ward.publishes(pager)), numbers(3..=5));
    assert_eq!(ward.broker.counters().shed, 2);

    let mut ward = ward_with(Limits { queued_qos0_bytes_max: 3_000, ..Limits::default() });
    let (pager, device) = ward.pager_and_device("t", 1);
    for letter in ["a", "b", "c", "d"] {
        ward.ask(device, Packet::Publish(publish("t", &letter.repeat(1_000), 0, 0)));
    }
    assert_eq!(payloads(&ward.publishes(pager)), ["c".repeat(1_000), "d".repeat(1_000)]);
    assert_eq!(ward.broker.counters().shed, 2);
}

#[test]
fn qos_0_keeps_its_place_among_the_rest_and_waits_for_nothing() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("t", 1);
    for number in 1..=6 {
        send(&mut ward, device, "t", number as u8 % 2, number..=number);
    }
    assert_eq!(payloads(&ward.publishes(pager)), numbers(1..=6), "as published");

    // Behind the head all is in the journal and cannot be read yet: what is of QoS 0 goes all the same.
    ward.sync = false;
    send(&mut ward, device, "t", 1, 11..=15);
    send(&mut ward, device, "t", 0, 16..=16);
    assert_eq!(payloads(&ward.publishes(pager)), ["11", "12", "13", "14", "16"]);
    ward.sync();
    assert_eq!(payloads(&ward.publishes(pager)), ["15"]);
}

#[test]
fn what_expires_in_the_journal_is_not_sent() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("t", 1);
    for number in 1..=10 {
        let mut publish = publish("t", &number.to_string(), 1, number);
        publish.properties.message_expiry = Some(if number % 2 == 0 { 10 } else { 100 });
        ward.ask(device, Packet::Publish(publish));
    }
    ward.pass(Duration::from_secs(30));
    let heard = ward.publishes(pager);
    assert_eq!(payloads(&heard), ["1", "3", "5", "7", "9"]);
    assert!(heard.iter().all(|publish| publish.properties.message_expiry == Some(70)));
    assert_eq!(ward.broker.counters().expired, 5);
    // Nor after a restart.
    let mut ward = ward.restart();
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager), ["1", "3", "5", "7", "9"]);
}

#[test]
fn what_was_fetched_for_a_connection_that_is_gone_is_let_go() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("t", 1);
    ward.lose(pager);
    send(&mut ward, device, "t", 1, 1..=10);
    let first = ward.connect_unheard(resume("pager"));
    let mut wanted = Vec::new();
    ward.broker.wanted(first, &mut wanted);
    assert_eq!(wanted.len(), HEAD);
    let records = ward.broker.log().fetch(&wanted);
    let (second, _) = ward.connect(resume("pager"));
    ward.broker.supply(first, &records);
    ward.broker.end(first, "test", ward.now);
    assert_eq!(ward.payloads(second), numbers(1..=10));
}

#[test]
fn at_most_a_head_is_wanted_at_once_and_nothing_while_half_of_it_is_there() {
    let mut ward = ward_with(Limits::default());
    let (pager, device) = ward.pager_and_device("t", 1);
    ward.lose(pager);
    send(&mut ward, device, "t", 1, 1..=100);
    let pager = ward.connect_unheard(resume("pager"));
    let mut wanted = Vec::new();
    ward.broker.wanted(pager, &mut wanted);
    assert_eq!(wanted.len(), HEAD);
    let records = ward.broker.log().fetch(&wanted);
    ward.broker.supply(pager, &records);
    wanted.clear();
    ward.broker.wanted(pager, &mut wanted);
    assert_eq!(wanted, []);

    // By bytes: a large one is had at hand by itself.
    let mut ward = Ward::with_limits(Limits { head_bytes_max: 1, ..Limits::default() });
    let (pager, device) = ward.pager_and_device("t", 1);
    ward.lose(pager);
    send(&mut ward, device, "t", 1, 1..=5);
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager), numbers(1..=5));
}

#[test]
fn alerts_in_the_journal_are_lost_with_their_pager_each_told_once() {
    let mut ward = ward();
    let (pager, _) = ward.pager_and_device("alerts/#", 1);
    let ids: Vec<String> = (1..=10).map(|number| format!("n1-{number}")).collect();
    ids.iter().for_each(|id| raise(&mut ward, id));
    let told = |step: DeliveryStep| ids.iter().map(|id| (id.clone(), step)).collect::<Vec<_>>();
    assert_eq!(receipts(&mut ward), told(DeliveryStep::Sent));
    ward.lose(pager);
    assert_eq!(receipts(&mut ward), told(DeliveryStep::Unreachable));
}

#[test]
fn a_pager_that_was_away_takes_nothing_from_one_that_was_there() {
    let mut ward = ward();
    let (away, _) = ward.connect(resume("away"));
    ward.ask(away, subscribe("alerts/#", 1));
    ward.lose(away);
    let (present, _) = ward.pager_and_device("alerts/#", 1);
    raise(&mut ward, "n1-1");
    assert_eq!(receipts(&mut ward), [("n1-1".to_owned(), DeliveryStep::Sent)]);
    let (away, _) = ward.connect(resume("away"));
    assert_eq!(ward.publishes(away).len(), 1);
    ward.lose(away);
    assert_eq!(receipts(&mut ward), [], "somebody may still confirm it");
    ward.lose(present);
    assert_eq!(receipts(&mut ward), [("n1-1".to_owned(), DeliveryStep::Unreachable)]);
}

#[test]
fn an_alert_confirmed_before_its_repeat_after_a_restart_is_told_of_when_it_is_repeated() {
    let mut ward = ward();
    let (pager, _) = ward.pager_and_device("alerts/#", 1);
    raise(&mut ward, "n1-1");
    let number = ward.publishes(pager)[0].packet_id.unwrap().0.get();
    let mut ward = ward.restart();
    let pager = ward.connect_unheard(resume("pager"));
    receipts(&mut ward);
    ward.send(pager, Packet::PubAck(ack(number)));
    assert_eq!(receipts(&mut ward), []);
    assert!(ward.fetch(pager), "it is repeated");
    let mut out = BytesMut::new();
    ward.broker.transmit(pager, &mut out, 4_096, ward.now);
    ward.send(pager, Packet::PubAck(ack(number)));
    assert_eq!(receipts(&mut ward), [("n1-1".to_owned(), DeliveryStep::Confirmed)]);
}

#[test]
fn a_repeat_is_fetched_and_carries_dup() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("t", 1);
    send(&mut ward, device, "t", 1, 1..=10);
    let first = ward.publishes(pager);
    for restarted in [false, true] {
        if restarted {
            ward = ward.restart();
        } else {
            ward.lose(pager);
        }
        let (pager, _) = ward.connect(resume("pager"));
        let again = ward.publishes(pager);
        assert_eq!(payloads(&again), numbers(1..=10));
        assert!(
            again.iter().zip(&first).all(|(again, first)| again.dup && again.packet_id == first.packet_id)
        );
    }
}

#[test]
fn an_alert_passes_repeats_that_are_being_fetched() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("#", 1);
    send(&mut ward, device, "t", 1, 1..=3);
    ward.publishes(pager);
    let mut ward = ward.restart();
    let (pager, connack) = (ward.connect_unheard(resume("pager")), &mut BytesMut::new());
    ward.broker.transmit(pager, connack, 4_096, ward.now);
    for alert in ["n1-1", "n1-2"] {
        raise(&mut ward, alert);
    }
    let mut out = BytesMut::new();
    assert_eq!(ward.broker.transmit(pager, &mut out, 4_096, ward.now), Transmit::Idle);
    let mut decoder = Decoder::client_side(Version::V5, u32::MAX);
    for expected in ["n1-1", "n1-2"] {
        let Some(Packet::Publish(alert)) = decoder.decode(&mut out).unwrap() else { panic!("no {expected}") };
        assert_eq!(alert.properties.correlation_data.as_deref(), Some(expected.as_bytes()));
    }
    assert!(out.is_empty());
    let repeats = ward.publishes(pager);
    assert!(repeats.iter().all(|repeat| repeat.dup));
    assert_eq!(payloads(&repeats), numbers(1..=3));
}

#[test]
fn publishes_of_qos_2_wait_for_the_disk_together_and_no_alert_waits_with_them() {
    let mut ward = Ward::new();
    let (pager, device) = ward.pager_and_device("#", 2);
    send(&mut ward, device, "t", 2, 1..=50);
    ward.sync = false;
    assert_eq!(ward.publishes(pager), []);
    raise(&mut ward, "n1-1");
    assert_eq!(payloads(&ward.publishes(pager)), ["alert"]);
    ward.sync();
    assert_eq!(payloads(&ward.publishes(pager)), numbers(1..=50));
}

#[test]
fn qos_0_keeps_its_place_behind_qos_2_that_waits_for_the_disk() {
    let mut ward = Ward::new();
    let (pager, device) = ward.pager_and_device("#", 2);
    ward.sync();
    ward.sync = false;
    send(&mut ward, device, "t", 2, 1..=2);
    send(&mut ward, device, "t", 0, 3..=3);
    send(&mut ward, device, "t", 1, 4..=4);
    assert_eq!(ward.payloads(pager), [""; 0]);
    ward.sync = true;
    assert_eq!(ward.payloads(pager), numbers(1..=4));
}

#[test]
fn what_the_journal_does_not_give_back_ends_the_connection_and_stays_owed() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("t", 1);
    ward.lose(pager);
    send(&mut ward, device, "t", 1, 1..=3);
    let pager = ward.connect_unheard(resume("pager"));
    ward.broker.unreadable(pager);
    let mut out = BytesMut::new();
    assert_eq!(ward.broker.transmit(pager, &mut out, 4_096, ward.now), Transmit::Close);
    let mut decoder = Decoder::client_side(Version::V5, u32::MAX);
    assert!(matches!(decoder.decode(&mut out), Ok(Some(Packet::ConnAck(_)))));
    let farewell = decoder.decode(&mut out);
    assert!(
        matches!(
            farewell,
            Ok(Some(Packet::Disconnect(Disconnect { reason: ReasonCode::ImplementationSpecificError, .. })))
        ),
        "{farewell:?}"
    );
    assert_eq!(ward.broker.counters().unreadable, 1);
    ward.lose(pager);
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager), numbers(1..=3));
}

#[test]
fn what_waits_with_a_group_waits_in_the_journal_too() {
    for present in [false, true] {
        let mut ward = ward();
        let (member, device) = ward.pager_and_device("$share/g/t", 1);
        if !present {
            ward.lose(member);
        }
        // More than fit a member's window.
        send(&mut ward, device, "t", 1, 1..=1_500);
        assert_eq!(ward.broker.counters().queued_messages, 1_500);
        // Part of it is handed over and comes back.
        let (member, _) = ward.connect(resume("pager"));
        assert_eq!(ward.publishes(member).len(), 1_024);
        let (other, _) = ward.connect(resume("other"));
        ward.ask(other, subscribe("$share/g/t", 1));
        ward.lose(member);
        let mut ward = ward.restart();
        let (other, _) = ward.connect(resume("other"));
        let heard = ward.payloads(other);
        assert_eq!(heard, numbers(1_025..=1_500), "present: {present}");
        let (member, _) = ward.connect(resume("pager"));
        assert_eq!(ward.payloads(member), numbers(1..=1_024));
    }
}

#[test]
fn a_queue_that_was_confirmed_one_by_one_is_read_again_in_no_time() {
    let mut ward = ward();
    let (pager, device) = ward.pager_and_device("#", 1);
    ward.lose(pager);
    for _ in 0..4 {
        send(&mut ward, device, "t", 1, 1..=10_000);
    }
    send(&mut ward, device, "alerts/a", 1, 1..=10_000);
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager).len(), 50_000);
    assert_eq!(ward.restart().broker.counters().queued_messages, 0);
}
