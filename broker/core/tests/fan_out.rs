//! One publish to several subscribers: each gets it as it asked, whoever takes it first.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::num::NonZeroU16;

use bytes::Bytes;
use support::*;
use wardline_core::ConnectionId;
use wardline_wire::{Packet, Publish, PublishProperties, QoS, SubscribeOptions, Version};

const TOPIC: &str = "telemetry/icu-3/b12/mon-12/spo2";

#[derive(Clone, Copy, Debug)]
struct Wish {
    version: Version,
    qos: QoS,
    retain_as_published: bool,
    subscription_id: Option<u32>,
    takes_aliases: bool,
    /// Bytes of a packet; none for whatever there is.
    takes_bytes: Option<u32>,
}

const PLAIN: Wish = Wish {
    version: Version::V5,
    qos: QoS::AtLeastOnce,
    retain_as_published: false,
    subscription_id: None,
    takes_aliases: false,
    takes_bytes: None,
};

const WISHES: [Wish; 9] = [
    PLAIN,
    Wish { qos: QoS::AtMostOnce, ..PLAIN },
    Wish { version: Version::V311, ..PLAIN },
    Wish { retain_as_published: true, ..PLAIN },
    Wish { subscription_id: Some(300), ..PLAIN },
    Wish { takes_aliases: true, ..PLAIN },
    Wish { takes_bytes: Some(1_000), ..PLAIN },
    Wish { takes_bytes: Some(60), ..PLAIN },
    PLAIN,
];

fn arrive(ward: &mut Ward, number: usize, wish: Wish) -> ConnectionId {
    let mut connect = connect(&format!("subscriber-{number}"));
    connect.version = wish.version;
    if wish.version == Version::V5 {
        connect.properties.topic_alias_maximum = wish.takes_aliases.then_some(4);
        connect.properties.maximum_packet_size = wish.takes_bytes;
    }
    let (id, _) = ward.connect(connect);
    let retain_as_published = wish.retain_as_published;
    let options = SubscribeOptions { qos: wish.qos, retain_as_published, ..SubscribeOptions::default() };
    ward.ask(id, subscribe_with("telemetry/#", options, wish.subscription_id));
    id
}

/// What a subscriber is to get, but for its packet identifier.
fn expected(published: &Publish, wish: Wish) -> Publish {
    let mut properties = PublishProperties::default();
    if wish.version == Version::V5 {
        properties.message_expiry = published.properties.message_expiry;
        properties.content_type = published.properties.content_type.clone();
        properties.topic_alias = wish.takes_aliases.then_some(NonZeroU16::MIN);
        properties.subscription_ids = wish.subscription_id.into_iter().collect();
    }
    Publish {
        qos: wish.qos.min(published.qos),
        retain: wish.retain_as_published && published.retain,
        packet_id: None,
        properties: properties.into(),
        ..published.clone()
    }
}

#[test]
fn each_subscriber_gets_a_publish_as_it_asked() {
    let texts = PublishProperties { content_type: Some("text/plain".into()), ..PublishProperties::default() };
    let expires = PublishProperties { message_expiry: Some(60), ..PublishProperties::default() };
    let large = Bytes::from(vec![b'9'; 5_000]);
    let small = Bytes::from_static(b"97");
    let kinds = [
        (PublishProperties::default(), &small),
        (texts, &small),
        (expires, &small),
        (PublishProperties::default(), &large),
    ];
    for (properties, payload) in kinds {
        for qos in [0, 1] {
            for first in 0..WISHES.len() {
                let mut ward = Ward::new();
                let wishes = WISHES.iter().enumerate();
                let ids: Vec<_> = wishes.map(|(number, wish)| arrive(&mut ward, number, *wish)).collect();
                let (device, _) = ward.connect(connect("device"));
                let published = Publish {
                    retain: true,
                    properties: properties.clone().into(),
                    payload: payload.clone(),
                    ..publish(TOPIC, "97", qos, u16::from(qos))
                };
                ward.send(device, Packet::Publish(published.clone()));
                for at in (0..WISHES.len()).map(|step| (first + step) % WISHES.len()) {
                    let (wish, mut heard) = (WISHES[at], ward.publishes(ids[at]));
                    let expected = expected(&published, wish);
                    for publish in &mut heard {
                        let packet_id = publish.packet_id.take();
                        assert_eq!(packet_id.is_some(), expected.qos != QoS::AtMostOnce, "{wish:?}");
                    }
                    let bytes = wardline_wire::encoded_len(
                        &Packet::Publish(Publish { packet_id: Some(id(1)), ..expected.clone() }),
                        wish.version,
                    );
                    // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
                    if wish.takes_bytes.is_some_and(|takes| bytes.unwrap() > takes as usize) {
                        assert_eq!(heard, [], "{wish:?}");
                    } else {
                        assert_eq!(heard, [expected], "{wish:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_repeat_has_the_identifier_of_the_first_attempt_and_dup() {
    let mut ward = Ward::new();
    let subscribers: Vec<_> = ["one", "other"]
        .into_iter()
        .map(|client| {
            let (id, _) = ward.connect(resume(client));
            ward.ask(id, subscribe("telemetry/#", 1));
            id
        })
        .collect();
    let (device, _) = ward.connect(connect("device"));
    for payload in ["96", "97"] {
        ward.send(device, Packet::Publish(publish(TOPIC, payload, 1, 1)));
    }
    let before = ward.publishes(subscribers[0]);
    ward.broker.end(subscribers[0], "connection lost", ward.now);
    let (again, _) = ward.connect(resume("one"));
    let repeated = ward.publishes(again);
    assert_eq!(payloads(&repeated), ["96", "97"]);
    for (first, repeat) in before.iter().zip(&repeated) {
        assert!(!first.dup && repeat.dup);
        assert_eq!(first.packet_id, repeat.packet_id);
    }
    let other = ward.publishes(subscribers[1]);
    assert!(other.iter().all(|publish| !publish.dup) && payloads(&other) == ["96", "97"]);
}
