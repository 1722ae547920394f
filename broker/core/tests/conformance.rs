//! Statements of MQTT 5.0 about time, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::time::Duration;

use support::*;
use wardline_core::{ClientLimits, ConnectionId};
use wardline_wire::{Ack, Packet, Publish, PublishProperties, QoS, ReasonCode, Will};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn with_will(mut connect: Connect, delay: Option<u32>) -> Connect {
    connect.will = Some(Will {
        topic: "gone".into(),
        payload: "bye".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay,
        properties: PublishProperties::default(),
    });
    connect
}

/// Somebody who hears of wills.
fn watcher(ward: &mut Ward) -> ConnectionId {
    let (watcher, _) = ward.connect(connect("watcher"));
    ward.ask(watcher, subscribe("gone", 1));
    watcher
}

/// Publishes with a message expiry, in seconds.
fn perishable(ward: &mut Ward, device: ConnectionId, payload: &str, qos: u8, packet_id: u16, seconds: u32) {
    let mut publish = publish("t", payload, qos, packet_id);
    publish.properties.message_expiry = Some(seconds);
    ward.ask(device, Packet::Publish(publish));
}

/// The will comes when its delay has passed or the session ends, whichever is first: [MQTT-3.1.2-8].
#[test]
fn a_will_waits_for_its_delay_or_the_end_of_its_session() {
    for (expiry, delay, seconds) in [
        (Some(3_600), None, 0),
        (Some(3_600), Some(0), 0),
        (Some(3_600), Some(30), 30),
        (Some(20), Some(30), 20),
        (None, Some(30), 0),
    ] {
        let mut ward = Ward::new();
        let watcher = watcher(&mut ward);
        let mut connect = with_will(resume("device"), delay);
        connect.properties.session_expiry = expiry;
        let (device, _) = ward.connect(connect);
        ward.lose(device);
        if seconds > 0 {
            ward.pass(SECOND * (seconds - 1));
            assert_eq!(ward.payloads(watcher), [""; 0], "{expiry:?} {delay:?}");
            ward.pass(SECOND);
        }
        assert_eq!(ward.payloads(watcher), ["bye"], "{expiry:?} {delay:?}");
        ward.pass(HOUR * 2);
        // Once: [MQTT-3.1.2-10].
        assert_eq!(ward.payloads(watcher), [""; 0], "{expiry:?} {delay:?}");
    }
}

/// A connection made before the delay has passed keeps the will from being sent: [MQTT-3.1.3-9]. A clean start ends the
/// session, and its will is due: [MQTT-3.1.2-8].
#[test]
fn a_return_in_time_cancels_a_delayed_will_and_a_clean_start_does_not() {
    for (clean_start, expected) in [(false, vec![]), (true, vec!["bye".to_owned()])] {
        for taken_over in [false, true] {
            let mut ward = Ward::new();
            let watcher = watcher(&mut ward);
            let (device, _) = ward.connect(with_will(resume("device"), Some(30)));
            if !taken_over {
                ward.lose(device);
                ward.pass(SECOND * 29);
            }
            ward.connect(Connect { clean_start, ..resume("device") });
            ward.pass(HOUR);
            assert_eq!(
                ward.payloads(watcher),
                expected,
                "clean start {clean_start}, taken over {taken_over}"
            );
        }
    }
}

/// The will of a connection that is taken over is published, since the connection is closed: [MQTT-3.1.4-3].
#[test]
fn a_take_over_publishes_a_will_without_delay() {
    let mut ward = Ward::new();
    let watcher = watcher(&mut ward);
    let (old, _) = ward.connect(with_will(resume("device"), None));
    ward.connect(resume("device"));
    let (heard, closed) = ward.hear(old);
    assert!(
        closed && matches!(&heard[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::SessionTakenOver)
    );
    assert_eq!(ward.payloads(watcher), ["bye"]);
}

/// The session stays while its connection is open, however long: [MQTT-4.1.0-1]; it is kept for its expiry after that:
/// [MQTT-3.1.2-23], and no longer: [MQTT-4.1.0-2].
#[test]
fn a_session_lasts_as_long_as_its_connection_and_its_expiry() {
    let mut ward = Ward::new();
    let mut connect = resume("pager");
    connect.properties.session_expiry = Some(10);
    let (pager, _) = ward.connect(connect.clone());
    ward.ask(pager, subscribe("t", 1));
    ward.pass(HOUR * 1_000);
    ward.lose(pager);
    ward.pass(SECOND * 9);
    let (pager, connack) = ward.connect(connect.clone());
    assert!(connack.session_present);
    let (device, _) = ward.connect(support::connect("device"));
    ward.ask(device, Packet::Publish(publish("t", "still subscribed", 1, 1)));
    assert_eq!(ward.payloads(pager), ["still subscribed"]);
    ward.lose(pager);
    ward.pass(SECOND * 10);
    assert!(!ward.connect(connect).1.session_present);
}

/// One and a half times the keep alive of silence, to the millisecond: [MQTT-3.1.2-22]; any packet ends the silence,
/// PINGREQ where there is no other: [MQTT-3.1.2-20]. The broker's own value takes the place of the client's:
/// [MQTT-3.1.2-21] [MQTT-3.2.2-21]; without one the client's counts: [MQTT-3.2.2-22].
#[test]
fn silence_is_borne_for_one_and_a_half_keep_alives() {
    for (asked, most, enforced) in
        [(10, 0, 10), (10, 60, 10), (600, 60, 60), (0, 60, 60), (u16::MAX, 0, u16::MAX)]
    {
        let mut ward =
            Ward::with_client_limits(ClientLimits { max_keep_alive: most, ..ClientLimits::default() });
        let (device, connack) = ward.connect(Connect { keep_alive: asked, ..connect("device") });
        assert_eq!(connack.properties.server_keep_alive, (asked != enforced).then_some(enforced));
        let grace = Duration::from_millis(u64::from(enforced) * 1_500);
        for packet in [Packet::PingReq, Packet::Publish(publish("t", "x", 0, 0)), Packet::PubAck(ack(9))] {
            ward.pass(grace - Duration::from_millis(1));
            ward.send(device, packet);
            assert!(!ward.hear(device).1);
        }
        ward.pass(grace);
        let (heard, closed) = ward.hear(device);
        assert!(closed, "{asked} of {most}");
        assert!(matches!(&heard[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::KeepAliveTimeout));
    }
}

/// What has expired before it was sent is not sent: [MQTT-3.3.2-5]; what has not tells how long it has left: [MQTT-3.3.2-6].
#[test]
fn a_message_expires_while_it_waits() {
    for qos in 0..=2 {
        let mut ward = Ward::new();
        let mut slow = resume("pager");
        slow.properties.receive_maximum = std::num::NonZeroU16::new(1);
        let (pager, _) = ward.connect(slow.clone());
        ward.ask(pager, subscribe("t", 2));
        let (device, _) = ward.connect(connect("device"));
        if qos > 0 {
            ward.lose(pager);
        }
        for (packet_id, seconds) in (1..).zip([10, 30, 31, u32::MAX]) {
            let packet_id = if qos == 0 { 0 } else { packet_id };
            perishable(&mut ward, device, &seconds.to_string(), qos, packet_id, seconds);
        }
        ward.pass(SECOND * 30);
        let pager = if qos > 0 { ward.connect(slow).0 } else { pager };
        let mut left = Vec::new();
        loop {
            let heard = ward.publishes(pager);
            if heard.is_empty() {
                break;
            }
            for publish in heard {
                left.push(publish.properties.message_expiry);
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => ward.send(pager, Packet::PubAck(ack(number(&publish)))),
                    QoS::ExactlyOnce => {
                        ward.ask(pager, Packet::PubRec(ack(number(&publish))));
                        ward.send(pager, Packet::PubComp(ack(number(&publish))));
                    }
                }
            }
        }
        assert_eq!(left, [Some(1), Some(u32::MAX - 30)], "QoS {qos}");
    }
}

/// A delivery that was begun is not broken off because the message has expired: it is repeated until PUBREC, and its PUBREL
/// until PUBCOMP: [MQTT-4.3.3-7].
#[test]
fn an_exchange_that_was_begun_does_not_expire() {
    let mut ward = Ward::new();
    let (pager, device) = ward.pager_and_device("t", 2);
    perishable(&mut ward, device, "begun", 2, 1, 10);
    let sent = ward.publishes(pager);
    assert_eq!(sent.len(), 1);
    ward.lose(pager);
    ward.pass(SECOND * 60);
    let (pager, _) = ward.connect(resume("pager"));
    let again = ward.publishes(pager);
    assert!(matches!(&again[..], [p] if p.dup && p.packet_id == sent[0].packet_id), "{again:?}");
    let release = ward.ask(pager, Packet::PubRec(ack(number(&again[0]))));
    assert_eq!(release, [Packet::PubRel(ack(number(&again[0])))]);
    assert_eq!(ward.ask(pager, Packet::PubComp(ack(number(&again[0])))), []);
    assert_eq!(ward.broker.owed(pager), 0);
}

/// The publisher's side of the exchange goes on as well: [MQTT-4.3.3-13].
#[test]
fn a_publisher_s_exchange_goes_on_after_the_message_has_expired() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(resume("pager"));
    ward.ask(pager, subscribe("t", 2));
    ward.lose(pager);
    let (device, _) = ward.connect(resume("device"));
    let mut perishable = publish("t", "short-lived", 2, 7);
    perishable.properties.message_expiry = Some(1);
    assert_eq!(ward.ask(device, Packet::Publish(perishable.clone())), [Packet::PubRec(ack(7))]);
    ward.pass(HOUR);
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.payloads(pager), [""; 0], "expired");
    let repeat = Publish { dup: true, ..perishable };
    assert_eq!(ward.ask(device, Packet::Publish(repeat)), [Packet::PubRec(ack(7))]);
    assert_eq!(ward.ask(device, Packet::PubRel(ack(7))), [Packet::PubComp(ack(7))]);
}

/// Nothing is sent again while the connection lasts, however long it is not acknowledged: [MQTT-4.4.0-1]. Until it is, it
/// stays unacknowledged: [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5].
#[test]
fn only_a_reconnect_makes_the_broker_repeat() {
    let mut ward = Ward::new();
    let (pager, device) = ward.pager_and_device("t", 2);
    for (qos, id) in [(1, 1), (2, 2), (2, 3)] {
        ward.ask(device, Packet::Publish(publish("t", "x", qos, id)));
    }
    let sent = ward.publishes(pager);
    assert_eq!(
        ward.ask(pager, Packet::PubRec(ack(number(&sent[2])))),
        [Packet::PubRel(ack(number(&sent[2])))]
    );
    for _ in 0..24 {
        ward.pass(HOUR);
        assert_eq!(ward.hear(pager), (vec![], false));
    }
    assert_eq!(ward.broker.owed(pager), 3);
    ward.lose(pager);
    let (pager, _) = ward.connect(resume("pager"));
    let (again, _) = ward.hear(pager);
    let ids: Vec<u16> = again
        .iter()
        .map(|packet| match packet {
            Packet::Publish(publish) if publish.dup => number(publish),
            Packet::PubRel(release) => release.packet_id.0.get(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, sent.iter().map(number).collect::<Vec<_>>());
}

/// A publish that a subscriber answers with an error is not sent again, at any time: [MQTT-4.4.0-2].
#[test]
fn what_was_refused_is_settled() {
    let mut ward = Ward::new();
    let (pager, device) = ward.pager_and_device("t", 2);
    ward.ask(device, Packet::Publish(publish("t", "1", 1, 1)));
    ward.ask(device, Packet::Publish(publish("t", "2", 2, 2)));
    let sent = ward.publishes(pager);
    let refusal = |publish: &Publish| Ack { reason: ReasonCode::QuotaExceeded, ..ack(number(publish)) };
    ward.send(pager, Packet::PubAck(refusal(&sent[0])));
    ward.send(pager, Packet::PubRec(refusal(&sent[1])));
    assert_eq!(ward.hear(pager), (vec![], false));
    assert_eq!(ward.broker.owed(pager), 0);
    ward.lose(pager);
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.hear(pager), (vec![], false));
}

/// A member's QoS 2 delivery ends with its session: no other member is sent it: [MQTT-4.8.2-5].
#[test]
fn a_member_whose_session_expires_takes_its_exchange_with_it() {
    let mut ward = Ward::new();
    let (chosen, _) = ward.connect(resume("chosen"));
    ward.ask(chosen, subscribe("$share/g/t", 2));
    let (device, _) = ward.connect(connect("device"));
    ward.ask(device, Packet::Publish(publish("t", "once", 2, 1)));
    assert_eq!(ward.publishes(chosen).len(), 1);
    let (other, _) = ward.connect(resume("other"));
    ward.ask(other, subscribe("$share/g/t", 2));
    ward.lose(chosen);
    ward.pass(HOUR * 2);
    assert!(!ward.connect(resume("chosen")).1.session_present);
    assert_eq!(ward.payloads(other), [""; 0]);
}
