//! Section 3.1: CONNECT. Wills have a module of their own.

use std::time::{Duration, Instant};

use crate::bytes::{
    ACCEPTED, CLEAN, PASSWORD, PINGREQ, PINGRESP, PUBACK, PUBLISH, QOS_1, RESUMED, USER_NAME, WILL,
    WILL_QOS_1, WILL_QOS_2, WILL_RETAIN, answer, connect, connect_as, packet, publish, refused, subscribe,
    unsubscribe,
};
use crate::lab::Lab;
use crate::peer::{Peer, texts};

/// [MQTT3-3.1.0-1] [MQTT3-3.1.0-2]
#[test]
fn the_first_packet_is_connect_and_no_other_is() {
    let lab = Lab::start();
    let others = [
        publish(PUBLISH, "t", None, "x"),
        answer(PUBACK, 1),
        subscribe(1, &[("t", 0)]),
        unsubscribe(1, &["t"]),
        PINGREQ.to_vec(),
        vec![0xE0, 0],
        ACCEPTED.to_vec(),
    ];
    for bytes in others {
        lab.closes_on(&bytes, "a first packet that is no CONNECT");
    }
    lab.closes_client_on(&connect(CLEAN, &[b"careless"]), "a second CONNECT");
    lab.closes_client_on(&connect(CLEAN, &[b"other"]), "a second CONNECT of another client");
}

#[test]
fn a_protocol_that_is_not_spoken_here_is_refused() {
    let lab = Lab::start();
    // [MQTT3-3.1.2-1]: not MQTT, so that nobody there would understand a CONNACK.
    for name in ["", "MQTX", "mqtt", "MQTT ", "MQTTT", "MQIsdq", "HTTP"] {
        lab.closes_on(&connect_as(name, 4, CLEAN, 60, &[b"c"]), name);
    }
    // [MQTT3-3.1.2-2]. With bit 7 a bridge of another broker asks for extensions that are not MQTT's [MQTT3-7.0.0-2];
    // refused like this it comes again without the bit.
    for (name, level) in
        [("MQTT", 0), ("MQTT", 1), ("MQTT", 3), ("MQTT", 0x84), ("MQIsdp", 4), ("MQIsdp", 0x83)]
    {
        let mut peer = lab.open();
        peer.ask(&connect_as(name, level, CLEAN, 60, &[b"c"]), &refused(1));
        peer.expect_closed("after a refusal");
    }
    // Beyond level 5 the answer is in the newest version that is spoken here.
    for level in [6, 9, 0x7F, 0xFF] {
        let mut peer = lab.open();
        peer.send(&connect_as("MQTT", level, CLEAN, 60, &[b"c"]));
        let frame = peer.frame();
        assert_eq!((frame[0], frame[2], frame[3]), (0x20, 0, 0x84), "level {level}: {frame:02x?}");
        peer.expect_closed("after a refusal");
    }
}

/// [MQTT3-3.1.4-1] [MQTT3-3.2.2-6]
#[test]
fn a_connect_that_does_not_conform_is_closed_without_a_connack() {
    let lab = Lab::start();
    let cases: &[(&str, u8, &[&[u8]])] = &[
        // [MQTT3-3.1.2-3]
        ("the reserved flag", CLEAN | 1, &[b"c"]),
        // [MQTT3-3.1.2-9]
        ("a will without topic", CLEAN | WILL, &[b"c"]),
        ("a will without message", CLEAN | WILL, &[b"c", b"t"]),
        // [MQTT3-3.1.2-11]
        ("will fields without the will flag", CLEAN, &[b"c", b"t", b"m"]),
        // [MQTT3-3.1.2-13]
        ("will QoS 1 without a will", CLEAN | WILL_QOS_1, &[b"c"]),
        ("will QoS 2 without a will", CLEAN | WILL_QOS_2, &[b"c"]),
        // [MQTT3-3.1.2-14]
        ("will QoS 3", CLEAN | WILL | WILL_QOS_1 | WILL_QOS_2, &[b"c", b"t", b"m"]),
        // [MQTT3-3.1.2-15]
        ("will retain without a will", CLEAN | WILL_RETAIN, &[b"c"]),
        // [MQTT3-3.1.2-18]
        ("a user name without its flag", CLEAN, &[b"c", b"u"]),
        // [MQTT3-3.1.2-19]
        ("the user name flag without a user name", CLEAN | USER_NAME, &[b"c"]),
        // [MQTT3-3.1.2-20]
        ("a password without its flag", CLEAN | USER_NAME, &[b"c", b"u", b"p"]),
        // [MQTT3-3.1.2-21]
        ("the password flag without a password", CLEAN | USER_NAME | PASSWORD, &[b"c", b"u"]),
        // [MQTT3-3.1.2-22]
        ("a password without a user name", CLEAN | PASSWORD, &[b"c", b"p"]),
        // [MQTT3-3.1.3-3]
        ("no client id", CLEAN, &[]),
        ("an empty will topic", CLEAN | WILL, &[b"c", b"", b"m"]),
        ("a wildcard in the will topic", CLEAN | WILL, &[b"c", b"t/#", b"m"]),
        ("one field too many", CLEAN | USER_NAME | PASSWORD, &[b"c", b"u", b"p", b"x"]),
    ];
    for (what, flags, fields) in cases {
        lab.closes_on(&connect(*flags, fields), what);
    }
    let whole = connect(CLEAN | USER_NAME, &[b"c", b"u"]);
    for length in 0..whole.len() - 2 {
        lab.closes_on(&packet(0x10, &whole[2..2 + length]), &format!("a CONNECT of {length} bytes"));
    }
    // No return code says that a packet is too large.
    lab.closes_on(&[0x10, 0x80, 0x80, 0x80, 0x01], "a CONNECT of 2 MiB");
}

/// [MQTT3-3.1.3-5]
#[test]
fn client_ids_of_1_to_23_letters_and_digits_are_taken_and_longer_ones_too() {
    let lab = Lab::start();
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let longest = [&letters[..23], &letters[23..46], &letters[39..]];
    let single = letters.chars().map(String::from);
    let longer = [24, 100, 1_000, 65_535].map(|length| "l".repeat(length));
    for id in longest.into_iter().map(String::from).chain(single).chain(longer) {
        lab.client(&id).disconnect();
    }
    lab.client("monitor 12/bed-3 ä☃").disconnect();
}

#[test]
fn an_empty_client_id_needs_a_clean_session_and_is_given_a_name_of_its_own() {
    let lab = Lab::start();
    // [MQTT3-3.1.3-6]: two of them are two clients, and each has the session that a client has.
    let mut first = lab.client("");
    let mut second = lab.client("");
    first.subscribe("t", 1);
    second.put("t", "hello");
    assert_eq!(texts(&first.heard()), ["hello"]);
    second.ask(&PINGREQ, &PINGRESP);
    // [MQTT3-3.1.3-7] [MQTT3-3.1.3-8]
    let mut peer = lab.open();
    peer.ask(&connect(0, &[b""]), &refused(2));
    peer.expect_closed("after a refusal");
}

/// [MQTT3-3.1.3-9]
#[test]
fn a_client_id_that_is_refused_is_answered_with_0x02() {
    let lab = Lab::start();
    let mut owner = lab.keeper("shared-name", ACCEPTED);
    // The same name, and another principal.
    let token = lab.site.token("staff:n.ito");
    let mut thief = Peer::open(lab.broker.address("gateway"));
    let hello = connect(USER_NAME | PASSWORD, &[b"shared-name", b"n.ito", token.as_bytes()]);
    thief.ask(&hello, &refused(2));
    thief.expect_closed("after a refusal");
    owner.ask(&PINGREQ, &PINGRESP);
}

/// [MQTT3-3.1.3-1]
#[test]
fn the_fields_of_the_payload_are_read_in_their_order() {
    let lab = Lab::start();
    let mut watcher = lab.subscriber("watcher", "gone/#", 0);
    let token = lab.site.token("service:lab");
    let mut client = Peer::open(lab.broker.address("gateway"));
    // Only if each is taken for what it is does the token open the door and the will go where it should.
    let fields: [&[u8]; 5] = [b"all-fields", b"gone/all-fields", b"bye", b"user", token.as_bytes()];
    client.ask(&connect(CLEAN | WILL | USER_NAME | PASSWORD, &fields), &ACCEPTED);
    drop(client);
    watcher.expect(&publish(PUBLISH, "gone/all-fields", None, "bye"));
    // [MQTT3-3.1.3-2]: the first is what its state is known by.
    let mut client = Peer::open(lab.broker.address("gateway"));
    let fields: [&[u8]; 3] = [b"all-fields", b"user", token.as_bytes()];
    client.ask(&connect(USER_NAME | PASSWORD, &fields), &ACCEPTED);
    client.disconnect();
    lab.keeper("all-fields", RESUMED);
}

/// [MQTT3-3.1.2-24]
#[test]
fn a_client_that_is_silent_for_one_and_a_half_keep_alives_is_disconnected() {
    let lab = Lab::start();
    let mut watcher = lab.subscriber("watcher", "gone", 0);
    let mut silent = lab.open();
    let mut careful = lab.client("no-keep-alive");
    let began = Instant::now();
    silent.ask(&connect_as("MQTT", 4, CLEAN | WILL, 1, &[b"silent", b"gone", b"silent"]), &ACCEPTED);
    silent.expect_closed("after one and a half keep-alives");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_500), "{took:?}");
    watcher.expect(&publish(PUBLISH, "gone", None, "silent"));
    // Nobody else was meant.
    careful.ask(&publish(PUBLISH | QOS_1, "t", Some(1), ""), &answer(PUBACK, 1));
}
