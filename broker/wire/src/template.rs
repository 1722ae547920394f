//! A publish encoded once for many subscribers: only what differs between them is written for each.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};

use crate::codec::publish;
use crate::encoder::{REMAINING_LENGTH, frame_len};
use crate::writer::{Sink, measure};
use crate::{EncodeError, PacketId, PacketType, Property, Publish, QoS, Version};

/// A publish in one version, without what belongs to a single delivery.
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    version: Version,
    /// The topic with its length, then the properties that are the same for everyone.
    encoded: Bytes,
    /// Where in `encoded` the properties begin.
    properties_at: usize,
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
    /// looked at. The payload is shared with `publish`, not copied.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`], impossible for what was decoded.
    pub fn new(publish: &Publish, version: Version) -> Result<Self, EncodeError> {
        let mut encoded = BytesMut::new();
        encoded.binary("topic name", publish.topic.as_bytes())?;
        let properties_at = encoded.len();
        if version == Version::V5 {
            publish::put_lasting_properties(&publish.properties, &mut encoded)?;
        }
        Ok(Self { version, encoded: encoded.freeze(), properties_at, payload: publish.payload.clone() })
    }

    /// Appends the whole PUBLISH. Allocates only as `out` grows.
    ///
    /// # Errors
    /// [`EncodeError::MissingPacketId`], and [`EncodeError::IntegerTooLarge`] for a subscription identifier or
    /// a packet that no MQTT packet can hold; `out` is as it was.
    pub fn write(&self, delivery: &Delivery<'_>, out: &mut BytesMut) -> Result<(), EncodeError> {
        let body_len = self.body_len(delivery)?;
        out.reserve(frame_len(body_len)?);
        let flags = publish::flags(delivery.dup, delivery.qos, delivery.retain);
        out.u8((PacketType::Publish as u8) << 4 | flags);
        out.variable_integer(REMAINING_LENGTH, body_len)?;
        self.put_head(delivery, out)?;
        out.put(&self.payload);
        Ok(())
    }

    /// How many bytes [`Self::write`] appends, to compare with the receiver's maximum packet size.
    ///
    /// # Errors
    /// Where [`Self::write`] fails.
    pub fn encoded_len(&self, delivery: &Delivery<'_>) -> Result<usize, EncodeError> {
        frame_len(self.body_len(delivery)?)
    }

    fn body_len(&self, delivery: &Delivery<'_>) -> Result<usize, EncodeError> {
        Ok(measure(|count| self.put_head(delivery, count))?.saturating_add(self.payload.len()))
    }

    fn put_head(&self, delivery: &Delivery<'_>, out: &mut impl Sink) -> Result<(), EncodeError> {
        let (topic, properties) = self.encoded.split_at(self.properties_at);
        match delivery.topic_alias {
            Some(TopicAlias::Replace(_)) if self.version == Version::V5 => out.u16(0),
            _ => out.put(topic),
        }
        if delivery.qos != QoS::AtMostOnce {
            out.u16(delivery.packet_id.ok_or(EncodeError::MissingPacketId)?.0.get());
        }
        if self.version == Version::V5 {
            let own = measure(|count| delivery.put_properties(count))?;
            out.variable_integer("property length", own.saturating_add(properties.len()))?;
            delivery.put_properties(out)?;
            out.put(properties);
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
