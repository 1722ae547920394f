//! Section 3.3: PUBLISH. Retained messages have a module of their own, and so have the flows of QoS 1 and 2.

use crate::bytes::{
    DUP, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, QOS_1, QOS_2, answer, packet, publish,
    suback, subscribe,
};
use crate::lab::Lab;
use crate::peer::texts;

#[test]
fn a_publish_that_is_none_closes_the_connection() {
    let lab = Lab::start();
    let cases: &[(&str, Vec<u8>)] = &[
        // [MQTT3-3.3.1-4]
        ("QoS 3", publish(PUBLISH | QOS_1 | QOS_2, "t", Some(1), "x")),
        ("QoS 3 with DUP", publish(PUBLISH | DUP | QOS_1 | QOS_2, "t", Some(1), "x")),
        // [MQTT3-3.3.1-2]
        ("DUP at QoS 0", publish(PUBLISH | DUP, "t", None, "x")),
        // [MQTT3-3.3.2-1]
        ("nothing", packet(PUBLISH, b"")),
        ("half a length", packet(PUBLISH, b"\0")),
        ("half a topic name", packet(PUBLISH, b"\0\x02t")),
        ("QoS 1 without identifier", packet(PUBLISH | QOS_1, b"\0\x01t")),
        // [MQTT3-4.7.3-1]
        ("an empty topic name", publish(PUBLISH, "", None, "x")),
        // [MQTT3-3.3.2-2] [MQTT3-4.7.1-1]
        ("#", publish(PUBLISH, "#", None, "x")),
        ("+", publish(PUBLISH, "+", None, "x")),
        ("a/+/b", publish(PUBLISH | QOS_1, "a/+/b", Some(1), "x")),
        ("a/#", publish(PUBLISH | QOS_2, "a/#", Some(1), "x")),
        ("a+", publish(PUBLISH, "a+", None, "x")),
        ("#a", publish(PUBLISH, "#a", None, "x")),
    ];
    let mut everybody = lab.subscriber("everybody", "#", 0);
    for (what, bytes) in cases {
        lab.closes_client_on(bytes, what);
    }
    assert!(everybody.heard().is_empty());
}

/// [MQTT3-3.3.1-3]
#[test]
fn dup_belongs_to_one_hop() {
    let lab = Lab::start();
    let mut reader = lab.subscriber("reader", "t/#", 2);
    let mut writer = lab.client("writer");
    writer.ask(&publish(PUBLISH | DUP | QOS_1, "t/1", Some(1), "x"), &answer(PUBACK, 1));
    writer.ask(&publish(PUBLISH | DUP | QOS_2, "t/2", Some(2), "x"), &answer(PUBREC, 2));
    let firsts: Vec<u8> = reader.heard().iter().map(|heard| heard.first).collect();
    assert_eq!(firsts, [PUBLISH | QOS_1, PUBLISH | QOS_2]);
}

/// [MQTT3-3.3.4-1] [MQTT3-3.3.2-3]
#[test]
fn the_answer_is_what_the_qos_asks_for() {
    let lab = Lab::start();
    let mut reader = lab.subscriber("reader", "t/+", 0);
    let mut writer = lab.client("writer");
    // QoS 0: none, so that the ping's is the next. [MQTT3-4.3.1-1]
    writer.ask(&[&publish(PUBLISH, "t/0", None, "0")[..], &PINGREQ].concat(), &PINGRESP);
    writer.ask(&publish(PUBLISH | QOS_1, "t/1", Some(1), "1"), &answer(PUBACK, 1));
    writer.ask(&publish(PUBLISH | QOS_2, "t/2", Some(2), "2"), &answer(PUBREC, 2));
    writer.ask(&answer(PUBREL, 2), &answer(PUBCOMP, 2));
    writer.put("other/1", "not subscribed");
    for qos in ["0", "1", "2"] {
        reader.expect(&publish(PUBLISH, format!("t/{qos}"), None, qos));
    }
    assert!(reader.heard().is_empty());
}

/// [MQTT3-3.3.5-1]
#[test]
fn overlapping_subscriptions_get_one_copy_at_the_highest_qos() {
    let lab = Lab::start();
    let mut reader = lab.client("reader");
    reader.ask(&subscribe(1, &[("a/#", 0), ("a/b", 2), ("a/+", 1)]), &suback(1, &[0, 2, 1]));
    let mut writer = lab.client("writer");
    writer.ask(&publish(PUBLISH | QOS_2, "a/b", Some(1), "x"), &answer(PUBREC, 1));
    let heard = reader.heard();
    assert_eq!(heard.iter().map(|heard| heard.first).collect::<Vec<_>>(), [PUBLISH | QOS_2]);
}

/// [MQTT3-3.3.5-2]
#[test]
fn a_publish_that_is_not_permitted_is_not_acknowledged() {
    let lab = Lab::start();
    lab.closes_client_on(&publish(PUBLISH | QOS_1, "secret/1", Some(1), "x"), "a denied publish at QoS 1");
    lab.closes_client_on(&publish(PUBLISH | QOS_2, "secret/1", Some(1), "x"), "a denied publish at QoS 2");
    // At QoS 0 nothing would be said of a permitted one either.
    let mut writer = lab.client("writer");
    writer.ask(&[&publish(PUBLISH, "secret/1", None, "x")[..], &PINGREQ].concat(), &PINGRESP);
    // What came before the denied one is kept, what comes behind it is not looked at.
    let mut reader = lab.subscriber("reader", "open/#", 0);
    writer.send(
        &[
            publish(PUBLISH | QOS_1, "open/before", Some(1), "before"),
            publish(PUBLISH | QOS_1, "secret/1", Some(2), "x"),
        ]
        .concat(),
    );
    writer.expect(&answer(PUBACK, 1));
    writer.expect_closed("a denied publish");
    assert_eq!(texts(&reader.heard()), ["before"]);
}

/// [MQTT3-4.6.0-5] [MQTT3-4.6.0-6]
#[test]
fn each_topic_is_delivered_in_the_order_in_which_it_was_published() {
    const ROUNDS: u16 = 200;
    let qos = |round: u16| usize::from(round % 3);
    let lab = Lab::start();
    let mut readers: Vec<_> =
        (0..3).map(|qos| lab.subscriber(&format!("reader-{qos}"), "order/#", qos)).collect();
    let mut writers: Vec<_> = (0..2).map(|number| lab.client(&format!("writer-{number}"))).collect();
    for round in 1..=ROUNDS {
        // Every QoS on one topic, from both writers.
        let (first, id) =
            [(PUBLISH, None), (PUBLISH | QOS_1, Some(round)), (PUBLISH | QOS_2, Some(round))][qos(round)];
        for (number, writer) in writers.iter_mut().enumerate() {
            writer.send(&publish(first, "order/1", id, format!("{number}:{round}")));
        }
    }
    for writer in &mut writers {
        for round in (1..=ROUNDS).filter(|round| qos(*round) > 0) {
            writer.expect(&answer([PUBACK, PUBREC][qos(round) - 1], round));
        }
    }
    for reader in &mut readers {
        let heard: Vec<(String, u16)> = reader
            .heard()
            .iter()
            .filter_map(|heard| heard.text().split_once(':'))
            .map(|(number, round)| (number.to_owned(), round.parse().unwrap()))
            .collect();
        assert_eq!(heard.len(), 2 * usize::from(ROUNDS));
        for (number, published) in ["0", "1"].iter().flat_map(|number| (0..3).map(move |qos| (number, qos))) {
            let rounds = heard.iter().filter(|(of, round)| of == number && qos(*round) == published);
            let expected = (1..=ROUNDS).filter(|round| qos(*round) == published);
            assert!(rounds.map(|(_, round)| *round).eq(expected), "writer {number}, QoS {published}");
        }
    }
}
