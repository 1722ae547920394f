//! SUBSCRIBE (section 3.8).

use crate::codec::diagnostics::Request;
use crate::reader::Reader;
use crate::writer::Sink;
use crate::{
    DecodeError, EncodeError, Property, QoS, RetainHandling, Subscribe, SubscribeFilter, SubscribeOptions,
    UserProperties, Version, topic,
};

const OPTIONS: &str = "subscription options";
const QOS: u8 = 0b11;
const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const RESERVED: u8 = 0b1100_0000;

pub(crate) fn decode(mut reader: Reader, version: Version) -> Result<Subscribe, DecodeError> {
    let mut subscribe = Subscribe {
        packet_id: reader.packet_id()?,
        subscription_id: None,
        user: UserProperties::new(),
        filters: Vec::new(),
    };
    if version == Version::V5 {
        decode_properties(&mut reader, &mut subscribe)?;
    }
    while !reader.is_empty() {
        let filter = reader.topic_filter(subscribe.filters.len())?;
        let options = decode_options(&mut reader, version)?;
        if options.no_local && topic::Shared::parse(&filter).is_some() {
            // [MQTT-3.8.3-4]
            return Err(reader.protocol(OPTIONS, "no local is not possible for a shared subscription"));
        }
        subscribe.filters.push(SubscribeFilter { filter, options });
    }
    if subscribe.filters.is_empty() {
        // [MQTT-3.8.3-2]
        return Err(reader.protocol("topic filters", "at least one is needed"));
    }
    Ok(subscribe)
}

fn decode_properties(reader: &mut Reader, subscribe: &mut Subscribe) -> Result<(), DecodeError> {
    let mut block = reader.properties()?;
    while let Some(property) = block.next_property()? {
        match property {
            Property::SubscriptionIdentifier => {
                let id = block.subscription_id()?;
                block.once(&mut subscribe.subscription_id, property, id)
            }
            Property::UserProperty => block.user_property(&mut subscribe.user),
            other => Err(block.not_allowed(other)),
        }?;
    }
    Ok(())
}

fn decode_options(reader: &mut Reader, version: Version) -> Result<SubscribeOptions, DecodeError> {
    let bits = reader.u8(OPTIONS)?;
    let reserved = if version == Version::V5 { RESERVED } else { !QOS };
    if bits & reserved != 0 {
        // [MQTT-3.8.3-5]
        return Err(reader.malformed(OPTIONS, "reserved bits are set"));
    }
    let qos = QoS::from_bits(bits & QOS).ok_or_else(|| match version {
        Version::V5 => reader.protocol(OPTIONS, "there is no QoS 3"),
        Version::V31 | Version::V311 => reader.malformed(OPTIONS, "there is no QoS 3"),
    })?;
    let retain_handling = match bits >> RETAIN_HANDLING_SHIFT {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(reader.protocol(OPTIONS, "there is no retain handling 3")),
    };
    Ok(SubscribeOptions {
        qos,
        no_local: bits & NO_LOCAL != 0,
        retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
        retain_handling,
    })
}

pub(crate) fn encode(
    subscribe: &Subscribe,
    version: Version,
    out: &mut impl Sink,
) -> Result<(), EncodeError> {
    out.u16(subscribe.packet_id.0.get());
    if version == Version::V5 {
        out.properties(&Request { subscription_id: subscribe.subscription_id, user: &subscribe.user })?;
    }
    for SubscribeFilter { filter, options } in &subscribe.filters {
        out.binary("topic filter", filter.as_bytes())?;
        out.u8(options.bits() & if version == Version::V5 { !RESERVED } else { QOS });
    }
    Ok(())
}

impl SubscribeOptions {
    const fn bits(self) -> u8 {
        self.qos as u8
            | if self.no_local { NO_LOCAL } else { 0 }
            | if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
            | (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT
    }
}
