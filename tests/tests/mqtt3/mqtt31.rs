//! MQTT 3.1, the version before it was a standard: protocol `MQIsdp`, level 3.

use crate::bytes::{
    ACCEPTED, CLEAN, DISCONNECT, DUP, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, QOS_1,
    QOS_2, RETAIN, UNSUBACK, WILL, WILL_QOS_1, WILL_RETAIN, answer, connect_as, publish, refused, suback,
    subscribe, unsubscribe,
};
use crate::lab::Lab;
use crate::peer::{Peer, texts};

fn connect(flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    connect_as("MQIsdp", 3, flags, 60, fields)
}

impl Lab {
    fn old_client(&self, flags: u8, id: &str) -> Peer {
        let mut peer = self.open();
        // There was no session present flag: the byte is 0 whatever there is.
        peer.ask(&connect(flags, &[id.as_bytes()]), &ACCEPTED);
        peer
    }
}

#[test]
fn client_ids_are_not_empty_and_may_be_longer_than_23_characters() {
    let lab = Lab::start();
    for length in [1, 22, 23, 24, 64, 1_000] {
        lab.old_client(CLEAN, &"i".repeat(length)).disconnect();
    }
    for flags in [0, CLEAN] {
        let mut peer = lab.open();
        peer.ask(&connect(flags, &[b""]), &refused(2));
        peer.expect_closed("after a refusal");
    }
    // The name of one version with the level of the other, and the bit with which bridges of another broker announce
    // themselves.
    for (name, level) in [("MQIsdp", 4), ("MQTT", 3), ("MQIsdp", 0x83), ("MQTT", 0x84)] {
        let mut peer = lab.open();
        peer.ask(&connect_as(name, level, CLEAN, 60, &[b"bridge"]), &refused(1));
        peer.expect_closed("after a refusal");
    }
}

/// One publish and the whole of its exchange, on both sides.
fn hand_over(writer: &mut Peer, reader: &mut Peer, root: &str, qos: u16, first: u8) {
    let topic = format!("{root}/{qos}");
    writer.send(&publish(PUBLISH | first, &topic, (qos > 0).then_some(qos), "x"));
    match qos {
        1 => writer.expect(&answer(PUBACK, 1)),
        2 => {
            writer.expect(&answer(PUBREC, 2));
            writer.ask(&answer(PUBREL, 2), &answer(PUBCOMP, 2));
        }
        _ => writer.ask(&PINGREQ, &PINGRESP),
    }
    let heard = reader.publish();
    assert_eq!((heard.first, &heard.topic), (PUBLISH | first, &topic));
    match qos {
        1 => reader.send(&answer(PUBACK, heard.id())),
        2 => {
            reader.ask(&answer(PUBREC, heard.id()), &answer(PUBREL, heard.id()));
            reader.send(&answer(PUBCOMP, heard.id()));
        }
        _ => {}
    }
}

#[test]
fn every_qos_goes_both_ways_and_to_and_from_other_versions() {
    let lab = Lab::start();
    let mut old = lab.old_client(CLEAN, "old");
    let mut new = lab.subscriber("new", "from-old/#", 2);
    old.ask(&subscribe(1, &[("to-old/0", 0), ("to-old/1", 1), ("to-old/2", 2)]), &suback(1, &[0, 1, 2]));
    for (qos, first) in [(0, 0), (1, QOS_1), (2, QOS_2)] {
        hand_over(&mut old, &mut new, "from-old", qos, first);
        hand_over(&mut new, &mut old, "to-old", qos, first);
    }
    old.ask(&unsubscribe(2, &["to-old/1"]), &answer(UNSUBACK, 2));
    // A refusal is what MQTT 3.1.1 made of it: 3.1 could not say it.
    old.ask(&subscribe(3, &[("secret/1", 1), ("open", 1)]), &suback(3, &[0x80, 1]));
    old.ask(&PINGREQ, &PINGRESP);
    old.disconnect();
}

#[test]
fn dup_is_allowed_where_3_1_has_it() {
    let lab = Lab::start();
    let mut old = lab.old_client(CLEAN, "old");
    let with_dup = |bytes: Vec<u8>| [&[bytes[0] | DUP], &bytes[1..]].concat();
    old.ask(&with_dup(subscribe(1, &[("t", 1)])), &suback(1, &[1]));
    old.ask(&with_dup(unsubscribe(2, &["t"])), &answer(UNSUBACK, 2));
    old.ask(&publish(PUBLISH | QOS_2, "t", Some(3), "x"), &answer(PUBREC, 3));
    old.ask(&publish(PUBLISH | QOS_2 | DUP, "t", Some(3), "x"), &answer(PUBREC, 3));
    old.ask(&with_dup(answer(PUBREL, 3)), &answer(PUBCOMP, 3));
    old.send(&DISCONNECT);
    old.expect_closed("DISCONNECT");
}

#[test]
fn retained_messages_and_wills_are_those_of_3_1_1() {
    let lab = Lab::start();
    let mut watcher = lab.subscriber("watcher", "gone", 1);
    let mut old = lab.open();
    let flags = CLEAN | WILL | WILL_QOS_1 | WILL_RETAIN;
    old.ask(&connect(flags, &[b"old", b"gone", b"bye"]), &ACCEPTED);
    old.ask(&publish(PUBLISH | QOS_1 | RETAIN, "kept", Some(1), "here"), &answer(PUBACK, 1));
    drop(old);
    let heard = watcher.publish();
    assert_eq!((heard.first, heard.text()), (PUBLISH | QOS_1, "bye"));
    let mut old = lab.old_client(CLEAN, "old");
    for (topic, text) in [("kept", "here"), ("gone", "bye")] {
        old.ask(&subscribe(1, &[(topic, 0)]), &suback(1, &[0]));
        old.expect(&publish(PUBLISH | RETAIN, topic, None, text));
    }
}

#[test]
fn a_session_is_kept_taken_over_and_repeated() {
    let lab = Lab::start();
    let mut writer = lab.client("writer");
    let mut old = lab.old_client(0, "old");
    old.ask(&subscribe(1, &[("t", 1)]), &suback(1, &[1]));
    writer.put("t", "in flight");
    let heard = old.publish();
    let mut again = lab.old_client(0, "old");
    old.expect_closed("taken over");
    again.expect(&publish(heard.first | DUP, "t", heard.id, "in flight"));
    again.send(&answer(PUBACK, heard.id()));
    again.disconnect();
    writer.put("t", "owed");
    let mut again = lab.old_client(0, "old");
    assert_eq!(texts(&again.heard()), ["owed"]);
}
