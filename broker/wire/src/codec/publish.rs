//! PUBLISH (section 3.3).

use crate::reader::Reader;
use crate::writer::{PropertyBlock, Sink};
use crate::{
    BoxedProperties, DecodeError, EncodeError, Property, Publish, PublishProperties, QoS, Sender, Version,
    topic,
};

pub(crate) const DUP: u8 = 1 << 3;
pub(crate) const QOS_SHIFT: u8 = 1;
pub(crate) const RETAIN: u8 = 1;

/// Field name for errors.
pub(crate) const TOPIC: &str = "topic name";

impl QoS {
    /// From the two bits that a QoS has everywhere; 3 is none.
    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// DUP, QoS and RETAIN as the low half of the first byte. There is no DUP at QoS 0 [MQTT-3.3.1-2].
pub(crate) const fn flags(dup: bool, qos: QoS, retain: bool) -> u8 {
    let dup = if dup && !matches!(qos, QoS::AtMostOnce) { DUP } else { 0 };
    let retain = if retain { RETAIN } else { 0 };
    dup | (qos as u8) << QOS_SHIFT | retain
}

pub(crate) fn decode(
    mut reader: Reader,
    flags: u8,
    version: Version,
    sender: Sender,
) -> Result<Publish, DecodeError> {
    let wrong_flags = DecodeError::FixedHeaderFlags { packet: reader.packet(), flags };
    let dup = flags & DUP != 0;
    let qos = match QoS::from_bits(flags >> QOS_SHIFT & 0b11) {
        None => return Err(wrong_flags),                         // [MQTT-3.3.1-4]
        Some(QoS::AtMostOnce) if dup => return Err(wrong_flags), // [MQTT-3.3.1-2]
        Some(qos) => qos,
    };
    let topic = reader.topic_name(TOPIC)?; // [MQTT-3.3.2-1]
    if topic.is_empty() && version != Version::V5 {
        return Err(DecodeError::TopicNameInvalid { packet: reader.packet(), field: TOPIC });
    }
    // [MQTT-2.2.1-2]
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
    let properties = match version {
        Version::V5 => decode_properties(reader.properties()?, sender)?,
        Version::V31 | Version::V311 => BoxedProperties::default(),
    };
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err(reader.protocol(TOPIC, "is empty, and no topic alias stands for it"));
    }
    let retain = flags & RETAIN != 0;
    Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
}

fn decode_properties(mut block: Reader, sender: Sender) -> Result<BoxedProperties, DecodeError> {
    if block.is_empty() {
        return Ok(BoxedProperties::default());
    }
    let mut properties = PublishProperties::default();
    while let Some(property) = block.next_property()? {
        if property == Property::SubscriptionIdentifier && sender == Sender::Client {
            // [MQTT-3.3.4-6]
            return Err(block.protocol(property.name(), "is not for a client to send"));
        }
        decode_property(&mut block, property, &mut properties)?;
    }
    Ok(properties.into())
}

/// One property of a publish.
pub(crate) fn decode_property(
    block: &mut Reader,
    property: Property,
    p: &mut PublishProperties,
) -> Result<(), DecodeError> {
    let field = property.name();
    match property {
        Property::PayloadFormatIndicator => {
            let value = u8::from(block.flag(property)?);
            block.once(&mut p.payload_format, property, value)
        }
        Property::MessageExpiryInterval => block.u32_property(property, &mut p.message_expiry),
        Property::TopicAlias => {
            let value = block.u16(field)?.try_into().map_err(|_| DecodeError::TopicAliasInvalid)?;
            block.once(&mut p.topic_alias, property, value)
        }
        Property::ResponseTopic => {
            let value = block.name(field)?; // [MQTT-3.3.2-13]
            if !topic::is_valid_name(&value) {
                // [MQTT-3.3.2-14] [MQTT-4.7.3-1]
                return Err(block.protocol(field, "must not be empty and must not contain + or #"));
            }
            block.once(&mut p.response_topic, property, value)
        }
        Property::CorrelationData => block.binary_property(property, &mut p.correlation_data),
        Property::UserProperty => block.user_property(&mut p.user),
        Property::SubscriptionIdentifier => {
            p.subscription_ids.push(block.subscription_id()?);
            Ok(())
        }
        Property::ContentType => block.string_property(property, &mut p.content_type), // [MQTT-3.3.2-19]
        other => Err(block.not_allowed(other)),
    }
}

pub(crate) fn encode(publish: &Publish, version: Version, out: &mut impl Sink) -> Result<(), EncodeError> {
    out.binary(TOPIC, publish.topic.as_bytes())?;
    if publish.qos != QoS::AtMostOnce {
        let id = publish.packet_id.ok_or(EncodeError::MissingPacketId)?;
        out.u16(id.0.get());
    }
    if version == Version::V5 {
        out.properties(&*publish.properties)?;
    }
    out.put(&publish.payload);
    Ok(())
}

impl PropertyBlock for PublishProperties {
    fn put(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        out.u32_property(Property::MessageExpiryInterval, self.message_expiry);
        out.u16_property(Property::TopicAlias, self.topic_alias.map(|alias| alias.get()));
        out.subscription_ids(&self.subscription_ids)?;
        put_lasting_properties(self, out)
    }
}

/// What is the same for every subscriber and at every moment, as it came [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16]
/// [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]: all but expiry, alias and subscription identifiers.
pub(crate) fn put_lasting_properties(p: &PublishProperties, out: &mut impl Sink) -> Result<(), EncodeError> {
    out.u8_property(Property::PayloadFormatIndicator, p.payload_format);
    out.string_property(Property::ResponseTopic, p.response_topic.as_ref())?;
    out.binary_property(Property::CorrelationData, p.correlation_data.as_deref())?;
    out.user_properties(&p.user)?;
    out.string_property(Property::ContentType, p.content_type.as_ref())
}
