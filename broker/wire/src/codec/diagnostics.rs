//! Reason string and user properties: what most MQTT 5 answers may carry, and all that some carry.

use bytestring::ByteString;

use crate::reader::Reader;
use crate::writer::{PropertyBlock, Sink};
use crate::{DecodeError, EncodeError, Property, UserProperties};

/// The whole property block of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
pub(crate) struct Diagnostics<'a> {
    pub(crate) reason_string: Option<&'a ByteString>,
    pub(crate) user: &'a UserProperties,
}

impl Diagnostics<'_> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user.is_empty()
    }
}

impl PropertyBlock for Diagnostics<'_> {
    fn put(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        out.string_property(Property::ReasonString, self.reason_string)?;
        out.user_properties(self.user)
    }
}

pub(crate) fn decode(reader: &mut Reader) -> Result<(Option<ByteString>, UserProperties), DecodeError> {
    let (mut reason_string, mut user) = (None, UserProperties::new());
    let mut block = reader.properties()?;
    while let Some(property) = block.next_property()? {
        match property {
            Property::ReasonString => block.string_property(property, &mut reason_string),
            Property::UserProperty => block.user_property(&mut user),
            other => Err(block.not_allowed(other)),
        }?;
    }
    Ok((reason_string, user))
}

/// The block of SUBSCRIBE (with an identifier) and UNSUBSCRIBE.
pub(crate) struct Request<'a> {
    pub(crate) subscription_id: Option<u32>,
    pub(crate) user: &'a UserProperties,
}

impl PropertyBlock for Request<'_> {
    fn put(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        out.subscription_ids(self.subscription_id.as_slice())?;
        out.user_properties(self.user)
    }
}
