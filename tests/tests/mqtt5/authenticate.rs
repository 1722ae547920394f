//! AUTH and enhanced authentication (sections 3.15 and 4.12), as far as it does not depend on the method.

use wardline_wire::{Auth, Packet, ReasonCode};

use crate::support::*;

fn auth(reason: ReasonCode, method: Option<&str>) -> Packet {
    Packet::Auth(Auth {
        reason,
        method: method.map(Into::into),
        data: None,
        reason_string: None,
        user: Vec::new(),
    })
}

/// A method that the broker does not have is refused with 0x8C: [MQTT-4.12.0-1] [MQTT-4.12.0-4].
#[test]
fn an_unknown_method_is_refused() {
    let lab = Lab::new();
    for method in ["SCRAM-SHA-1", "", "ACE"] {
        let mut connect = connect5("unknown");
        connect.properties.authentication_method = Some(method.into());
        assert_eq!(lab.refused(connect).reason, ReasonCode::BadAuthenticationMethod, "{method:?}");
    }
}

/// Who named no method is sent none, and no AUTH: [MQTT-4.12.0-6]; and may not send an AUTH: [MQTT-4.12.0-7].
#[test]
fn without_a_method_there_is_no_auth() {
    let lab = Lab::new();
    for reason in [ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate] {
        let (mut client, answer) = lab.connected(connect5("plain"));
        assert_eq!(answer.properties.authentication_method, None);
        assert_eq!(answer.properties.authentication_data, None);
        client.send(&auth(reason, Some("ace")));
        match client.until_closed().as_slice() {
            [Packet::Disconnect(farewell)] => assert_eq!(farewell.reason, ReasonCode::ProtocolError),
            other => panic!("{other:?}"),
        }
    }
}

/// An AUTH has a reason of its table, and one that is for clients: [MQTT-3.15.2-1].
#[test]
fn an_auth_has_a_reason_of_its_own() {
    let lab = Lab::new();
    for reason in [0x00, 0x01, 0x80, 0xFF] {
        let bytes = frame(0xF0, &[&[reason, 6, 0x15][..], &field(b"ace")].concat());
        assert_eq!(lab.broken_by(&bytes), ReasonCode::ProtocolError, "{reason:#04x}");
    }
}
