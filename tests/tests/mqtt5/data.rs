//! Data representation and packet format (sections 1.5 and 2).

use wardline_wire::{Packet, QoS, ReasonCode};

use crate::support::*;

/// What no UTF-8 encoded string may contain.
const ILL_FORMED: [&[u8]; 4] = [b"\xC3\x28", b"\xED\xA0\x80", b"\xC0\x80", b"a\0"];

/// Ill-formed UTF-8, surrogates and U+0000, in every string of every packet, are malformed: [MQTT-1.5.4-1]
/// [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.3.2-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-3.8.3-1] [MQTT-3.10.3-1]
/// [MQTT-4.7.3-2].
#[test]
fn strings_are_well_formed_utf8_without_nul() {
    let lab = Lab::new();
    let property = |identifier: u8, value: &[u8]| {
        let properties = [&[identifier][..], &field(value)].concat();
        [&field(b"t")[..], &[properties.len() as u8], &properties].concat()
    };
    for string in ILL_FORMED {
        let pair = |name: &[u8], value: &[u8]| {
            let properties = [&[0x26][..], &field(name), &field(value)].concat();
            [&field(b"t")[..], &[properties.len() as u8], &properties].concat()
        };
        let packets = [
            ("topic name", frame(0x30, &[&field(string)[..], &[0]].concat())),
            ("response topic", frame(0x30, &property(0x08, string))),
            ("content type", frame(0x30, &property(0x03, string))),
            ("user property name", frame(0x30, &pair(string, b"v"))),
            ("user property value", frame(0x30, &pair(b"n", string))),
            ("filter of SUBSCRIBE", frame(0x82, &[&[0, 1, 0][..], &field(string), &[0]].concat())),
            ("filter of UNSUBSCRIBE", frame(0xA2, &[&[0, 1, 0][..], &field(string)].concat())),
        ];
        for (what, packet) in packets {
            assert_eq!(lab.broken_by(&packet), ReasonCode::MalformedPacket, "{what} {string:02x?}");
        }
    }
}

/// The same in the strings of a CONNECT, which is refused: [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.1.3-4] [MQTT-3.1.3-11]
/// [MQTT-3.1.3-12].
#[test]
fn strings_of_a_connect_are_well_formed_utf8_without_nul() {
    let lab = Lab::new();
    let head = |flags: u8| [&b"\0\x04MQTT\x05"[..], &[flags], b"\0\0\0"].concat();
    for string in ILL_FORMED {
        let packets = [
            ("client identifier", [&head(0x02)[..], &field(string)].concat()),
            ("will topic", [&head(0x06)[..], &field(b"c"), &[0], &field(string), &field(b"bye")].concat()),
            ("user name", [&head(0x82)[..], &field(b"c"), &field(string)].concat()),
        ];
        for (what, body) in packets {
            let answer = lab.refused_bytes(&frame(0x10, &body));
            assert_eq!(answer.reason, ReasonCode::MalformedPacket, "{what} {string:02x?}");
        }
    }
}

/// U+FEFF is a character like any other: [MQTT-1.5.4-3], and topics are compared as they are [MQTT-4.7.3-4].
#[test]
fn a_byte_order_mark_is_neither_skipped_nor_stripped() {
    let lab = Lab::new();
    let mut client = lab.listener("bom");
    subscribe(&mut client, "\u{FEFF}a/+", QoS::AtMostOnce);
    client.deliver("a/1", "without", 1);
    client.send(&publish("\u{FEFF}a/\u{FEFF}", "with", QoS::AtMostOnce, 0));
    let heard = next_publish(&mut client);
    assert_eq!((&*heard.topic, &*text(&heard)), ("\u{FEFF}a/\u{FEFF}", "with"));
}

/// Variable byte integers have their shortest form, received and sent: [MQTT-1.5.5-1].
#[test]
fn variable_byte_integers_are_as_short_as_they_can_be() {
    let lab = Lab::new();
    let padded: [(&str, &[u8]); 3] = [
        ("remaining length", &[0xC0, 0x80, 0x00]),
        ("property length", &[0x30, 0x05, 0x00, 0x01, b't', 0x80, 0x00]),
        ("subscription identifier", &[0x82, 0x0A, 0, 1, 3, 0x0B, 0x81, 0x00, 0, 1, b't', 0]),
    ];
    for (what, bytes) in padded {
        assert_eq!(lab.broken_by(bytes), ReasonCode::MalformedPacket, "{what}");
    }
    let mut client = lab.client("lengths");
    subscribe(&mut client, "t", QoS::AtMostOnce);
    // 2 + 1 bytes of topic, 1 of property length, and the payload.
    for (payload, length) in
        [(123, &[0x7F][..]), (124, &[0x80, 0x01]), (16_379, &[0xFF, 0x7F]), (16_380, &[0x80, 0x80, 0x01])]
    {
        client.send(&publish("t", &"x".repeat(payload), QoS::AtMostOnce, 0));
        assert_eq!(client.receive_bytes(1 + length.len()), [&[0x30][..], length].concat());
        client.receive_bytes(4 + payload);
    }
}

/// Reserved bits of the fixed header are as the table has them, else the packet is malformed: [MQTT-2.1.3-1]
/// [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1].
#[test]
fn reserved_bits_of_the_fixed_header_are_as_listed() {
    let lab = Lab::new();
    let packets: [(&str, u8, &[u8]); 9] = [
        ("PUBACK", 0x40, &[0, 1]),
        ("PUBREC", 0x50, &[0, 1]),
        ("PUBREL", 0x62, &[0, 1]),
        ("PUBCOMP", 0x70, &[0, 1]),
        ("SUBSCRIBE", 0x82, &[0, 1, 0, 0, 1, b't', 0]),
        ("UNSUBSCRIBE", 0xA2, &[0, 1, 0, 0, 1, b't']),
        ("PINGREQ", 0xC0, &[]),
        ("DISCONNECT", 0xE0, &[]),
        ("AUTH", 0xF0, &[0x19, 4, 0x15, 0, 1, b'm']),
    ];
    for (name, first, body) in packets {
        for bit in [1, 2, 4, 8] {
            let bytes = frame(first ^ bit, body);
            assert_eq!(lab.broken_by(&bytes), ReasonCode::MalformedPacket, "{name} {:#04x}", bytes[0]);
        }
    }
}

/// A publish of QoS 0 has no packet identifier: [MQTT-2.2.1-2]; where there are no properties their length is there and 0:
/// [MQTT-2.2.2-1].
#[test]
fn what_the_broker_sends_has_no_needless_field_and_no_missing_one() {
    let lab = Lab::new();
    let mut client = lab.client("bytes");
    client.send_bytes(&[0x82, 7, 0x12, 0x34, 0, 0, 1, b't', 0]);
    assert_eq!(client.receive_bytes(6), [0x90, 4, 0x12, 0x34, 0, 0], "SUBACK");
    client.send_bytes(&[0x30, 5, 0, 1, b't', 0, b'x']);
    assert_eq!(client.receive_bytes(7), [0x30, 5, 0, 1, b't', 0, b'x'], "PUBLISH");
    client.send_bytes(&[0xA2, 6, 0x12, 0x35, 0, 0, 1, b't']);
    assert_eq!(client.receive_bytes(6), [0xB0, 4, 0x12, 0x35, 0, 0], "UNSUBACK");
    // And from a client it is missed.
    for (name, bytes) in [
        ("PUBLISH", &[0x30, 3, 0, 1, b't'][..]),
        ("SUBSCRIBE", &[0x82, 2, 0, 1]),
        ("UNSUBSCRIBE", &[0xA2, 2, 0, 1]),
    ] {
        assert_eq!(lab.broken_by(bytes), ReasonCode::MalformedPacket, "{name}");
    }
}

/// A client's packet identifier is not zero: [MQTT-2.2.1-3].
#[test]
fn a_packet_identifier_of_zero_is_a_protocol_error() {
    let lab = Lab::new();
    for (name, bytes) in [
        ("PUBLISH", &[0x32, 6, 0, 1, b't', 0, 0, 0][..]),
        ("SUBSCRIBE", &[0x82, 7, 0, 0, 0, 0, 1, b't', 0]),
        ("UNSUBSCRIBE", &[0xA2, 6, 0, 0, 0, 0, 1, b't']),
    ] {
        assert_eq!(lab.broken_by(bytes), ReasonCode::ProtocolError, "{name}");
    }
}

/// The broker's own identifiers are not zero and not in use: [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]; the client's
/// are another set.
#[test]
fn the_broker_s_packet_identifiers_are_unused_ones() {
    let lab = Lab::new();
    let mut client = lab.listener("identifiers");
    subscribe(&mut client, "t/#", QoS::ExactlyOnce);
    let mut device = lab.client("device");
    for number in 1..=20 {
        device.deliver("t/1", "x", number);
    }
    device.send(&publish("t/2", "x", QoS::ExactlyOnce, 21));
    assert_eq!(device.receive(), Packet::PubRec(ack(21)));
    let mut ids: Vec<u16> = heard(&mut client)
        .iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => id_of(publish),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids.len(), 21);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 21, "each has its own");
    // The client may use the very identifier that the broker is using.
    client.deliver("elsewhere", "x", ids[0]);
}

/// Every answer names the packet that it answers: [MQTT-2.2.1-5] [MQTT-2.2.1-6] [MQTT-3.8.4-2] [MQTT-3.10.4-5].
#[test]
fn an_answer_has_the_identifier_of_what_it_answers() {
    let lab = Lab::new();
    let mut client = lab.client("answers");
    for id in [1, 0x1234, u16::MAX] {
        assert_eq!(ask_subscribe(&mut client, id, &[("t", at(QoS::AtMostOnce))]).packet_id, packet_id(id));
        assert_eq!(ask_unsubscribe(&mut client, id, &["t"]).packet_id, packet_id(id));
        client.deliver("t", "x", id);
        client.send(&publish("t", "x", QoS::ExactlyOnce, id));
        assert_eq!(client.receive(), Packet::PubRec(ack(id)));
        client.send(&Packet::PubRel(ack(id)));
        assert_eq!(client.receive(), Packet::PubComp(ack(id)));
    }
}
