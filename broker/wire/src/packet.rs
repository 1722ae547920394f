//! The packets of MQTT 3.1, 3.1.1 and 5.0 as plain values.
//!
//! What 3.1.1 does not have is simply empty here: its packets carry default properties and [`ReasonCode`]s that the
//! encoder turns into what 3.1.1 allows. Strings and payloads are slices of the buffer they were read from;
//! whoever keeps one longer than the batch copies it first, so that a small slice does not pin a large buffer.

use std::num::NonZeroU16;

use bytes::Bytes;
use bytestring::ByteString;

use crate::{BoxedProperties, ReasonCode};

/// Protocol version, chosen by CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `MQIsdp`, level 3.
    V31,
    /// `MQTT`, level 4.
    V311,
    /// `MQTT`, level 5.
    V5,
}

/// Quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// 0
    #[default]
    AtMostOnce = 0,
    /// 1
    AtLeastOnce = 1,
    /// 2
    ExactlyOnce = 2,
}

/// Packet identifier, never zero [MQTT-2.2.1-3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub NonZeroU16);

/// User properties, order kept [MQTT-3.3.2-17].
pub type UserProperties = Vec<(ByteString, ByteString)>;

/// Any MQTT control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Client asks for a connection.
    Connect(Box<Connect>),
    /// Server answers.
    ConnAck(Box<ConnAck>),
    /// Application message.
    Publish(Publish),
    /// QoS 1 answer.
    PubAck(Ack),
    /// QoS 2, first answer.
    PubRec(Ack),
    /// QoS 2, release.
    PubRel(Ack),
    /// QoS 2, end.
    PubComp(Ack),
    /// Client subscribes.
    Subscribe(Subscribe),
    /// Server answers.
    SubAck(SubAck),
    /// Client unsubscribes.
    Unsubscribe(Unsubscribe),
    /// Server answers.
    UnsubAck(SubAck),
    /// Are you there?
    PingReq,
    /// Yes.
    PingResp,
    /// The end, with a reason in MQTT 5.
    Disconnect(Disconnect),
    /// Enhanced authentication, MQTT 5.
    Auth(Auth),
}

/// CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Chosen protocol version.
    pub version: Version,
    /// Clean session (3.1.1) or clean start (5).
    pub clean_start: bool,
    /// Seconds; 0 turns keep-alive off.
    pub keep_alive: u16,
    /// May be empty.
    pub client_id: ByteString,
    /// Published by the server if the client goes without a proper DISCONNECT.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<ByteString>,
    /// Password; Wardline expects a token here.
    pub password: Option<Bytes>,
    /// MQTT 5 properties.
    pub properties: ConnectProperties,
}

/// MQTT 5 properties of CONNECT [3.1.2.11].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds; `u32::MAX` never expires.
    pub session_expiry: Option<u32>,
    /// Never 0.
    pub receive_maximum: Option<NonZeroU16>,
    /// Bytes, never 0.
    pub maximum_packet_size: Option<u32>,
    /// Aliases the client takes from the server.
    pub topic_alias_maximum: Option<u16>,
    /// The client wants response information.
    pub request_response_information: Option<bool>,
    /// False: reason strings and user properties only where the server must.
    pub request_problem_information: Option<bool>,
    /// User properties.
    pub user: UserProperties,
    /// Enhanced authentication method.
    pub authentication_method: Option<ByteString>,
    /// Its data.
    pub authentication_data: Option<Bytes>,
}

/// The will in a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where to.
    pub topic: ByteString,
    /// What.
    pub payload: Bytes,
    /// At which quality.
    pub qos: QoS,
    /// Retained?
    pub retain: bool,
    /// Seconds to wait before it is published.
    pub delay: Option<u32>,
    /// The properties that its publish will carry.
    pub properties: PublishProperties,
}

/// CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// The server kept a session.
    pub session_present: bool,
    /// MQTT 5 reason; the encoder maps it to a 3.1.1 return code.
    pub reason: ReasonCode,
    /// MQTT 5 properties.
    pub properties: ConnAckProperties,
}

/// MQTT 5 properties of CONNACK [3.2.2.3].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties {
    /// What the server made of the session's expiry, seconds.
    pub session_expiry: Option<u32>,
    /// Concurrent QoS 1 and 2 publishes the server takes.
    pub receive_maximum: Option<NonZeroU16>,
    /// 0 or 1 if the server does not take 2.
    pub maximum_qos: Option<QoS>,
    /// False: no retained messages.
    pub retain_available: Option<bool>,
    /// Bytes.
    pub maximum_packet_size: Option<u32>,
    /// The name that the server gave.
    pub assigned_client_id: Option<ByteString>,
    /// Aliases the server takes.
    pub topic_alias_maximum: Option<u16>,
    /// For people.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user: UserProperties,
    /// False: no wildcards in filters.
    pub wildcard_subscription_available: Option<bool>,
    /// False: no subscription identifiers.
    pub subscription_id_available: Option<bool>,
    /// False: no shared subscriptions.
    pub shared_subscription_available: Option<bool>,
    /// Seconds; overrides the client's wish.
    pub server_keep_alive: Option<u16>,
    /// Basis for response topics.
    pub response_information: Option<ByteString>,
    /// Another server to use.
    pub server_reference: Option<ByteString>,
    /// Enhanced authentication method.
    pub authentication_method: Option<ByteString>,
    /// Its data.
    pub authentication_data: Option<Bytes>,
}

/// PUBLISH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// A repeat of an earlier attempt.
    pub dup: bool,
    /// Quality.
    pub qos: QoS,
    /// Retain (to the server) or retained (to a client).
    pub retain: bool,
    /// A valid topic name; empty only where `properties.topic_alias` stands for it.
    pub topic: ByteString,
    /// Present exactly when `qos` is above 0.
    pub packet_id: Option<PacketId>,
    /// MQTT 5 properties.
    pub properties: BoxedProperties,
    /// Application message.
    pub payload: Bytes,
}

/// MQTT 5 properties of PUBLISH and of a will [3.3.2.3].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// 1: the payload is UTF-8 text.
    pub payload_format: Option<u8>,
    /// Seconds it stays worth delivering.
    pub message_expiry: Option<u32>,
    /// Stands for the topic on this connection; never 0.
    pub topic_alias: Option<NonZeroU16>,
    /// Where an answer goes.
    pub response_topic: Option<ByteString>,
    /// What the answer carries back.
    pub correlation_data: Option<Bytes>,
    /// User properties.
    pub user: UserProperties,
    /// Which of the subscriber's subscriptions matched; only from server to client.
    pub subscription_ids: Vec<u32>,
    /// MIME type or the like.
    pub content_type: Option<ByteString>,
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of the publish it belongs to.
    pub packet_id: PacketId,
    /// MQTT 5; success in 3.1.1.
    pub reason: ReasonCode,
    /// For people.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user: UserProperties,
}

/// SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Answered with.
    pub packet_id: PacketId,
    /// 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// User properties.
    pub user: UserProperties,
    /// At least one.
    pub filters: Vec<SubscribeFilter>,
}

/// One filter of a SUBSCRIBE with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// A valid topic filter, shared or not.
    pub filter: ByteString,
    /// What the client asks for.
    pub options: SubscribeOptions,
}

/// Subscription options [3.8.3.1]; in 3.1.1 only `qos`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// At most this quality.
    pub qos: QoS,
    /// Not what this client itself published.
    pub no_local: bool,
    /// Keep the RETAIN flag as published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// When a subscription is answered with retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only if the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// SUBACK and UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Of the request.
    pub packet_id: PacketId,
    /// For people.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user: UserProperties,
    /// One for each filter, in order. Empty in an UNSUBACK of 3.1.1.
    pub reasons: Vec<ReasonCode>,
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Answered with.
    pub packet_id: PacketId,
    /// User properties.
    pub user: UserProperties,
    /// At least one.
    pub filters: Vec<ByteString>,
}

/// DISCONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Why; normal in 3.1.1.
    pub reason: ReasonCode,
    /// Seconds; changes the session's expiry.
    pub session_expiry: Option<u32>,
    /// For people.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user: UserProperties,
    /// Another server to use.
    pub server_reference: Option<ByteString>,
}

/// AUTH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Success, continue, or re-authenticate.
    pub reason: ReasonCode,
    /// Method.
    pub method: Option<ByteString>,
    /// Data.
    pub data: Option<Bytes>,
    /// For people.
    pub reason_string: Option<ByteString>,
    /// User properties.
    pub user: UserProperties,
}
