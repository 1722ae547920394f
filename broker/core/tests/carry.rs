//! What is owed from long ago does not hold the journal back where it is little, and telemetry that is much gives way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::sync::atomic::Ordering;

use support::*;
use wardline_core::{ConnectionId, Limits};
use wardline_journal::{Log, Offset};
use wardline_wire::{Packet, QoS};

/// Enough for a few short publishes.
const LITTLE: usize = 2_000;

/// A ward with a pager that has subscribed to everything and gone, and a device.
fn ward() -> (Ward, ConnectionId) {
    let mut ward = Ward::with_limits(Limits { head_messages_max: 1, ..Limits::default() });
    let (pager, device) = ward.pager_and_device("#", 2);
    ward.send(pager, disconnect_for_later());
    (ward, device)
}

fn disconnect_for_later() -> Packet {
    let Packet::Disconnect(disconnect) = disconnect() else { unreachable!() };
    Packet::Disconnect(wardline_wire::Disconnect { session_expiry: Some(3_600), ..disconnect })
}

fn send(ward: &mut Ward, device: ConnectionId, topic: &str, numbers: std::ops::RangeInclusive<u16>) {
    for number in numbers {
        ward.ask(device, Packet::Publish(publish(topic, &number.to_string(), 1, number)));
    }
}

/// Has the journal let go of all that a snapshot does without, and the node begin again from there.
fn restored(ward: &mut Ward, until: Offset, bytes_max: usize) -> (Ward, Offset) {
    let log = ward.broker.log();
    let carried = log.fetch(&ward.broker.to_carry(until, bytes_max).unwrap_or_default());
    let mut state = Vec::new();
    let snapshot = ward.broker.snapshot(1, carried).unwrap();
    let horizon = snapshot.horizon();
    ward.broker.log().released.store(horizon.0, Ordering::Relaxed);
    snapshot.encode(&mut state).unwrap();
    (ward.restored(&state, ward.now), horizon)
}

fn numbers(numbers: impl IntoIterator<Item = u16>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

#[test]
fn a_little_is_carried_and_comes_after_the_journal_has_let_go_of_it() {
    let (mut ward, device) = ward();
    send(&mut ward, device, "t", 1..=3);
    let until = ward.broker.log().next_offset();
    let (mut ward, horizon) = restored(&mut ward, until, LITTLE);
    assert_eq!(horizon, until);
    // And from one snapshot to the next.
    let until = ward.broker.log().next_offset();
    assert_eq!(ward.broker.to_carry(until, LITTLE), Some(vec![]));
    let (mut ward, _) = restored(&mut ward, until, LITTLE);
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager), numbers(1..=3));
    assert_eq!(ward.broker.counters().queued_messages, 0);
}

#[test]
fn much_holds_the_journal_back_and_nothing_is_carried() {
    let (mut ward, device) = ward();
    let first = ward.broker.log().next_offset();
    send(&mut ward, device, "t", 1..=100);
    let until = ward.broker.log().next_offset();
    assert_eq!(ward.broker.to_carry(until, LITTLE), None);
    let (mut ward, horizon) = restored(&mut ward, until, LITTLE);
    assert_eq!(horizon, first);
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager), numbers(1..=100));
}

#[test]
fn what_many_are_owed_counts_once() {
    let mut ward = Ward::new();
    for client in ["a", "b", "c", "d"] {
        let (client, _) = ward.connect(resume(client));
        ward.ask(client, subscribe("t", 1));
    }
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, "t", 1..=3);
    let until = ward.broker.log().next_offset();
    assert_eq!(ward.broker.to_carry(until, LITTLE).map(|offsets| offsets.len()), Some(3));
}

#[test]
fn telemetry_below_a_place_is_shed_and_alerts_and_what_is_in_flight_are_not() {
    let mut ward = Ward::with_limits(Limits { head_messages_max: 1, ..Limits::default() });
    let (pager, device) = ward.pager_and_device("#", 2);
    send(&mut ward, device, "t", 1..=1);
    let in_flight = ward.publishes(pager);
    assert_eq!(payloads(&in_flight), ["1"]);
    ward.send(pager, disconnect_for_later());
    send(&mut ward, device, "t", 2..=60);
    send(&mut ward, device, "alerts/a", 61..=62);
    let place = ward.broker.log().next_offset();
    send(&mut ward, device, "t", 63..=64);

    assert_eq!(ward.broker.shed_below(place), 59);
    assert_eq!(ward.broker.counters().overflowed, 59);
    assert_eq!(ward.broker.to_carry(place, LITTLE).map(|offsets| offsets.len()), Some(3));
    let (mut ward, horizon) = restored(&mut ward, place, LITTLE);
    assert_eq!(horizon, place);
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager), numbers([61, 62, 1, 63, 64]));
}

#[test]
fn a_shared_subscription_sheds_and_carries_too() {
    let mut ward = Ward::new();
    let (member, device) = ward.pager_and_device("$share/g/#", 1);
    ward.send(member, disconnect_for_later());
    send(&mut ward, device, "t", 1..=50);
    send(&mut ward, device, "alerts/a", 51..=51);
    let place = ward.broker.log().next_offset();
    send(&mut ward, device, "t", 52..=52);
    assert_eq!(ward.broker.shed_below(place), 50);
    let (mut ward, horizon) = restored(&mut ward, place, LITTLE);
    assert_eq!(horizon, place);
    let (member, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(member), numbers(51..=52));
}

#[test]
fn half_a_handshake_is_carried() {
    let (mut ward, device) = ward();
    ward.ask(device, Packet::Publish(publish("t", "twice would be wrong", 2, 7)));
    let (pager, _) = ward.connect(resume("pager"));
    let first = ward.publishes(pager);
    assert_eq!((payloads(&first), first[0].qos), (vec!["twice would be wrong"], QoS::ExactlyOnce));
    let until = ward.broker.log().next_offset();
    let (mut ward, horizon) = restored(&mut ward, until, LITTLE);
    assert_eq!(horizon, until);
    let (pager, _) = ward.connect(resume("pager"));
    let again = ward.publishes(pager);
    assert!(again[0].dup && again[0].packet_id == first[0].packet_id, "{again:?}");
    assert_eq!(payloads(&again), payloads(&first));
}
