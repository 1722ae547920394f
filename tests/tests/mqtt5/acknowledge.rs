//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).

use wardline_wire::{Packet, ReasonCode};

use crate::support::*;

/// Acknowledgements have a reason of their table, from a client too: [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1]
/// [MQTT-3.7.2-1].
#[test]
fn a_client_s_reason_must_be_one_of_the_packet_s() {
    let lab = Lab::new();
    for (name, first, reasons) in [
        ("PUBACK", 0x40, [0x01, 0x11, 0x92, 0xFF]),
        ("PUBREC", 0x50, [0x02, 0x18, 0x92, 0x8E]),
        ("PUBREL", 0x62, [0x10, 0x80, 0x91, 0x87]),
        ("PUBCOMP", 0x70, [0x10, 0x80, 0x91, 0x87]),
    ] {
        for reason in reasons {
            let bytes = frame(first, &[0, 1, reason]);
            assert_eq!(lab.broken_by(&bytes), ReasonCode::ProtocolError, "{name} {reason:#04x}");
        }
    }
}

/// The broker's acknowledgements say what became of the publish: [MQTT-3.4.2-1] [MQTT-3.5.2-1]; a PUBREL and a PUBCOMP
/// for an identifier that is not known say so: [MQTT-3.6.2-1] [MQTT-3.7.2-1].
#[test]
fn the_broker_s_reasons_say_what_became_of_the_packet() {
    let lab = Lab::new();
    let mut client = lab.client("client");
    denied(&mut client);
    client.send(&Packet::PubRel(ack(3)));
    assert_eq!(client.receive(), Packet::PubComp(ack_with(3, ReasonCode::PacketIdentifierNotFound)));
    client.send(&Packet::PubRec(ack(4)));
    assert_eq!(client.receive(), Packet::PubRel(ack_with(4, ReasonCode::PacketIdentifierNotFound)));
}

/// A reason in words is left out where it would exceed the client's maximum packet size: [MQTT-3.4.2-2] [MQTT-3.5.2-2].
/// User properties, of which the broker sends none, as well: [MQTT-3.4.2-3] [MQTT-3.5.2-3].
#[test]
fn an_acknowledgement_fits_the_client_s_maximum_packet_size() {
    let lab = Lab::new();
    for (maximum, worded) in [(None, true), (Some(32), false)] {
        let mut connect = connect5("small");
        connect.properties.maximum_packet_size = maximum;
        let (mut client, _) = lab.connected(connect);
        for ack in denied(&mut client) {
            assert_eq!(ack.reason_string.is_some(), worded);
            assert!(ack.user.is_empty());
        }
    }
}
