//! Topic aliases towards a client.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::num::NonZeroU16;

use support::*;
use wardline_wire::{Packet, Publish};

fn taking_aliases(client: &str, maximum: u16) -> Connect {
    let mut connect = resume(client);
    connect.properties.topic_alias_maximum = Some(maximum);
    connect
}

/// What arrives, as alias and topic.
fn heard(publishes: &[Publish]) -> Vec<(u16, &str)> {
    let alias = |publish: &Publish| publish.properties.topic_alias.map_or(0, NonZeroU16::get);
    publishes.iter().map(|publish| (alias(publish), &*publish.topic)).collect()
}

#[test]
fn a_topic_is_named_once_and_then_stands_behind_its_alias() {
    let mut ward = Ward::new();
    let (console, _) = ward.connect(taking_aliases("console", 2));
    ward.ask(console, subscribe("#", 1));
    let (device, _) = ward.connect(connect("device"));
    for topic in ["a/b", "c/d", "a/b", "e/f", "c/d", "e/f"] {
        ward.send(device, Packet::Publish(publish(topic, "1", 0, 0)));
    }
    let publishes = ward.publishes(console);
    // [MQTT-3.1.2-26]: the third topic finds the client's maximum used up.
    assert_eq!(heard(&publishes), [(1, "a/b"), (2, "c/d"), (1, ""), (0, "e/f"), (2, ""), (0, "e/f")]);
}

#[test]
fn a_long_topic_is_named_each_time_and_costs_the_broker_nothing() {
    let mut ward = Ward::new();
    let (console, _) = ward.connect(taking_aliases("console", 64));
    ward.ask(console, subscribe("#", 0));
    let (device, _) = ward.connect(connect("device"));
    let (longest, longer) = ("x".repeat(256), "x".repeat(257));
    for topic in [&longer, &longest, &longer, &longest] {
        ward.send(device, Packet::Publish(publish(topic, "1", 0, 0)));
    }
    let publishes = ward.publishes(console);
    assert_eq!(heard(&publishes), [(0, &*longer), (1, &*longest), (0, &*longer), (1, "")]);
}

#[test]
fn a_client_that_did_not_ask_gets_no_alias() {
    let mut ward = Ward::new();
    let (plain, _) = ward.connect(connect("plain"));
    let (zero, _) = ward.connect(taking_aliases("zero", 0));
    ward.ask(plain, subscribe("#", 0));
    ward.ask(zero, subscribe("#", 0));
    let (device, _) = ward.connect(connect("device"));
    for client in [plain, zero] {
        for _ in 0..2 {
            ward.send(device, Packet::Publish(publish("a/b", "1", 0, 0)));
        }
        // [MQTT-3.1.2-27]
        assert!(heard(&ward.publishes(client)).iter().all(|told| *told == (0, "a/b")));
    }
}

#[test]
fn a_repeat_on_another_connection_names_its_topic_again() {
    let mut ward = Ward::new();
    let (console, _) = ward.connect(taking_aliases("console", 8));
    ward.ask(console, subscribe("#", 1));
    let (device, _) = ward.connect(connect("device"));
    for number in 1..=2 {
        ward.send(device, Packet::Publish(publish("a/b", "1", 1, number)));
    }
    assert_eq!(heard(&ward.publishes(console)), [(1, "a/b"), (1, "")]);
    ward.lose(console);
    let (console, _) = ward.connect(taking_aliases("console", 8));
    let again = ward.publishes(console);
    assert!(again.iter().all(|publish| publish.dup));
    assert_eq!(heard(&again), [(1, "a/b"), (1, "")]); // [MQTT-3.3.2-7]
    ward.lose(console);
    let (console, _) = ward.connect(resume("console"));
    assert_eq!(heard(&ward.publishes(console)), [(0, "a/b"), (0, "a/b")]);
}

#[test]
fn an_alias_that_nobody_was_told_is_not_used() {
    let mut ward = Ward::new();
    let mut small = taking_aliases("small", 8);
    // Two bytes of header, five of topic, one of properties: fourteen of payload fit, but not beside an alias.
    small.properties.maximum_packet_size = Some(22);
    let (console, _) = ward.connect(small);
    ward.ask(console, subscribe("#", 0));
    let (device, _) = ward.connect(connect("device"));
    for payload in ["far too large for this client", "fourteen bytes", "small", "small again"] {
        ward.send(device, Packet::Publish(publish("a/b", payload, 0, 0)));
    }
    assert_eq!(heard(&ward.publishes(console)), [(0, "a/b"), (1, "a/b"), (1, "")]);
    assert_eq!(ward.broker.counters().too_large, 1);
}
