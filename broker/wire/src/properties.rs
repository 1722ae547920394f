//! A publish's properties as bytes of their own, for the journal, and a publish as memory of its own.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::codec::publish;
use crate::reader::Reader;
use crate::writer::{Sink, measure};
use crate::{BoxedProperties, DecodeError, EncodeError, PacketType, Property, Publish, PublishProperties};

/// Appends the properties as an MQTT 5 property block without its length. A topic alias is left out: it means
/// something only to the connection it came from.
///
/// # Errors
/// [`EncodeError::FieldTooLong`] and [`EncodeError::IntegerTooLarge`], impossible for what was decoded; `out`
/// is as it was.
pub fn encode_properties(properties: &PublishProperties, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    measure(|count| put(properties, count)).and_then(|len| {
        out.reserve(len);
        put(properties, out)
    })
}

fn put(properties: &PublishProperties, out: &mut impl Sink) -> Result<(), EncodeError> {
    out.u32_property(Property::MessageExpiryInterval, properties.message_expiry);
    out.subscription_ids(&properties.subscription_ids)?;
    publish::put_lasting_properties(properties, out)
}

/// Reads what [`encode_properties`] wrote. `block` is copied once; the properties are slices of the copy.
///
/// # Errors
/// As for the properties of a PUBLISH; a topic alias does not belong here.
pub fn decode_properties(block: &[u8]) -> Result<BoxedProperties, DecodeError> {
    if block.is_empty() {
        return Ok(BoxedProperties::default());
    }
    let mut properties = PublishProperties::default();
    let mut reader = Reader::new(PacketType::Publish, Bytes::copy_from_slice(block));
    while let Some(property) = reader.next_property()? {
        if property == Property::TopicAlias {
            return Err(reader.not_allowed(property));
        }
        publish::decode_property(&mut reader, property, &mut properties)?;
    }
    Ok(properties.into())
}

impl Publish {
    /// The same publish in memory of its own, so that keeping it does not keep the read buffer it came from.
    pub fn detached(&self) -> Self {
        self.detached_under(ByteString::from(&*self.topic))
    }

    /// As [`Self::detached`], under an equal `topic` that is in memory of its own already.
    pub fn detached_under(&self, topic: ByteString) -> Self {
        debug_assert_eq!(self.topic, topic);
        if self.properties.is_empty() {
            let payload = Bytes::copy_from_slice(&self.payload);
            return Self { topic, properties: BoxedProperties::default(), payload, ..*self };
        }
        let p = &*self.properties;
        let texts = || {
            let user = p.user.iter().flat_map(|(name, value)| [name, value]);
            p.response_topic.iter().chain(&p.content_type).chain(user)
        };
        let text_len: usize = texts().map(|text| text.len()).sum();
        let data_len = p.correlation_data.as_ref().map_or(0, Bytes::len) + self.payload.len();
        let mut memory = BytesMut::with_capacity(text_len + data_len);
        for text in texts() {
            memory.extend_from_slice(text.as_bytes());
        }
        memory.extend_from_slice(p.correlation_data.as_deref().unwrap_or_default());
        memory.extend_from_slice(&self.payload);

        // Taken off the front again in the order in which they went in.
        let mut memory = memory.freeze();
        let mut text = |original: &ByteString| same_text(original, memory.split_to(original.len()));
        let response_topic = p.response_topic.as_ref().map(&mut text);
        let content_type = p.content_type.as_ref().map(&mut text);
        let user = p.user.iter().map(|(name, value)| (text(name), text(value))).collect();
        let correlation_data = p.correlation_data.as_ref().map(|data| memory.split_to(data.len()));
        let subscription_ids = p.subscription_ids.clone();
        let properties = PublishProperties {
            response_topic,
            content_type,
            user,
            correlation_data,
            subscription_ids,
            ..*p
        };
        Self { topic, properties: properties.into(), payload: memory, ..*self }
    }
}

#[expect(clippy::expect_used, reason = "the bytes were copied from the string itself")]
fn same_text(original: &ByteString, copy: Bytes) -> ByteString {
    debug_assert_eq!(original.as_bytes(), &copy);
    ByteString::try_from(copy).expect("a copy of a string is well-formed UTF-8")
}
