//! DISCONNECT (section 3.14).

use crate::reader::Reader;
use crate::writer::{PropertyBlock, Sink, measure};
use crate::{
    DecodeError, Disconnect, EncodeError, PacketType, Property, ReasonCode, Sender, UserProperties, Version,
};

pub(crate) fn decode(
    mut reader: Reader,
    version: Version,
    sender: Sender,
) -> Result<Disconnect, DecodeError> {
    let mut disconnect = Disconnect {
        reason: ReasonCode::Success,
        session_expiry: None,
        reason_string: None,
        user: UserProperties::new(),
        server_reference: None,
    };
    if version == Version::V5 && !reader.is_empty() {
        disconnect.reason = reader.reason(sender)?;
        if !reader.is_empty() {
            decode_properties(&mut reader, sender, &mut disconnect)?;
        }
    }
    reader.finish()?;
    Ok(disconnect)
}

fn decode_properties(
    reader: &mut Reader,
    sender: Sender,
    disconnect: &mut Disconnect,
) -> Result<(), DecodeError> {
    let mut block = reader.properties()?;
    while let Some(property) = block.next_property()? {
        match property {
            Property::SessionExpiryInterval if sender == Sender::Server => {
                // [MQTT-3.14.2-2]
                Err(block.protocol(property.name(), "is not for a server to send"))
            }
            Property::SessionExpiryInterval => block.u32_property(property, &mut disconnect.session_expiry),
            Property::ReasonString => block.string_property(property, &mut disconnect.reason_string),
            Property::UserProperty => block.user_property(&mut disconnect.user),
            Property::ServerReference => block.string_property(property, &mut disconnect.server_reference),
            other => Err(block.not_allowed(other)),
        }?;
    }
    Ok(())
}

pub(crate) fn encode(
    disconnect: &Disconnect,
    version: Version,
    out: &mut impl Sink,
) -> Result<(), EncodeError> {
    let packet = PacketType::Disconnect;
    let normal = disconnect.reason == ReasonCode::Success;
    if version != Version::V5 {
        return if normal {
            Ok(())
        } else {
            Err(EncodeError::NotInVersion { packet, what: "DISCONNECT with a reason" })
        };
    }
    disconnect.reason.require_in(packet)?;
    let bare = measure(|count| disconnect.put(count))? == 0;
    if normal && bare {
        return Ok(());
    }
    out.u8(disconnect.reason as u8);
    if bare { Ok(()) } else { out.properties(disconnect) }
}

impl PropertyBlock for Disconnect {
    fn put(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        out.u32_property(Property::SessionExpiryInterval, self.session_expiry);
        out.string_property(Property::ReasonString, self.reason_string.as_ref())?;
        out.user_properties(&self.user)?;
        out.string_property(Property::ServerReference, self.server_reference.as_ref())
    }
}
