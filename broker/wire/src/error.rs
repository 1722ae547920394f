//! What is wrong with a packet: received (the peer's fault) or to be sent (ours).

use crate::{PacketType, Property, ReasonCode, Sender, Version};

/// Why received bytes are not a packet. The connection cannot go on after it: what follows has no known beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The high half of the first byte names no packet of this version.
    #[error("packet type {code} does not exist in this version of MQTT")]
    UnknownPacketType {
        /// As received.
        code: u8,
    },
    /// The low half of the first byte is not what this packet has there [MQTT-2.1.3-1].
    #[error("{packet}: fixed-header flags {flags:#06b} are reserved or contradict each other")]
    FixedHeaderFlags {
        /// In which packet.
        packet: PacketType,
        /// As received.
        flags: u8,
    },
    /// Larger than the receiver takes; known from the header alone.
    #[error("{packet}: {size} bytes exceed the maximum packet size of {max} bytes")]
    PacketTooLarge {
        /// Which packet.
        packet: PacketType,
        /// The whole packet, bytes.
        size: u32,
        /// The receiver's limit, bytes.
        max: u32,
    },
    /// A network connection begins with CONNECT [MQTT-3.1.0-1].
    #[error("{packet} before CONNECT: a connection begins with CONNECT")]
    NotConnected {
        /// What came instead.
        packet: PacketType,
    },
    /// There is one CONNECT in a connection [MQTT-3.1.0-2].
    #[error("a second CONNECT in one connection")]
    SecondConnect,
    /// Not a packet for this end to send.
    #[error("{packet} is not for a {sender} to send")]
    WrongSender {
        /// Which packet.
        packet: PacketType,
        /// Who sent it.
        sender: Sender,
    },
    /// The packet ends before the field does.
    #[error("{packet}: the packet ends within the {field}")]
    Truncated {
        /// In which packet.
        packet: PacketType,
        /// In which field.
        field: &'static str,
    },
    /// The packet goes on after its last field.
    #[error("{packet}: {count} bytes follow the last field")]
    TrailingBytes {
        /// In which packet.
        packet: PacketType,
        /// How many.
        count: usize,
    },
    /// A variable byte integer of more than four bytes, or longer than its value needs [MQTT-1.5.5-1].
    #[error("{packet}: the {field} is encoded in more bytes than allowed")]
    OverlongInteger {
        /// In which packet.
        packet: PacketType,
        /// In which field.
        field: &'static str,
    },
    /// Ill-formed UTF-8, surrogates included [MQTT-1.5.4-1].
    #[error("{packet}: the {field} is not well-formed UTF-8")]
    NotUtf8 {
        /// In which packet.
        packet: PacketType,
        /// In which field.
        field: &'static str,
    },
    /// A string contains U+0000 [MQTT-1.5.4-2].
    #[error("{packet}: the {field} contains U+0000")]
    NulCharacter {
        /// In which packet.
        packet: PacketType,
        /// In which field.
        field: &'static str,
    },
    /// A topic, client identifier or user name contains U+0001 to U+001F or U+007F to U+009F (section 1.5.4).
    #[error("{packet}: the {field} contains a control character")]
    ControlCharacter {
        /// In which packet.
        packet: PacketType,
        /// In which field.
        field: &'static str,
    },
    /// A property identifier that the specification does not have.
    #[error("{packet}: there is no property {id:#04x}")]
    UnknownProperty {
        /// In which packet.
        packet: PacketType,
        /// As received.
        id: u32,
    },
    /// A property that does not belong in this packet (section 2.2.2.2).
    #[error("{packet}: {property} does not belong here")]
    PropertyNotAllowed {
        /// In which packet.
        packet: PacketType,
        /// Which property.
        property: Property,
    },
    /// A property that may appear once appears again.
    #[error("{packet}: {property} appears more than once")]
    RepeatedProperty {
        /// In which packet.
        packet: PacketType,
        /// Which property.
        property: Property,
    },
    /// Bits that cannot be read as the field they stand for.
    #[error("{packet}: {field}: {problem}")]
    Malformed {
        /// In which packet.
        packet: PacketType,
        /// In which field.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A readable value that the protocol does not allow.
    #[error("{packet}: {field}: {problem}")]
    Protocol {
        /// In which packet.
        packet: PacketType,
        /// In which field.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A reason or return code that this packet does not have.
    #[error("{packet}: reason code {code:#04x} does not belong here")]
    ReasonNotAllowed {
        /// In which packet.
        packet: PacketType,
        /// As received.
        code: u8,
    },
    /// A topic name that is empty or has a wildcard [MQTT-3.3.2-2] [MQTT-4.7.3-1].
    #[error("{packet}: the {field} must not be empty and must not contain + or #")]
    TopicNameInvalid {
        /// In which packet.
        packet: PacketType,
        /// The topic name or the will topic.
        field: &'static str,
    },
    /// A filter with a misplaced wildcard, or a `$share` without group or filter [MQTT-4.7.1-1] [MQTT-4.8.2-1].
    #[error(
        "{packet}: filter {index}: + and # stand for whole levels, # only for the last, \
         and $share/ needs a group and a filter"
    )]
    TopicFilterInvalid {
        /// In which packet.
        packet: PacketType,
        /// Which filter of the packet, from 0.
        index: usize,
    },
    /// Topic alias 0 [MQTT-3.3.2-8].
    #[error("PUBLISH: topic alias 0 is not permitted")]
    TopicAliasInvalid,
    /// A protocol level that is not spoken here [MQTT-3.1.2-2].
    #[error("CONNECT: protocol level {level} is not supported; use MQTT 5 (level 5) or 3.1.1 (level 4)")]
    UnsupportedProtocolVersion {
        /// As received.
        level: u8,
        /// The version whose CONNACK such a client most likely understands.
        answer: Version,
    },
    /// A protocol name that is not MQTT's [MQTT-3.1.2-1]: there is nobody to answer.
    #[error("CONNECT: the protocol name is not MQTT")]
    UnknownProtocolName,
    /// An empty client identifier where the version needs one [MQTT3-3.1.3-7] [MQTT3-3.1.3-8].
    #[error("CONNECT: an empty client identifier needs a clean session and MQTT 3.1.1 or later")]
    ClientIdentifierNotValid,
}

impl DecodeError {
    /// What to answer with: a CONNACK before the connection is accepted, a DISCONNECT after.
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::UnknownPacketType { .. }
            | Self::FixedHeaderFlags { .. }
            | Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::OverlongInteger { .. }
            | Self::NotUtf8 { .. }
            | Self::NulCharacter { .. }
            | Self::ControlCharacter { .. }
            | Self::UnknownProperty { .. }
            | Self::PropertyNotAllowed { .. }
            | Self::Malformed { .. } => ReasonCode::MalformedPacket,
            Self::NotConnected { .. }
            | Self::SecondConnect
            | Self::WrongSender { .. }
            | Self::RepeatedProperty { .. }
            | Self::Protocol { .. }
            | Self::ReasonNotAllowed { .. } => ReasonCode::ProtocolError,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::TopicNameInvalid { .. } => ReasonCode::TopicNameInvalid,
            Self::TopicFilterInvalid { .. } => ReasonCode::TopicFilterInvalid,
            Self::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            Self::UnsupportedProtocolVersion { .. } | Self::UnknownProtocolName => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::ClientIdentifierNotValid => ReasonCode::ClientIdentifierNotValid,
        }
    }
}

/// Why a packet cannot be encoded. Nothing has been written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string or binary field has a 16 bit length [1.5.4].
    #[error("the {field} is {len} bytes long; MQTT allows 65535")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
        /// Bytes.
        len: usize,
    },
    /// A variable byte integer above [`crate::VARIABLE_INTEGER_MAX`] [1.5.5].
    #[error("the {field} is {value}; MQTT allows 268435455")]
    IntegerTooLarge {
        /// Which field.
        field: &'static str,
        /// As given.
        value: usize,
    },
    /// Larger than the receiver takes, even without reason string and user properties.
    #[error("{packet}: {size} bytes exceed the receiver's maximum packet size of {max} bytes")]
    PacketTooLarge {
        /// Which packet.
        packet: PacketType,
        /// The whole packet, bytes.
        size: usize,
        /// The receiver's limit, bytes.
        max: u32,
    },
    /// The version has no way to say it; a server closes the connection instead.
    #[error("{packet}: MQTT 3 has no {what}")]
    NotInVersion {
        /// Which packet.
        packet: PacketType,
        /// What it lacks.
        what: &'static str,
    },
    /// A reason code that this packet does not have; see [`ReasonCode::allowed_in`].
    #[error("{packet}: reason code \"{reason}\" does not belong here")]
    ReasonNotAllowed {
        /// In which packet.
        packet: PacketType,
        /// As given.
        reason: ReasonCode,
    },
    /// A publish above QoS 0 has a packet identifier [MQTT-2.2.1-2].
    #[error("PUBLISH: a publish above QoS 0 needs a packet identifier")]
    MissingPacketId,
}
