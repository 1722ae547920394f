//! Sections 3.1.2.4 and 4.1: sessions.

use wardline_tests::Broker;

use crate::bytes::{
    ACCEPTED, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, QOS_1, QOS_2, RESUMED, answer,
    publish,
};
use crate::lab::Lab;
use crate::peer::texts;

#[test]
fn a_session_that_is_kept_is_owed_what_is_published_while_it_is_away() {
    let lab = Lab::start();
    // [MQTT3-3.1.2-4]: none yet, so that one is made.
    let mut reader = lab.keeper("reader", ACCEPTED);
    reader.subscribe("t/+", 2);
    reader.disconnect();
    let mut writer = lab.client("writer");
    // [MQTT3-3.1.2-5] [MQTT3-4.5.0-1]: QoS 1 and 2; QoS 0 is not owed to somebody who is away.
    writer.ask(&publish(PUBLISH | QOS_1, "t/1", Some(1), "one"), &answer(PUBACK, 1));
    writer.ask(&publish(PUBLISH | QOS_2, "t/2", Some(2), "two"), &answer(PUBREC, 2));
    writer.ask(&answer(PUBREL, 2), &answer(PUBCOMP, 2));
    writer.put("other/3", "not subscribed");
    // [MQTT3-4.1.0-1]: its subscriptions are still there, and what is owed comes once.
    let mut reader = lab.keeper("reader", RESUMED);
    let heard = reader.heard();
    assert_eq!(texts(&heard), ["one", "two"]);
    assert!(heard.iter().all(|heard| heard.first & 0x08 == 0), "it was never sent before: {heard:?}");
    reader.send(&answer(PUBACK, heard[0].id()));
    reader.ask(&answer(PUBREC, heard[1].id()), &answer(PUBREL, heard[1].id()));
    reader.send(&answer(PUBCOMP, heard[1].id()));
    writer.put("t/3", "three");
    assert_eq!(texts(&reader.heard()), ["three"]);
}

/// [MQTT3-3.1.2-6]
#[test]
fn a_clean_session_lasts_as_long_as_its_connection_and_leaves_nothing() {
    let lab = Lab::start();
    let mut writer = lab.client("writer");
    // What the session before it was owed is gone, and so are its subscriptions and its half-done exchanges.
    let mut reader = lab.keeper("reader", ACCEPTED);
    reader.subscribe("t", 2);
    reader.ask(&publish(PUBLISH | QOS_2, "elsewhere", Some(9), "half"), &answer(PUBREC, 9));
    reader.disconnect();
    writer.put("t", "owed to the old session");
    let mut watcher = lab.subscriber("watcher", "elsewhere", 0);
    let mut reader = lab.client("reader");
    assert!(reader.heard().is_empty());
    reader.ask(&publish(PUBLISH | QOS_2, "elsewhere", Some(9), "new"), &answer(PUBREC, 9));
    assert_eq!(texts(&watcher.heard()), ["new"]);
    // [MQTT3-4.1.0-2]: while it is connected it is a session like any other.
    reader.subscribe("t", 1);
    for number in 0..50 {
        writer.put("t", &number.to_string());
    }
    assert_eq!(reader.heard().len(), 50);
    // None of which the next one has.
    drop(reader);
    let mut reader = lab.keeper("reader", ACCEPTED);
    writer.put("t", "for nobody");
    assert!(reader.heard().is_empty());
}

/// [MQTT3-4.1.0-1]
#[test]
fn a_session_outlives_the_server() {
    let lab = Lab::start();
    let mut reader = lab.keeper("reader", ACCEPTED);
    reader.subscribe("t", 1);
    let mut writer = lab.keeper("writer", ACCEPTED);
    writer.put("t", "in flight");
    let in_flight = reader.publish();
    reader.disconnect();
    writer.put("t", "owed");
    writer.ask(&publish(PUBLISH | QOS_2, "t", Some(3), "half"), &answer(PUBREC, 3));
    let Lab { broker, site } = lab;
    broker.kill();
    let broker = Broker::start(&site);
    let lab = Lab { broker, site };
    let mut writer = lab.keeper("writer", RESUMED);
    writer.ask(&publish(PUBLISH | 0x08 | QOS_2, "t", Some(3), "half"), &answer(PUBREC, 3));
    writer.ask(&answer(PUBREL, 3), &answer(PUBCOMP, 3));
    let mut reader = lab.keeper("reader", RESUMED);
    let heard = reader.heard();
    assert_eq!(texts(&heard), ["in flight", "owed", "half"]);
    assert_eq!(heard[0].id, in_flight.id);
    reader.ask(&PINGREQ, &PINGRESP);
}
