//! Every maximum of the core, by name.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use wardline_wire::{ReasonCode, topic::Shared};

use crate::{gate::Denial, stored::Lane};

/// What one node keeps for its sessions, whichever listener their clients came through.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions, connected or not. Beyond it a CONNECT that would make one that outlives its connection is refused with 0x97;
    /// the others are as few as the connections.
    pub sessions_max: usize,
    /// QoS 1 and 2 telemetry waiting for one session, or for one shared subscription. Nearly all of it waits in the journal.
    pub queued_messages_max: usize,
    /// Bytes of it: topics, payloads and properties.
    pub queued_bytes_max: usize,
    /// What goes when either is reached. Each publish that goes is counted; alerts have no quota.
    pub queue_full: QueueFull,
    /// QoS 0 telemetry waiting for one connected session, in memory. Beyond it the oldest is shed, and counted.
    pub queued_qos0_max: usize,
    /// Bytes of it.
    pub queued_qos0_bytes_max: usize,
    /// Publishes of each lane of a session whose contents are at hand; the rest is fetched from the journal in time.
    pub head_messages_max: usize,
    /// Bytes of them, though one of any size always is.
    pub head_bytes_max: usize,
    /// Retained messages. Beyond it a client's publish that would retain one more is denied with 0x97, and a will is published
    /// without being retained. What the node and its plugins retain counts, and is never denied.
    pub retained_messages_max: usize,
    /// Bytes of them: topics, payloads and properties. Beyond it as beyond [`Self::retained_messages_max`].
    pub retained_bytes_max: usize,
    /// First topic levels whose publishes take the alert lane.
    pub alert_roots: Vec<String>,
    /// What an MQTT 5 client that asks is told to build its response topics from.
    pub response_information: Option<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 100_000,
            queued_messages_max: 1_000_000,
            queued_bytes_max: 1 << 30,
            queue_full: QueueFull::DropNewest,
            queued_qos0_max: 10_000,
            queued_qos0_bytes_max: 16 << 20,
            head_messages_max: 1_024,
            head_bytes_max: 512 << 10,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            alert_roots: ["alerts", "alarms", "responses", "wardline"].map(String::from).to_vec(),
            response_information: None,
        }
    }
}

impl Limits {
    /// Where publishes on `topic` queue.
    pub fn lane(&self, topic: &str) -> Lane {
        if self.is_alert_root(first_level(topic)) { Lane::Alert } else { Lane::Telemetry }
    }

    /// Whether a subscription to `filter` may be answered with something of the alert lane.
    pub(crate) fn is_for_alerts(&self, filter: &str) -> bool {
        let first = first_level(unshared(filter));
        first == "#" || first == "+" || self.is_alert_root(first)
    }

    fn is_alert_root(&self, level: &str) -> bool {
        self.alert_roots.iter().any(|root| root == level)
    }
}

/// The filter within a shared subscription; any other as it is.
fn unshared(filter: &str) -> &str {
    Shared::parse(filter).and_then(Result::ok).map_or(filter, |shared| shared.filter)
}

fn first_level(topic: &str) -> &str {
    topic.split_once('/').map_or(topic, |(first, _)| first)
}

/// Which publish goes when a session's quota of QoS 1 and 2 telemetry is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueFull {
    /// The one that would be queued: what was promised first is kept.
    #[default]
    DropNewest,
    /// The one that has waited longest: the newest readings count.
    DropOldest,
}

/// What each client of one listener is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// The listener's name: under it is counted how often each limit was reached.
    pub listener: Arc<str>,
    /// Bytes of one packet from the client. Beyond it: DISCONNECT 0x95.
    pub max_packet: u32,
    /// Seconds. A longer or absent keep-alive is overridden by this one for MQTT 5 clients; 0 leaves it to the client.
    pub max_keep_alive: u16,
    /// QoS 1 and 2 publishes the client may have unacknowledged. Beyond it: DISCONNECT 0x93.
    pub receive_max: u16,
    /// Aliases the client may define on a connection. Beyond it: DISCONNECT 0x94.
    pub topic_alias_max: u16,
    /// QoS 1 and 2 publishes sent to the client and not yet acknowledged; the client's own receive maximum may be lower.
    /// Beyond it the rest waits.
    pub in_flight: u16,
    /// Seconds a session may outlive its connection; a longer wish is cut to this.
    pub session_expiry_max: u32,
    /// Subscriptions of one session. Beyond it: SUBACK 0x97.
    pub subscriptions: usize,
    /// Levels of a topic name or filter. Beyond it: reason 0x90 or 0x8F. Routing recurses by level, so this bounds its stack.
    pub topic_levels: usize,
    /// Bytes of a topic name or filter. Beyond it: reason 0x90 or 0x8F.
    pub topic_bytes: usize,
    /// Clients of one principal connected at a time, over all listeners. Beyond it: CONNACK 0x97.
    pub connections_per_principal: Option<NonZeroU32>,
    /// Sessions of one principal, over all listeners. Beyond it a CONNECT is refused as beyond [`Limits::sessions_max`].
    pub sessions_per_principal: Option<NonZeroU32>,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            listener: Arc::from(""),
            max_packet: 256 * 1_024,
            max_keep_alive: 0,
            receive_max: 1_024,
            topic_alias_max: 64,
            in_flight: 1_024,
            session_expiry_max: 7 * 24 * 3_600,
            subscriptions: 1_000,
            topic_levels: 256,
            topic_bytes: usize::from(u16::MAX),
            connections_per_principal: None,
            sessions_per_principal: None,
        }
    }
}

impl ClientLimits {
    /// Whether a publish may have this topic name.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), (Limit, Denial)> {
        self.check_topic(name, ReasonCode::TopicNameInvalid)
    }

    /// Whether a subscription may have this filter; of a shared one the filter within counts.
    pub(crate) fn check_filter(&self, filter: &str) -> Result<(), (Limit, Denial)> {
        self.check_topic(unshared(filter), ReasonCode::TopicFilterInvalid)
    }

    fn check_topic(&self, topic: &str, reason: ReasonCode) -> Result<(), (Limit, Denial)> {
        let (limit, maximum, is) = if topic.len() > self.topic_bytes {
            (Limit::TopicBytes, self.topic_bytes, topic.len())
        } else {
            if topic.len() < self.topic_levels {
                return Ok(()); // There is at most one level more than bytes.
            }
            let levels = 1 + topic.bytes().filter(|byte| *byte == b'/').count();
            if levels <= self.topic_levels {
                return Ok(());
            }
            (Limit::TopicLevels, self.topic_levels, levels)
        };
        let text = format!("{} of the topic are {is}, at most {maximum} are taken here", limit.as_str());
        Err((limit, Denial { reason, text }))
    }
}

/// A limit by its name: the key that sets it, and the label under which it is counted. Some are kept by the server around
/// the core; the names are all here, so that each is the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Bytes a client may send in a second.
    BytesPerSecond,
    /// Time until CONNECT is complete.
    ConnectTimeout,
    /// Clients connected at a time.
    Connections,
    /// Clients of one principal connected at a time.
    ConnectionsPerPrincipal,
    /// Connections accepted in a second.
    ConnectionsPerSecond,
    /// Keep-alive.
    MaxKeepAlive,
    /// Bytes of a packet.
    MaxPacket,
    /// Publishes a client may send in a second.
    PublishesPerSecond,
    /// Unacknowledged publishes of a client.
    ReceiveMax,
    /// Bytes of the retained messages.
    RetainedBytes,
    /// Retained messages.
    RetainedMessages,
    /// How long a session outlives its connection.
    SessionExpiryMax,
    /// Sessions of the node.
    Sessions,
    /// Sessions of one principal.
    SessionsPerPrincipal,
    /// Subscriptions of a session.
    Subscriptions,
    /// Topic aliases of a client.
    TopicAliasMax,
    /// Bytes of a topic.
    TopicBytes,
    /// Levels of a topic.
    TopicLevels,
}

impl Limit {
    /// All, in the order of their names.
    pub const ALL: [Self; 18] = [
        Self::BytesPerSecond,
        Self::ConnectTimeout,
        Self::Connections,
        Self::ConnectionsPerPrincipal,
        Self::ConnectionsPerSecond,
        Self::MaxKeepAlive,
        Self::MaxPacket,
        Self::PublishesPerSecond,
        Self::ReceiveMax,
        Self::RetainedBytes,
        Self::RetainedMessages,
        Self::SessionExpiryMax,
        Self::Sessions,
        Self::SessionsPerPrincipal,
        Self::Subscriptions,
        Self::TopicAliasMax,
        Self::TopicBytes,
        Self::TopicLevels,
    ];

    /// As in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BytesPerSecond => "bytes_per_second",
            Self::ConnectTimeout => "connect_timeout",
            Self::Connections => "connections",
            Self::ConnectionsPerPrincipal => "connections_per_principal",
            Self::ConnectionsPerSecond => "connections_per_second",
            Self::MaxKeepAlive => "max_keep_alive",
            Self::MaxPacket => "max_packet",
            Self::PublishesPerSecond => "publishes_per_second",
            Self::ReceiveMax => "receive_max",
            Self::RetainedBytes => "retained_bytes",
            Self::RetainedMessages => "retained_messages",
            Self::SessionExpiryMax => "session_expiry_max",
            Self::Sessions => "sessions",
            Self::SessionsPerPrincipal => "sessions_per_principal",
            Self::Subscriptions => "subscriptions",
            Self::TopicAliasMax => "topic_alias_max",
            Self::TopicBytes => "topic_bytes",
            Self::TopicLevels => "topic_levels",
        }
    }
}

/// How often each limit was reached, by listener. As small as the number of both.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    counts: BTreeMap<(Arc<str>, Limit), u64>,
}

impl Reached {
    /// By a client that was granted `limits`.
    pub(crate) fn count(&mut self, limits: &ClientLimits, limit: Limit) {
        self.count_at(Arc::clone(&limits.listener), limit);
    }

    /// By the will of a client that is gone, whose listener is not known any more.
    pub(crate) fn count_of_will(&mut self, limit: Limit) {
        self.count_at(Arc::from(""), limit);
    }

    fn count_at(&mut self, listener: Arc<str>, limit: Limit) {
        *self.counts.entry((listener, limit)).or_default() += 1;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Limit, u64)> {
        self.counts.iter().map(|((listener, limit), count)| (listener, *limit, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_measured_in_bytes_and_levels() {
        let limits = ClientLimits { topic_levels: 3, topic_bytes: 10, ..ClientLimits::default() };
        for fine in ["a", "a/b/c", "//", "0123456789"] {
            assert_eq!(limits.check_name(fine), Ok(()), "{fine}");
        }
        for (topic, limit) in
            [("a/b/c/d", Limit::TopicLevels), ("///", Limit::TopicLevels), ("01234567890", Limit::TopicBytes)]
        {
            let (reached, denial) = limits.check_name(topic).unwrap_err();
            assert_eq!((reached, denial.reason), (limit, ReasonCode::TopicNameInvalid), "{topic}");
            let (reached, denial) = limits.check_filter(topic).unwrap_err();
            assert_eq!((reached, denial.reason), (limit, ReasonCode::TopicFilterInvalid), "{topic}");
        }
    }

    #[test]
    fn of_a_shared_subscription_the_filter_within_counts() {
        let limits = ClientLimits { topic_levels: 2, topic_bytes: 3, ..ClientLimits::default() };
        assert_eq!(limits.check_filter("$share/readers/a/#"), Ok(()));
        assert_eq!(limits.check_filter("$share/readers/a/b/#").unwrap_err().0, Limit::TopicBytes);
    }

    #[test]
    fn every_limit_is_listed_once_in_the_order_of_names() {
        let names: Vec<_> = Limit::ALL.iter().map(|limit| limit.as_str()).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
