//! How connections end, and what their wills have to do with it; and what a CONNACK tells.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use support::*;
use wardline_core::{Denial, Gate, Limits};
use wardline_journal::{Entry, Outcome, Record};
use wardline_wire::{
    Disconnect, Packet, Publish, PublishProperties, QoS, ReasonCode, SubscribeOptions, Will,
};

fn with_will(mut connect: Connect) -> Connect {
    connect.will = Some(Will {
        topic: "wills/device".into(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtMostOnce,
        retain: false,
        delay: None,
        properties: PublishProperties::default(),
    });
    connect
}

fn leave(reason: ReasonCode, session_expiry: Option<u32>) -> Packet {
    Packet::Disconnect(Disconnect {
        reason,
        session_expiry,
        reason_string: None,
        user: Vec::new(),
        server_reference: None,
    })
}

#[test]
fn only_a_normal_disconnect_takes_the_will_back() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("wills/#", 0));
    for (reason, published) in [
        (ReasonCode::Success, false), // [MQTT-3.14.4-3]
        (ReasonCode::DisconnectWithWill, true),
        (ReasonCode::UnspecifiedError, true),
        (ReasonCode::MessageRateTooHigh, true),
    ] {
        let (device, _) = ward.connect(with_will(connect("device")));
        ward.send(device, leave(reason, None));
        assert_eq!(ward.payloads(pager).len(), usize::from(published), "{reason:?}");
    }
}

#[test]
fn a_will_is_local_to_its_client_before_and_after_a_restart() {
    let mut ward = Ward::new();
    let mut connect = with_will(resume("device"));
    connect.will.as_mut().unwrap().qos = QoS::AtLeastOnce;
    let (device, _) = ward.connect(connect);
    for (filter, no_local) in [("wills/+", false), ("wills/device", true)] {
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, no_local, ..SubscribeOptions::default() };
        ward.ask(device, subscribe_with(filter, options, Some(1 + u32::from(no_local))));
    }
    ward.lose(device);
    for mut ward in [ward.restart(), ward] {
        let (device, _) = ward.connect(resume("device"));
        let wills = ward.publishes(device);
        // [MQTT-3.8.3-3]: not by the subscription that asked for nothing of its own.
        assert_eq!(wills.iter().map(|will| &will.properties.subscription_ids[..]).collect::<Vec<_>>(), [[1]]);
    }
}

#[test]
fn a_client_that_comes_and_goes_leaves_one_timer_for_its_will_behind() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("wills/#", 0));
    for _ in 0..100 {
        let mut connect = with_will(resume("device"));
        connect.will.as_mut().unwrap().delay = Some(3_000);
        let (device, _) = ward.connect(connect);
        ward.lose(device);
        ward.pass(Duration::from_secs(1));
    }
    let gone = ward.now - Duration::from_secs(1);
    let mut deadlines = Vec::new();
    while let Some(deadline) = ward.broker.next_deadline() {
        ward.now = deadline;
        ward.broker.tick(deadline);
        let will = !ward.payloads(pager).is_empty();
        deadlines.push((deadline.duration_since(gone).as_secs(), will));
    }
    // Each of the two, will and expiry, is looked at when the first of the hundred would have been due.
    assert_eq!(deadlines, [(2_901, false), (3_000, true), (3_501, false), (3_600, false)]);
}

#[test]
fn the_timers_of_connections_that_are_gone_are_gone_within_a_minute() {
    let mut ward = Ward::new();
    for _ in 0..100 {
        let mut connect = connect("device");
        connect.keep_alive = u16::MAX;
        let (device, _) = ward.connect(connect);
        ward.lose(device);
    }
    ward.pass(Duration::from_secs(60));
    assert_eq!(ward.broker.next_deadline(), None);
}

#[test]
fn a_will_has_all_that_its_sender_gave_it() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("wills/#", 2));
    let mut connect = with_will(connect("device"));
    let will = connect.will.as_mut().unwrap();
    let properties = PublishProperties {
        payload_format: Some(1),
        message_expiry: Some(60),
        response_topic: Some("answers".into()),
        correlation_data: Some(Bytes::from_static(b"\0\xff")),
        user: vec![("b".into(), "1".into()), ("a".into(), "2".into()), ("b".into(), "1".into())],
        content_type: Some("text/plain".into()),
        ..PublishProperties::default()
    };
    (will.properties, will.qos) = (properties.clone(), QoS::ExactlyOnce);
    let (device, _) = ward.connect(connect);
    ward.lose(device);
    let heard = ward.publishes(pager);
    assert_eq!((heard[0].qos, &*heard[0].properties), (QoS::ExactlyOnce, &properties));
}

#[test]
fn a_session_that_was_to_end_with_its_connection_cannot_be_kept_after_all() {
    let mut ward = Ward::new();
    let (short, _) = ward.connect(connect("short"));
    ward.send(short, leave(ReasonCode::Success, Some(60)));
    let (packets, closed) = ward.hear(short);
    assert!(closed);
    assert!(matches!(&packets[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::ProtocolError));
    ward.lose(short);

    let (long, _) = ward.connect(resume("long"));
    ward.send(long, leave(ReasonCode::Success, Some(7_200)));
    ward.lose(long);
    ward.pass(Duration::from_secs(3_601));
    assert!(ward.connect(resume("long")).1.session_present);
}

/// Nothing is allowed any more.
struct Shut;

impl Gate for Shut {
    fn publish(&mut self, _client: &Arc<str>, _publish: &Publish) -> Result<(), Denial> {
        Err(Denial { reason: ReasonCode::NotAuthorized, text: "shut".to_owned() })
    }

    fn subscribe(&mut self, _client: &Arc<str>, _filter: &str) -> Result<(), Denial> {
        Ok(())
    }
}

#[test]
fn a_will_that_is_not_allowed_any_more_is_not_published_and_that_is_recorded() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(connect("pager"));
    ward.ask(pager, subscribe("wills/#", 0));
    let (device, _) = ward.connect(with_will(connect("device")));
    ward.broker.regrant(device, Arc::from([]), &mut Shut, ward.now);
    ward.lose(device);
    assert_eq!(ward.payloads(pager), [""; 0]);
    let mut denied = Vec::new();
    ward.broker.log().for_each(|entry| {
        if let Entry::Record(_, Record::Publish(publish)) = entry
            && publish.outcome == Outcome::Denied
        {
            denied.push((publish.topic.to_owned(), publish.reason.to_owned()));
        }
    });
    assert_eq!(denied, [("wills/device".to_owned(), "will: shut".to_owned())]);
}

#[test]
fn response_information_is_for_those_who_ask_where_there_is_some() {
    for configured in [None, Some("answers/")] {
        let response_information = configured.map(String::from);
        let mut ward = Ward::with_limits(Limits { response_information, ..Limits::default() });
        for asked in [None, Some(false), Some(true)] {
            let mut connect = connect("asker");
            connect.properties.request_response_information = asked;
            let told = ward.connect(connect).1.properties.response_information;
            // [MQTT-3.1.2-28]
            assert_eq!(told.as_deref(), configured.filter(|_| asked == Some(true)));
        }
    }
}
