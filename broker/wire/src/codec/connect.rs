//! CONNECT (section 3.1), which also chooses the version that the rest of the connection speaks.

use crate::codec::publish;
use crate::reader::Reader;
use crate::writer::{PropertyBlock, Sink};
use crate::{
    Connect, ConnectProperties, DecodeError, EncodeError, PacketType, Property, PublishProperties, QoS,
    Version, Will, topic,
};

const FLAGS: &str = "connect flags";
const RESERVED: u8 = 1;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;
/// What means something only where there is a will.
const OF_WILL: u8 = 0b11 << WILL_QOS_SHIFT | WILL_RETAIN;

/// Set by bridges of another broker to ask for extensions of its own. Refused with 0x01 they come again without it, and need
/// no extension [MQTT3-7.0.0-2].
const BRIDGE: u8 = 0x80;

/// `version` is set as soon as it is known, so that a CONNECT that is wrong further on can be answered in it.
pub(crate) fn decode(mut reader: Reader, version: &mut Option<Version>) -> Result<Connect, DecodeError> {
    let spoken = decode_version(&mut reader)?;
    *version = Some(spoken);
    let flags = reader.u8(FLAGS)?;
    check_flags(flags, spoken).map_err(|problem| reader.malformed(FLAGS, problem))?;
    let clean_start = flags & CLEAN_START != 0;
    let keep_alive = reader.u16("keep alive")?;
    let properties = match spoken {
        Version::V5 => decode_properties(&mut reader)?,
        Version::V31 | Version::V311 => ConnectProperties::default(),
    };
    let client_id = reader.name("client identifier")?;
    let identifiable = match spoken {
        Version::V31 => !client_id.is_empty(),
        Version::V311 => !client_id.is_empty() || clean_start,
        Version::V5 => true,
    };
    if !identifiable {
        return Err(DecodeError::ClientIdentifierNotValid);
    }
    // Each field where its flag says so [MQTT-3.1.2-9].
    let will = if flags & WILL != 0 { Some(decode_will(&mut reader, flags, spoken)?) } else { None };
    let username = if flags & USER_NAME != 0 { Some(reader.name("user name")?) } else { None };
    let password = if flags & PASSWORD != 0 { Some(reader.binary("password")?) } else { None };
    reader.finish()?;
    Ok(Connect { version: spoken, clean_start, keep_alive, client_id, will, username, password, properties })
}

fn decode_version(reader: &mut Reader) -> Result<Version, DecodeError> {
    let name = reader.binary("protocol name")?;
    if !matches!(name.as_ref(), b"MQTT" | b"MQIsdp") {
        return Err(DecodeError::UnknownProtocolName);
    }
    let level = reader.u8("protocol level")?;
    match (name.as_ref(), level) {
        (b"MQIsdp", 3) => Ok(Version::V31),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        _ => {
            let answer = if level & !BRIDGE >= 5 { Version::V5 } else { Version::V311 };
            Err(DecodeError::UnsupportedProtocolVersion { level, answer })
        }
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), &'static str> {
    if version != Version::V31 && flags & RESERVED != 0 {
        return Err("the reserved bit is set"); // [MQTT-3.1.2-3]; MQTT 3.1 does not use it
    }
    if flags & WILL == 0 && flags & OF_WILL != 0 {
        return Err("will QoS or will retain without a will"); // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    }
    if version != Version::V5 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err("a password without a user name needs MQTT 5"); // [MQTT3-3.1.2-22]
    }
    Ok(())
}

fn decode_will(reader: &mut Reader, flags: u8, version: Version) -> Result<Will, DecodeError> {
    const TOPIC: &str = "will topic";
    let qos = QoS::from_bits(flags >> WILL_QOS_SHIFT & 0b11)
        .ok_or_else(|| reader.malformed(FLAGS, "there is no will QoS 3"))?; // [MQTT-3.1.2-12]
    let (mut delay, mut properties) = (None, PublishProperties::default());
    if version == Version::V5 {
        let mut block = reader.properties()?;
        while let Some(property) = block.next_property()? {
            match property {
                Property::WillDelayInterval => block.u32_property(property, &mut delay),
                Property::TopicAlias | Property::SubscriptionIdentifier => Err(block.not_allowed(property)),
                other => publish::decode_property(&mut block, other, &mut properties),
            }?;
        }
    }
    let topic = reader.name(TOPIC)?;
    if !topic::is_valid_name(&topic) {
        return Err(DecodeError::TopicNameInvalid { packet: reader.packet(), field: TOPIC });
    }
    let payload = reader.binary("will payload")?;
    Ok(Will { topic, payload, qos, retain: flags & WILL_RETAIN != 0, delay, properties })
}

fn decode_properties(reader: &mut Reader) -> Result<ConnectProperties, DecodeError> {
    let mut p = ConnectProperties::default();
    let mut block = reader.properties()?;
    while let Some(property) = block.next_property()? {
        match property {
            Property::SessionExpiryInterval => block.u32_property(property, &mut p.session_expiry),
            Property::ReceiveMaximum => block.nonzero_u16_property(property, &mut p.receive_maximum),
            Property::MaximumPacketSize => block.nonzero_u32_property(property, &mut p.maximum_packet_size),
            Property::TopicAliasMaximum => block.u16_property(property, &mut p.topic_alias_maximum),
            Property::RequestResponseInformation => {
                block.flag_property(property, &mut p.request_response_information)
            }
            Property::RequestProblemInformation => {
                block.flag_property(property, &mut p.request_problem_information)
            }
            Property::UserProperty => block.user_property(&mut p.user),
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

/// Encodes in the version that the CONNECT itself names.
pub(crate) fn encode(connect: &Connect, out: &mut impl Sink) -> Result<(), EncodeError> {
    let (name, level): (&[u8], u8) = match connect.version {
        Version::V31 => (b"MQIsdp", 3),
        Version::V311 => (b"MQTT", 4),
        Version::V5 => (b"MQTT", 5),
    };
    let v5 = connect.version == Version::V5;
    if !v5 && connect.password.is_some() && connect.username.is_none() {
        let what = "password without a user name";
        return Err(EncodeError::NotInVersion { packet: PacketType::Connect, what });
    }
    out.binary("protocol name", name)?;
    out.u8(level);
    out.u8(flags(connect));
    out.u16(connect.keep_alive);
    if v5 {
        out.properties(&connect.properties)?;
    }
    out.binary("client identifier", connect.client_id.as_bytes())?;
    if let Some(will) = &connect.will {
        if v5 {
            out.properties(will)?;
        }
        out.binary("will topic", will.topic.as_bytes())?;
        out.binary("will payload", &will.payload)?;
    }
    if let Some(username) = &connect.username {
        out.binary("user name", username.as_bytes())?;
    }
    if let Some(password) = &connect.password {
        out.binary("password", password)?;
    }
    Ok(())
}

fn flags(connect: &Connect) -> u8 {
    let bit = |condition: bool, flag: u8| if condition { flag } else { 0 };
    let will = connect
        .will
        .as_ref()
        .map_or(0, |will| WILL | (will.qos as u8) << WILL_QOS_SHIFT | bit(will.retain, WILL_RETAIN));
    bit(connect.clean_start, CLEAN_START)
        | will
        | bit(connect.username.is_some(), USER_NAME)
        | bit(connect.password.is_some(), PASSWORD)
}

impl PropertyBlock for ConnectProperties {
    fn put(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        out.u32_property(Property::SessionExpiryInterval, self.session_expiry);
        out.u16_property(Property::ReceiveMaximum, self.receive_maximum.map(|value| value.get()));
        out.u32_property(Property::MaximumPacketSize, self.maximum_packet_size);
        out.u16_property(Property::TopicAliasMaximum, self.topic_alias_maximum);
        out.flag_property(Property::RequestResponseInformation, self.request_response_information);
        out.flag_property(Property::RequestProblemInformation, self.request_problem_information);
        out.user_properties(&self.user)?;
        out.string_property(Property::AuthenticationMethod, self.authentication_method.as_ref())?;
        out.binary_property(Property::AuthenticationData, self.authentication_data.as_deref())
    }
}

impl PropertyBlock for Will {
    fn put(&self, out: &mut impl Sink) -> Result<(), EncodeError> {
        out.u32_property(Property::WillDelayInterval, self.delay);
        out.u32_property(Property::MessageExpiryInterval, self.properties.message_expiry);
        publish::put_lasting_properties(&self.properties, out)
    }
}
