//! The will (sections 3.1.2.5 to 3.1.2.7 and 3.1.3.2). Its delay: `broker/core/tests/conformance.rs`.

use wardline_wire::{Connect, Packet, QoS, ReasonCode, SubscribeOptions, Will};

use crate::support::*;

fn with_will(id: &str, will: Will) -> Connect {
    Connect { will: Some(will), ..connect5(id) }
}

fn watcher(lab: &Lab) -> Listener {
    let mut watcher = lab.listener("watcher");
    let options = SubscribeOptions { retain_as_published: true, ..at(QoS::ExactlyOnce) };
    ask_subscribe(&mut watcher, 1, &[("gone/#", options)]);
    watcher
}

/// A will is kept and published when the connection ends without a DISCONNECT, as when it breaks or a protocol error closes
/// it: [MQTT-3.1.2-7] [MQTT-3.1.2-8].
#[test]
fn a_will_is_published_when_the_connection_ends_without_disconnect() {
    let lab = Lab::new();
    let mut watcher = watcher(&lab);
    let (lost, _) = lab.connected(with_will("lost", will("gone/lost", "connection broken")));
    drop(lost);
    assert_eq!(text(&next_publish(&mut watcher)), "connection broken");
    let (mut wrong, _) = lab.connected(with_will("wrong", will("gone/wrong", "protocol error")));
    wrong.send_bytes(&[0x00, 0x00]);
    assert_eq!(wrong.goodbye(), ReasonCode::MalformedPacket);
    assert_eq!(text(&next_publish(&mut watcher)), "protocol error");
}

/// A DISCONNECT with 0x00 takes the will back, any other does not: [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3].
#[test]
fn only_a_normal_disconnect_takes_the_will_back() {
    let lab = Lab::new();
    let mut watcher = watcher(&lab);
    for reason in [
        ReasonCode::Success,
        ReasonCode::DisconnectWithWill,
        ReasonCode::UnspecifiedError,
        ReasonCode::ImplementationSpecificError,
    ] {
        let (mut client, _) = lab.connected(with_will("parting", will("gone/parting", "bye")));
        client.send(&disconnect(reason));
        assert_eq!(client.until_closed(), []);
        let expected = if reason == ReasonCode::Success { vec![] } else { vec!["bye".to_owned()] };
        assert_eq!(payloads(&mut watcher), expected, "{reason}");
    }
}

/// Once published a will is gone: the session that goes on without one publishes none: [MQTT-3.1.2-10].
#[test]
fn a_will_is_published_once() {
    let lab = Lab::new();
    let mut watcher = watcher(&lab);
    let (client, _) = lab.connected(Connect { will: Some(will("gone/1", "first")), ..resume("device") });
    drop(client);
    assert_eq!(text(&next_publish(&mut watcher)), "first");
    let (mut client, answer) = lab.connected(resume("device"));
    assert!(answer.session_present);
    client.send_bytes(&[0x00, 0x00]);
    assert_eq!(client.goodbye(), ReasonCode::MalformedPacket);
    assert_eq!(payloads(&mut watcher), [""; 0]);
}

/// QoS and RETAIN of the will are those of its publish: [MQTT-3.1.2-12] [MQTT-3.1.2-14] [MQTT-3.1.2-15].
#[test]
fn a_will_is_published_as_its_flags_say() {
    let lab = Lab::new();
    let mut watcher = watcher(&lab);
    for (qos, retain) in [
        (QoS::AtMostOnce, false),
        (QoS::AtLeastOnce, false),
        (QoS::ExactlyOnce, false),
        (QoS::AtMostOnce, true),
        (QoS::AtLeastOnce, true),
        (QoS::ExactlyOnce, true),
    ] {
        let topic = format!("gone/{}/{retain}", qos as u8);
        let (client, _) = lab.connected(with_will("device", Will { qos, retain, ..will(&topic, "bye") }));
        drop(client);
        let heard = next_publish(&mut watcher);
        assert_eq!((&*heard.topic, heard.qos, heard.retain), (&*topic, qos, retain));
        let mut later = lab.listener("later");
        subscribe(&mut later, &topic, QoS::AtMostOnce);
        let kept = if retain { vec!["bye".to_owned()] } else { vec![] };
        assert_eq!(payloads(&mut later), kept, "{topic}");
    }
}

/// The will's properties are its publish's, user properties in their order: [MQTT-3.1.3-10].
#[test]
fn a_will_keeps_the_order_of_its_user_properties() {
    let lab = Lab::new();
    let mut watcher = watcher(&lab);
    let mut will = will("gone/device", "bye");
    will.properties.user = [("b", "1"), ("a", "2"), ("b", "1"), ("c", ""), ("a", "0")]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
    will.properties.content_type = Some("text/plain".into());
    let (client, _) = lab.connected(with_will("device", will.clone()));
    drop(client);
    let heard = next_publish(&mut watcher);
    assert_eq!(heard.properties.user, will.properties.user);
    assert_eq!(heard.properties.content_type, will.properties.content_type);
}

/// A will waits for its delay no longer than its session lasts: [MQTT-3.1.2-8]; and then there is no session any more:
/// [MQTT-4.1.0-2].
#[test]
fn a_session_that_expires_publishes_its_will() {
    let lab = Lab::new();
    let mut watcher = watcher(&lab);
    let mut connect = resume("device");
    connect.properties.session_expiry = Some(1);
    connect.will = Some(Will { delay: Some(3_600), ..will("gone/device", "expired") });
    let (client, _) = lab.connected(connect.clone());
    drop(client);
    assert_eq!(text(&next_publish(&mut watcher)), "expired");
    let (_, answer) = lab.connected(connect);
    assert!(!answer.session_present);
}

/// A will on a topic that the client may not publish is refused with the CONNECT: [MQTT-3.1.4-2].
#[test]
fn a_will_that_is_not_allowed_is_refused_with_the_connect() {
    let lab = Lab::new();
    let answer = lab.refused(with_will("device", will("secret/gone", "bye")));
    assert_eq!(answer.reason, ReasonCode::NotAuthorized);
    let mut watcher = watcher(&lab);
    assert!(!matches!(heard(&mut watcher).first(), Some(Packet::Publish(_))));
}
