//! Topic names and topic filters (section 4.7).

use wardline_wire::{QoS, ReasonCode};

use crate::support::*;

/// Wildcards stand for whole levels, the one for many comes last: [MQTT-4.7.1-1] [MQTT-4.7.1-2]; a filter has at least one
/// character: [MQTT-4.7.3-1]; a share has a name and a filter: [MQTT-4.8.2-1] [MQTT-4.8.2-2].
#[test]
fn filters_that_are_none_are_refused() {
    let lab = Lab::new();
    let filters = [
        "",
        "a#",
        "a/#/b",
        "#/a",
        "##",
        "a+",
        "+a",
        "a/+b/c",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//t",
        "$share/g+/t",
        "$share/#/t",
        "$share/g/a#",
    ];
    for filter in filters {
        let bytes = frame(0x82, &[&[0, 1, 0][..], &field(filter.as_bytes()), &[0]].concat());
        assert_eq!(lab.broken_by(&bytes), ReasonCode::TopicFilterInvalid, "{filter}");
        let bytes = frame(0xA2, &[&[0, 1, 0][..], &field(filter.as_bytes())].concat());
        assert_eq!(lab.broken_by(&bytes), ReasonCode::TopicFilterInvalid, "{filter}");
    }
}

/// A topic name has at least one character: without an alias an empty one is a protocol error: [MQTT-4.7.3-1].
#[test]
fn an_empty_topic_name_is_refused() {
    let lab = Lab::new();
    assert_eq!(lab.broken_by(&[0x30, 3, 0, 0, 0]), ReasonCode::ProtocolError);
}

/// The examples of section 4.7: [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-4].
#[test]
fn filters_match_level_by_level_and_character_by_character() {
    let lab = Lab::new();
    let cases: [(&str, &[&str]); 10] = [
        (
            "sport/#",
            &[
                "sport",
                "sport/",
                "sport/tennis",
                "sport/tennis/",
                "sport/tennis/player1",
                "sport/tennis/player1/ranking",
            ],
        ),
        ("sport/tennis/+", &["sport/tennis/", "sport/tennis/player1"]),
        ("sport/+", &["sport/", "sport/tennis"]),
        ("+/+", &["sport/", "sport/tennis", "/finance"]),
        ("/+", &["/finance"]),
        ("+", &["sport", "Sport", "ä"]),
        ("Sport", &["Sport"]),
        ("ä", &["ä"]),
        ("a\u{308}", &[]),
        ("/", &[]),
    ];
    let topics = [
        "sport",
        "Sport",
        "sport/",
        "sport/tennis",
        "sport/tennis/",
        "sport/tennis/player1",
        "sport/tennis/player1/ranking",
        "/finance",
        "ä",
    ];
    let mut device = lab.client("device");
    let mut clients: Vec<_> = cases
        .iter()
        .map(|(filter, _)| {
            let mut client = lab.listener(filter);
            subscribe(&mut client, filter, QoS::AtMostOnce);
            client
        })
        .collect();
    for (id, topic) in (1..).zip(topics) {
        device.deliver(topic, topic, id);
    }
    for ((filter, expected), client) in cases.iter().zip(&mut clients) {
        let heard = payloads(client);
        let expected: Vec<&str> = topics.into_iter().filter(|topic| expected.contains(topic)).collect();
        assert_eq!(heard, expected, "{filter}");
    }
}

/// A filter that begins with a wildcard matches no topic that begins with `$`: [MQTT-4.7.2-1].
#[test]
fn leading_wildcards_do_not_match_dollar_topics() {
    let lab = Lab::new();
    let mut all = lab.listener("all");
    let filters = ["#", "+/broker/#", "+/1"].map(|filter| (filter, at(QoS::AtMostOnce)));
    ask_subscribe(&mut all, 1, &filters);
    let mut named = lab.client("named");
    subscribe(&mut named, "$SYS/#", QoS::AtMostOnce);
    // The broker's own counters come by themselves.
    assert!(next_publish(&mut named).topic.starts_with("$SYS/"));
    let mut device = lab.client("device");
    device.deliver("plain/1", "plain", 1);
    let heard = heard(&mut all);
    let topics: Vec<_> = heard
        .iter()
        .filter_map(|packet| match packet {
            wardline_wire::Packet::Publish(publish) => Some(publish.topic.to_string()),
            _ => None,
        })
        .collect();
    assert!(topics.contains(&"plain/1".to_owned()), "{topics:?}");
    assert!(topics.iter().all(|topic| !topic.starts_with('$')), "{topics:?}");
}

/// A topic may have 65,535 bytes, and a longer one has no encoding: [MQTT-4.7.3-3].
#[test]
fn the_longest_topic_is_carried() {
    let lab = Lab::new();
    let mut client = lab.client("client");
    let topic = format!("{}/x", "t".repeat(65_533));
    subscribe(&mut client, &topic, QoS::AtLeastOnce);
    let mut device = lab.client("device");
    device.deliver(&topic, "long", 1);
    assert_eq!(next_publish(&mut client).topic, *topic);
}
