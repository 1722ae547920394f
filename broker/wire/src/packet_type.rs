//! The fifteen packet types, who may send them, and their fixed-header flags (section 2.1).

use crate::{Packet, Version};

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The end that connects.
    Client,
    /// The end that is connected to.
    Server,
}

impl std::fmt::Display for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

macro_rules! packet_types {
    ($($name:ident = $code:literal $text:literal,)*) => {
        /// Type of a control packet, the high half of its first byte.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum PacketType { $(#[doc = $text] $name = $code,)* }
        impl PacketType {
            /// The specification's name, in capitals; also used as metric label.
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// From the high half of a packet's first byte; 0 is no packet's.
            pub const fn from_u8(code: u8) -> Option<Self> { match code { $($code => Some(Self::$name),)* _ => None } }
        }
    };
}

packet_types! {
    Connect = 1 "CONNECT",
    ConnAck = 2 "CONNACK",
    Publish = 3 "PUBLISH",
    PubAck = 4 "PUBACK",
    PubRec = 5 "PUBREC",
    PubRel = 6 "PUBREL",
    PubComp = 7 "PUBCOMP",
    Subscribe = 8 "SUBSCRIBE",
    SubAck = 9 "SUBACK",
    Unsubscribe = 10 "UNSUBSCRIBE",
    UnsubAck = 11 "UNSUBACK",
    PingReq = 12 "PINGREQ",
    PingResp = 13 "PINGRESP",
    Disconnect = 14 "DISCONNECT",
    Auth = 15 "AUTH",
}

/// The fixed flags of PUBREL, SUBSCRIBE and UNSUBSCRIBE: what was QoS 1 in MQTT 3.1.
const ACKNOWLEDGED: u8 = 0b0010;
/// DUP, which MQTT 3.1 also allowed on those three.
const DUP: u8 = 0b1000;

impl PacketType {
    /// Whether `sender` may send this packet at all.
    pub const fn is_sent_by(self, sender: Sender, version: Version) -> bool {
        let server = matches!(sender, Sender::Server);
        match self {
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::PingReq => !server,
            Self::ConnAck | Self::SubAck | Self::UnsubAck | Self::PingResp => server,
            Self::Publish | Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp => true,
            Self::Disconnect => !server || matches!(version, Version::V5),
            Self::Auth => matches!(version, Version::V5),
        }
    }

    /// The low half of the first byte. PUBLISH has DUP, QoS and RETAIN there instead.
    pub(crate) const fn flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => ACKNOWLEDGED,
            _ => 0,
        }
    }

    /// Whether the low half of the first byte may be `flags` [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
    /// [MQTT-3.14.1-1] [MQTT-3.15.1-1]. Those of PUBLISH are its own to check.
    pub(crate) const fn allows_flags(self, flags: u8, version: Option<Version>) -> bool {
        if matches!(self, Self::Publish) {
            return true;
        }
        let repeated = matches!(version, Some(Version::V31)) && flags == ACKNOWLEDGED | DUP;
        flags == self.flags() || (repeated && self.flags() == ACKNOWLEDGED)
    }
}

impl std::fmt::Display for PacketType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Packet {
    /// Which of the fifteen it is.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}
