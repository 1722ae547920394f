//! Sections 1.5 and 2: strings, reserved flags, packet identifiers, remaining length.

use crate::bytes::{
    CLEAN, DISCONNECT, DUP, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, QOS_1, QOS_2, UNSUBACK,
    USER_NAME, WILL, answer, connect, field, packet, publish, suback, subscribe, unsubscribe,
};
use crate::lab::Lab;

#[test]
fn a_string_that_is_not_utf_8_or_has_u_0000_closes_the_connection() {
    let lab = Lab::start();
    let strings: &[(&str, &[u8])] = &[
        // [MQTT3-1.5.3-1]
        ("U+D800", b"a\xED\xA0\x80"),
        ("U+DFFF", b"\xED\xBF\xBFa"),
        ("a pair of surrogates", b"\xED\xA0\xBD\xED\xB8\x80"),
        ("an overlong /", b"\xC0\xAF"),
        ("beyond U+10FFFF", b"\xF4\x90\x80\x80"),
        ("half a character", b"a\xC3"),
        ("no UTF-8 at all", b"\xFF"),
        // [MQTT3-1.5.3-2] [MQTT3-4.7.3-2]
        ("U+0000", b"a\0b"),
        ("an overlong U+0000", b"\xC0\x80"),
    ];
    for (what, string) in strings {
        // [MQTT3-3.1.3-4] [MQTT3-3.1.3-10] [MQTT3-3.1.3-11]
        lab.closes_on(&connect(CLEAN, &[string]), &format!("{what} in a client id"));
        lab.closes_on(&connect(CLEAN | WILL, &[b"c", string, b""]), &format!("{what} in a will topic"));
        lab.closes_on(&connect(CLEAN | USER_NAME, &[b"c", string]), &format!("{what} in a user name"));
        // [MQTT3-3.3.2-1] [MQTT3-3.8.3-1] [MQTT3-3.10.3-1]
        lab.closes_client_on(&publish(PUBLISH, string, None, "x"), &format!("{what} in a topic name"));
        let filter = [&[0, 1][..], &field(string)].concat();
        lab.closes_client_on(&packet(0x82, &[&filter[..], &[0]].concat()), &format!("{what} in a SUBSCRIBE"));
        lab.closes_client_on(&packet(0xA2, &filter), &format!("{what} in an UNSUBSCRIBE"));
    }
}

/// [MQTT3-1.5.3-3] [MQTT3-4.7.3-4]
#[test]
fn u_feff_is_a_character_like_any_other() {
    let lab = Lab::start();
    // The sequence EF BB BF makes another client, another filter and another topic.
    let mut plain = lab.client("reader");
    let mut marked = lab.client("\u{FEFF}reader");
    plain.subscribe("t", 0);
    marked.subscribe("\u{FEFF}t", 0);
    let mut writer = lab.client("writer");
    writer.put("t", "plain");
    writer.put("\u{FEFF}t", "marked");
    writer.put("t\u{FEFF}", "nobody's");
    plain.expect(&publish(PUBLISH, "t", None, "plain"));
    assert!(plain.heard().is_empty());
    marked.expect(&publish(PUBLISH, b"\xEF\xBB\xBFt", None, "marked"));
    assert!(marked.heard().is_empty());
}

/// [MQTT3-2.2.2-1] [MQTT3-2.2.2-2]
#[test]
fn flags_that_are_reserved_close_the_connection() {
    let lab = Lab::start();
    let hello = connect(CLEAN, &[b"c"]);
    for flags in 1..=15 {
        lab.closes_on(&[&[0x10 | flags], &hello[1..]].concat(), &format!("CONNECT with flags {flags:04b}"));
    }
    let packets: &[(&str, Vec<u8>)] = &[
        ("PUBACK", answer(PUBACK, 1)),
        ("PUBREC", answer(PUBREC, 1)),
        // [MQTT3-3.6.1-1]
        ("PUBREL", answer(PUBREL, 1)),
        ("PUBCOMP", answer(PUBCOMP, 1)),
        // [MQTT3-3.8.1-1]
        ("SUBSCRIBE", subscribe(1, &[("t", 0)])),
        // [MQTT3-3.10.1-1]
        ("UNSUBSCRIBE", unsubscribe(1, &["t"])),
        ("PINGREQ", PINGREQ.to_vec()),
        // [MQTT3-3.14.1-1]
        ("DISCONNECT", DISCONNECT.to_vec()),
    ];
    for (name, bytes) in packets {
        let (first, rest) = bytes.split_first().unwrap();
        for flags in (0..=15).filter(|flags| *flags != first & 0x0F) {
            let bytes = [&[first & 0xF0 | flags], rest].concat();
            lab.closes_client_on(&bytes, &format!("{name} with flags {flags:04b}"));
        }
    }
}

/// [MQTT3-4.8.0-1]
#[test]
fn a_packet_that_is_not_a_client_s_closes_the_connection() {
    let lab = Lab::start();
    for flags in 0..=15 {
        lab.closes_client_on(&packet(flags, b""), "packet type 0");
        lab.closes_client_on(&packet(0xF0 | flags, b""), "packet type 15");
    }
    lab.closes_client_on(&[0x20, 2, 0, 0], "CONNACK");
    lab.closes_client_on(&suback(1, &[0]), "SUBACK");
    lab.closes_client_on(&answer(UNSUBACK, 1), "UNSUBACK");
    lab.closes_client_on(&[0xD0, 0], "PINGRESP");
    for (name, first) in [("PUBACK", PUBACK), ("PUBREC", PUBREC), ("PUBREL", PUBREL), ("PUBCOMP", PUBCOMP)] {
        lab.closes_client_on(&packet(first, b"\0"), &format!("{name} with half an identifier"));
        lab.closes_client_on(&packet(first, b"\0\x01\0"), &format!("{name} of three bytes"));
    }
    lab.closes_client_on(&packet(0xC0, b"x"), "PINGREQ with a body");
    lab.closes_client_on(&packet(0xE0, b"x"), "DISCONNECT with a body");
}

#[test]
fn packet_identifiers_are_1_to_65_535_and_come_back_in_the_answer() {
    let lab = Lab::start();
    // [MQTT3-2.3.1-1]
    for (what, bytes) in [
        ("PUBLISH at QoS 1", publish(PUBLISH | QOS_1, "t", Some(0), "x")),
        ("PUBLISH at QoS 2", publish(PUBLISH | QOS_2, "t", Some(0), "x")),
        ("SUBSCRIBE", subscribe(0, &[("t", 0)])),
        ("UNSUBSCRIBE", unsubscribe(0, &["t"])),
    ] {
        lab.closes_client_on(&bytes, &format!("{what} with identifier 0"));
    }
    let mut client = lab.client("client");
    for id in [1, 2, 255, 256, 32_768, 65_534, 65_535] {
        // [MQTT3-2.3.1-6]
        client.ask(&publish(PUBLISH | QOS_1, "t", Some(id), "x"), &answer(PUBACK, id));
        client.ask(&publish(PUBLISH | QOS_2, "t", Some(id), "x"), &answer(PUBREC, id));
        client.ask(&answer(PUBREL, id), &answer(PUBCOMP, id));
        // [MQTT3-2.3.1-7]
        client.ask(&subscribe(id, &[("other", 0)]), &suback(id, &[0]));
        client.ask(&unsubscribe(id, &["other"]), &answer(UNSUBACK, id));
    }
}

/// [MQTT3-2.3.1-5]
#[test]
fn a_publish_at_qos_0_has_no_packet_identifier() {
    let lab = Lab::start();
    let mut reader = lab.subscriber("reader", "t", 2);
    // Were the payload's first bytes taken for an identifier, they would be missing; one added would be too much.
    lab.client("writer").send(&publish(PUBLISH, "t", None, b"\0\x05rest"));
    reader.expect(&publish(PUBLISH, "t", None, b"\0\x05rest"));
}

#[test]
fn a_remaining_length_takes_one_to_four_bytes() {
    let lab = Lab::start_with(&[("WARDLINE__LIMITS__MAX_PACKET", "4MiB")]);
    let mut reader = lab.subscriber("reader", "t", 0);
    let mut writer = lab.client("writer");
    for length in [3, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
        let sent = publish(PUBLISH, "t", None, vec![b'x'; length - 3]);
        writer.send(&sent);
        assert!(reader.frame() == sent, "a remaining length of {length}");
    }
    // However slowly a packet comes, it is one packet.
    for byte in publish(PUBLISH | DUP | QOS_1, "t", Some(9), "slow") {
        writer.send(&[byte]);
    }
    writer.expect(&answer(PUBACK, 9));
    reader.expect(&publish(PUBLISH, "t", None, "slow"));
    for bytes in [&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01][..], &[0x30, 0x80, 0x80, 0x80, 0x80, 0x80]] {
        lab.closes_client_on(bytes, "five bytes of length");
    }
}
