//! MQTT 5 reason codes (section 2.4) and what MQTT 3.1.1 has in their place.

use crate::{EncodeError, PacketType, Sender};

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal,)*) => {
        /// Why: the MQTT 5 reason codes, the single vocabulary of answers in Wardline.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode { $($(#[$doc])* $name = $code,)* }
        impl ReasonCode {
            /// The code's name in the specification's words, also used as metric label and audit reason.
            pub const fn text(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// From the wire.
            pub const fn from_u8(code: u8) -> Option<Self> { match code { $($code => Some(Self::$name),)* _ => None } }
        }
    };
}

reason_codes! {
    /// Also: normal disconnection, granted QoS 0.
    Success = 0x00 "success",
    /// Granted QoS 1.
    GrantedQoS1 = 0x01 "granted QoS 1",
    /// Granted QoS 2.
    GrantedQoS2 = 0x02 "granted QoS 2",
    /// Disconnect with will message.
    DisconnectWithWill = 0x04 "disconnect with will message",
    /// Nobody subscribes to it.
    NoMatchingSubscribers = 0x10 "no matching subscribers",
    /// Nothing to unsubscribe.
    NoSubscriptionExisted = 0x11 "no subscription existed",
    /// Continue authentication.
    ContinueAuthentication = 0x18 "continue authentication",
    /// Re-authenticate.
    ReAuthenticate = 0x19 "re-authenticate",
    /// Unspecified error.
    UnspecifiedError = 0x80 "unspecified error",
    /// Malformed packet.
    MalformedPacket = 0x81 "malformed packet",
    /// Protocol error.
    ProtocolError = 0x82 "protocol error",
    /// Implementation specific error.
    ImplementationSpecificError = 0x83 "implementation specific error",
    /// Unsupported protocol version.
    UnsupportedProtocolVersion = 0x84 "unsupported protocol version",
    /// Client identifier not valid.
    ClientIdentifierNotValid = 0x85 "client identifier not valid",
    /// Bad user name or password.
    BadUserNameOrPassword = 0x86 "bad user name or password",
    /// Not authorized.
    NotAuthorized = 0x87 "not authorized",
    /// Server unavailable.
    ServerUnavailable = 0x88 "server unavailable",
    /// Server busy.
    ServerBusy = 0x89 "server busy",
    /// Banned.
    Banned = 0x8A "banned",
    /// Server shutting down.
    ServerShuttingDown = 0x8B "server shutting down",
    /// Bad authentication method.
    BadAuthenticationMethod = 0x8C "bad authentication method",
    /// Keep alive timeout.
    KeepAliveTimeout = 0x8D "keep alive timeout",
    /// Session taken over.
    SessionTakenOver = 0x8E "session taken over",
    /// Topic filter invalid.
    TopicFilterInvalid = 0x8F "topic filter invalid",
    /// Topic name invalid.
    TopicNameInvalid = 0x90 "topic name invalid",
    /// Packet identifier in use.
    PacketIdentifierInUse = 0x91 "packet identifier in use",
    /// Packet identifier not found.
    PacketIdentifierNotFound = 0x92 "packet identifier not found",
    /// Receive maximum exceeded.
    ReceiveMaximumExceeded = 0x93 "receive maximum exceeded",
    /// Topic alias invalid.
    TopicAliasInvalid = 0x94 "topic alias invalid",
    /// Packet too large.
    PacketTooLarge = 0x95 "packet too large",
    /// Message rate too high.
    MessageRateTooHigh = 0x96 "message rate too high",
    /// Quota exceeded.
    QuotaExceeded = 0x97 "quota exceeded",
    /// Administrative action.
    AdministrativeAction = 0x98 "administrative action",
    /// Payload format invalid.
    PayloadFormatInvalid = 0x99 "payload format invalid",
    /// Retain not supported.
    RetainNotSupported = 0x9A "retain not supported",
    /// QoS not supported.
    QoSNotSupported = 0x9B "QoS not supported",
    /// Use another server.
    UseAnotherServer = 0x9C "use another server",
    /// Server moved.
    ServerMoved = 0x9D "server moved",
    /// Shared subscriptions not supported.
    SharedSubscriptionsNotSupported = 0x9E "shared subscriptions not supported",
    /// Connection rate exceeded.
    ConnectionRateExceeded = 0x9F "connection rate exceeded",
    /// Maximum connect time.
    MaximumConnectTime = 0xA0 "maximum connect time",
    /// Subscription identifiers not supported.
    SubscriptionIdentifiersNotSupported = 0xA1 "subscription identifiers not supported",
    /// Wildcard subscriptions not supported.
    WildcardSubscriptionsNotSupported = 0xA2 "wildcard subscriptions not supported",
}

impl ReasonCode {
    /// Codes from 0x80 are failures.
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Whether `sender` may give this reason in this packet (section 2.4, table 2-6, and the table of each packet):
    /// [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2]
    /// [MQTT-3.14.2-1] [MQTT-3.15.2-1].
    /// What CONNACK is allowed here is MQTT 5's; [`crate::encode`] maps it for earlier versions.
    #[rustfmt::skip]
    pub const fn allowed_in(self, packet: PacketType, sender: Sender) -> bool {
        let from_server = matches!(sender, Sender::Server);
        match packet {
            PacketType::ConnAck => matches!(
                self,
                Self::Success | Self::UnspecifiedError | Self::MalformedPacket | Self::ProtocolError
                    | Self::ImplementationSpecificError | Self::UnsupportedProtocolVersion
                    | Self::ClientIdentifierNotValid | Self::BadUserNameOrPassword | Self::NotAuthorized
                    | Self::ServerUnavailable | Self::ServerBusy | Self::Banned | Self::BadAuthenticationMethod
                    | Self::TopicNameInvalid | Self::PacketTooLarge | Self::QuotaExceeded
                    | Self::PayloadFormatInvalid | Self::RetainNotSupported | Self::QoSNotSupported
                    | Self::UseAnotherServer | Self::ServerMoved | Self::ConnectionRateExceeded
            ),
            PacketType::PubAck | PacketType::PubRec => matches!(
                self,
                Self::Success | Self::NoMatchingSubscribers | Self::UnspecifiedError
                    | Self::ImplementationSpecificError | Self::NotAuthorized | Self::TopicNameInvalid
                    | Self::PacketIdentifierInUse | Self::QuotaExceeded | Self::PayloadFormatInvalid
            ),
            PacketType::PubRel | PacketType::PubComp => {
                matches!(self, Self::Success | Self::PacketIdentifierNotFound)
            }
            PacketType::SubAck => matches!(
                self,
                Self::Success | Self::GrantedQoS1 | Self::GrantedQoS2 | Self::UnspecifiedError
                    | Self::ImplementationSpecificError | Self::NotAuthorized | Self::TopicFilterInvalid
                    | Self::PacketIdentifierInUse | Self::QuotaExceeded | Self::SharedSubscriptionsNotSupported
                    | Self::SubscriptionIdentifiersNotSupported | Self::WildcardSubscriptionsNotSupported
            ),
            PacketType::UnsubAck => matches!(
                self,
                Self::Success | Self::NoSubscriptionExisted | Self::UnspecifiedError
                    | Self::ImplementationSpecificError | Self::NotAuthorized | Self::TopicFilterInvalid
                    | Self::PacketIdentifierInUse
            ),
            PacketType::Disconnect => match self {
                Self::Success | Self::DisconnectWithWill => !from_server,
                Self::UnspecifiedError | Self::MalformedPacket | Self::ProtocolError
                | Self::ImplementationSpecificError | Self::TopicNameInvalid | Self::ReceiveMaximumExceeded
                | Self::TopicAliasInvalid | Self::PacketTooLarge | Self::MessageRateTooHigh | Self::QuotaExceeded
                | Self::AdministrativeAction | Self::PayloadFormatInvalid => true,
                Self::NotAuthorized | Self::ServerBusy | Self::ServerShuttingDown | Self::KeepAliveTimeout
                | Self::SessionTakenOver | Self::TopicFilterInvalid | Self::RetainNotSupported
                | Self::QoSNotSupported | Self::UseAnotherServer | Self::ServerMoved
                | Self::SharedSubscriptionsNotSupported | Self::ConnectionRateExceeded | Self::MaximumConnectTime
                | Self::SubscriptionIdentifiersNotSupported | Self::WildcardSubscriptionsNotSupported => from_server,
                _ => false,
            },
            PacketType::Auth => match self {
                Self::Success => from_server,
                Self::ContinueAuthentication => true,
                Self::ReAuthenticate => !from_server,
                _ => false,
            },
            PacketType::Connect | PacketType::Publish | PacketType::Subscribe | PacketType::Unsubscribe
            | PacketType::PingReq | PacketType::PingResp => false,
        }
    }

    /// For an encoder, which does not know at which end it stands.
    pub(crate) fn require_in(self, packet: PacketType) -> Result<(), EncodeError> {
        if self.allowed_in(packet, Sender::Server) || self.allowed_in(packet, Sender::Client) {
            Ok(())
        } else {
            Err(EncodeError::ReasonNotAllowed { packet, reason: self })
        }
    }

    /// The CONNACK return code of MQTT 3.1.1 (table 3.1). `None`: it has none that says this, and the server
    /// closes the connection without a CONNACK.
    pub const fn connack_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable
            | Self::ServerBusy
            | Self::ServerShuttingDown
            | Self::QuotaExceeded
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::ConnectionRateExceeded => Some(3),
            Self::BadUserNameOrPassword | Self::BadAuthenticationMethod => Some(4),
            Self::NotAuthorized | Self::Banned => Some(5),
            _ => None,
        }
    }

    /// What a return code of [`Self::connack_return_code`] says in general.
    pub(crate) const fn from_connack_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }

    /// The SUBACK return code of MQTT 3.1.1: the granted QoS, or failure [MQTT3-3.9.3-2].
    pub(crate) const fn suback_return_code(self) -> u8 {
        if self.is_error() { Self::UnspecifiedError as u8 } else { self as u8 }
    }

    /// What a return code of [`Self::suback_return_code`] says.
    pub(crate) const fn from_suback_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::GrantedQoS1),
            2 => Some(Self::GrantedQoS2),
            0x80 => Some(Self::UnspecifiedError),
            _ => None,
        }
    }
}

impl std::fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}
