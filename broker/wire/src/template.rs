//! A publish as each of its subscribers is written it: what is the same for all, and what differs.

use std::num::NonZeroU16;

use bytes::BytesMut;

use crate::codec::publish;
use crate::encoder::{REMAINING_LENGTH, frame_len};
use crate::writer::{Sink, length_of, measure, put_measured};
use crate::{EncodeError, PacketId, PacketType, Property, Publish, QoS, Version};

/// A publish in one version, without what belongs to a single delivery. Nothing is copied before it is written.
#[derive(Clone, Copy, Debug)]
pub struct PublishTemplate<'a> {
    version: Version,
    publish: &'a Publish,
    topic_len: u16,
    /// Bytes of the properties that are the same for everyone; most publishes have none.
    lasting_len: usize,
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

impl<'a> PublishTemplate<'a> {
    /// Measures what all deliveries share. Expiry, alias, identifiers, DUP, QoS and RETAIN of `publish` are not
    /// looked at.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`], impossible for what was decoded.
    pub fn new(publish: &'a Publish, version: Version) -> Result<Self, EncodeError> {
        let topic_len = length_of(publish::TOPIC, publish.topic.as_bytes())?;
        let lasting_len = if version == Version::V5 && !publish.properties.is_empty() {
            measure(|count| publish::put_lasting_properties(&publish.properties, count))?
        } else {
            0
        };
        Ok(Self { version, publish, topic_len, lasting_len })
    }

    /// Appends the whole PUBLISH. Allocates only as `out` grows.
    ///
    /// # Errors
    /// [`EncodeError::MissingPacketId`], and [`EncodeError::IntegerTooLarge`] for a subscription identifier or
    /// a packet that no MQTT packet can hold; `out` is as it was.
    pub fn write(&self, delivery: &Delivery<'_>, out: &mut BytesMut) -> Result<(), EncodeError> {
        let own_len = self.own_len(delivery)?;
        let body_len = self.body_len(delivery, own_len)?;
        let flags = publish::flags(delivery.dup, delivery.qos, delivery.retain);
        put_measured(out, frame_len(body_len)?, |out| {
            out.u8((PacketType::Publish as u8) << 4 | flags);
            out.variable_integer(REMAINING_LENGTH, body_len)?;
            self.put_head(delivery, own_len, out)?;
            out.put(&self.publish.payload);
            Ok(())
        })
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
        if self.version == Version::V5 && delivery.has_properties() {
            measure(|count| delivery.put_properties(count))
        } else {
            Ok(0)
        }
    }

    fn body_len(&self, delivery: &Delivery<'_>, own_len: usize) -> Result<usize, EncodeError> {
        let head_len = measure(|count| self.put_head(delivery, own_len, count))?;
        Ok(head_len.saturating_add(self.publish.payload.len()))
    }

    #[inline]
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
                out.put(self.publish.topic.as_bytes());
            }
        }
        if delivery.qos != QoS::AtMostOnce {
            out.u16(delivery.packet_id.ok_or(EncodeError::MissingPacketId)?.0.get());
        }
        if self.version == Version::V5 {
            out.variable_integer("property length", own_len.saturating_add(self.lasting_len))?;
            if own_len > 0 {
                delivery.put_properties(out)?;
            }
            if self.lasting_len > 0 {
                publish::put_lasting_properties(&self.publish.properties, out)?;
            }
        }
        Ok(())
    }
}

impl Delivery<'_> {
    /// Whether MQTT 5 says more to this subscriber than to any other.
    pub fn has_properties(&self) -> bool {
        let Self { subscription_ids, topic_alias, message_expiry, .. } = self;
        !subscription_ids.is_empty() || topic_alias.is_some() || message_expiry.is_some()
    }

    fn put_properties(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        let alias = self.topic_alias.map(TopicAlias::number);
        out.u32_property(Property::MessageExpiryInterval, self.message_expiry);
        out.u16_property(Property::TopicAlias, alias);
        out.subscription_ids(self.subscription_ids)
    }
}
