//! Writes the data types of section 1.5, to bytes or only to a count: one description of a packet's layout serves for
//! its length and for its content, so the two cannot disagree.

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;

use crate::{EncodeError, Property, UserProperties, VARIABLE_INTEGER_MAX};

/// Where encoded bytes go.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    #[inline]
    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline]
    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    fn variable_integer(&mut self, field: &'static str, value: usize) -> Result<(), EncodeError> {
        let mut rest = u32::try_from(value)
            .ok()
            .filter(|value| *value <= VARIABLE_INTEGER_MAX)
            .ok_or(EncodeError::IntegerTooLarge { field, value })?;
        while rest > 0x7F {
            let [low, ..] = rest.to_le_bytes();
            self.u8(low | 0x80);
            rest >>= 7;
        }
        let [last, ..] = rest.to_le_bytes();
        self.u8(last);
        Ok(())
    }

    fn binary(&mut self, field: &'static str, value: &[u8]) -> Result<(), EncodeError> {
        self.u16(length_of(field, value)?);
        self.put(value);
        Ok(())
    }

    fn flag_property(&mut self, property: Property, value: Option<bool>) {
        self.u8_property(property, value.map(u8::from));
    }

    fn u8_property(&mut self, property: Property, value: Option<u8>) {
        if let Some(value) = value {
            self.put(&[property as u8, value]);
        }
    }

    fn u16_property(&mut self, property: Property, value: Option<u16>) {
        if let Some(value) = value {
            self.u8(property as u8);
            self.u16(value);
        }
    }

    fn u32_property(&mut self, property: Property, value: Option<u32>) {
        if let Some(value) = value {
            self.u8(property as u8);
            self.u32(value);
        }
    }

    fn string_property(&mut self, property: Property, value: Option<&ByteString>) -> Result<(), EncodeError> {
        self.binary_property(property, value.map(|value| value.as_bytes().as_ref()))
    }

    fn binary_property(&mut self, property: Property, value: Option<&[u8]>) -> Result<(), EncodeError> {
        if let Some(value) = value {
            self.u8(property as u8);
            self.binary(property.name(), value)?;
        }
        Ok(())
    }

    fn user_properties(&mut self, user: &UserProperties) -> Result<(), EncodeError> {
        for (name, value) in user {
            self.u8(Property::UserProperty as u8);
            self.binary("user property name", name.as_bytes())?;
            self.binary("user property value", value.as_bytes())?;
        }
        Ok(())
    }

    fn subscription_ids(&mut self, ids: &[u32]) -> Result<(), EncodeError> {
        for &id in ids {
            self.u8(Property::SubscriptionIdentifier as u8);
            // A value that does not fit `usize` does not fit the wire either.
            let id = usize::try_from(id).unwrap_or(usize::MAX);
            self.variable_integer(Property::SubscriptionIdentifier.name(), id)?;
        }
        Ok(())
    }

    /// A property block behind its length, which is there even if it is 0 [MQTT-2.2.2-1].
    fn properties(&mut self, block: &impl PropertyBlock) -> Result<(), EncodeError>
    where
        Self: Sized,
    {
        self.variable_integer("property length", measure(|count| block.put(count))?)?;
        block.put(self)
    }
}

/// What stands before binary data or a string.
#[inline]
pub(crate) fn length_of(field: &'static str, value: &[u8]) -> Result<u16, EncodeError> {
    u16::try_from(value.len()).map_err(|_| EncodeError::FieldTooLong { field, len: value.len() })
}

/// The properties of one packet, without the block's length.
pub(crate) trait PropertyBlock {
    fn put(&self, out: &mut impl Sink) -> Result<(), EncodeError>;
}

impl Sink for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Room that was measured before, filled from the front.
pub(crate) struct Room<'a>(&'a mut [u8]);

impl Sink for Room<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let place = self.0.split_off_mut(..bytes.len());
        debug_assert!(place.is_some(), "what is written is what was measured");
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }
}

/// Appends the `len` bytes that `write` writes. On an error `out` is as it was.
pub(crate) fn put_measured(
    out: &mut BytesMut,
    len: usize,
    write: impl FnOnce(&mut Room<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.resize(start.saturating_add(len), 0);
    let written = write(&mut Room(out.get_mut(start..).unwrap_or_default()));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Counts and keeps nothing.
pub(crate) struct Count(usize);

impl Sink for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// How many bytes `write` would write.
#[inline]
pub(crate) fn measure(
    write: impl FnOnce(&mut Count) -> Result<(), EncodeError>,
) -> Result<usize, EncodeError> {
    let mut count = Count(0);
    write(&mut count)?;
    Ok(count.0)
}
