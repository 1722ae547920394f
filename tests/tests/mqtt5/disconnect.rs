//! DISCONNECT (section 3.14).

use wardline_tests::RawClient;
use wardline_wire::{Packet, QoS, ReasonCode, Version};

use crate::support::*;

/// A CONNECT that is refused is answered with a CONNACK and never with a DISCONNECT: [MQTT-3.14.0-1] [MQTT-3.2.0-1].
#[test]
fn there_is_no_disconnect_before_a_successful_connack() {
    let lab = Lab::new();
    let mut client = RawClient::open(lab.broker.address("gateway"), Version::V5);
    client.send(&Packet::Connect(Box::new(connect5("nobody"))));
    client.send(&Packet::PingReq);
    let said = client.until_closed();
    assert!(matches!(&said[..], [Packet::ConnAck(answer)] if answer.reason.is_error()), "{said:?}");
}

/// A client's DISCONNECT has a reason that is for clients: [MQTT-3.14.2-1].
#[test]
fn a_client_s_disconnect_has_a_client_s_reason() {
    let lab = Lab::new();
    for reason in [0x01, 0x10, 0x8B, 0x8E, 0x9D, 0xFF] {
        let bytes = frame(0xE0, &[reason]);
        assert_eq!(lab.broken_by(&bytes), ReasonCode::ProtocolError, "{reason:#04x}");
    }
    for reason in [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        let mut client = lab.client("leaving");
        client.send_bytes(&frame(0xE0, &[reason]));
        assert_eq!(client.until_closed(), [], "{reason:#04x}");
    }
}

/// The broker's DISCONNECT is its last packet, says nothing of the session's expiry, and the connection is closed:
/// [MQTT-3.14.2-2] [MQTT-3.14.4-1] [MQTT-3.14.4-2].
#[test]
fn nothing_follows_a_disconnect_but_the_end() {
    let lab = Lab::new();
    let (mut client, _) = lab.connected(resume("client"));
    subscribe(&mut client, "t", QoS::AtLeastOnce);
    // All in one segment: what is behind the malformed packet is not answered.
    let mut bytes = vec![0xC0, 0x00, 0x00, 0x00];
    for _ in 0..10 {
        bytes.extend([0xC0, 0x00]);
        bytes.extend([0x30, 5, 0, 1, b't', 0, b'x']);
    }
    client.send_bytes(&bytes);
    match client.until_closed().as_slice() {
        [Packet::PingResp, Packet::Disconnect(farewell)] => {
            assert_eq!((farewell.reason, farewell.session_expiry), (ReasonCode::MalformedPacket, None));
        }
        other => panic!("{other:?}"),
    }
}

/// A session that was to end with its connection is not kept after all: a DISCONNECT that says so is a protocol error
/// (section 3.14.2.2.2), answered with a reason of the table: [MQTT-3.14.2-1].
#[test]
fn a_disconnect_cannot_raise_the_expiry_from_zero() {
    let lab = Lab::new();
    assert_eq!(lab.broken_by(&frame(0xE0, &[0, 5, 0x11, 0, 0, 0, 60])), ReasonCode::ProtocolError);
    let (mut client, _) = lab.connected(resume("client"));
    client.send_bytes(&frame(0xE0, &[0, 5, 0x11, 0, 0, 0, 0]));
    assert_eq!(client.until_closed(), []);
    assert!(!lab.connected(resume("client")).1.session_present, "lowered to 0");
}

/// A DISCONNECT's reason in words is left out where it would exceed the client's maximum packet size: [MQTT-3.14.2-3];
/// user properties, of which the broker sends none, likewise: [MQTT-3.14.2-4].
#[test]
fn a_disconnect_fits_the_client_s_maximum_packet_size() {
    let lab = Lab::new();
    for (maximum, worded) in [(None, true), (Some(24), false)] {
        let mut connect = connect5("small");
        connect.properties.maximum_packet_size = maximum;
        let (mut client, _) = lab.connected(connect);
        client.send_bytes(&[0x00, 0x00]);
        match client.until_closed().as_slice() {
            [Packet::Disconnect(farewell)] => {
                assert_eq!(farewell.reason, ReasonCode::MalformedPacket);
                assert_eq!(farewell.reason_string.is_some(), worded, "{maximum:?}");
                assert!(farewell.user.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }
}
