//! `[limits]` and `[listener.limits]`: one set of keys; what a listener leaves out it takes from the node.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use wardline_core::{ClientLimits, QueueFull};

use super::read::bytes_within;
use super::section::Section;
use super::units;

/// Clients connected at a time unless configured. Each takes a file descriptor: the process's limit must allow for them.
const CONNECTIONS_DEFAULT: usize = 10_000;
const CONNECTIONS_MAX: usize = 1_000_000;
/// Unless configured; a slow TLS handshake on a busy ward takes a second.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// MQTT's own maximum of a packet, in bytes: a remaining length of 268,435,455 and the fixed header [2.1.4].
const PACKET_BYTES_MAX: u64 = 268_435_460;
/// A CONNECT with a token and a will fits.
const PACKET_BYTES_MIN: u64 = 1_024;
/// Messages that may wait for one session.
const QUEUE_MAX: usize = 10_000_000;
/// Subscriptions that one session may have.
const SUBSCRIPTIONS_MAX: usize = 10_000_000;
/// Sessions of a node.
const SESSIONS_MAX: usize = 10_000_000;
/// Unless more are configured, as many for each client that may be connected: those that are away are the most.
const SESSIONS_PER_CONNECTION: usize = 10;
/// Retained messages of a node.
const RETAINED_MAX: usize = 100_000_000;
/// A publish of some size must be able to wait, or to be retained.
const QUEUE_BYTES_MIN: u64 = 4_096;
/// Routing recurses by level, so that the levels of a topic must fit a stack.
const TOPIC_LEVELS_MAX: usize = 1_024;
/// MQTT's own maximum of a topic, in bytes.
const TOPIC_BYTES_MAX: usize = 65_535;
/// Of connections and publishes, by the second or by the principal.
const NUMBER_MAX: u32 = 10_000_000;

/// What the node as a whole keeps to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Limits of sessions.
    pub core: wardline_core::Limits,
    /// Clients connected at a time, over all listeners; the next is closed at once.
    pub connections: usize,
}

/// What a listener and each of its clients keep to.
#[derive(Clone, Debug)]
pub struct ListenerLimits {
    /// Limits of the protocol, for each client.
    pub client: Arc<ClientLimits>,
    /// Clients of this listener connected at a time; the next is closed at once.
    pub connections: usize,
    /// Connections accepted in a second; more wait to be accepted. None: no limit.
    pub connections_per_second: Option<NonZeroU32>,
    /// Publishes heard from one client in a second; more wait to be read. None: no limit.
    pub publishes_per_second: Option<NonZeroU32>,
    /// Bytes heard from one client in a second, at least one packet; more wait to be read. None: no limit.
    pub bytes_per_second: Option<NonZeroU32>,
    /// From accepting the connection to a complete CONNECT, proxy header, TLS and WebSocket included.
    pub connect_timeout: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            client: Arc::default(),
            connections: CONNECTIONS_DEFAULT,
            connections_per_second: None,
            publishes_per_second: None,
            bytes_per_second: None,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
        }
    }
}

/// `[limits]`: of the node, and of listeners that say nothing else.
pub(super) fn of_node(mut section: Section<'_>) -> (Limits, ListenerLimits) {
    let listener = keys(&mut section, &ListenerLimits::default(), "");
    let mut core = wardline_core::Limits::default();
    let sessions = core.sessions_max.max(listener.connections.saturating_mul(SESSIONS_PER_CONNECTION));
    core.sessions_max = section.number("sessions", 1..=SESSIONS_MAX, sessions);
    core.retained_messages_max =
        section.number("retained_messages", 1..=RETAINED_MAX, core.retained_messages_max);
    core.retained_bytes_max = bytes(&mut section, "retained_bytes", core.retained_bytes_max);
    core.queued_messages_max = section.number("queued_messages", 1..=QUEUE_MAX, core.queued_messages_max);
    core.queued_bytes_max = bytes(&mut section, "queued_bytes", core.queued_bytes_max);
    let full = section.parsed("queue_full", |text| match text {
        "drop-newest" => Ok(QueueFull::DropNewest),
        "drop-oldest" => Ok(QueueFull::DropOldest),
        other => Err(format!("`{other}` is neither \"drop-newest\" nor \"drop-oldest\"")),
    });
    core.queue_full = full.map_or(core.queue_full, |full| full.value);
    core.queued_qos0_max = section.number("queued_qos0", 1..=QUEUE_MAX, core.queued_qos0_max);
    core.queued_qos0_bytes_max = bytes(&mut section, "queued_qos0_bytes", core.queued_qos0_bytes_max);
    section.finish();
    (Limits { core, connections: listener.connections }, listener)
}

/// A size of what is kept.
fn bytes(section: &mut Section<'_>, key: &'static str, default: usize) -> usize {
    let parsed = section.parsed(key, |text| bytes_within(text, QUEUE_BYTES_MIN, u64::MAX));
    parsed.map_or(default, |size| usize::try_from(size.value).unwrap_or(usize::MAX))
}

/// `[listener.limits]` of the listener `name`.
pub(super) fn of_listener(mut section: Section<'_>, node: &ListenerLimits, name: &str) -> ListenerLimits {
    let limits = keys(&mut section, node, name);
    section.finish();
    limits
}

/// The keys that both have.
fn keys(section: &mut Section<'_>, otherwise: &ListenerLimits, listener: &str) -> ListenerLimits {
    let base = &otherwise.client;
    let sizes = section.mentions("max_packet") || section.mentions("bytes_per_second");
    let max_packet = section.parsed("max_packet", |text| {
        let bytes = bytes_within(text, PACKET_BYTES_MIN, PACKET_BYTES_MAX)?;
        u32::try_from(bytes).map_err(|error| error.to_string())
    });
    let client = ClientLimits {
        listener: Arc::from(listener),
        max_packet: max_packet.map_or(base.max_packet, |size| size.value),
        max_keep_alive: seconds(section, "max_keep_alive", base.max_keep_alive),
        receive_max: section.number("receive_max", 1..=u16::MAX, base.receive_max),
        topic_alias_max: section.number("topic_alias_max", 0..=u16::MAX, base.topic_alias_max),
        in_flight: section.number("in_flight", 1..=u16::MAX, base.in_flight),
        session_expiry_max: seconds(section, "session_expiry_max", base.session_expiry_max),
        subscriptions: section.number("subscriptions", 1..=SUBSCRIPTIONS_MAX, base.subscriptions),
        topic_levels: section.number("topic_levels", 1..=TOPIC_LEVELS_MAX, base.topic_levels),
        topic_bytes: section.number("topic_bytes", 1..=TOPIC_BYTES_MAX, base.topic_bytes),
        connections_per_principal: number_or_none(
            section,
            "connections_per_principal",
            base.connections_per_principal,
        ),
        sessions_per_principal: number_or_none(
            section,
            "sessions_per_principal",
            base.sessions_per_principal,
        ),
    };
    let connections = section.number("connections", 1..=CONNECTIONS_MAX, otherwise.connections);
    let connections_per_second =
        number_or_none(section, "connections_per_second", otherwise.connections_per_second);
    let publishes_per_second =
        number_or_none(section, "publishes_per_second", otherwise.publishes_per_second);
    let bytes_per_second = section.parsed("bytes_per_second", |text| {
        let bytes = bytes_within(text, 0, u32::MAX.into())?;
        u32::try_from(bytes).map_err(|error| error.to_string())
    });
    let bytes_per_second =
        bytes_per_second.map_or(otherwise.bytes_per_second, |rate| NonZeroU32::new(rate.value));
    // What is inherited was checked where it is written.
    if let Some(rate) = bytes_per_second.filter(|rate| sizes && rate.get() < client.max_packet) {
        let message = format!(
            "`bytes_per_second` is {rate} and `max_packet` {}: one packet would silence its client for longer than a \
             second; raise the one or lower the other",
            client.max_packet
        );
        section.desk.problem(&section.place, message);
    }
    let connect_timeout = section.parsed("connect_timeout", |text| {
        let span = units::duration(text)?;
        if span.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(span) }
    });
    ListenerLimits {
        client: Arc::new(client),
        connections,
        connections_per_second,
        publishes_per_second,
        bytes_per_second,
        connect_timeout: connect_timeout.map_or(otherwise.connect_timeout, |span| span.value),
    }
}

/// A number of which 0 stands for no limit.
fn number_or_none(
    section: &mut Section<'_>,
    key: &'static str,
    otherwise: Option<NonZeroU32>,
) -> Option<NonZeroU32> {
    let otherwise = otherwise.map_or(0, NonZeroU32::get);
    NonZeroU32::new(section.number(key, 0..=NUMBER_MAX, otherwise))
}

/// A duration that the protocol counts in whole seconds.
fn seconds<T: Copy + TryFrom<u64>>(section: &mut Section<'_>, key: &'static str, default: T) -> T {
    let parsed = section.parsed(key, |text| {
        let span = units::duration(text)?;
        let whole = (span.subsec_nanos() == 0).then_some(span.as_secs());
        whole
            .and_then(|seconds| T::try_from(seconds).ok())
            .ok_or_else(|| format!("`{text}` is too long, or not whole seconds"))
    });
    parsed.map_or(default, |seconds| seconds.value)
}
