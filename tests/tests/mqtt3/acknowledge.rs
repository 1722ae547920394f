//! Sections 4.3, 4.4 and 4.6: the flows of QoS 1 and 2 in both directions, repeated where a connection broke them off.

use crate::bytes::{
    ACCEPTED, DUP, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, QOS_1, QOS_2, RESUMED,
    answer, publish,
};
use crate::lab::Lab;
use crate::peer::{Heard, Peer, texts};

impl Peer {
    /// The next publishes, as many as `count`, not acknowledged.
    fn publishes(&mut self, count: usize) -> Vec<Heard> {
        (0..count).map(|_| self.publish()).collect()
    }
}

/// The bytes of a repeat.
fn again(heard: &Heard) -> Vec<u8> {
    publish(heard.first | DUP, &heard.topic, heard.id, &heard.payload)
}

/// A reader that keeps its session and has the two publishes of each QoS from 0 on its way to it.
fn reader_owed_six(lab: &Lab) -> (Peer, Vec<Heard>) {
    let mut reader = lab.keeper("reader", ACCEPTED);
    reader.subscribe("t", 2);
    let mut writer = lab.client("writer");
    for id in 1..=2 {
        writer.send(&publish(PUBLISH, "t", None, format!("0/{id}")));
        writer.ask(&publish(PUBLISH | QOS_1, "t", Some(id), format!("1/{id}")), &answer(PUBACK, id));
        writer.ask(&publish(PUBLISH | QOS_2, "t", Some(id), format!("2/{id}")), &answer(PUBREC, id));
        writer.ask(&answer(PUBREL, id), &answer(PUBCOMP, id));
    }
    let heard = reader.publishes(6);
    (reader, heard)
}

/// [MQTT3-4.3.2-2]
#[test]
fn at_qos_1_a_repeat_after_the_puback_is_another_publish() {
    let lab = Lab::start();
    let mut reader = lab.subscriber("reader", "t", 1);
    let mut writer = lab.client("writer");
    for (first, payload) in [(QOS_1, "one"), (QOS_1 | DUP, "one"), (QOS_1, "two")] {
        writer.ask(&publish(PUBLISH | first, "t", Some(5), payload), &answer(PUBACK, 5));
    }
    assert_eq!(texts(&reader.heard()), ["one", "one", "two"]);
}

/// [MQTT3-4.3.3-2]
#[test]
fn at_qos_2_a_publish_is_taken_once_until_it_is_released() {
    let lab = Lab::start();
    let mut reader = lab.subscriber("reader", "t", 0);
    let mut writer = lab.keeper("writer", ACCEPTED);
    writer.ask(&publish(PUBLISH | QOS_2, "t", Some(5), "one"), &answer(PUBREC, 5));
    writer.ask(&publish(PUBLISH | DUP | QOS_2, "t", Some(5), "one"), &answer(PUBREC, 5));
    // On another connection, with or without DUP, and even if it says something else: [MQTT3-2.3.1-2] forbids the
    // client to use an identifier that is in use.
    drop(writer);
    let mut writer = lab.keeper("writer", RESUMED);
    writer.ask(&publish(PUBLISH | DUP | QOS_2, "t", Some(5), "one"), &answer(PUBREC, 5));
    writer.ask(&publish(PUBLISH | QOS_2, "t", Some(5), "something else"), &answer(PUBREC, 5));
    // The identifier of a QoS 1 publish is not its concern.
    writer.ask(&publish(PUBLISH | QOS_1, "t", Some(5), "at QoS 1"), &answer(PUBACK, 5));
    // [MQTT3-2.3.1-3]: free again after PUBCOMP, and PUBREL is answered as often as it comes.
    writer.ask(&answer(PUBREL, 5), &answer(PUBCOMP, 5));
    writer.ask(&answer(PUBREL, 5), &answer(PUBCOMP, 5));
    writer.ask(&publish(PUBLISH | QOS_2, "t", Some(5), "two"), &answer(PUBREC, 5));
    assert_eq!(texts(&reader.heard()), ["one", "at QoS 1", "two"]);
}

#[test]
fn what_is_sent_first_has_no_dup_and_an_identifier_of_its_own() {
    let lab = Lab::start();
    let (mut reader, heard) = reader_owed_six(&lab);
    let firsts: Vec<_> = heard.iter().map(|heard| heard.first).collect();
    // [MQTT3-4.3.1-1] [MQTT3-4.3.2-1] [MQTT3-4.3.3-1]
    let round = [PUBLISH, PUBLISH | QOS_1, PUBLISH | QOS_2];
    assert_eq!(firsts, [round, round].concat());
    // [MQTT3-2.3.1-4]
    let mut ids: Vec<_> = heard.iter().filter_map(|heard| heard.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == 4 && ids[0] > 0, "{ids:?}");
    // [MQTT3-4.5.0-2]: acknowledged, each QoS by its own rules, it is done with.
    reader.send(&[answer(PUBACK, heard[1].id()), answer(PUBACK, heard[4].id())].concat());
    for at in [2, 5] {
        reader.ask(&answer(PUBREC, heard[at].id()), &answer(PUBREL, heard[at].id()));
        reader.send(&answer(PUBCOMP, heard[at].id()));
    }
    reader.ask(&PINGREQ, &PINGRESP);
    drop(reader);
    assert!(lab.keeper("reader", RESUMED).heard().is_empty());
}

#[test]
fn what_was_not_acknowledged_is_repeated_with_dup_in_its_order_under_its_identifier() {
    let lab = Lab::start();
    let (reader, heard) = reader_owed_six(&lab);
    drop(reader);
    // [MQTT3-4.4.0-1] [MQTT3-3.3.1-1] [MQTT3-4.6.0-1]; QoS 0 is owed to nobody. [MQTT3-3.3.1-2]
    let mut reader = lab.keeper("reader", RESUMED);
    for at in [1, 2, 4, 5] {
        reader.expect(&again(&heard[at]));
    }
    assert!(reader.heard().is_empty());
    // The first half of the acknowledgements, and the connection is gone again.
    reader.send(&answer(PUBACK, heard[1].id()));
    reader.ask(&answer(PUBREC, heard[2].id()), &answer(PUBREL, heard[2].id()));
    drop(reader);
    // [MQTT3-4.3.3-1]: after PUBREL it is PUBREL that is repeated, and never the publish.
    let mut reader = lab.keeper("reader", RESUMED);
    reader.expect(&answer(PUBREL, heard[2].id()));
    reader.expect(&again(&heard[4]));
    reader.expect(&again(&heard[5]));
    reader.send(&answer(PUBCOMP, heard[2].id()));
    // What is new comes behind the repeats, and is no repeat.
    lab.client("writer").put("t", "new");
    let new = reader.publish();
    assert_eq!((new.first, new.text()), (PUBLISH | QOS_1, "new"));
    for heard in [&heard[4], &new] {
        reader.send(&answer(PUBACK, heard.id()));
    }
    reader.ask(&answer(PUBREC, heard[5].id()), &answer(PUBREL, heard[5].id()));
    reader.send(&answer(PUBCOMP, heard[5].id()));
    reader.ask(&PINGREQ, &PINGRESP);
    drop(reader);
    assert!(lab.keeper("reader", RESUMED).heard().is_empty());
}

/// [MQTT3-4.6.0-2] [MQTT3-4.6.0-3] [MQTT3-4.6.0-4]
#[test]
fn acknowledgements_in_another_order_settle_what_they_name() {
    let lab = Lab::start();
    let (mut reader, heard) = reader_owed_six(&lab);
    // A client must keep the order; one that does not loses nothing, and costs nobody else anything.
    reader.send(&answer(PUBACK, heard[4].id()));
    for at in [5, 2] {
        reader.ask(&answer(PUBREC, heard[at].id()), &answer(PUBREL, heard[at].id()));
    }
    reader.send(&answer(PUBCOMP, heard[2].id()));
    reader.ask(&PINGREQ, &PINGRESP);
    drop(reader);
    let mut reader = lab.keeper("reader", RESUMED);
    reader.expect(&again(&heard[1]));
    reader.expect(&answer(PUBREL, heard[5].id()));
    assert!(reader.heard().is_empty());
}

/// [MQTT3-2.3.1-6]
#[test]
fn an_acknowledgement_of_what_was_never_sent_is_no_harm() {
    let lab = Lab::start();
    let mut reader = lab.subscriber("reader", "t", 1);
    reader.send(&answer(PUBACK, 77));
    reader.ask(&answer(PUBREC, 77), &answer(PUBREL, 77));
    reader.send(&answer(PUBCOMP, 77));
    reader.ask(&answer(PUBREL, 78), &answer(PUBCOMP, 78));
    lab.client("writer").put("t", "x");
    assert_eq!(texts(&reader.heard()), ["x"]);
}

/// [MQTT3-4.8.0-1]
#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection_and_settles_nothing() {
    let lab = Lab::start();
    for (qos, wrong) in [(QOS_1, PUBREC), (QOS_1, PUBCOMP), (QOS_2, PUBACK), (QOS_2, PUBCOMP)] {
        // A clean session, so that nothing is left of the round before.
        lab.client("reader").disconnect();
        let mut reader = lab.keeper("reader", ACCEPTED);
        reader.subscribe("t", qos >> 1);
        lab.client("writer").send(&publish(PUBLISH | qos, "t", Some(1), "x"));
        let heard = reader.publish();
        reader.send(&answer(wrong, heard.id()));
        reader.expect_closed("an acknowledgement of the wrong kind");
        lab.keeper("reader", RESUMED).expect(&again(&heard));
    }
}
