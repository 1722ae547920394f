//! Section 3.3.1.3: RETAIN.

use crate::bytes::{
    ACCEPTED, CLEAN, PUBACK, PUBLISH, PUBREC, QOS_1, QOS_2, RETAIN, answer, connect, publish, suback,
    subscribe,
};
use crate::lab::Lab;
use crate::peer::{Peer, texts};

impl Peer {
    /// Publishes a retained message at QoS 1 and waits for the acknowledgement.
    fn retain(&mut self, topic: &str, payload: &str) {
        self.ask(&publish(PUBLISH | QOS_1 | RETAIN, topic, Some(8), payload), &answer(PUBACK, 8));
    }
}

#[test]
fn the_last_retained_message_of_each_topic_meets_a_new_subscription() {
    let lab = Lab::start();
    let mut writer = lab.client("writer");
    // [MQTT3-3.3.1-5]: message and QoS.
    writer.send(&publish(PUBLISH | RETAIN, "kept/0", None, "zero"));
    writer.retain("kept/1", "one, once");
    writer.retain("kept/1", "one");
    writer.ask(&publish(PUBLISH | QOS_2 | RETAIN, "kept/2", Some(2), "two"), &answer(PUBREC, 2));
    // [MQTT3-3.3.1-12]
    writer.put("kept/1", "passing");
    writer.put("kept/3", "passing");
    // [MQTT3-3.3.1-6] [MQTT3-3.3.1-8]
    let mut reader = lab.subscriber("reader", "kept/+", 2);
    let mut heard: Vec<_> =
        reader.heard().into_iter().map(|heard| (heard.topic, heard.first, heard.payload)).collect();
    heard.sort();
    let expected = [("0", 0, "zero"), ("1", QOS_1, "one"), ("2", QOS_2, "two")];
    let expected = expected
        .map(|(name, qos, text)| (format!("kept/{name}"), PUBLISH | RETAIN | qos, text.as_bytes().to_vec()));
    assert_eq!(heard, expected);
    // At the QoS that was granted, if that is lower.
    let mut modest = lab.subscriber("modest", "kept/2", 1);
    assert_eq!(modest.publish().first, PUBLISH | RETAIN | QOS_1);
    // Not to a subscription that does not match, and not because another client subscribed.
    assert!(lab.subscriber("elsewhere", "kept", 0).heard().is_empty());
    assert!(reader.heard().is_empty());
}

/// [MQTT3-3.3.1-9]
#[test]
fn an_established_subscription_gets_it_as_any_other_publish() {
    let lab = Lab::start();
    let mut reader = lab.subscriber("reader", "kept", 1);
    let mut writer = lab.client("writer");
    writer.retain("kept", "first");
    let heard = reader.publish();
    assert_eq!((heard.first, heard.text()), (PUBLISH | QOS_1, "first"));
    // Nor is the flag there for a session that hears of it later.
    let mut sleeper = lab.keeper("sleeper", ACCEPTED);
    sleeper.subscribe("kept", 1);
    assert_eq!(sleeper.publish().first, PUBLISH | QOS_1 | RETAIN);
    sleeper.disconnect();
    writer.retain("kept", "second");
    let mut sleeper = lab.keeper("sleeper", crate::bytes::RESUMED);
    let firsts: Vec<_> =
        sleeper.heard().iter().map(|heard| (heard.first & RETAIN, heard.text().to_owned())).collect();
    assert!(firsts.contains(&(0, "second".to_owned())), "{firsts:?}");
}

/// [MQTT3-3.3.1-7]
#[test]
fn a_retained_message_at_qos_0_replaces_what_was_retained() {
    let lab = Lab::start();
    let mut writer = lab.client("writer");
    writer.retain("kept", "at QoS 1");
    writer.send(&publish(PUBLISH | RETAIN, "kept", None, "at QoS 0"));
    writer.put("sync", "");
    lab.subscriber("reader", "kept", 1).expect(&publish(PUBLISH | RETAIN, "kept", None, "at QoS 0"));
}

#[test]
fn an_empty_retained_message_is_delivered_and_clears_its_topic() {
    let lab = Lab::start();
    let mut writer = lab.client("writer");
    writer.retain("kept/1", "one");
    writer.retain("kept/2", "two");
    let mut reader = lab.subscriber("reader", "kept/#", 0);
    assert_eq!(texts(&reader.heard()).len(), 2);
    // [MQTT3-3.3.1-10]
    writer.retain("kept/1", "");
    reader.expect(&publish(PUBLISH, "kept/1", None, ""));
    // Neither of these retains anything. [MQTT3-3.3.1-11] [MQTT3-3.3.1-12]
    writer.retain("kept/3", "");
    writer.put("kept/2", "");
    let mut later = lab.subscriber("later", "kept/#", 0);
    later.expect(&publish(PUBLISH | RETAIN, "kept/2", None, "two"));
    assert!(later.heard().is_empty());
}

/// [MQTT3-3.1.2-7]
#[test]
fn retained_messages_outlive_the_session_that_published_them() {
    let lab = Lab::start();
    let mut writer = lab.client("writer");
    writer.retain("kept/clean", "of a clean session");
    writer.disconnect();
    let mut writer = lab.keeper("writer", ACCEPTED);
    writer.retain("kept/durable", "of a durable session");
    writer.disconnect();
    // It ends the durable session.
    lab.client("writer").disconnect();
    let mut heard: Vec<_> =
        lab.subscriber("reader", "kept/+", 0).heard().into_iter().map(|heard| heard.topic).collect();
    heard.sort();
    assert_eq!(heard, ["kept/clean", "kept/durable"]);
}

#[test]
fn every_subscribe_is_answered_with_what_is_retained() {
    let lab = Lab::start();
    lab.client("writer").retain("kept/1", "one");
    let mut reader = lab.open();
    reader.ask(&connect(CLEAN, &[b"reader"]), &ACCEPTED);
    // Wildcards at both ends, and one filter twice: each of them is a new subscription, or replaces one.
    for filter in ["kept/1", "kept/+", "+/1", "kept/#", "#", "+/+", "kept/1"] {
        reader.ask(&subscribe(3, &[(filter, 0)]), &suback(3, &[0]));
        let heard: Vec<_> = reader.heard().into_iter().filter(|heard| heard.topic == "kept/1").collect();
        assert_eq!(heard.iter().map(|heard| heard.first).collect::<Vec<_>>(), [PUBLISH | RETAIN], "{filter}");
    }
}
