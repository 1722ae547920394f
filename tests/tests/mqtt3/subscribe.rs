//! Sections 3.8 to 3.12: SUBSCRIBE, UNSUBSCRIBE, PINGREQ.

use crate::bytes::{
    PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, QOS_1, QOS_2, RETAIN, UNSUBACK, answer,
    packet, publish, suback, subscribe, unsubscribe,
};
use crate::lab::Lab;
use crate::peer::texts;

#[test]
fn a_subscribe_or_unsubscribe_that_is_none_closes_the_connection() {
    let lab = Lab::start();
    let cases: &[(&str, Vec<u8>)] = &[
        // [MQTT3-3.8.3-3]
        ("SUBSCRIBE without filters", subscribe(1, &[])),
        ("SUBSCRIBE without QoS", packet(0x82, b"\0\x01\0\x01t")),
        ("SUBSCRIBE with half a second filter", packet(0x82, b"\0\x01\0\x01t\0\0\x02u")),
        // [MQTT3-3.8.3-4]
        ("QoS 3", subscribe(1, &[("t", 3)])),
        ("QoS 3 for the second filter", subscribe(1, &[("t", 1), ("u", 3)])),
        // [MQTT3-3.10.3-2]
        ("UNSUBSCRIBE without filters", unsubscribe(1, &[])),
        // [MQTT3-3.10.3-1]
        ("UNSUBSCRIBE with half a filter", packet(0xA2, b"\0\x01\0\x02t")),
        ("UNSUBSCRIBE with a byte between", packet(0xA2, b"\0\x01\0\x01t\0\0\x01u")),
        // [MQTT3-4.7.3-1]
        ("an empty filter", subscribe(1, &[("", 0)])),
        ("an empty filter to be ended", unsubscribe(1, &[""])),
    ];
    for (what, bytes) in cases {
        lab.closes_client_on(bytes, what);
    }
    // [MQTT3-3.8.3-4]: the bits that only MQTT 5 has a use for.
    for bit in 2..8 {
        lab.closes_client_on(&subscribe(1, &[("t", 1 << bit)]), &format!("bit {bit} of the requested QoS"));
    }
}

#[test]
fn every_filter_is_answered_in_its_place() {
    let lab = Lab::start();
    let mut reader = lab.client("reader");
    // [MQTT3-3.8.4-1] [MQTT3-3.8.4-2] [MQTT3-3.8.4-5] [MQTT3-3.9.3-1]
    let filters = [("a", 0), ("b", 1), ("c", 2), ("secret/d", 1), ("e", 0), ("secret/#", 0), ("f/+", 2)];
    // [MQTT3-3.9.3-2]: a refusal is 0x80, whatever its reason.
    reader.ask(&subscribe(0x1234, &filters), &suback(0x1234, &[0, 1, 2, 0x80, 0, 0x80, 2]));
    reader.ask(&subscribe(2, &[("secret/d", 2)]), &suback(2, &[0x80]));
    // [MQTT3-3.8.4-4]: as if each had come alone.
    let mut writer = lab.client("writer");
    for topic in ["a", "b", "c", "e", "f/1", "f", "d"] {
        writer.put(topic, topic);
    }
    assert_eq!(texts(&reader.heard()), ["a", "b", "c", "e", "f/1"]);
}

/// [MQTT3-3.8.4-6]
#[test]
fn the_qos_is_the_lower_of_published_and_granted() {
    let lab = Lab::start();
    let mut readers: Vec<_> =
        (0..3).map(|qos| lab.subscriber(&format!("reader-{qos}"), "t/#", qos)).collect();
    let mut writer = lab.client("writer");
    writer.send(&publish(PUBLISH, "t/0", None, ""));
    writer.ask(&publish(PUBLISH | QOS_1, "t/1", Some(1), ""), &answer(PUBACK, 1));
    writer.ask(&publish(PUBLISH | QOS_2, "t/2", Some(2), ""), &answer(PUBREC, 2));
    for (granted, reader) in (0..).zip(&mut readers) {
        let qos: Vec<u8> = reader.heard().iter().map(|heard| (heard.first & 0x06) >> 1).collect();
        assert_eq!(qos, [0, granted.min(1), granted.min(2)], "granted QoS {granted}");
    }
}

/// [MQTT3-3.8.4-3]
#[test]
fn subscribing_again_replaces_the_subscription() {
    let lab = Lab::start();
    let mut writer = lab.client("writer");
    writer.ask(&publish(PUBLISH | QOS_1 | RETAIN, "t", Some(1), "kept"), &answer(PUBACK, 1));
    let mut reader = lab.subscriber("reader", "t", 0);
    reader.expect(&publish(PUBLISH | RETAIN, "t", None, "kept"));
    // With another QoS, and the retained message once more.
    reader.subscribe("t", 1);
    let heard = reader.publish();
    assert_eq!((heard.first, heard.text()), (PUBLISH | QOS_1 | RETAIN, "kept"));
    writer.put("t", "new");
    // One subscription: one copy, at the QoS of the second.
    let heard: Vec<_> = reader.heard().iter().map(|heard| (heard.first, heard.text().to_owned())).collect();
    assert_eq!(heard, [(PUBLISH | QOS_1, "new".to_owned())]);
    // The flow is not interrupted: of what is published meanwhile nothing is missing, and nothing is there twice.
    for number in 0..200_u16 {
        writer.send(&publish(PUBLISH | QOS_1, "t", Some(number + 1), number.to_string()));
        if number % 10 == 0 {
            reader.send(&subscribe(2, &[("t", 1)]));
        }
    }
    for number in 0..200 {
        writer.expect(&answer(PUBACK, number + 1));
    }
    let mut numbers = Vec::new();
    while numbers.len() < 200 {
        let frame = reader.frame();
        if frame != suback(2, &[1]) {
            let payload = String::from_utf8(frame[7..].to_vec()).unwrap();
            numbers.extend(payload.parse::<u16>());
        }
    }
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

#[test]
fn unsubscribe_ends_what_it_names_and_is_always_answered() {
    let lab = Lab::start();
    let mut reader = lab.client("reader");
    reader.ask(&subscribe(1, &[("a/+", 1), ("a/#", 1), ("b", 1), ("c", 1)]), &suback(1, &[1; 4]));
    // [MQTT3-3.10.4-1]: compared as they are written, not by what they match. [MQTT3-3.10.4-5]
    for filter in ["a/1", "#", "A/#", "a/", "b/", "/b", "never"] {
        reader.ask(&unsubscribe(2, &[filter]), &answer(UNSUBACK, 2));
    }
    let mut writer = lab.client("writer");
    let round =
        |writer: &mut crate::peer::Peer| ["a/1", "b", "c"].iter().for_each(|topic| writer.put(topic, topic));
    round(&mut writer);
    assert_eq!(texts(&reader.heard()), ["a/1", "b", "c"]);
    // [MQTT3-3.10.4-2] [MQTT3-3.10.4-4]: one of two that match.
    reader.ask(&unsubscribe(0xABCD, &["a/#"]), &answer(UNSUBACK, 0xABCD));
    round(&mut writer);
    assert_eq!(texts(&reader.heard()), ["a/1", "b", "c"]);
    // [MQTT3-3.10.4-6]: several with one answer, one of which is not there.
    reader.ask(&unsubscribe(4, &["c", "never", "a/+"]), &answer(UNSUBACK, 4));
    round(&mut writer);
    assert_eq!(texts(&reader.heard()), ["b"]);
}

/// [MQTT3-3.10.4-3]
#[test]
fn what_was_sent_before_unsubscribe_is_delivered_to_its_end() {
    let lab = Lab::start();
    let mut reader = lab.keeper("reader", crate::bytes::ACCEPTED);
    reader.subscribe("t", 2);
    let mut writer = lab.client("writer");
    writer.ask(&publish(PUBLISH | QOS_2, "t", Some(1), "begun"), &answer(PUBREC, 1));
    writer.ask(&answer(PUBREL, 1), &answer(PUBCOMP, 1));
    let begun = reader.publish();
    reader.ask(&unsubscribe(2, &["t"]), &answer(UNSUBACK, 2));
    writer.put("t", "too late");
    drop(reader);
    let mut reader = lab.keeper("reader", crate::bytes::RESUMED);
    reader.expect(&publish(begun.first | 0x08, "t", begun.id, "begun"));
    reader.ask(&answer(PUBREC, begun.id()), &answer(PUBREL, begun.id()));
    reader.send(&answer(PUBCOMP, begun.id()));
    assert!(reader.heard().is_empty());
}

/// [MQTT3-3.12.4-1] [MQTT3-3.1.2-23]
#[test]
fn a_ping_is_answered_each_time() {
    let lab = Lab::start();
    let mut client = lab.client("client");
    client.ask(&PINGREQ, &PINGRESP);
    client.send(&PINGREQ.repeat(100));
    for _ in 0..100 {
        client.expect(&PINGRESP);
    }
}
