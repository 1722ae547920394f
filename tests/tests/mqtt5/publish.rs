//! PUBLISH (section 3.3).

use std::num::NonZeroU16;

use wardline_wire::{Packet, Publish, PublishProperties, QoS, ReasonCode};

use crate::support::*;

/// Flags that contradict each other are malformed: QoS 3 [MQTT-3.3.1-4], DUP at QoS 0 [MQTT-3.3.1-2].
#[test]
fn contradictory_flags_are_malformed() {
    let lab = Lab::new();
    for first in [0x36, 0x37, 0x3E, 0x38, 0x39] {
        let bytes = frame(first, &[0, 1, b't', 0, 1, 0]);
        assert_eq!(lab.broken_by(&bytes), ReasonCode::MalformedPacket, "{first:#04x}");
    }
}

/// The DUP of what is received does not become the DUP of what is sent: [MQTT-3.3.1-3]; there is none at QoS 0:
/// [MQTT-3.3.1-2] [MQTT-4.3.1-1].
#[test]
fn dup_is_not_propagated() {
    let lab = Lab::new();
    let mut client = lab.listener("dup");
    subscribe(&mut client, "t/+", QoS::ExactlyOnce);
    let mut device = lab.client("device");
    device.send(&publish("t/0", "x", QoS::AtMostOnce, 0));
    device.send(&Packet::Publish(Publish { dup: true, ..message("t/1", "x", QoS::AtLeastOnce, 1) }));
    device.send(&Packet::Publish(Publish { dup: true, ..message("t/2", "x", QoS::ExactlyOnce, 2) }));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let publish = next_publish(&mut client);
        assert_eq!((publish.qos, publish.dup), (qos, false));
    }
}

/// A topic name comes first and has no wildcards: [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-4.7.0-1]; nor has a response topic:
/// [MQTT-3.3.2-14].
#[test]
fn topic_names_have_no_wildcards() {
    let lab = Lab::new();
    for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b"] {
        let bytes = frame(0x30, &[&field(topic.as_bytes())[..], &[0]].concat());
        assert_eq!(lab.broken_by(&bytes), ReasonCode::TopicNameInvalid, "{topic}");
        let properties = [&[0x08][..], &field(topic.as_bytes())].concat();
        let bytes = frame(0x30, &[&[0, 1, b't', properties.len() as u8][..], &properties].concat());
        assert_eq!(lab.broken_by(&bytes), ReasonCode::ProtocolError, "response topic {topic}");
    }
    assert_eq!(lab.broken_by(&[0x30, 0x00]), ReasonCode::MalformedPacket, "no topic name");
}

/// What is sent to a subscriber has a topic that its filter matches: [MQTT-3.3.2-3].
#[test]
fn a_subscriber_hears_topics_that_its_filter_matches() {
    let lab = Lab::new();
    let mut client = lab.listener("matching");
    subscribe(&mut client, "a/+/c/#", QoS::AtMostOnce);
    let mut device = lab.client("device");
    let topics = ["a/b/c", "a/b/c/d/e", "a//c", "a/b", "b/b/c", "a/b/d", "A/b/c"];
    for (id, topic) in (1..).zip(topics) {
        device.deliver(topic, topic, id);
    }
    assert_eq!(payloads(&mut client), ["a/b/c", "a/b/c/d/e", "a//c"]);
}

/// Properties are handed on as they came, user properties in their order: [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16]
/// [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
#[test]
fn properties_reach_every_subscriber_unaltered() {
    let lab = Lab::new();
    let mut subscribers: Vec<_> = ["one", "two"].map(|id| lab.client(id)).into();
    for subscriber in &mut subscribers {
        subscribe(subscriber, "t", QoS::AtLeastOnce);
    }
    let mut device = lab.client("device");
    for payload_format in [None, Some(0), Some(1)] {
        let properties = PublishProperties {
            payload_format,
            response_topic: Some("answers/\u{1F3E5}".into()),
            correlation_data: Some(b"\0\xFF\x00"[..].into()),
            user: [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("a", "0")]
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec(),
            content_type: Some("application/json; charset=utf-8".into()),
            ..PublishProperties::default()
        };
        let sent = Publish { properties: properties.into(), ..message("t", "{}", QoS::AtMostOnce, 0) };
        device.send(&Packet::Publish(sent.clone()));
        for subscriber in &mut subscribers {
            assert_eq!(next_publish(subscriber), sent);
        }
    }
}

/// An alias of 0 is refused: [MQTT-3.3.2-8]; each from 1 to the announced maximum is taken, and stands for the topic that it
/// was last given: [MQTT-3.3.2-12].
#[test]
fn every_topic_alias_up_to_the_announced_maximum_is_taken() {
    let lab = Lab::with(&[("WARDLINE__LIMITS__TOPIC_ALIAS_MAX", "5")]);
    let zero = [0x30, 7, 0, 1, b't', 3, 0x23, 0, 0];
    assert_eq!(lab.broken_by(&zero), ReasonCode::TopicAliasInvalid);
    let (mut device, answer) = lab.connected(connect5("device"));
    let maximum = answer.properties.topic_alias_maximum.unwrap();
    let mut client = lab.client("client");
    subscribe(&mut client, "t/#", QoS::AtMostOnce);
    let mut send = |topic: &str, alias: u16| {
        let mut publish = message(topic, "x", QoS::AtMostOnce, 0);
        publish.properties.topic_alias = NonZeroU16::new(alias);
        device.send(&Packet::Publish(publish));
    };
    for alias in 1..=maximum {
        send(&format!("t/{alias}"), alias);
    }
    for alias in 1..=maximum {
        send("", alias);
    }
    send("t/other", 1);
    send("", 1);
    let numbered = |alias: u16| format!("t/{alias}");
    let mut expected: Vec<String> = (1..=maximum).chain(1..=maximum).map(numbered).collect();
    expected.extend(["t/other".to_owned(), "t/other".to_owned()]);
    let topics: Vec<String> = expected.iter().map(|_| next_publish(&mut client).topic.to_string()).collect();
    assert_eq!(topics, expected);
}

/// An alias is the connection's, not the session's: [MQTT-3.3.2-7].
#[test]
fn topic_aliases_end_with_their_connection() {
    let lab = Lab::new();
    let aliased = |topic: &str| {
        let mut publish = message(topic, "x", QoS::AtLeastOnce, 1);
        publish.properties.topic_alias = NonZeroU16::new(1);
        Packet::Publish(publish)
    };
    let (mut device, _) = lab.connected(resume("device"));
    for topic in ["t", ""] {
        device.send(&aliased(topic));
        assert_eq!(device.receive(), Packet::PubAck(ack(1)));
    }
    drop(device);
    let (mut device, answer) = lab.connected(resume("device"));
    assert!(answer.session_present);
    device.send(&aliased(""));
    assert_eq!(device.goodbye(), ReasonCode::ProtocolError);
}

/// Each QoS has its answer: none, PUBACK, PUBREC: [MQTT-3.3.4-1].
#[test]
fn a_publish_is_answered_as_its_qos_demands() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    device.send(&publish("t", "x", QoS::AtMostOnce, 0));
    device.send(&publish("t", "x", QoS::AtLeastOnce, 1));
    device.send(&publish("t", "x", QoS::ExactlyOnce, 2));
    assert_eq!(device.receive(), Packet::PubAck(ack(1)));
    assert_eq!(device.receive(), Packet::PubRec(ack(2)));
}

/// Overlapping subscriptions get one copy, with the highest QoS of them and the identifiers of all: [MQTT-3.3.4-2]
/// [MQTT-3.3.4-3] [MQTT-3.3.4-4].
#[test]
fn overlapping_subscriptions_get_one_copy_with_all_their_identifiers() {
    let lab = Lab::new();
    let mut client = lab.listener("overlap");
    for (filter, qos, id) in [
        ("a/#", QoS::AtMostOnce, Some(1)),
        ("a/+", QoS::ExactlyOnce, Some(268_435_455)),
        ("a/b", QoS::AtLeastOnce, None),
        ("+/b", QoS::AtMostOnce, Some(1)),
    ] {
        client.send(&subscribe_as(1, &[(filter, at(qos))], id));
        assert!(matches!(client.receive(), Packet::SubAck(_)));
    }
    let mut device = lab.client("device");
    device.send(&publish("a/b", "x", QoS::ExactlyOnce, 1));
    assert_eq!(device.receive(), Packet::PubRec(ack(1)));
    let mut copies = heard(&mut client);
    assert_eq!(copies.len(), 1, "{copies:?}");
    let Some(Packet::Publish(copy)) = copies.pop() else { panic!("no PUBLISH") };
    let mut ids = copy.properties.subscription_ids.clone();
    ids.sort_unstable();
    assert_eq!((copy.qos, &ids[..]), (QoS::ExactlyOnce, &[1, 1, 268_435_455][..]));
}

/// The copy of a shared subscription is another one, and has the identifier of its own subscription: [MQTT-3.3.4-5].
#[test]
fn each_of_several_copies_has_its_own_identifier() {
    let lab = Lab::new();
    let mut client = lab.listener("copies");
    for (filter, id) in [("t", 7), ("$share/g/t", 8), ("$share/h/t", 9)] {
        client.send(&subscribe_as(1, &[(filter, at(QoS::AtMostOnce))], Some(id)));
        assert!(matches!(client.receive(), Packet::SubAck(_)));
    }
    lab.client("device").deliver("t", "x", 1);
    let mut ids: Vec<Vec<u32>> = heard(&mut client)
        .into_iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => publish.properties.subscription_ids.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [[7], [8], [9]]);
}

/// A client has no subscription identifiers to send: [MQTT-3.3.4-6].
#[test]
fn a_client_s_publish_has_no_subscription_identifier() {
    let lab = Lab::new();
    let bytes = [0x30, 7, 0, 1, b't', 2, 0x0B, 1, b'x'];
    assert_eq!(lab.broken_by(&bytes), ReasonCode::ProtocolError);
}
