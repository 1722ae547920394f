//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).

use crate::codec::diagnostics::{self, Diagnostics};
use crate::reader::Reader;
use crate::writer::Sink;
use crate::{Ack, DecodeError, EncodeError, PacketType, ReasonCode, Sender, UserProperties, Version};

pub(crate) fn decode(mut reader: Reader, version: Version, sender: Sender) -> Result<Ack, DecodeError> {
    let packet_id = reader.packet_id()?;
    let mut ack =
        Ack { packet_id, reason: ReasonCode::Success, reason_string: None, user: UserProperties::new() };
    if version == Version::V5 && !reader.is_empty() {
        ack.reason = reader.reason(sender)?;
        if !reader.is_empty() {
            (ack.reason_string, ack.user) = diagnostics::decode(&mut reader)?;
        }
    }
    reader.finish()?;
    Ok(ack)
}

/// MQTT 3 has no reason: whoever refuses a publish there acknowledges it all the same or closes the connection.
pub(crate) fn encode(
    ack: &Ack,
    packet: PacketType,
    version: Version,
    out: &mut impl Sink,
) -> Result<(), EncodeError> {
    out.u16(ack.packet_id.0.get());
    if version != Version::V5 {
        return Ok(());
    }
    ack.reason.require_in(packet)?;
    let properties = Diagnostics { reason_string: ack.reason_string.as_ref(), user: &ack.user };
    if ack.reason == ReasonCode::Success && properties.is_empty() {
        return Ok(());
    }
    out.u8(ack.reason as u8);
    if properties.is_empty() { Ok(()) } else { out.properties(&properties) }
}
