//! The broker as a whole: what it holds, has counted and has to tell.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use slab::Slab;
use smallvec::SmallVec;
use wardline_journal::{Access, AccessEvent, DeliveryStep, Log, Offset, Origin};
use wardline_wire::{Connect, Packet, PacketId, PacketType};

use crate::{
    connection::{Connection, ConnectionId},
    limits::{ClientLimits, Limit, Limits, Reached},
    presence::Presence,
    queues::Overflow,
    retained::Retained,
    route::{Entry, Target},
    routes::Routes,
    session::{Session, SessionId},
    shared::Groups,
    stored::Stored,
    timer::Timers,
    tree::Tree,
};

/// Something that happened inside and concerns the plugins.
#[derive(Clone, Debug)]
pub enum Event {
    /// A publish was accepted and is on its way.
    Published(Arc<Stored>),
    /// A step of an alert on its way to a pager.
    Receipt {
        /// Topic of the publish that carries the alert.
        topic: Arc<str>,
        /// The alert's id.
        alert: Arc<str>,
        /// What happened.
        step: DeliveryStep,
        /// Whom it concerns; empty when nobody was there.
        principal: Arc<str>,
    },
}

/// A CONNECT whose sender is known.
#[derive(Debug)]
pub struct ConnectRequest {
    /// The packet.
    pub connect: Connect,
    /// Who it is, from certificate or token.
    pub principal: Arc<str>,
    /// Socket address of the other end, not empty: in the journal a publish of a client without one is its will.
    pub peer: Arc<str>,
    /// Filters of topics that this client is never sent, whatever it has subscribed.
    pub withheld: Arc<[Box<str>]>,
    /// What its listener grants it.
    pub limits: Arc<ClientLimits>,
    /// The last word of enhanced authentication, for the CONNACK.
    pub authentication_data: Option<Bytes>,
}

/// What the broker has counted since it started, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets of any kind from clients that were let in, their CONNECT included.
    pub packets_received: u64,
    /// Packets of any kind to them.
    pub packets_sent: u64,
    /// Publishes from clients, accepted or not.
    pub publishes_received: u64,
    /// Bytes of their payloads.
    pub publish_bytes_received: u64,
    /// Publishes accepted, those of the node and its plugins included.
    pub publishes_accepted: u64,
    /// Publishes received and denied.
    pub publishes_denied: u64,
    /// Publishes written to subscribers.
    pub publishes_sent: u64,
    /// Bytes of their payloads.
    pub publish_bytes_sent: u64,
    /// QoS 0 telemetry shed because a subscriber was slow.
    pub shed: u64,
    /// QoS 1 and 2 telemetry not queued because a session's queue was full.
    pub overflowed: u64,
    /// Publishes not delivered because their expiry had passed.
    pub expired: u64,
    /// Publishes not sent to a client because it does not take packets of that size.
    pub too_large: u64,
    /// Publishes not sent to a client because a denial withholds their topic.
    pub withheld: u64,
    /// Clients that were let in.
    pub connects: u64,
    /// Sessions that ended because their expiry had passed.
    pub sessions_expired: u64,
    /// Connections now.
    pub connections: usize,
    /// The most connections there were at a time.
    pub connections_peak: usize,
    /// Sessions now, connected or not.
    pub sessions: usize,
    /// Subscriptions now, those shared included.
    pub subscriptions: usize,
    /// Shared subscriptions now.
    pub shared_subscriptions: usize,
    /// Publishes that a subscriber was owed and the journal did not give back.
    pub unreadable: u64,
    /// Retained messages now.
    pub retained: usize,
    /// Bytes of them: topics, payloads and properties.
    pub retained_bytes: usize,
    /// Publishes waiting for sessions and shared subscriptions now, in memory or in the journal; not those in flight.
    pub queued_messages: usize,
    /// Bytes of them: topics, payloads and properties.
    pub queued_bytes: usize,
    /// Publishes sent to subscribers and not acknowledged now.
    pub in_flight: usize,
}

/// Held back until the journal's first `after` entries are durable.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) after: u64,
    pub(crate) connection: ConnectionId,
    pub(crate) packet: HeldPacket,
}

#[derive(Debug)]
pub(crate) enum HeldPacket {
    /// A PUBACK, PUBREC, PUBREL or PUBCOMP that says success.
    Success(PacketType, PacketId),
    /// Any other.
    Answer(Box<Packet>),
    /// Nothing; the client may be sent what waited for its identifier, or for its will, to be durable.
    Wake,
    /// The connection is to end: MQTT 3.1.1 has no other way to refuse a publish.
    Close,
}

impl HeldPacket {
    /// Whether the client waits for it.
    pub(crate) fn is_answer(&self) -> bool {
        !matches!(self, Self::Wake)
    }
}

/// An alert that was handed to connected pagers and not confirmed by all of them.
#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) alert: Arc<str>,
    pub(crate) topic: Arc<str>,
    /// Those of whom a confirmation may still come.
    pub(crate) pagers: SmallVec<[SessionId; 2]>,
    pub(crate) confirmed: bool,
}

/// The state machine. See the crate's documentation.
#[derive(Debug)]
pub struct Broker<L> {
    pub(crate) node: u16,
    pub(crate) limits: Limits,
    pub(crate) log: L,
    // Boxed: a table of them would be copied under everybody's eyes as it grows, and be half empty thereafter.
    pub(crate) connections: Slab<Box<Connection>>,
    pub(crate) sessions: Slab<Box<Session>>,
    pub(crate) by_client: HashMap<Arc<str>, SessionId>,
    pub(crate) tree: Tree<Target, Entry>,
    pub(crate) routes: Routes,
    pub(crate) groups: Groups,
    pub(crate) subscriptions: usize,
    pub(crate) shared_subscriptions: usize,
    /// Connections that have not been parted from their session.
    pub(crate) connections_by_principal: Presence,
    pub(crate) sessions_by_principal: Presence,
    pub(crate) reached: Reached,
    pub(crate) retained: Retained,
    /// Publishes below the horizon that somebody is owed; see [`crate::snapshot`].
    pub(crate) carried: BTreeMap<Offset, Arc<Stored>>,
    /// Below it the journal may have nothing any more.
    pub(crate) horizon: Offset,
    pub(crate) timers: Timers,
    /// In the order of the journal: of each connection one wake-up and a limited number of answers, see [`crate::inbound`].
    pub(crate) held: VecDeque<Held>,
    pub(crate) durable: u64,
    pub(crate) woken: Vec<ConnectionId>,
    pub(crate) events: Vec<Event>,
    /// Each is in the lanes or in flight of a connected pager, and so no more than the journal has room for alerts.
    pub(crate) outstanding: HashMap<Offset, Outstanding>,
    pub(crate) counters: Counters,
    pub(crate) overflow: Overflow,
    pub(crate) encoded: Vec<u8>,
    pub(crate) alerts_sent: Vec<Timestamp>,
    /// The journal is being read, so that nothing is to be written to it.
    pub(crate) recovering: bool,
    /// While it is: the client whose CONNECT comes next, and its will.
    pub(crate) will_announced: Option<(Box<str>, Box<[u8]>)>,
    generation: u32,
}

impl<L: Log> Broker<L> {
    /// A broker that remembers nothing yet.
    pub fn new(node: u16, limits: Limits, log: L) -> Self {
        Self {
            node,
            limits,
            log,
            connections: Slab::new(),
            sessions: Slab::new(),
            by_client: HashMap::new(),
            tree: Tree::default(),
            routes: Routes::default(),
            groups: Groups::default(),
            subscriptions: 0,
            shared_subscriptions: 0,
            connections_by_principal: Presence::default(),
            sessions_by_principal: Presence::default(),
            reached: Reached::default(),
            retained: Retained::default(),
            carried: BTreeMap::new(),
            horizon: Offset(0),
            timers: Timers::default(),
            held: VecDeque::new(),
            durable: 0,
            woken: Vec::new(),
            events: Vec::new(),
            outstanding: HashMap::new(),
            counters: Counters::default(),
            overflow: Overflow::default(),
            encoded: Vec::new(),
            alerts_sent: Vec::new(),
            recovering: false,
            will_announced: None,
            generation: 0,
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The journal's memory side.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// Counted since the start, and present now. Looks at every session.
    pub fn counters(&self) -> Counters {
        let lanes = self.sessions.iter().map(|(_, session)| (session.lanes.len(), session.lanes.bytes()));
        let waiting = lanes.chain(self.groups.waiting());
        let (queued_messages, queued_bytes) =
            waiting.fold((0, 0), |(all, all_bytes), (messages, bytes)| (all + messages, all_bytes + bytes));
        Counters {
            connections: self.connections.len(),
            sessions: self.sessions.len(),
            subscriptions: self.subscriptions,
            shared_subscriptions: self.shared_subscriptions,
            retained: self.retained.len(),
            retained_bytes: self.retained.bytes(),
            queued_messages,
            queued_bytes,
            in_flight: self.sessions.iter().map(|(_, session)| session.in_flight.len()).sum(),
            ..self.counters
        }
    }

    /// How often each limit was reached by the clients of each listener.
    pub fn limits_reached(&self) -> impl Iterator<Item = (&Arc<str>, Limit, u64)> {
        self.reached.iter()
    }

    /// What happened since the last call, for the plugins.
    pub fn take_events(&mut self, into: &mut Vec<Event>) {
        into.append(&mut self.events);
    }

    /// When what led to the alerts that were transmitted since the last call had been received.
    pub fn take_alerts_sent(&mut self, into: &mut Vec<Timestamp>) {
        into.append(&mut self.alerts_sent);
    }

    /// Connections that have something to send since the last call.
    pub fn take_woken(&mut self, into: &mut Vec<ConnectionId>) {
        for id in &self.woken {
            if let Some(connection) = self.connections.get_mut(id.slot()) {
                connection.woken = false;
            }
        }
        into.append(&mut self.woken);
    }

    /// Records that the node read its configuration anew.
    pub fn reloaded(&mut self, detail: &str, reason: &str, now: Timestamp) {
        self.access(AccessEvent::Reload, Origin::default(), detail, reason, &[], now);
    }

    /// Whether the session of this client id has a connection, which another CONNECT would take over.
    pub fn is_connected(&self, client: &str) -> bool {
        let session = self.by_client.get(client).and_then(|id| self.session(*id));
        session.is_some_and(|session| session.connection.is_some())
    }

    /// The payloads of the retained messages that `filter` matches, in topic order.
    pub fn retained(&self, filter: &str) -> impl Iterator<Item = Bytes> {
        self.retained.matching(filter).into_iter().map(|stored| stored.publish.payload.clone())
    }

    /// The connections there are.
    pub fn connection_ids(&self) -> Vec<ConnectionId> {
        self.connections
            .iter()
            .map(|(index, connection)| ConnectionId {
                index: index as u32,
                generation: connection.generation,
            })
            .collect()
    }

    pub(crate) fn access(
        &mut self,
        event: AccessEvent,
        origin: Origin<'_>,
        detail: &str,
        reason: &str,
        state: &[u8],
        at: Timestamp,
    ) -> Offset {
        debug_assert!(!self.recovering, "recovery writes nothing");
        self.log.append(&wardline_journal::Record::Access(Access {
            at,
            event,
            origin,
            detail,
            reason,
            state,
        }))
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        id.of(&self.connections)
    }

    pub(crate) fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        id.of_mut(&mut self.connections)
    }

    pub(crate) fn session(&self, id: SessionId) -> Option<&Session> {
        id.of(&self.sessions)
    }

    pub(crate) fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        id.of_mut(&mut self.sessions)
    }

    pub(crate) fn session_of(&mut self, id: ConnectionId) -> Option<&mut Session> {
        let session = self.connection(id)?.session;
        self.session_mut(session)
    }

    pub(crate) fn wake(&mut self, id: ConnectionId) {
        if let Some(connection) = id.of_mut(&mut self.connections)
            && !connection.woken
        {
            connection.woken = true;
            self.woken.push(id);
        }
    }

    pub(crate) fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }
}
