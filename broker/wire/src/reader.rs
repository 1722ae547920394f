//! Reads the data types of section 1.5 from one packet, and says which field of which packet was wrong.

use std::num::NonZeroU16;

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use crate::text::{Contents, NUL, WILDCARD};
use crate::{DecodeError, PacketId, PacketType, Property, ReasonCode, Sender, UserProperties, topic};

/// A packet's body, or a property block of it; what has been read is gone from the front.
pub(crate) struct Reader {
    packet: PacketType,
    bytes: Bytes,
}

impl Reader {
    pub(crate) const fn new(packet: PacketType, bytes: Bytes) -> Self {
        Self { packet, bytes }
    }

    pub(crate) const fn packet(&self) -> PacketType {
        self.packet
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }

    /// Asserts that nothing is left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { packet: self.packet, count }),
        }
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.bytes.try_get_u8().map_err(|_| self.truncated(field))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.bytes.try_get_u16().map_err(|_| self.truncated(field))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.bytes.try_get_u32().map_err(|_| self.truncated(field))
    }

    pub(crate) fn variable_integer(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match variable_integer(&self.bytes) {
            VariableInteger::Complete { value, len } => {
                self.bytes.advance(len);
                Ok(value)
            }
            VariableInteger::Incomplete => Err(self.truncated(field)),
            VariableInteger::Overlong => Err(DecodeError::OverlongInteger { packet: self.packet, field }),
        }
    }

    pub(crate) fn binary(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let len = self.u16(field)?;
        self.take(usize::from(len), field)
    }

    /// A UTF-8 string without U+0000, taken as it is [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3].
    pub(crate) fn string(&mut self, field: &'static str) -> Result<ByteString, DecodeError> {
        self.text(field).map(|(text, _)| text)
    }

    fn text(&mut self, field: &'static str) -> Result<(ByteString, Contents), DecodeError> {
        let bytes = self.binary(field)?;
        let contents = Contents::of(&bytes);
        if contents.has(NUL) {
            return Err(DecodeError::NulCharacter { packet: self.packet, field });
        }
        let text =
            ByteString::try_from(bytes).map_err(|_| DecodeError::NotUtf8 { packet: self.packet, field })?;
        Ok((text, contents))
    }

    /// A string that names something and so ends up in logs, metrics and records: no control characters in it, which a
    /// server may refuse (section 1.5.4).
    pub(crate) fn name(&mut self, field: &'static str) -> Result<ByteString, DecodeError> {
        self.name_with_contents(field).map(|(name, _)| name)
    }

    fn name_with_contents(&mut self, field: &'static str) -> Result<(ByteString, Contents), DecodeError> {
        let (name, contents) = self.text(field)?;
        if contents.has_control(&name) {
            return Err(DecodeError::ControlCharacter { packet: self.packet, field });
        }
        Ok((name, contents))
    }

    /// A topic name, or nothing where an alias may stand for it.
    pub(crate) fn topic_name(&mut self, field: &'static str) -> Result<ByteString, DecodeError> {
        let (name, contents) = self.name_with_contents(field)?;
        if contents.has(WILDCARD) {
            // [MQTT-3.3.2-2] [MQTT-4.7.0-1]
            return Err(DecodeError::TopicNameInvalid { packet: self.packet, field });
        }
        Ok(name)
    }

    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        const FIELD: &str = "packet identifier";
        let id = self.u16(FIELD)?;
        id.try_into().map(PacketId).map_err(|_| self.protocol(FIELD, "must not be 0"))
    }

    /// A subscribable filter, shared or not [MQTT-3.8.3-1] [MQTT-3.10.3-1]; `index` is its place in the packet.
    pub(crate) fn topic_filter(&mut self, index: usize) -> Result<ByteString, DecodeError> {
        let filter = self.name("topic filter")?;
        if topic::is_valid_subscription(&filter) {
            Ok(filter)
        } else {
            Err(DecodeError::TopicFilterInvalid { packet: self.packet, index })
        }
    }

    /// A reason code of MQTT 5 that `sender` may give in this packet.
    pub(crate) fn reason(&mut self, sender: Sender) -> Result<ReasonCode, DecodeError> {
        let code = self.u8("reason code")?;
        ReasonCode::from_u8(code)
            .filter(|reason| reason.allowed_in(self.packet, sender))
            .ok_or(DecodeError::ReasonNotAllowed { packet: self.packet, code })
    }

    /// A property block, cut off from the rest of the packet.
    pub(crate) fn properties(&mut self) -> Result<Self, DecodeError> {
        let len = self.variable_integer("property length")?;
        let len = usize::try_from(len).map_err(|_| self.truncated("properties"))?;
        Ok(Self { packet: self.packet, bytes: self.take(len, "properties")? })
    }

    /// Within a property block: the next property's identifier, or the block's end.
    pub(crate) fn next_property(&mut self) -> Result<Option<Property>, DecodeError> {
        if self.is_empty() {
            return Ok(None);
        }
        let id = self.variable_integer("property identifier")?;
        match Property::from_u32(id) {
            None => Err(DecodeError::UnknownProperty { packet: self.packet, id }),
            property => Ok(property),
        }
    }

    /// A property that is 0 or 1.
    pub(crate) fn flag(&mut self, property: Property) -> Result<bool, DecodeError> {
        match self.u8(property.name())? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.protocol(property.name(), "must be 0 or 1")),
        }
    }

    pub(crate) fn subscription_id(&mut self) -> Result<u32, DecodeError> {
        const FIELD: &str = Property::SubscriptionIdentifier.name();
        match self.variable_integer(FIELD)? {
            0 => Err(self.protocol(FIELD, "must not be 0")),
            id => Ok(id),
        }
    }

    pub(crate) fn flag_property(
        &mut self,
        property: Property,
        slot: &mut Option<bool>,
    ) -> Result<(), DecodeError> {
        let value = self.flag(property)?;
        self.once(slot, property, value)
    }

    pub(crate) fn u16_property(
        &mut self,
        property: Property,
        slot: &mut Option<u16>,
    ) -> Result<(), DecodeError> {
        let value = self.u16(property.name())?;
        self.once(slot, property, value)
    }

    pub(crate) fn nonzero_u16_property(
        &mut self,
        property: Property,
        slot: &mut Option<NonZeroU16>,
    ) -> Result<(), DecodeError> {
        let value = NonZeroU16::new(self.u16(property.name())?)
            .ok_or_else(|| self.protocol(property.name(), "must not be 0"))?;
        self.once(slot, property, value)
    }

    pub(crate) fn u32_property(
        &mut self,
        property: Property,
        slot: &mut Option<u32>,
    ) -> Result<(), DecodeError> {
        let value = self.u32(property.name())?;
        self.once(slot, property, value)
    }

    pub(crate) fn nonzero_u32_property(
        &mut self,
        property: Property,
        slot: &mut Option<u32>,
    ) -> Result<(), DecodeError> {
        match self.u32(property.name())? {
            0 => Err(self.protocol(property.name(), "must not be 0")),
            value => self.once(slot, property, value),
        }
    }

    pub(crate) fn string_property(
        &mut self,
        property: Property,
        slot: &mut Option<ByteString>,
    ) -> Result<(), DecodeError> {
        let value = self.string(property.name())?;
        self.once(slot, property, value)
    }

    pub(crate) fn binary_property(
        &mut self,
        property: Property,
        slot: &mut Option<Bytes>,
    ) -> Result<(), DecodeError> {
        let value = self.binary(property.name())?;
        self.once(slot, property, value)
    }

    /// Two strings like any other [MQTT-1.5.7-1].
    pub(crate) fn user_property(&mut self, into: &mut UserProperties) -> Result<(), DecodeError> {
        let name = self.string("user property name")?;
        let value = self.string("user property value")?;
        into.push((name, value));
        Ok(())
    }

    /// Fills `slot`, once.
    pub(crate) fn once<T>(
        &self,
        slot: &mut Option<T>,
        property: Property,
        value: T,
    ) -> Result<(), DecodeError> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(DecodeError::RepeatedProperty { packet: self.packet, property }),
        }
    }

    pub(crate) const fn not_allowed(&self, property: Property) -> DecodeError {
        DecodeError::PropertyNotAllowed { packet: self.packet, property }
    }

    pub(crate) const fn malformed(&self, field: &'static str, problem: &'static str) -> DecodeError {
        DecodeError::Malformed { packet: self.packet, field, problem }
    }

    pub(crate) const fn protocol(&self, field: &'static str, problem: &'static str) -> DecodeError {
        DecodeError::Protocol { packet: self.packet, field, problem }
    }

    const fn truncated(&self, field: &'static str) -> DecodeError {
        DecodeError::Truncated { packet: self.packet, field }
    }

    fn take(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if len > self.bytes.len() {
            return Err(self.truncated(field));
        }
        Ok(self.bytes.split_to(len))
    }
}

/// What the front of some bytes is as a variable byte integer [1.5.5].
pub(crate) enum VariableInteger {
    Complete { value: u32, len: usize },
    Incomplete,
    Overlong,
}

/// Bytes of the longest variable byte integer.
const VARIABLE_INTEGER_LEN_MAX: usize = 4;

/// Reads a variable byte integer, in its shortest form only [MQTT-1.5.5-1].
pub(crate) fn variable_integer(bytes: &[u8]) -> VariableInteger {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(VARIABLE_INTEGER_LEN_MAX).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let padded = byte == 0 && index > 0;
            return if padded {
                VariableInteger::Overlong
            } else {
                VariableInteger::Complete { value, len: index + 1 }
            };
        }
    }
    if bytes.len() < VARIABLE_INTEGER_LEN_MAX {
        VariableInteger::Incomplete
    } else {
        VariableInteger::Overlong
    }
}
