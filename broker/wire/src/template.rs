//! A publish encoded once for many subscribers: only what differs between them is written for each.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::codec::publish;
use crate::encoder::{REMAINING_LENGTH, frame_len};
use crate::writer::{Count, Sink, length_of, measure};
use crate::{EncodeError, PacketId, PacketType, Property, Publish, QoS, Version};

/// A publish in one version, without what belongs to a single delivery.
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    version: Version,
    topic: ByteString,
    topic_len: u16,
    /// The properties that are the same for everyone, encoded; most publishes have none.
    properties: Box<[u8]>,
    payload: Bytes,
}

/// What belongs to a single delivery. MQTT 3 has only the first four.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery<'a> {
    /// A repeat of an earlier attempt; not used at QoS 0.
    pub dup: bool,
    /// Quality.
    pub qos: QoS,
    /// RETAIN as the subscription wants it.
    pub retain: bool,
    /// Needed above QoS 0, not used at QoS 0.
    pub packet_id: Option<PacketId>,
    /// Of the subscriptions that matched.
    pub subscription_ids: &'a [u32],
    /// Alias on the receiver's connection.
    pub topic_alias: Option<TopicAlias>,
    /// Seconds that are left of the publish's expiry.
    pub message_expiry: Option<u32>,
}

/// An alias in a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicAlias {
    /// Sent beside the topic, to be remembered.
    Introduce(NonZeroU16),
    /// Sent in place of the topic, which the receiver remembers.
    Replace(NonZeroU16),
}

impl TopicAlias {
    const fn number(self) -> u16 {
        match self {
            Self::Introduce(alias) | Self::Replace(alias) => alias.get(),
        }
    }
}

impl PublishTemplate {
    /// Encodes what all deliveries share. Expiry, alias, identifiers, DUP, QoS and RETAIN of `publish` are not
    /// looked at. Topic and payload are shared with `publish`, not copied.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`], impossible for what was decoded.
    pub fn new(publish: &Publish, version: Version) -> Result<Self, EncodeError> {
        let topic_len = length_of(publish::TOPIC, publish.topic.as_bytes())?;
        let mut properties = Vec::new();
        if version == Version::V5 && !publish.properties.is_empty() {
            let put = |out: &mut Count| publish::put_lasting_properties(&publish.properties, out);
            properties.reserve_exact(measure(put)?);
            publish::put_lasting_properties(&publish.properties, &mut properties)?;
        }
        let (topic, payload) = (publish.topic.clone(), publish.payload.clone());
        Ok(Self { version, topic, topic_len, properties: properties.into(), payload })
    }

    /// Appends the whole PUBLISH. Allocates only as `out` grows.
    ///
    /// # Errors
    /// [`EncodeError::MissingPacketId`], and [`EncodeError::IntegerTooLarge`] for a subscription identifier or
    /// a packet that no MQTT packet can hold; `out` is as it was.
    pub fn write(&self, delivery: &Delivery<'_>, out: &mut BytesMut) -> Result<(), EncodeError> {
        let own_len = self.own_len(delivery)?;
        let body_len = self.body_len(delivery, own_len)?;
        out.reserve(frame_len(body_len)?);
        let flags = publish::flags(delivery.dup, delivery.qos, delivery.retain);
        out.u8((PacketType::Publish as u8) << 4 | flags);
        out.variable_integer(REMAINING_LENGTH, body_len)?;
        self.put_head(delivery, own_len, out)?;
        out.put(&self.payload);
        Ok(())
    }

    /// How many bytes [`Self::write`] appends, to compare with the receiver's maximum packet size.
    ///
    /// # Errors
    /// Where [`Self::write`] fails.
    pub fn encoded_len(&self, delivery: &Delivery<'_>) -> Result<usize, EncodeError> {
        frame_len(self.body_len(delivery, self.own_len(delivery)?)?)
    }

    /// Bytes of the properties that only this delivery has.
    fn own_len(&self, delivery: &Delivery<'_>) -> Result<usize, EncodeError> {
        if self.version == Version::V5 { measure(|count| delivery.put_properties(count)) } else { Ok(0) }
    }

    fn body_len(&self, delivery: &Delivery<'_>, own_len: usize) -> Result<usize, EncodeError> {
        let head_len = measure(|count| self.put_head(delivery, own_len, count))?;
        Ok(head_len.saturating_add(self.payload.len()))
    }

    fn put_head(
        &self,
        delivery: &Delivery<'_>,
        own_len: usize,
        out: &mut impl Sink,
    ) -> Result<(), EncodeError> {
        match delivery.topic_alias {
            Some(TopicAlias::Replace(_)) if self.version == Version::V5 => out.u16(0),
            _ => {
                out.u16(self.topic_len);
                out.put(self.topic.as_bytes());
            }
        }
        if delivery.qos != QoS::AtMostOnce {
            out.u16(delivery.packet_id.ok_or(EncodeError::MissingPacketId)?.0.get());
        }
        if self.version == Version::V5 {
            out.variable_integer("property length", own_len.saturating_add(self.properties.len()))?;
            if own_len > 0 {
                delivery.put_properties(out)?;
            }
            out.put(&self.properties);
        }
        Ok(())
    }
}

impl Delivery<'_> {
    fn put_properties(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        let alias = self.topic_alias.map(TopicAlias::number);
        out.u32_property(Property::MessageExpiryInterval, self.message_expiry);
        out.u16_property(Property::TopicAlias, alias);
        out.subscription_ids(self.subscription_ids)
    }
}
