//! UNSUBSCRIBE (section 3.10).

use crate::codec::diagnostics::Request;
use crate::reader::Reader;
use crate::writer::Sink;
use crate::{DecodeError, EncodeError, Property, Unsubscribe, UserProperties, Version};

pub(crate) fn decode(mut reader: Reader, version: Version) -> Result<Unsubscribe, DecodeError> {
    let packet_id = reader.packet_id()?;
    let mut unsubscribe = Unsubscribe { packet_id, user: UserProperties::new(), filters: Vec::new() };
    if version == Version::V5 {
        let mut block = reader.properties()?;
        while let Some(property) = block.next_property()? {
            match property {
                Property::UserProperty => block.user_property(&mut unsubscribe.user),
                other => Err(block.not_allowed(other)),
            }?;
        }
    }
    while !reader.is_empty() {
        let filter = reader.topic_filter(unsubscribe.filters.len())?;
        unsubscribe.filters.push(filter);
    }
    if unsubscribe.filters.is_empty() {
        // [MQTT-3.10.3-2]
        return Err(reader.protocol("topic filters", "at least one is needed"));
    }
    Ok(unsubscribe)
}

pub(crate) fn encode(
    unsubscribe: &Unsubscribe,
    version: Version,
    out: &mut impl Sink,
) -> Result<(), EncodeError> {
    out.u16(unsubscribe.packet_id.0.get());
    if version == Version::V5 {
        out.properties(&Request { subscription_id: None, user: &unsubscribe.user })?;
    }
    for filter in &unsubscribe.filters {
        out.binary("topic filter", filter.as_bytes())?;
    }
    Ok(())
}
