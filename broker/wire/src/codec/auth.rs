//! AUTH (section 3.15), MQTT 5 only.

use crate::reader::Reader;
use crate::writer::{PropertyBlock, Sink, measure};
use crate::{
    Auth, DecodeError, EncodeError, PacketType, Property, ReasonCode, Sender, UserProperties, Version,
};

pub(crate) fn decode(mut reader: Reader, sender: Sender) -> Result<Auth, DecodeError> {
    let mut auth = Auth {
        reason: ReasonCode::Success,
        method: None,
        data: None,
        reason_string: None,
        user: UserProperties::new(),
    };
    if reader.is_empty() {
        // Section 3.15.2.1 lets success go without everything else, the method included.
        return if sender == Sender::Server {
            Ok(auth)
        } else {
            Err(DecodeError::ReasonNotAllowed { packet: reader.packet(), code: ReasonCode::Success as u8 })
        };
    }
    auth.reason = reader.reason(sender)?;
    if !reader.is_empty() {
        decode_properties(&mut reader, &mut auth)?;
    }
    if auth.method.is_none() {
        return Err(reader.protocol(Property::AuthenticationMethod.name(), "is missing"));
    }
    reader.finish()?;
    Ok(auth)
}

fn decode_properties(reader: &mut Reader, auth: &mut Auth) -> Result<(), DecodeError> {
    let mut block = reader.properties()?;
    while let Some(property) = block.next_property()? {
        match property {
            Property::AuthenticationMethod => block.string_property(property, &mut auth.method),
            Property::AuthenticationData => block.binary_property(property, &mut auth.data),
            Property::ReasonString => block.string_property(property, &mut auth.reason_string),
            Property::UserProperty => block.user_property(&mut auth.user),
            other => Err(block.not_allowed(other)),
        }?;
    }
    Ok(())
}

pub(crate) fn encode(auth: &Auth, version: Version, out: &mut impl Sink) -> Result<(), EncodeError> {
    let packet = PacketType::Auth;
    if version != Version::V5 {
        return Err(EncodeError::NotInVersion { packet, what: "AUTH" });
    }
    auth.reason.require_in(packet)?;
    if auth.reason == ReasonCode::Success && measure(|count| auth.put(count))? == 0 {
        return Ok(());
    }
    out.u8(auth.reason as u8);
    out.properties(auth)
}

impl PropertyBlock for Auth {
    fn put(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        out.string_property(Property::AuthenticationMethod, self.method.as_ref())?;
        out.binary_property(Property::AuthenticationData, self.data.as_deref())?;
        out.string_property(Property::ReasonString, self.reason_string.as_ref())?;
        out.user_properties(&self.user)
    }
}
