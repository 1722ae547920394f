//! The same bytes through another implementation, mqtt-protocol-core. It has MQTT 3.1.1 and 5, and bodies of packets rather
//! than streams.

use std::sync::Arc;

use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use wardline_wire::{Packet, PacketType, Version};

/// Reads a whole packet and writes it again.
pub(crate) fn by_the_other(bytes: &[u8], version: Version) -> Result<Vec<u8>, MqttError> {
    let header = 1 + bytes[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let (first, body) = (bytes[0], &bytes[header..]);
    macro_rules! parse {
        ($module:ident, $($arm:ident => $name:ident,)* $(; $($more:tt)*)?) => {
            match PacketType::from_u8(first >> 4).unwrap() {
                PacketType::Publish => {
                    $module::Publish::parse(first & 0x0F, Arc::from(body))
                        .map(|(packet, _)| packet.to_continuous_buffer())
                }
                $(PacketType::$arm => $module::$name::parse(body).map(|(packet, _)| packet.to_continuous_buffer()),)*
                $($($more)*)?
            }
        };
    }
    if version == Version::V5 {
        parse! {
            v5_0, Connect => Connect, ConnAck => Connack, PubAck => Puback, PubRec => Pubrec, PubRel => Pubrel,
            PubComp => Pubcomp, Subscribe => Subscribe, SubAck => Suback, Unsubscribe => Unsubscribe,
            UnsubAck => Unsuback, PingReq => Pingreq, PingResp => Pingresp, Disconnect => Disconnect, Auth => Auth,
        }
    } else {
        parse! {
            v3_1_1, Connect => Connect, ConnAck => Connack, PubAck => Puback, PubRec => Pubrec, PubRel => Pubrel,
            PubComp => Pubcomp, Subscribe => Subscribe, SubAck => Suback, Unsubscribe => Unsubscribe,
            UnsubAck => Unsuback, PingReq => Pingreq, PingResp => Pingresp, Disconnect => Disconnect,
            ; PacketType::Auth => Err(MqttError::MalformedPacket),
        }
    }
}

/// Where the other implementation departs from the specification.
pub(crate) fn is_beyond_the_other(packet: &Packet) -> bool {
    match packet {
        // MQTT 5 allows a password without a user name (section 3.1.2.9).
        Packet::Connect(connect) => connect.password.is_some() && connect.username.is_none(),
        _ => false,
    }
}
