//! SUBACK and UNSUBACK (sections 3.9 and 3.11).

use crate::codec::diagnostics::{self, Diagnostics};
use crate::reader::Reader;
use crate::writer::Sink;
use crate::{DecodeError, EncodeError, PacketType, ReasonCode, Sender, SubAck, UserProperties, Version};

pub(crate) fn decode(mut reader: Reader, version: Version) -> Result<SubAck, DecodeError> {
    const FIELD: &str = "reason codes";
    let packet_id = reader.packet_id()?;
    let (reason_string, user) = if version == Version::V5 {
        diagnostics::decode(&mut reader)?
    } else {
        (None, UserProperties::new())
    };
    let mut suback = SubAck { packet_id, reason_string, user, reasons: Vec::new() };
    if version != Version::V5 && reader.packet() == PacketType::UnsubAck {
        reader.finish()?;
        return Ok(suback);
    }
    while !reader.is_empty() {
        suback.reasons.push(match version {
            Version::V5 => reader.reason(Sender::Server)?,
            Version::V31 | Version::V311 => {
                let code = reader.u8(FIELD)?;
                ReasonCode::from_suback_return_code(code)
                    .ok_or(DecodeError::ReasonNotAllowed { packet: reader.packet(), code })?
            }
        });
    }
    if suback.reasons.is_empty() {
        return Err(reader.protocol(FIELD, "at least one is needed"));
    }
    Ok(suback)
}

pub(crate) fn encode(
    suback: &SubAck,
    packet: PacketType,
    version: Version,
    out: &mut impl Sink,
) -> Result<(), EncodeError> {
    out.u16(suback.packet_id.0.get());
    if version == Version::V5 {
        out.properties(&Diagnostics { reason_string: suback.reason_string.as_ref(), user: &suback.user })?;
    } else if packet == PacketType::UnsubAck {
        return Ok(());
    }
    for reason in &suback.reasons {
        reason.require_in(packet)?;
        out.u8(match version {
            Version::V5 => *reason as u8,
            Version::V31 | Version::V311 => reason.suback_return_code(),
        });
    }
    Ok(())
}
