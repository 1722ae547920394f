//! Shared subscriptions: one member gets each publish, and none is lost with a member.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::{collections::BTreeMap, num::NonZeroU16};

use proptest::prelude::*;
use support::*;
use wardline_core::{ConnectionId, Limits};
use wardline_wire::{Ack, Packet, Publish, QoS, ReasonCode, SubscribeOptions, Unsubscribe};

const SHARED: &str = "$share/readers/t/#";

fn narrow(mut connect: Connect, receive_maximum: u16) -> Connect {
    connect.properties.receive_maximum = NonZeroU16::new(receive_maximum);
    connect
}

fn member(ward: &mut Ward, connect: Connect, qos: u8) -> ConnectionId {
    let (id, _) = ward.connect(connect);
    ward.ask(id, subscribe(SHARED, qos));
    id
}

/// Publishes `1` to `count` at `qos`, the identifiers counting on from `first`.
fn send(ward: &mut Ward, device: ConnectionId, qos: u8, numbers: std::ops::RangeInclusive<u16>) {
    for number in numbers {
        let packet_id = if qos == 0 { 0 } else { number };
        ward.ask(device, Packet::Publish(publish("t/1", &number.to_string(), qos, packet_id)));
        if qos == 2 {
            ward.ask(device, Packet::PubRel(ack(number)));
        }
    }
}

#[test]
fn members_take_turns() {
    let mut ward = Ward::new();
    let members = ["a", "b", "c"].map(|name| member(&mut ward, connect(name), 1));
    let (device, _) = ward.connect(connect("device"));
    for qos in 0..=1 {
        send(&mut ward, device, qos, 1..=9);
        for member in members {
            assert_eq!(ward.payloads(member).len(), 3);
        }
    }
}

#[test]
fn each_member_gets_at_most_the_quality_it_was_granted() {
    let mut ward = Ward::new();
    let (low, high) = (member(&mut ward, connect("low"), 0), member(&mut ward, connect("high"), 2));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 2, 1..=4);
    assert!(ward.publishes(low).iter().all(|publish| publish.qos == QoS::AtMostOnce)); // [MQTT-4.8.2-3]
    assert!(ward.publishes(high).iter().all(|publish| publish.qos == QoS::ExactlyOnce));
}

#[test]
fn a_member_that_reads_nothing_holds_nothing_up() {
    let mut ward = Ward::new();
    let stalled = member(&mut ward, narrow(connect("stalled"), 2), 1);
    let busy = member(&mut ward, connect("busy"), 1);
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=50);
    assert_eq!(ward.payloads(busy).len(), 48);
    assert_eq!(payloads(&ward.publishes(stalled)), ["1", "3"]);
}

#[test]
fn what_nobody_has_room_for_waits_for_the_first_that_has() {
    let mut ward = Ward::new();
    let members = ["a", "b"].map(|name| member(&mut ward, narrow(connect(name), 1), 1));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=6);
    let [one, two] = members.map(|member| ward.publishes(member));
    assert_eq!((payloads(&one), payloads(&two)), (vec!["1"], vec!["2"]));
    // Only the second acknowledges, so that all the rest is its.
    ward.send(members[1], Packet::PubAck(ack(number(&two[0]))));
    assert_eq!(ward.payloads(members[1]), ["3", "4", "5", "6"]);
}

#[test]
fn what_a_lost_member_was_owed_goes_to_the_others() {
    let mut ward = Ward::new();
    let (lost, kept) = (member(&mut ward, connect("lost"), 1), member(&mut ward, connect("kept"), 1));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=2);
    assert_eq!(payloads(&ward.publishes(lost)), ["1"]); // sent and not acknowledged
    send(&mut ward, device, 1, 3..=4); // not even sent
    ward.lose(lost);
    let mut heard = ward.payloads(kept);
    heard.sort();
    assert_eq!(heard, ["1", "2", "3", "4"]);
}

#[test]
fn an_absent_session_keeps_what_it_was_sent_and_hands_over_the_rest() {
    let mut ward = Ward::new();
    let (away, other) = (member(&mut ward, resume("away"), 1), member(&mut ward, connect("other"), 1));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=2);
    ward.publishes(away);
    send(&mut ward, device, 1, 3..=4);
    ward.lose(away);
    assert_eq!(ward.payloads(other), ["2", "4", "3"]);
    let (away, _) = ward.connect(resume("away"));
    let repeated = ward.publishes(away);
    assert!(repeated[0].dup);
    assert_eq!(payloads(&repeated), ["1"]);
}

#[test]
fn exactly_once_is_completed_by_whom_it_was_sent_to_or_by_nobody() {
    let mut ward = Ward::new();
    let (away, other) = (member(&mut ward, resume("away"), 2), member(&mut ward, connect("other"), 2));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 2, 1..=4);
    let begun = ward.publishes(away);
    assert_eq!(payloads(&begun), ["1", "3"]);
    ward.send(away, Packet::PubRec(ack(number(&begun[0]))));
    ward.hear(away);
    ward.lose(away);
    assert_eq!(ward.payloads(other), ["2", "4"]);
    let (away, _) = ward.connect(resume("away"));
    // [MQTT-4.8.2-4]
    let (packets, _) = ward.hear(away);
    assert!(matches!(&packets[..], [Packet::PubRel(_), Packet::Publish(p)] if p.dup), "{packets:?}");
    ward.lose(away);
    ward.connect(connect("away")); // a clean start ends the session
    assert_eq!(ward.payloads(other), [""; 0]); // [MQTT-4.8.2-5]
}

#[test]
fn what_waits_with_an_absent_group_comes_to_the_first_member_that_returns() {
    let mut ward = Ward::new();
    let members = ["a", "b"].map(|name| member(&mut ward, resume(name), 1));
    members.into_iter().for_each(|member| ward.lose(member));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 0, 9..=9); // QoS 0 waits for nobody
    send(&mut ward, device, 1, 1..=3);
    let (first, _) = ward.connect(resume("b"));
    assert_eq!(ward.payloads(first), ["1", "2", "3"]);
    let (second, _) = ward.connect(resume("a"));
    assert_eq!(ward.payloads(second), [""; 0]);
}

#[test]
fn a_restart_leaves_with_each_member_what_it_was_sent() {
    let mut ward = Ward::new();
    let (one, two) = (member(&mut ward, resume("one"), 2), member(&mut ward, resume("two"), 0));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 2, 1..=4);
    assert_eq!(payloads(&ward.publishes(one)), ["1", "3"]);
    assert_eq!(payloads(&ward.publishes(two)), ["2", "4"]); // at QoS 0, so that these are over
    let mut ward = ward.restart();
    let two = ward.connect(resume("two")).0;
    assert_eq!(ward.payloads(two), [""; 0]);
    let one = ward.connect(resume("one")).0;
    let repeated = ward.publishes(one);
    assert!(repeated.iter().all(|publish| publish.dup));
    assert_eq!(payloads(&repeated), ["1", "3"]);
}

#[test]
fn a_refused_publish_is_offered_to_nobody_else() {
    let mut ward = Ward::new();
    let (picky, other) = (member(&mut ward, connect("picky"), 2), member(&mut ward, connect("other"), 2));
    let (device, _) = ward.connect(connect("device"));
    let no = |packet_id| Ack { reason: ReasonCode::UnspecifiedError, ..ack(packet_id) };
    send(&mut ward, device, 1, 1..=2);
    let got = ward.publishes(picky);
    ward.send(picky, Packet::PubAck(no(number(&got[0]))));
    send(&mut ward, device, 2, 3..=4);
    let got = ward.publishes(picky);
    ward.send(picky, Packet::PubRec(no(number(&got[0]))));
    ward.lose(picky);
    assert_eq!(ward.payloads(other), ["2", "4"]); // [MQTT-4.8.2-6]
}

#[test]
fn who_unsubscribes_completes_what_was_sent_and_leaves_the_rest() {
    let mut ward = Ward::new();
    let (leaver, stayer) = (member(&mut ward, connect("leaver"), 1), member(&mut ward, connect("stayer"), 1));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=2);
    let sent = ward.publishes(leaver);
    send(&mut ward, device, 1, 3..=4);
    let unsubscribe = Unsubscribe { packet_id: id(2), user: Vec::new(), filters: vec![SHARED.into()] };
    ward.send(leaver, Packet::Unsubscribe(unsubscribe));
    assert_eq!(ward.payloads(stayer), ["2", "4", "3"]);
    ward.send(leaver, Packet::PubAck(ack(number(&sent[0])))); // [MQTT-3.10.4-3]
    ward.lose(leaver);
    assert_eq!(ward.payloads(stayer), [""; 0]);
}

#[test]
fn retained_messages_are_not_sent_and_flags_are_the_members_own() {
    let mut ward = Ward::new();
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(Publish { retain: true, ..publish("t/1", "old", 0, 0) }));
    let (id, _) = ward.connect(connect("reader"));
    let options = SubscribeOptions { retain_as_published: true, ..SubscribeOptions::default() };
    ward.ask(id, subscribe_with(SHARED, options, Some(7)));
    assert_eq!(ward.publishes(id), []);
    ward.ask(device, Packet::Publish(Publish { retain: true, ..publish("t/1", "new", 0, 0) }));
    let publishes = ward.publishes(id);
    assert!(publishes[0].retain);
    assert_eq!(publishes[0].properties.subscription_ids, [7]);
}

#[test]
fn own_and_shared_subscriptions_of_one_client_are_two() {
    let mut ward = Ward::new();
    let both = member(&mut ward, connect("both"), 1);
    ward.ask(both, subscribe("t/1", 0));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=1);
    assert_eq!(ward.payloads(both), ["1", "1"]);
}

#[test]
fn an_alert_passes_the_telemetry_that_waits_with_its_group() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(narrow(connect("pager"), 64));
    ward.ask(pager, subscribe("$share/readers/#", 1));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=100);
    assert_eq!(ward.publishes(pager).len(), 48, "a quarter of the window, 16 places, is for alerts");
    ward.ask(device, Packet::Publish(publish("alerts/a", "alert", 1, 101)));
    assert_eq!(payloads(&ward.publishes(pager)), ["alert"]);
}

#[test]
fn an_alert_of_a_group_passes_what_waits_in_its_members_own_queue() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(narrow(connect("pager"), 8));
    ward.ask(pager, subscribe("$share/readers/#", 1));
    ward.ask(pager, subscribe("t/1", 0));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 0, 1..=20);
    ward.ask(device, Packet::Publish(publish("alerts/a", "alert", 1, 21)));
    assert_eq!(payloads(&ward.publishes(pager))[0], "alert");
}

#[test]
fn what_a_member_has_no_bytes_for_waits_with_the_group() {
    // 260 bytes each: room for seven with each member, and for seven with the group.
    let mut ward = Ward::with_limits(Limits { queued_bytes_max: 2_000, ..Limits::default() });
    let members = ["a", "b"].map(|name| member(&mut ward, connect(name), 1));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=21);
    assert_eq!(ward.broker.counters().overflowed, 0);
    let heard = members.map(|member| ward.payloads(member).len());
    assert_eq!(heard.iter().sum::<usize>(), 21);
}

#[test]
fn a_restart_tells_the_copies_of_one_publish_for_one_client_apart() {
    let mut ward = Ward::new();
    let both = member(&mut ward, resume("both"), 1);
    for filter in ["t/1", "$share/others/t/#"] {
        ward.ask(both, subscribe(filter, 1));
    }
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=1);
    let numbers: Vec<u16> = ward.publishes(both).iter().map(number).collect();
    for settled in 0..3 {
        let mut ward = ward.restart();
        let (both, _) = ward.connect(resume("both"));
        assert_eq!(ward.publishes(both).len(), numbers.len());
        ward.send(both, Packet::PubAck(ack(numbers[settled])));
        ward.lose(both);
        let mut ward = ward.restart();
        let (both, _) = ward.connect(resume("both"));
        let repeated: Vec<u16> = ward.publishes(both).iter().map(number).collect();
        let owed: Vec<u16> = numbers.iter().copied().filter(|number| *number != numbers[settled]).collect();
        assert_eq!(repeated, owed);
    }
}

#[test]
fn a_restart_tells_groups_with_one_member_in_common_apart() {
    let mut ward = Ward::new();
    let (both, other) = (member(&mut ward, resume("both"), 1), member(&mut ward, resume("other"), 1));
    ward.ask(both, subscribe("$share/own/t/#", 1));
    let (device, _) = ward.connect(connect("device"));
    send(&mut ward, device, 1, 1..=2);
    assert_eq!(payloads(&ward.publishes(both)), ["1", "1", "2"]);
    assert_eq!(payloads(&ward.publishes(other)), ["2"]);
    let mut ward = ward.restart();
    let (other, _) = ward.connect(resume("other"));
    assert_eq!(payloads(&ward.publishes(other)), ["2"]);
    let (both, _) = ward.connect(resume("both"));
    assert_eq!(ward.payloads(both), ["1", "1", "2"]);
}

#[test]
fn what_a_member_was_handed_keeps_its_quality_through_a_restart() {
    for (before, after) in [(1, 2), (2, 1), (1, 0)] {
        let mut ward = Ward::new();
        let reader = member(&mut ward, resume("reader"), before);
        let (device, _) = ward.connect(connect("device"));
        send(&mut ward, device, 2, 1..=1);
        ward.send(reader, subscribe(SHARED, after));
        let sent = ward.publishes(reader);
        let mut ward = ward.restart();
        let (reader, _) = ward.connect(resume("reader"));
        let again = ward.publishes(reader);
        assert_eq!(again, [Publish { dup: true, ..sent[0].clone() }], "{before} {after}");
        assert_eq!(again[0].qos as u8, before);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Lose(usize),
    Publish,
    /// The client takes at most so many publishes and acknowledges them.
    Take(usize, usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..MEMBERS).prop_map(Step::Connect),
        2 => (0..MEMBERS).prop_map(Step::Lose),
        8 => Just(Step::Publish),
        4 => (0..MEMBERS, 0..4usize).prop_map(|(member, count)| Step::Take(member, count)),
        1 => Just(Step::Restart),
    ]
}

const MEMBERS: usize = 3;

/// Members 0 and 1 have sessions that last, member 2 has not.
fn connect_as(number: usize) -> Connect {
    let name = format!("m{number}");
    narrow(if number == 2 { connect(&name) } else { resume(&name) }, 2)
}

struct Member {
    connection: Option<ConnectionId>,
    /// Heard, and not acknowledged on this connection.
    open: Vec<(u16, String)>,
}

struct Model {
    ward: Ward,
    members: Vec<Member>,
    /// How often each was acknowledged.
    acknowledged: BTreeMap<String, usize>,
}

impl Model {
    fn connect(&mut self, at: usize) -> ConnectionId {
        if let Some(connection) = self.members[at].connection {
            return connection;
        }
        let (connection, connack) = self.ward.connect(connect_as(at));
        if !connack.session_present {
            self.ward.send(connection, subscribe(SHARED, 1));
        }
        self.members[at].connection = Some(connection);
        connection
    }

    fn take(&mut self, at: usize, count: usize) -> usize {
        let connection = self.connect(at);
        let heard = self.ward.publishes(connection);
        let member = &mut self.members[at];
        member.open.extend(
            heard
                .iter()
                .map(|publish| (number(publish), payloads(std::slice::from_ref(publish))[0].to_owned())),
        );
        let taken: Vec<_> = member.open.drain(..count.min(member.open.len())).collect();
        for (number, payload) in &taken {
            *self.acknowledged.entry(payload.clone()).or_default() += 1;
            self.ward.send(connection, Packet::PubAck(ack(*number)));
        }
        taken.len()
    }
}

proptest! {
    #[test]
    fn every_publish_is_acknowledged_by_exactly_one_member(steps in prop::collection::vec(step(), 1..80)) {
        let members = (0..MEMBERS).map(|_| Member { connection: None, open: Vec::new() }).collect();
        // A head that most queues outgrow.
        let ward = Ward::with_limits(Limits { head_messages_max: 2, ..Limits::default() });
        let mut model = Model { ward, members, acknowledged: BTreeMap::new() };
        for at in 0..MEMBERS {
            model.connect(at);
        }
        let mut published = 0;
        for step in &steps {
            match *step {
                Step::Connect(at) => drop(model.connect(at)),
                Step::Lose(at) => {
                    model.members[at].open.clear();
                    if let Some(connection) = model.members[at].connection.take() {
                        model.ward.lose(connection);
                    }
                }
                Step::Publish => {
                    published += 1;
                    let (device, _) = model.ward.connect(connect("device"));
                    send(&mut model.ward, device, 1, published..=published);
                    model.ward.lose(device);
                }
                Step::Take(at, count) => drop(model.take(at, count)),
                Step::Restart => {
                    model.ward = model.ward.restart();
                    for member in &mut model.members {
                        (member.connection, member.open) = (None, Vec::new());
                    }
                }
            }
        }
        while (0..MEMBERS).map(|at| model.take(at, usize::MAX)).sum::<usize>() > 0 {}
        let expected: BTreeMap<String, usize> = (1..=published).map(|number| (number.to_string(), 1)).collect();
        prop_assert_eq!(model.acknowledged, expected);
    }
}
