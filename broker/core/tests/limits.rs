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
use wardline_core::{ClientLimits, Limit, Open};
use wardline_wire::{Packet, ReasonCode, SubAck};

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
