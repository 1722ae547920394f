//! Sessions, QoS flows and lanes, one promise a test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::{sync::Arc, time::Duration};

use support::*;
use wardline_core::{ClientLimits, Denial, Event, Gate, Limits};
use wardline_journal::{DeliveryStep, Entry, Outcome, Record};
use wardline_wire::{
    Packet, Publish, PublishProperties, QoS, ReasonCode, RetainHandling, SubscribeOptions, Unsubscribe,
    Version, Will,
};

#[test]
fn a_puback_waits_for_the_disk_and_the_subscriber_does_not() {
    let mut ward = Ward::new();
    let (device, _) = ward.connect(connect("device"));
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("t/#", 1));
    ward.sync = false;

    assert_eq!(ward.ask(device, Packet::Publish(publish("t/1", "97", 1, 7))), []);
    assert_eq!(ward.publishes(pager).len(), 1);
    ward.sync();
    assert_eq!(ward.hear(device).0, [Packet::PubAck(ack(7))]);
}

#[test]
fn a_suback_comes_before_what_it_subscribes_to_and_after_the_disk() {
    let mut ward = Ward::new();
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(Publish { retain: true, ..publish("t", "kept", 0, 0) }));
    let (pager, _) = ward.connect(connect("pager"));
    ward.sync = false;
    ward.send(pager, subscribe("t", 0));
    assert_eq!(ward.hear(pager).0, []);
    ward.sync();
    let heard = ward.hear(pager).0;
    assert!(matches!(&heard[..], [Packet::SubAck(_), Packet::Publish(p)] if p.retain), "{heard:?}");
}

#[test]
fn a_clean_start_is_answered_once_no_crash_can_bring_the_old_session_back() {
    let mut ward = Ward::new();
    let (device, _) = ward.connect(resume("device"));
    ward.ask(device, Packet::Publish(publish("t", "before", 2, 1)));
    let kept = ward.broker.log().entries.len();
    ward.sync = false;
    let again = ward.connect_unheard(connect("device"));
    assert_eq!(ward.hear(again).0, []);
    // The old session still holds identifier 1: under it the client would not be heard.
    let mut crashed = ward.crash(kept);
    assert!(crashed.connect(resume("device")).1.session_present);
    ward.sync();
    let heard = ward.hear(again).0;
    assert!(matches!(&heard[..], [Packet::ConnAck(connack)] if !connack.session_present), "{heard:?}");
}

#[test]
fn exactly_once_survives_a_repeat_at_every_point_of_the_handshake() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("t", 2));
    let (mut device, _) = ward.connect(resume("device"));
    let sent = publish("t", "once", 2, 3);
    for round in 0..3 {
        let dup = Publish { dup: round > 0, ..sent.clone() };
        assert_eq!(ward.ask(device, Packet::Publish(dup)), [Packet::PubRec(ack(3))]);
        ward.lose(device);
        device = ward.connect(resume("device")).0;
    }
    for _ in 0..2 {
        let answer = ward.ask(device, Packet::PubRel(ack(3)));
        assert!(matches!(&answer[..], [Packet::PubComp(_)]), "{answer:?}");
    }
    assert_eq!(ward.payloads(pager), ["once"]);
    // The identifier is free: the next publish with it is another one.
    assert_eq!(ward.ask(device, Packet::Publish(publish("t", "twice", 2, 3))), [Packet::PubRec(ack(3))]);
    assert_eq!(ward.payloads(pager), ["twice"]);
}

#[test]
fn what_was_not_acknowledged_is_repeated_with_dup_and_in_order() {
    let mut ward = Ward::new();
    let (pager, device) = ward.pager_and_device("t", 2);
    for number in 1..=3 {
        ward.ask(device, Packet::Publish(publish("t", &number.to_string(), 1, number)));
    }
    ward.ask(device, Packet::Publish(publish("t", "4", 2, 4)));
    let first = ward.publishes(pager);
    ward.send(pager, Packet::PubAck(ack(first[0].packet_id.unwrap().0.get())));
    ward.send(pager, Packet::PubRec(ack(first[3].packet_id.unwrap().0.get())));
    ward.lose(pager);

    let (pager, connack) = ward.connect(resume("pager"));
    assert!(connack.session_present);
    let (again, _) = ward.hear(pager);
    let [Packet::Publish(second), Packet::Publish(third), Packet::PubRel(release)] = &again[..] else {
        panic!("{again:?}");
    };
    assert!(second.dup && third.dup);
    assert_eq!((second.packet_id, third.packet_id), (first[1].packet_id, first[2].packet_id));
    assert_eq!(Some(release.packet_id), first[3].packet_id);
}

#[test]
fn a_clean_start_forgets_and_says_so() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(resume("pager"));
    ward.ask(pager, subscribe("t", 1));
    ward.lose(pager);
    let (pager, connack) = ward.connect(connect("pager"));
    assert!(!connack.session_present);
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(publish("t", "x", 1, 1)));
    assert!(ward.publishes(pager).is_empty());
}

#[test]
fn an_offline_session_is_owed_qos_1_and_not_qos_0() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(resume("pager"));
    ward.ask(pager, subscribe("t", 1));
    ward.lose(pager);
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(publish("t", "lost", 0, 0)));
    ward.ask(device, Packet::Publish(publish("t", "kept", 1, 1)));
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager), ["kept"]);
}

#[test]
fn a_session_expires_when_it_said() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(resume("pager"));
    ward.lose(pager);
    ward.pass(Duration::from_secs(3_599));
    assert_eq!(ward.broker.counters().sessions, 1);
    ward.pass(Duration::from_secs(1));
    assert_eq!(ward.broker.counters().sessions, 0);
}

#[test]
fn a_session_that_comes_and_goes_expires_an_hour_after_it_went_last() {
    let mut ward = Ward::new();
    for _ in 0..100 {
        let (pager, _) = ward.connect(resume("pager"));
        ward.lose(pager);
        ward.pass(Duration::from_secs(60));
    }
    ward.pass(Duration::from_secs(3_539));
    assert_eq!(ward.broker.counters().sessions, 1);
    ward.pass(Duration::from_secs(1));
    assert_eq!(ward.broker.counters().sessions, 0);
    assert_eq!(ward.broker.next_deadline(), None, "no timer is left behind");
}

#[test]
fn a_take_over_tells_the_old_connection_and_keeps_the_session() {
    let mut ward = Ward::new();
    let (old, _) = ward.connect(resume("pager"));
    ward.ask(old, subscribe("t", 1));
    let (new, connack) = ward.connect(resume("pager"));
    assert!(connack.session_present);
    let (heard, closed) = ward.hear(old);
    assert!(closed);
    assert!(
        matches!(&heard[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::SessionTakenOver),
        "{heard:?}"
    );
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(publish("t", "x", 1, 1)));
    assert_eq!(ward.payloads(new), ["x"]);
}

#[test]
fn nobody_takes_over_the_session_of_another_principal() {
    let mut ward = Ward::new();
    let mut open = wardline_core::Open;
    let (owner, _) = ward.connect_as(resume("pager"), "staff:n.ito", &mut open).unwrap();
    let refusal = ward.connect_as(resume("pager"), "staff:m.ali", &mut open).unwrap_err();
    assert_eq!(refusal.reason, ReasonCode::ClientIdentifierNotValid);
    assert_eq!(ward.hear(owner), (vec![], false));
}

#[test]
fn a_silent_client_is_let_go_after_one_and_a_half_keep_alives_and_its_will_is_published() {
    let mut ward = Ward::new();
    let (watcher, _) = ward.connect(connect("watcher"));
    ward.ask(watcher, subscribe("gone/#", 1));
    let mut with_will = connect("device");
    with_will.keep_alive = 10;
    with_will.will = Some(Will {
        topic: "gone/device".into(),
        payload: "bye".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay: None,
        properties: PublishProperties::default(),
    });
    let (device, _) = ward.connect(with_will);
    ward.pass(Duration::from_secs(9));
    ward.ask(device, Packet::PingReq);
    ward.pass(Duration::from_secs(14));
    assert_eq!(ward.payloads(watcher), [""; 0]);
    ward.pass(Duration::from_secs(1));
    let (heard, closed) = ward.hear(device);
    assert!(
        closed && matches!(&heard[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::KeepAliveTimeout)
    );
    assert_eq!(ward.payloads(watcher), ["bye"]);
}

#[test]
fn a_disconnect_takes_the_will_back_and_a_return_cancels_a_delayed_one() {
    let mut ward = Ward::new();
    let (watcher, _) = ward.connect(connect("watcher"));
    ward.ask(watcher, subscribe("gone", 0));
    let with_will = || {
        let mut connect = resume("device");
        connect.will = Some(Will {
            topic: "gone".into(),
            payload: "bye".into(),
            qos: QoS::AtMostOnce,
            retain: false,
            delay: Some(30),
            properties: PublishProperties::default(),
        });
        connect
    };
    let (device, _) = ward.connect(with_will());
    ward.send(device, disconnect());
    ward.pass(Duration::from_secs(60));
    assert_eq!(ward.payloads(watcher), [""; 0]);

    let (device, _) = ward.connect(with_will());
    ward.lose(device);
    ward.pass(Duration::from_secs(29));
    let (device, _) = ward.connect(with_will());
    ward.pass(Duration::from_secs(60));
    assert_eq!(ward.payloads(watcher), [""; 0]);
    ward.lose(device);
    ward.pass(Duration::from_secs(30));
    assert_eq!(ward.payloads(watcher), ["bye"]);
}

#[test]
fn one_copy_for_overlapping_subscriptions_with_the_best_qos_and_all_identifiers() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(connect("pager"));
    for (filter, qos, id) in
        [("a/#", QoS::AtMostOnce, 1), ("a/+", QoS::AtLeastOnce, 2), ("a/b", QoS::ExactlyOnce, 3)]
    {
        ward.ask(pager, subscribe_with(filter, SubscribeOptions { qos, ..Default::default() }, Some(id)));
    }
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(publish("a/b", "x", 1, 1)));
    let mut heard = ward.publishes(pager);
    assert_eq!(heard.len(), 1);
    heard[0].properties.subscription_ids.sort_unstable();
    assert_eq!(heard[0].properties.subscription_ids, [1, 2, 3]);
    assert_eq!(heard[0].qos, QoS::AtLeastOnce);
}

#[test]
fn no_local_retain_as_published_and_retain_handling_are_kept() {
    let mut ward = Ward::new();
    let (client, _) = ward.connect(connect("client"));
    let (other, _) = ward.connect(connect("other"));
    ward.ask(other, Packet::Publish(Publish { retain: true, ..publish("t", "kept", 0, 0) }));
    let options = SubscribeOptions {
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
        ..Default::default()
    };
    ward.send(client, subscribe_with("t", options, None));
    assert_eq!(ward.payloads(client), ["kept"]);
    ward.send(client, subscribe_with("t", options, None));
    assert_eq!(ward.payloads(client), [""; 0]);
    ward.send(client, Packet::Publish(publish("t", "mine", 0, 0)));
    ward.send(other, Packet::Publish(Publish { retain: true, ..publish("t", "theirs", 0, 0) }));
    let heard = ward.publishes(client);
    assert_eq!(heard.len(), 1);
    assert!(heard[0].retain);
}

#[test]
fn an_empty_retained_publish_clears() {
    let mut ward = Ward::new();
    let (client, _) = ward.connect(connect("client"));
    for payload in ["kept", ""] {
        ward.ask(client, Packet::Publish(Publish { retain: true, ..publish("t", payload, 0, 0) }));
    }
    ward.send(client, subscribe("#", 0));
    assert_eq!(ward.payloads(client), [""; 0]);
}

#[test]
fn an_alert_passes_telemetry_that_waits_and_finds_room_in_a_full_window() {
    let mut ward = Ward::new();
    let mut slow = connect("pager");
    slow.properties.receive_maximum = std::num::NonZeroU16::new(8);
    let (pager, _) = ward.connect(slow);
    ward.ask(pager, subscribe("#", 1));
    let (device, _) = ward.connect(connect("device"));
    for number in 1..=100 {
        ward.ask(device, Packet::Publish(publish("telemetry/u/b/d/hr", &number.to_string(), 1, number)));
    }
    let first = ward.publishes(pager);
    assert_eq!(first.len(), 6, "a quarter of the window is kept for alerts");
    ward.ask(device, Packet::Publish(publish("alerts/u/nurse/high/b/hr-low", "alert", 1, 101)));
    let next = ward.publishes(pager);
    assert_eq!(next.len(), 1);
    assert_eq!(&next[0].payload[..], b"alert");
}

#[test]
fn a_client_that_is_sent_no_alerts_has_its_whole_window_for_telemetry() {
    let mut ward = Ward::new();
    let mut slow = connect("display");
    slow.properties.receive_maximum = std::num::NonZeroU16::new(8);
    let (display, _) = ward.connect(slow);
    ward.ask(display, subscribe("alerts/#", 1));
    ward.ask(display, subscribe("telemetry/#", 1));
    let no_alerts = Unsubscribe { packet_id: id(3), filters: vec!["alerts/#".into()], user: Vec::new() };
    ward.ask(display, Packet::Unsubscribe(no_alerts));
    let (device, _) = ward.connect(connect("device"));
    for number in 1..=100 {
        ward.ask(device, Packet::Publish(publish("telemetry/u/b/d/hr", &number.to_string(), 1, number)));
    }
    assert_eq!(ward.publishes(display).len(), 8);
}

#[test]
fn a_slow_reader_costs_it_its_oldest_telemetry_and_no_alert() {
    let mut ward = Ward::with_limits(Limits { queued_qos0_max: 10, ..Limits::default() });
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("#", 1));
    let (device, _) = ward.connect(connect("device"));
    for number in 0..50 {
        ward.send(device, Packet::Publish(publish("telemetry/u/b/d/hr", &format!("t{number}"), 0, 0)));
        ward.send(device, Packet::Publish(publish("alerts/u/nurse/high/b/c", &format!("a{number}"), 0, 0)));
    }
    let heard = ward.payloads(pager);
    let (alerts, telemetry): (Vec<_>, Vec<_>) = heard.iter().partition(|payload| payload.starts_with('a'));
    assert_eq!(alerts.len(), 50);
    assert_eq!(telemetry, (40..50).map(|n| format!("t{n}")).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    assert_eq!(ward.broker.counters().shed, 40);
}

#[test]
fn a_message_is_not_delivered_after_its_expiry_and_carries_what_is_left_of_it() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(resume("pager"));
    ward.ask(pager, subscribe("t", 1));
    ward.lose(pager);
    let (device, _) = ward.connect(connect("device"));
    for (number, expiry) in [(1, 10), (2, 100)] {
        let mut publish = publish("t", &expiry.to_string(), 1, number);
        publish.properties.message_expiry = Some(expiry);
        ward.ask(device, Packet::Publish(publish));
    }
    ward.pass(Duration::from_secs(30));
    let (pager, _) = ward.connect(resume("pager"));
    let heard = ward.publishes(pager);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].properties.message_expiry, Some(70));
}

#[test]
fn a_packet_too_large_for_one_subscriber_is_dropped_for_it_alone() {
    let mut ward = Ward::new();
    let mut small = connect("small");
    small.properties.maximum_packet_size = Some(64);
    let (small, _) = ward.connect(small);
    let (large, _) = ward.connect(connect("large"));
    ward.ask(small, subscribe("t", 1));
    ward.ask(large, subscribe("t", 1));
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(publish("t", &"x".repeat(100), 1, 1)));
    ward.ask(device, Packet::Publish(publish("t", "short", 1, 2)));
    assert_eq!(ward.payloads(small), ["short"]);
    assert_eq!(ward.payloads(large).len(), 2);
    assert_eq!(ward.broker.counters().too_large, 1);
}

#[test]
fn each_publish_to_a_shared_subscription_goes_to_one_connected_member() {
    let mut ward = Ward::new();
    let members: Vec<_> = (0..3).map(|n| ward.connect(resume(&format!("m{n}"))).0).collect();
    for &member in &members {
        ward.ask(member, subscribe("$share/g/t", 1));
    }
    ward.lose(members[1]);
    let (device, _) = ward.connect(connect("device"));
    for number in 1..=10 {
        ward.ask(device, Packet::Publish(publish("t", &number.to_string(), 1, number)));
    }
    let (first, last) = (ward.payloads(members[0]), ward.payloads(members[2]));
    assert_eq!(first.len() + last.len(), 10);
    assert_eq!(first.len(), 5);
}

#[test]
fn receive_maximum_and_undefined_alias_end_the_connection_with_their_reason() {
    let limits = || ClientLimits { receive_max: 2, topic_alias_max: 1, ..ClientLimits::default() };
    let mut ward = Ward::with_client_limits(limits());
    ward.sync = false;
    let (device, _) = ward.connect(connect("device"));
    for number in 1..=3 {
        ward.send(device, Packet::Publish(publish("t", "x", 1, number)));
    }
    let (heard, closed) = ward.hear(device);
    assert!(
        closed
            && matches!(&heard[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::ReceiveMaximumExceeded)
    );

    for (alias, topic, reason) in
        [(1, "", ReasonCode::ProtocolError), (2, "t", ReasonCode::TopicAliasInvalid)]
    {
        let mut ward = Ward::with_client_limits(limits());
        let (device, _) = ward.connect(connect("device"));
        let mut publish = publish(topic, "x", 0, 0);
        publish.properties.topic_alias = std::num::NonZeroU16::new(alias);
        let heard = ward.ask(device, Packet::Publish(publish));
        assert!(matches!(&heard[..], [Packet::Disconnect(d)] if d.reason == reason), "{alias}");
    }
}

#[test]
fn an_alias_stands_for_the_topic_it_was_given_last() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("x/+", 0));
    let (device, _) = ward.connect(connect("device"));
    for (topic, payload) in [("x/1", "a"), ("", "b"), ("x/2", "c"), ("", "d")] {
        let mut publish = publish(topic, payload, 0, 0);
        publish.properties.topic_alias = std::num::NonZeroU16::new(1);
        ward.send(device, Packet::Publish(publish));
    }
    let heard: Vec<String> = ward.publishes(pager).iter().map(|publish| publish.topic.to_string()).collect();
    assert_eq!(heard, ["x/1", "x/1", "x/2", "x/2"]);
}

/// Grants `ok/#` only.
struct OnlyOk;

impl Gate for OnlyOk {
    fn publish(&mut self, _: &Arc<str>, publish: &Publish) -> Result<(), Denial> {
        self.subscribe(&Arc::from(""), &publish.topic)
    }

    fn subscribe(&mut self, _: &Arc<str>, filter: &str) -> Result<(), Denial> {
        if filter.starts_with("ok/") {
            return Ok(());
        }
        Err(Denial { reason: ReasonCode::NotAuthorized, text: "only ok".into() })
    }
}

#[test]
fn what_is_refused_is_recorded_reaches_nobody_and_is_answered_as_the_version_can() {
    for version in [Version::V5, Version::V311] {
        let mut ward = Ward::new();
        let (watcher, _) = ward.connect(connect("watcher"));
        ward.ask(watcher, subscribe("#", 1));
        let (device, _) = ward.connect(Connect { version, ..connect("device") });
        ward.send_through(device, subscribe("bad/#", 1), &mut OnlyOk);
        let (heard, _) = ward.hear(device);
        let refused =
            if version == Version::V5 { ReasonCode::NotAuthorized } else { ReasonCode::UnspecifiedError };
        assert!(matches!(&heard[..], [Packet::SubAck(s)] if s.reasons == [refused]), "{heard:?}");

        ward.send_through(device, Packet::Publish(publish("bad/1", "x", 1, 5)), &mut OnlyOk);
        let (heard, closed) = ward.hear(device);
        if version == Version::V5 {
            assert!(
                matches!(&heard[..], [Packet::PubAck(a)] if a.reason == ReasonCode::NotAuthorized),
                "{heard:?}"
            );
        } else {
            assert!(closed && heard.is_empty());
        }
        assert!(ward.publishes(watcher).is_empty());
        let mut denied = 0;
        ward.broker.log().clone().for_each(|entry| {
            if let Entry::Record(_, Record::Publish(publish)) = entry
                && publish.outcome == Outcome::Denied
            {
                assert_eq!((publish.topic, publish.reason, publish.payload), ("bad/1", "only ok", &b"x"[..]));
                denied += 1;
            }
        });
        assert_eq!(denied, 1);
    }
}

#[test]
fn a_withdrawn_grant_ends_the_subscription_when_the_session_returns() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(resume("pager"));
    ward.ask(pager, subscribe("bad/t", 1));
    ward.lose(pager);
    let (pager, _) = ward.connect_as(resume("pager"), "service:lab", &mut OnlyOk).unwrap();
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(publish("bad/t", "x", 1, 1)));
    assert!(ward.publishes(pager).is_empty());
}

#[test]
fn what_a_denial_withholds_is_not_sent_whatever_was_subscribed() {
    let mut ward = Ward::new();
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(Publish { retain: true, ..publish("withheld/kept", "x", 1, 1) }));
    let (pager, _) = ward.connect(connect("pager"));
    ward.send(pager, subscribe("#", 2));
    ward.ask(device, Packet::Publish(publish("withheld/1", "x", 2, 2)));
    ward.ask(device, Packet::Publish(publish("open/1", "y", 2, 3)));
    assert_eq!(ward.payloads(pager), ["y"]);
    assert_eq!(ward.broker.counters().withheld, 2);
    assert_eq!(ward.broker.owed(pager), 0);
}

fn alert(number: &str) -> Publish {
    let mut publish = publish("alerts/u/nurse/high/b/hr-low", number, 1, 0);
    publish.packet_id = None;
    publish.properties.correlation_data = Some(bytes::Bytes::copy_from_slice(number.as_bytes()));
    publish
}

fn receipts(ward: &mut Ward) -> Vec<(DeliveryStep, String, String)> {
    let mut events = Vec::new();
    ward.broker.take_events(&mut events);
    events
        .into_iter()
        .filter_map(|event| match event {
            Event::Receipt { alert, step, principal, .. } => {
                Some((step, alert.to_string(), principal.to_string()))
            }
            Event::Published(_) => None,
        })
        .collect()
}

#[test]
fn an_alert_that_nobody_takes_is_known_at_once() {
    let mut ward = Ward::new();
    ward.broker.publish(Arc::from("plugin:escalation"), &alert("n1-1"), ward.now);
    assert_eq!(receipts(&mut ward), [(DeliveryStep::Unreachable, "n1-1".into(), String::new())]);
}

#[test]
fn an_alert_is_sent_then_confirmed_and_a_lost_pager_is_known_at_once() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect_as(resume("pager"), "staff:n.ito", &mut wardline_core::Open).unwrap();
    ward.ask(pager, subscribe("alerts/#", 1));
    ward.broker.publish(Arc::from("plugin:escalation"), &alert("n1-1"), ward.now);
    let staff = || "staff:n.ito".to_string();
    assert_eq!(receipts(&mut ward), [(DeliveryStep::Sent, "n1-1".into(), staff())]);
    assert_eq!(ward.payloads(pager), ["n1-1"]);
    assert_eq!(receipts(&mut ward), [(DeliveryStep::Confirmed, "n1-1".into(), staff())]);

    ward.broker.publish(Arc::from("plugin:escalation"), &alert("n1-2"), ward.now);
    ward.hear(pager);
    ward.lose(pager);
    let expected = [
        (DeliveryStep::Sent, "n1-2".into(), staff()),
        (DeliveryStep::Unreachable, "n1-2".into(), String::new()),
    ];
    assert_eq!(receipts(&mut ward), expected);
}

#[test]
fn a_restart_remembers_sessions_retained_messages_and_what_is_owed() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(resume("pager"));
    ward.ask(pager, subscribe("t/#", 2));
    let (device, _) = ward.connect(resume("device"));
    ward.ask(device, Packet::Publish(Publish { retain: true, ..publish("t/1", "kept", 1, 1) }));
    assert_eq!(ward.payloads(pager), ["kept"]);
    ward.lose(pager);
    ward.ask(device, Packet::Publish(publish("t/2", "owed", 1, 2)));
    ward.ask(device, Packet::Publish(publish("t/3", "open", 2, 3)));

    let mut ward = ward.restart();
    assert_eq!(ward.broker.counters().retained, 1);
    let (pager, connack) = ward.connect(resume("pager"));
    assert!(connack.session_present);
    assert_eq!(ward.payloads(pager), ["owed", "open"]);
    let (device, _) = ward.connect(resume("device"));
    let repeat = Publish { dup: true, ..publish("t/3", "open", 2, 3) };
    assert_eq!(ward.ask(device, Packet::Publish(repeat)), [Packet::PubRec(ack(3))]);
    ward.ask(device, Packet::PubRel(ack(3)));
    assert_eq!(ward.payloads(pager), [""; 0]);

    // And once more: the confirmations are part of the record.
    let mut ward = ward.restart();
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager), [""; 0]);
}

#[test]
fn a_clean_session_is_gone_after_a_restart() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("t", 1));
    let ward = ward.restart();
    assert_eq!(ward.broker.counters().sessions, 0);
    assert_eq!(ward.broker.counters().subscriptions, 0);
}
