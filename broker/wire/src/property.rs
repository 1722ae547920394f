//! The registry of MQTT 5 properties (section 2.2.2.2, table 2-4).

macro_rules! properties {
    ($($name:ident = $code:literal $text:literal,)*) => {
        /// Identifier of a property.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Property { $(#[doc = $text] $name = $code,)* }
        impl Property {
            /// The specification's name, in small letters.
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// From the wire.
            pub const fn from_u32(code: u32) -> Option<Self> { match code { $($code => Some(Self::$name),)* _ => None } }
        }
    };
}

properties! {
    PayloadFormatIndicator = 0x01 "payload format indicator",
    MessageExpiryInterval = 0x02 "message expiry interval",
    ContentType = 0x03 "content type",
    ResponseTopic = 0x08 "response topic",
    CorrelationData = 0x09 "correlation data",
    SubscriptionIdentifier = 0x0B "subscription identifier",
    SessionExpiryInterval = 0x11 "session expiry interval",
    AssignedClientIdentifier = 0x12 "assigned client identifier",
    ServerKeepAlive = 0x13 "server keep alive",
    AuthenticationMethod = 0x15 "authentication method",
    AuthenticationData = 0x16 "authentication data",
    RequestProblemInformation = 0x17 "request problem information",
    WillDelayInterval = 0x18 "will delay interval",
    RequestResponseInformation = 0x19 "request response information",
    ResponseInformation = 0x1A "response information",
    ServerReference = 0x1C "server reference",
    ReasonString = 0x1F "reason string",
    ReceiveMaximum = 0x21 "receive maximum",
    TopicAliasMaximum = 0x22 "topic alias maximum",
    TopicAlias = 0x23 "topic alias",
    MaximumQoS = 0x24 "maximum QoS",
    RetainAvailable = 0x25 "retain available",
    UserProperty = 0x26 "user property",
    MaximumPacketSize = 0x27 "maximum packet size",
    WildcardSubscriptionAvailable = 0x28 "wildcard subscription available",
    SubscriptionIdentifierAvailable = 0x29 "subscription identifier available",
    SharedSubscriptionAvailable = 0x2A "shared subscription available",
}

impl std::fmt::Display for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
