//! SUBSCRIBE and SUBACK (sections 3.8 and 3.9).

use wardline_wire::{Packet, QoS, ReasonCode, SubscribeOptions};

use crate::support::*;

/// A SUBSCRIBE for nothing is a protocol error: [MQTT-3.8.3-2]; reserved option bits are malformed: [MQTT-3.8.3-5]; no local
/// and a shared subscription exclude each other: [MQTT-3.8.3-4].
#[test]
fn a_subscribe_must_make_sense() {
    let lab = Lab::new();
    assert_eq!(lab.broken_by(&[0x82, 3, 0, 1, 0]), ReasonCode::ProtocolError, "nothing");
    for (what, options, reason) in [
        ("reserved bit 6", 0x40, ReasonCode::MalformedPacket),
        ("reserved bit 7", 0x80, ReasonCode::MalformedPacket),
        ("QoS 3", 0x03, ReasonCode::ProtocolError),
        ("retain handling 3", 0x30, ReasonCode::ProtocolError),
    ] {
        let bytes = frame(0x82, &[0, 1, 0, 0, 1, b't', options]);
        assert_eq!(lab.broken_by(&bytes), reason, "{what}");
    }
    let shared = frame(0x82, &[&[0, 1, 0][..], &field(b"$share/g/t"), &[0x04]].concat());
    assert_eq!(lab.broken_by(&shared), ReasonCode::ProtocolError);
}

/// No local: a client is not sent what it published itself, others are: [MQTT-3.8.3-3].
#[test]
fn no_local_keeps_a_client_s_own_publishes_from_it() {
    let lab = Lab::new();
    let mut client = lab.listener("client");
    let options = SubscribeOptions { no_local: true, ..at(QoS::AtMostOnce) };
    ask_subscribe(&mut client, 1, &[("t", options), ("u", at(QoS::AtMostOnce))]);
    let mut other = lab.listener("other");
    subscribe(&mut other, "t", QoS::AtMostOnce);
    client.send(&publish("t", "mine", QoS::AtMostOnce, 0));
    client.send(&publish("u", "mine too", QoS::AtMostOnce, 0));
    assert_eq!(payloads(&mut client), ["mine too"]);
    assert_eq!(payloads(&mut other), ["mine"]);
    other.send(&publish("t", "theirs", QoS::AtMostOnce, 0));
    assert_eq!(payloads(&mut other), ["theirs"]);
    assert_eq!(payloads(&mut client), ["theirs"]);
}

/// Every SUBSCRIBE has its SUBACK, with a reason for each filter in their order, the granted QoS or why not: [MQTT-3.8.4-1]
/// [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2].
#[test]
fn a_suback_has_a_reason_for_each_filter_in_order() {
    let lab = Lab::new();
    let mut client = lab.listener("client");
    let filters = [
        ("a", at(QoS::ExactlyOnce)),
        ("secret/a", at(QoS::ExactlyOnce)),
        ("b/#", at(QoS::AtMostOnce)),
        ("secret/#", at(QoS::AtMostOnce)),
        ("c", at(QoS::AtLeastOnce)),
    ];
    let answer = ask_subscribe(&mut client, 77, &filters);
    assert_eq!(answer.packet_id, packet_id(77));
    let [a, denied, b, denied_too, c] = answer.reasons[..] else { panic!("{answer:?}") };
    assert_eq!([a, b, c], [ReasonCode::GrantedQoS2, ReasonCode::Success, ReasonCode::GrantedQoS1]);
    assert!(denied.is_error() && denied_too.is_error(), "{answer:?}");
    // As if each had come by itself: those that were granted are subscribed.
    let mut device = lab.client("device");
    for (id, topic) in (1..).zip(["a", "b/1", "c"]) {
        device.deliver(topic, topic, id);
    }
    assert_eq!(payloads(&mut client), ["a", "b/1", "c"]);
}

/// A subscription to the same filter takes the place of the first: [MQTT-3.8.4-3], and nothing is lost on the way:
/// [MQTT-3.8.4-4].
#[test]
fn a_repeated_subscription_replaces_the_first() {
    let lab = Lab::new();
    let mut client = lab.listener("client");
    let mut device = lab.client("device");
    client.send(&subscribe_as(1, &[("t", at(QoS::AtMostOnce))], Some(1)));
    assert!(matches!(client.receive(), Packet::SubAck(_)));
    device.deliver("t", "before", 1);
    client.send(&subscribe_as(2, &[("t", at(QoS::AtLeastOnce))], Some(2)));
    device.deliver("t", "after", 2);
    let publishes: Vec<_> = heard(&mut client)
        .into_iter()
        .filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        })
        .collect();
    let told: Vec<_> = publishes.iter().map(text).collect();
    assert_eq!(told, ["before", "after"], "each once");
    assert_eq!(publishes[0].properties.subscription_ids, [1]);
    device.deliver("t", "again", 3);
    let again = next_publish(&mut client);
    assert_eq!((again.qos, &again.properties.subscription_ids[..]), (QoS::AtLeastOnce, &[2][..]));
    assert_eq!(ask_unsubscribe(&mut client, 3, &["t"]).reasons, [ReasonCode::Success]);
    device.deliver("t", "gone", 4);
    assert_eq!(payloads(&mut client), [""; 0]);
}

/// A publish is delivered at the lower of its own QoS and the granted one: [MQTT-3.8.4-8].
#[test]
fn a_publish_is_delivered_at_the_lower_qos() {
    let lab = Lab::new();
    let mut client = lab.client("client");
    let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let mut device = lab.client("device");
    for (number, granted) in (0..).zip(levels) {
        subscribe(&mut client, &format!("t/{number}"), granted);
        for published in levels {
            device.send(&publish(&format!("t/{number}"), "x", published, 1));
            let heard = next_publish(&mut client);
            assert_eq!(heard.qos, published.min(granted), "{published:?} to {granted:?}");
            match (published, heard.qos) {
                (QoS::ExactlyOnce, _) => {
                    assert_eq!(device.receive(), Packet::PubRec(ack(1)));
                    device.send(&Packet::PubRel(ack(1)));
                    assert_eq!(device.receive(), Packet::PubComp(ack(1)));
                }
                (QoS::AtLeastOnce, _) => assert_eq!(device.receive(), Packet::PubAck(ack(1))),
                (QoS::AtMostOnce, _) => {}
            }
        }
    }
}
