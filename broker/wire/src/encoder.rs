//! Appends packets to a write buffer, and keeps them within what the receiver takes.

use bytes::BytesMut;
use bytestring::ByteString;

use crate::codec::{ack, auth, connack, connect, disconnect, publish, suback, subscribe, unsubscribe};
use crate::writer::{Sink, measure, put_measured};
use crate::{EncodeError, Packet, PacketId, PacketType, UserProperties, Version};

/// Appends `packet` in `version`; a CONNECT in the version it names itself.
///
/// MQTT 3 gets what it has: properties and the reasons of acknowledgements are left out, a CONNACK has a return
/// code, a refused filter is 0x80. Values are taken as they are; that a topic is valid, or a reason string
/// wanted, is for the caller to know.
///
/// # Errors
/// [`EncodeError`]; `out` is as it was.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    let body_len = measure(|count| body(packet, version, count))?;
    let flags = match packet {
        Packet::Publish(publish) => publish::flags(publish.dup, publish.qos, publish.retain),
        other => other.packet_type().flags(),
    };
    put_measured(out, frame_len(body_len)?, |out| {
        out.u8((packet.packet_type() as u8) << 4 | flags);
        out.variable_integer(REMAINING_LENGTH, body_len)?;
        body(packet, version, out)
    })
}

/// Bytes of what [`encode_success`] appends.
pub const SUCCESS_BYTES: u32 = 4;

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP that says success and no more, which is the same in every version
/// [3.4.2.1] [3.5.2.1] [3.6.2.1] [3.7.2.1].
pub fn encode_success(packet: PacketType, packet_id: PacketId, out: &mut BytesMut) {
    let [high, low] = packet_id.0.get().to_be_bytes();
    out.extend_from_slice(&[(packet as u8) << 4 | packet.flags(), 2, high, low]);
}

/// How many bytes [`encode`] appends, the whole packet.
///
/// # Errors
/// Where [`encode`] fails.
pub fn encoded_len(packet: &Packet, version: Version) -> Result<usize, EncodeError> {
    frame_len(measure(|count| body(packet, version, count))?)
}

/// Makes an answer fit the receiver's maximum packet size, in bytes: gives up its user properties first, which
/// are for machines that know them, and its reason string only if that is not enough [MQTT-3.2.2-19]
/// [MQTT-3.2.2-20]. Everything else is never cut.
///
/// # Errors
/// [`EncodeError::PacketTooLarge`] if it still does not fit: it must not be sent [MQTT-3.1.2-24], and a PUBLISH
/// counts as delivered [MQTT-3.1.2-25]. Any other error is one of [`encode`].
pub fn fit(packet: &mut Packet, version: Version, max: u32) -> Result<(), EncodeError> {
    let exceeds = |size: usize| u32::try_from(size).map_or(true, |size| size > max);
    let mut size = encoded_len(packet, version)?;
    if exceeds(size)
        && let Some((_, user)) = diagnostics(packet)
    {
        user.clear();
        size = encoded_len(packet, version)?;
    }
    if exceeds(size)
        && let Some((reason_string, _)) = diagnostics(packet)
    {
        *reason_string = None;
        size = encoded_len(packet, version)?;
    }
    if exceeds(size) {
        return Err(EncodeError::PacketTooLarge { packet: packet.packet_type(), size, max });
    }
    Ok(())
}

/// What of a packet only explains it, and goes where it does not fit: [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2]
/// [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1]
/// [MQTT-3.11.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4] [MQTT-3.15.2-2] [MQTT-3.15.2-3]. A publish has nothing of the kind: its
/// user properties are its content [MQTT-3.3.2-17].
fn diagnostics(packet: &mut Packet) -> Option<(&mut Option<ByteString>, &mut UserProperties)> {
    match packet {
        Packet::ConnAck(p) => Some((&mut p.properties.reason_string, &mut p.properties.user)),
        Packet::PubAck(p) | Packet::PubRec(p) | Packet::PubRel(p) | Packet::PubComp(p) => {
            Some((&mut p.reason_string, &mut p.user))
        }
        Packet::SubAck(p) | Packet::UnsubAck(p) => Some((&mut p.reason_string, &mut p.user)),
        Packet::Disconnect(p) => Some((&mut p.reason_string, &mut p.user)),
        Packet::Auth(p) => Some((&mut p.reason_string, &mut p.user)),
        Packet::Connect(_)
        | Packet::Publish(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::PingResp => None,
    }
}

/// Field name for errors.
pub(crate) const REMAINING_LENGTH: &str = "remaining length";

/// Bytes of a packet with a body of `body_len` bytes.
#[inline]
pub(crate) fn frame_len(body_len: usize) -> Result<usize, EncodeError> {
    let length_len = measure(|count| count.variable_integer(REMAINING_LENGTH, body_len))?;
    Ok(1 + length_len + body_len)
}

fn body(packet: &Packet, version: Version, out: &mut impl Sink) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(connect) => connect::encode(connect, out),
        Packet::ConnAck(connack) => connack::encode(connack, version, out),
        Packet::Publish(publish) => publish::encode(publish, version, out),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack::encode(ack, packet.packet_type(), version, out)
        }
        Packet::Subscribe(subscribe) => subscribe::encode(subscribe, version, out),
        Packet::SubAck(suback) | Packet::UnsubAck(suback) => {
            suback::encode(suback, packet.packet_type(), version, out)
        }
        Packet::Unsubscribe(unsubscribe) => unsubscribe::encode(unsubscribe, version, out),
        Packet::PingReq | Packet::PingResp => Ok(()),
        Packet::Disconnect(disconnect) => disconnect::encode(disconnect, version, out),
        Packet::Auth(auth) => auth::encode(auth, version, out),
    }
}
