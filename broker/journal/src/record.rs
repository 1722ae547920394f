//! What the journal holds: one record per thing that happened, in the order in which it happened.
//!
//! A [`Record`] has an offset of its own and becomes exactly one row of the audit tables. A [`Mark`] has none: it only
//! moves a session's state (a subscriber confirmed, a publisher released) and is never audited. So offsets stay dense
//! over what a compliance officer sees, and a missing row is a missing number.

use jiff::Timestamp;

/// The place of a record in this node's journal, dense from 0, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl std::fmt::Display for Offset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Who did it, from where: the same three on every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin<'a> {
    /// MQTT client identifier; empty before a CONNECT was understood, and for the broker itself.
    pub client: &'a str,
    /// `device:ID`, `staff:ID`, `service:ID`, `plugin:NAME`; empty while nobody is known.
    pub principal: &'a str,
    /// Socket address of the other end; empty for what the node does itself.
    pub peer: &'a str,
}

/// Whether a publish took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Routed, and acknowledged once durable.
    Accepted = 0,
    /// Refused; nobody received it.
    Denied = 1,
}

/// One publish, accepted or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// When the broker had read it, by the broker's clock, to the microsecond.
    pub received_at: Timestamp,
    /// Who published.
    pub origin: Origin<'a>,
    /// Topic name, aliases resolved.
    pub topic: &'a str,
    /// 0, 1 or 2.
    pub qos: u8,
    /// The RETAIN flag as published.
    pub retain: bool,
    /// Packet identifier of a QoS 2 publish, so that a repeat after a crash is known; else 0.
    pub packet_id: u16,
    /// MQTT 5 properties as on the wire, without their length and without a topic alias; empty for 3.1.1.
    pub properties: &'a [u8],
    /// Application message.
    pub payload: &'a [u8],
    /// Whether it took effect.
    pub outcome: Outcome,
    /// Why it was denied, for people; empty when accepted.
    pub reason: &'a str,
}

/// What happened at the door or to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AccessEvent {
    /// A CONNECT was accepted.
    Connect = 0,
    /// A connection or CONNECT was refused.
    Refuse = 1,
    /// A network connection ended, with or without DISCONNECT.
    Disconnect = 2,
    /// A filter was subscribed, or refused (then `reason` says why).
    Subscribe = 3,
    /// A filter was unsubscribed.
    Unsubscribe = 4,
    /// A token was renewed within a connection.
    Reauthenticate = 5,
    /// Configuration was read anew.
    Reload = 6,
    /// A session ended: expired, taken away by a clean start, or dropped.
    SessionEnd = 7,
    /// The record of this offset was lost to damage of the journal, and cut out of it on purpose.
    Lost = 8,
}

/// A row of `access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access<'a> {
    /// When, by the broker's clock.
    pub at: Timestamp,
    /// What.
    pub event: AccessEvent,
    /// Who.
    pub origin: Origin<'a>,
    /// The topic filter, listener or file concerned, for people.
    pub detail: &'a str,
    /// Why; empty where it simply succeeded.
    pub reason: &'a str,
    /// What the core needs to rebuild the session from this record; its encoding is the core's own.
    pub state: &'a [u8],
}

/// A step of an alert on its way to a pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DeliveryStep {
    /// Handed to a session whose client is connected.
    Sent = 0,
    /// The client acknowledged it (PUBACK or PUBREC).
    Confirmed = 1,
    /// No connected session takes it, or the connection was lost before it was confirmed.
    Unreachable = 2,
}

/// A row behind the view `deliveries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// When, by the broker's clock.
    pub at: Timestamp,
    /// Which step.
    pub step: DeliveryStep,
    /// Who received; client and principal are empty when nobody was there.
    pub origin: Origin<'a>,
    /// Offset of the publish that carried the alert.
    pub publish: Offset,
    /// Alert id.
    pub alert: &'a str,
    /// Topic it was sent on.
    pub topic: &'a str,
}

/// Anything with an offset: exactly one audit row each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A row of `publishes`.
    Publish(Publish<'a>),
    /// A row of `access`.
    Access(Access<'a>),
    /// A row behind `deliveries`.
    Delivery(Delivery<'a>),
}

/// Moves a session's state, has no offset, is never audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// The subscriber `client` has confirmed the publish at `publish`; it is not sent to it again.
    Confirmed {
        /// The session.
        client: &'a str,
        /// What was confirmed.
        publish: Offset,
    },
    /// The publisher `client` has released its QoS 2 packet identifier (PUBREL).
    Released {
        /// The session.
        client: &'a str,
        /// The identifier now free again.
        packet_id: u16,
    },
    /// The publish at `publish` is about to be sent to the subscriber `client` under this packet identifier, at QoS 1 or 2.
    Sent {
        /// The session.
        client: &'a str,
        /// What is sent.
        publish: Offset,
        /// Under which identifier, until it is confirmed (QoS 1) or completed (QoS 2).
        packet_id: u16,
    },
    /// What the subscriber `client` was sent under this packet identifier is settled: the QoS 2 exchange is over, or at QoS 1
    /// a publish of a shared subscription is confirmed.
    Completed {
        /// The session.
        client: &'a str,
        /// The identifier now free again.
        packet_id: u16,
    },
    /// As [`Mark::Sent`], for the member of a shared subscription that the publish goes to. The offset alone would not do: one
    /// client may be owed several copies of a publish, one for each such subscription and one of its own.
    Drawn {
        /// The session.
        client: &'a str,
        /// The shared subscription, `$share/GROUP/FILTER`.
        subscription: &'a str,
        /// What is sent.
        publish: Offset,
        /// Under which identifier; 0 at QoS 0, which nobody confirms.
        packet_id: u16,
        /// The quality that it is sent at.
        qos: u8,
    },
    /// The subscriber `client` has confirmed (PUBREC) the publish of a shared subscription that it was sent at QoS 2 under this
    /// packet identifier.
    Received {
        /// The session.
        client: &'a str,
        /// The identifier, in use until the exchange is completed.
        packet_id: u16,
    },
    /// The CONNECT whose record follows has a will. It stands here and not in that record, so that no audit table has what
    /// nobody has published.
    Will {
        /// The client that connects.
        client: &'a str,
        /// What it left; its encoding is the core's own.
        will: &'a [u8],
    },
    /// What the member `client` of a shared subscription was to be sent under this packet identifier was not sent, and its
    /// session ends: it is the group's again.
    Returned {
        /// The session.
        client: &'a str,
        /// The identifier now free again.
        packet_id: u16,
    },
    /// The snapshot of this number holds what follows from everything before.
    Snapshot {
        /// Counted from 1 in each journal.
        number: u64,
    },
}

/// What a reader of the journal meets, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A record at its offset.
    Record(Offset, Record<'a>),
    /// A mark, after the record before it.
    Mark(Mark<'a>),
}

/// Where the core writes. The real one is [`crate::Journal`]; tests bring a vector.
pub trait Log {
    /// Appends in memory, in order, and returns the record's offset. Durability follows and is told separately.
    fn append(&mut self, record: &Record<'_>) -> Offset;
    /// Appends a mark.
    fn mark(&mut self, mark: &Mark<'_>);
    /// The offset that the next record will get.
    fn next_offset(&self) -> Offset;
    /// All records below can be read back.
    fn readable(&self) -> Offset;
    /// How many records and marks were appended since it was opened: what an answer waits for that depends on either.
    fn entries(&self) -> u64;
}
