//! Handling of errors (section 4.13).

use wardline_wire::{Packet, ReasonCode};

use crate::support::*;

/// A malformed packet or protocol error closes the connection with its reason: [MQTT-4.13.1-1] [MQTT-4.13.2-1]; nobody else
/// notices.
#[test]
fn an_error_closes_its_own_connection_and_no_other() {
    let lab = Lab::new();
    let mut bystander = lab.client("bystander");
    let errors: [(&str, &[u8], ReasonCode); 9] = [
        ("packet type 0", &[0x00, 0x00], ReasonCode::MalformedPacket),
        ("a length of five bytes", &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], ReasonCode::MalformedPacket),
        ("a packet that ends early", &[0x30, 0x02, 0x00, 0x05], ReasonCode::MalformedPacket),
        ("a PINGREQ with a body", &[0xC0, 0x01, 0x00], ReasonCode::MalformedPacket),
        (
            "a property that belongs elsewhere",
            &[0x30, 9, 0, 1, b't', 5, 0x11, 0, 0, 0, 1],
            ReasonCode::MalformedPacket,
        ),
        ("a property that there is not", &[0x30, 6, 0, 1, b't', 2, 0x7F, 0], ReasonCode::MalformedPacket),
        ("a property twice", &[0x30, 8, 0, 1, b't', 4, 0x01, 0, 0x01, 0], ReasonCode::ProtocolError),
        ("a CONNACK from a client", &[0x20, 3, 0, 0, 0], ReasonCode::ProtocolError),
        ("a PINGRESP from a client", &[0xD0, 0], ReasonCode::ProtocolError),
    ];
    for (what, bytes, reason) in errors {
        assert_eq!(lab.broken_by(bytes), reason, "{what}");
        bystander.send(&Packet::PingReq);
        assert_eq!(bystander.receive(), Packet::PingResp);
    }
}
