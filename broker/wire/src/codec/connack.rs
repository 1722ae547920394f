//! CONNACK (section 3.2).

use crate::reader::Reader;
use crate::writer::{PropertyBlock, Sink};
use crate::{
    ConnAck, ConnAckProperties, DecodeError, EncodeError, PacketType, Property, QoS, ReasonCode, Sender,
    Version,
};

const FLAGS: &str = "acknowledge flags";
const SESSION_PRESENT: u8 = 1;

pub(crate) fn decode(mut reader: Reader, version: Version) -> Result<ConnAck, DecodeError> {
    let flags = reader.u8(FLAGS)?;
    // MQTT 3.1 had no session present flag and left the byte unspecified.
    let reserved = if version == Version::V31 { 0 } else { !SESSION_PRESENT };
    if flags & reserved != 0 {
        return Err(reader.malformed(FLAGS, "reserved bits are set"));
    }
    let reason = match version {
        Version::V5 => reader.reason(Sender::Server)?,
        Version::V31 | Version::V311 => {
            let code = reader.u8("return code")?;
            ReasonCode::from_connack_return_code(code)
                .ok_or(DecodeError::ReasonNotAllowed { packet: reader.packet(), code })?
        }
    };
    let session_present = version != Version::V31 && flags & SESSION_PRESENT != 0;
    if session_present && reason != ReasonCode::Success {
        // [MQTT-3.2.2-6]
        return Err(reader.protocol(FLAGS, "a refusal cannot have a session present"));
    }
    let properties = match version {
        Version::V5 => decode_properties(&mut reader)?,
        Version::V31 | Version::V311 => ConnAckProperties::default(),
    };
    reader.finish()?;
    Ok(ConnAck { session_present, reason, properties })
}

fn decode_properties(reader: &mut Reader) -> Result<ConnAckProperties, DecodeError> {
    let mut p = ConnAckProperties::default();
    let mut block = reader.properties()?;
    while let Some(property) = block.next_property()? {
        match property {
            Property::SessionExpiryInterval => block.u32_property(property, &mut p.session_expiry),
            Property::ReceiveMaximum => block.nonzero_u16_property(property, &mut p.receive_maximum),
            Property::MaximumQoS => {
                let qos = if block.flag(property)? { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                block.once(&mut p.maximum_qos, property, qos)
            }
            Property::RetainAvailable => block.flag_property(property, &mut p.retain_available),
            Property::MaximumPacketSize => block.nonzero_u32_property(property, &mut p.maximum_packet_size),
            Property::AssignedClientIdentifier => block.string_property(property, &mut p.assigned_client_id),
            Property::TopicAliasMaximum => block.u16_property(property, &mut p.topic_alias_maximum),
            Property::ReasonString => block.string_property(property, &mut p.reason_string),
            Property::UserProperty => block.user_property(&mut p.user),
            Property::WildcardSubscriptionAvailable => {
                block.flag_property(property, &mut p.wildcard_subscription_available)
            }
            Property::SubscriptionIdentifierAvailable => {
                block.flag_property(property, &mut p.subscription_id_available)
            }
            Property::SharedSubscriptionAvailable => {
                block.flag_property(property, &mut p.shared_subscription_available)
            }
            Property::ServerKeepAlive => block.u16_property(property, &mut p.server_keep_alive),
            Property::ResponseInformation => block.string_property(property, &mut p.response_information),
            Property::ServerReference => block.string_property(property, &mut p.server_reference),
            Property::AuthenticationMethod => block.string_property(property, &mut p.authentication_method),
            Property::AuthenticationData => block.binary_property(property, &mut p.authentication_data),
            other => Err(block.not_allowed(other)),
        }?;
    }
    if p.authentication_data.is_some() && p.authentication_method.is_none() {
        return Err(block.protocol(Property::AuthenticationData.name(), "needs an authentication method"));
    }
    Ok(p)
}

pub(crate) fn encode(connack: &ConnAck, version: Version, out: &mut impl Sink) -> Result<(), EncodeError> {
    let packet = PacketType::ConnAck;
    // A refusal never has a session present [MQTT-3.2.2-6].
    let present = connack.session_present && connack.reason == ReasonCode::Success && version != Version::V31;
    out.u8(if present { SESSION_PRESENT } else { 0 }); // [MQTT-3.2.2-1]
    if version == Version::V5 {
        connack.reason.require_in(packet)?;
        out.u8(connack.reason as u8);
        return out.properties(&connack.properties);
    }
    // What has no return code is not said: the server closes instead [MQTT3-3.2.2-6].
    let code = connack
        .reason
        .connack_return_code()
        .ok_or(EncodeError::NotInVersion { packet, what: "return code for this reason" })?;
    out.u8(code);
    Ok(())
}

impl PropertyBlock for ConnAckProperties {
    fn put(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        // QoS 2 is what a server offers that says nothing; there is no value for it (section 3.2.2.3.4).
        let maximum_qos = self.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce);
        out.u32_property(Property::SessionExpiryInterval, self.session_expiry);
        out.u16_property(Property::ReceiveMaximum, self.receive_maximum.map(|value| value.get()));
        out.u8_property(Property::MaximumQoS, maximum_qos.map(|qos| qos as u8));
        out.flag_property(Property::RetainAvailable, self.retain_available);
        out.u32_property(Property::MaximumPacketSize, self.maximum_packet_size);
        out.string_property(Property::AssignedClientIdentifier, self.assigned_client_id.as_ref())?;
        out.u16_property(Property::TopicAliasMaximum, self.topic_alias_maximum);
        out.string_property(Property::ReasonString, self.reason_string.as_ref())?;
        out.user_properties(&self.user)?;
        out.flag_property(Property::WildcardSubscriptionAvailable, self.wildcard_subscription_available);
        out.flag_property(Property::SubscriptionIdentifierAvailable, self.subscription_id_available);
        out.flag_property(Property::SharedSubscriptionAvailable, self.shared_subscription_available);
        out.u16_property(Property::ServerKeepAlive, self.server_keep_alive);
        out.string_property(Property::ResponseInformation, self.response_information.as_ref())?;
        out.string_property(Property::ServerReference, self.server_reference.as_ref())?;
        out.string_property(Property::AuthenticationMethod, self.authentication_method.as_ref())?;
        out.binary_property(Property::AuthenticationData, self.authentication_data.as_deref())
    }
}
