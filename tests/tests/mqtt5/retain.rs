//! Retained messages (section 3.3.1.3) and the options that concern them.

use wardline_wire::{Packet, Publish, QoS, ReasonCode, RetainHandling, SubscribeOptions};

use crate::support::*;

/// What somebody who subscribes to `filter` now is sent: payload, QoS and RETAIN.
fn kept(lab: &Lab, filter: &str) -> Vec<(String, QoS, bool)> {
    let mut client = lab.listener("late");
    subscribe(&mut client, filter, QoS::ExactlyOnce);
    heard(&mut client)
        .into_iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => (text(&publish), publish.qos, publish.retain),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// The last retained message of a topic is kept, with its QoS, for who subscribes later: [MQTT-3.3.1-5]. One without RETAIN
/// neither is kept nor changes what is: [MQTT-3.3.1-8].
#[test]
fn the_last_retained_message_of_a_topic_is_kept() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    retain(&mut device, "t/1", "old", 1);
    retain(&mut device, "t/1", "new", 2);
    device.send(&Packet::Publish(Publish { retain: true, ..message("t/2", "zero", QoS::AtMostOnce, 0) }));
    for (id, topic) in [(3, "t/1"), (4, "t/3")] {
        device.deliver(topic, "passing", id);
    }
    device.deliver("t/1", "", 5);
    let expected = [("new".to_owned(), QoS::AtLeastOnce, true), ("zero".to_owned(), QoS::AtMostOnce, true)];
    assert_eq!(kept(&lab, "t/+"), expected);
}

/// An empty payload is passed on like any other, removes what was kept, and is not kept: [MQTT-3.3.1-6] [MQTT-3.3.1-7].
#[test]
fn an_empty_retained_message_removes_what_was_kept() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    let mut present = lab.listener("present");
    subscribe(&mut present, "t", QoS::AtMostOnce);
    retain(&mut device, "t", "kept", 1);
    assert_eq!(kept(&lab, "t").len(), 1);
    retain(&mut device, "t", "", 2);
    assert_eq!(kept(&lab, "t"), []);
    assert_eq!(payloads(&mut present), ["kept", ""]);
}

fn handling(retain_handling: RetainHandling) -> SubscribeOptions {
    SubscribeOptions { retain_handling, ..at(QoS::AtMostOnce) }
}

/// Subscribes twice, and gives what came each time.
fn subscribe_twice(client: &mut Listener, filter: &str, options: SubscribeOptions) -> [Vec<String>; 2] {
    [2, 3].map(|id| {
        assert_eq!(ask_subscribe(client, id, &[(filter, options)]).reasons, [ReasonCode::Success]);
        payloads(client)
    })
}

/// Retain handling: always [MQTT-3.3.1-9], only for a new subscription [MQTT-3.3.1-10], never [MQTT-3.3.1-11]. A repeated
/// subscription sends again [MQTT-3.8.4-4].
#[test]
fn retain_handling_says_when_retained_messages_are_sent() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    for (id, topic) in (1..).zip(["t/1", "t/2", "u/1"]) {
        retain(&mut device, topic, topic, id);
    }
    let mut client = lab.listener("client");
    let both = || vec!["t/1".to_owned(), "t/2".to_owned()];
    let cases = [
        (RetainHandling::Send, [both(), both()]),
        (RetainHandling::SendIfNew, [both(), vec![]]),
        (RetainHandling::DoNotSend, [vec![], vec![]]),
    ];
    for (retain_handling, expected) in cases {
        assert_eq!(
            subscribe_twice(&mut client, "t/+", handling(retain_handling)),
            expected,
            "{retain_handling:?}"
        );
        assert_eq!(ask_unsubscribe(&mut client, 4, &["t/+"]).reasons, [ReasonCode::Success]);
    }
}

/// Retain as published: the flag is cleared [MQTT-3.3.1-12], or kept as it came [MQTT-3.3.1-13].
#[test]
fn retain_as_published_says_whether_the_flag_is_kept() {
    let lab = Lab::new();
    let mut device = lab.client("device");
    for (topic, retain_as_published) in [("cleared", false), ("kept", true)] {
        let mut client = lab.client("client");
        let options = SubscribeOptions { retain_as_published, ..at(QoS::AtMostOnce) };
        ask_subscribe(&mut client, 1, &[(topic, options)]);
        retain(&mut device, topic, "retained", 1);
        device.deliver(topic, "plain", 2);
        let flags: Vec<bool> =
            [next_publish(&mut client), next_publish(&mut client)].map(|p| p.retain).into();
        assert_eq!(flags, [retain_as_published, false]);
    }
}
