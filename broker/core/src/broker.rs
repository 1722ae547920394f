//! The broker as a whole: who is connected, and how connections and sessions begin and end.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use bytestring::ByteString;
use jiff::Timestamp;
use slab::Slab;
use wardline_journal::{Access, AccessEvent, DeliveryStep, Log, Offset, Origin};
use wardline_wire::{
    ConnAck, ConnAckProperties, Connect, Disconnect, Packet, Publish, ReasonCode, SubAck, Version, Will,
};

use crate::{
    connection::{Connection, ConnectionId},
    gate::Gate,
    limits::Limits,
    retained::Retained,
    route::{Entry, Hit, Target},
    session::{NEVER, Session, SessionId},
    state,
    stored::Stored,
    timer::{Timer, Timers},
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
    /// Socket address of the other end.
    pub peer: Arc<str>,
    /// Filters of topics that this client is never sent, whatever it has subscribed.
    pub withheld: Arc<[Box<str>]>,
}

/// What the broker has counted since it started, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Publishes received and accepted.
    pub publishes_accepted: u64,
    /// Publishes received and denied.
    pub publishes_denied: u64,
    /// Publishes written to subscribers.
    pub publishes_sent: u64,
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
    /// Connections now.
    pub connections: usize,
    /// Sessions now, connected or not.
    pub sessions: usize,
    /// Subscriptions now.
    pub subscriptions: usize,
    /// Retained messages now.
    pub retained: usize,
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
    Publish(Packet),
    Subscribe(SubAck),
    Unsubscribe(SubAck),
    /// Nothing; the client may be sent what waited for its identifier to be durable.
    Wake,
    /// The connection is to end: MQTT 3.1.1 has no other way to refuse a publish.
    Close,
}

/// An alert that was handed to connected pagers and not confirmed by all of them.
#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) pagers: u32,
    pub(crate) confirmed: bool,
}

/// The state machine. See the crate's documentation.
#[derive(Debug)]
pub struct Broker<L> {
    pub(crate) node: u16,
    pub(crate) limits: Limits,
    pub(crate) log: L,
    pub(crate) connections: Slab<Connection>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) by_client: HashMap<Arc<str>, SessionId>,
    pub(crate) tree: Tree<Target, Entry>,
    pub(crate) subscriptions: usize,
    pub(crate) retained: Retained,
    pub(crate) timers: Timers,
    pub(crate) held: VecDeque<Held>,
    pub(crate) durable: u64,
    pub(crate) woken: Vec<ConnectionId>,
    pub(crate) events: Vec<Event>,
    pub(crate) outstanding: HashMap<Offset, Outstanding>,
    pub(crate) counters: Counters,
    pub(crate) routed: u64,
    pub(crate) hits: Vec<Hit>,
    pub(crate) encoded: Vec<u8>,
    pub(crate) alerts_sent: Vec<Timestamp>,
    /// The journal is being read, so that nothing is to be written to it.
    pub(crate) recovering: bool,
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
            subscriptions: 0,
            retained: Retained::default(),
            timers: Timers::default(),
            held: VecDeque::new(),
            durable: 0,
            woken: Vec::new(),
            events: Vec::new(),
            outstanding: HashMap::new(),
            counters: Counters::default(),
            routed: 0,
            hits: Vec::new(),
            encoded: Vec::new(),
            alerts_sent: Vec::new(),
            recovering: false,
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

    /// Counted since the start, and present now.
    pub fn counters(&self) -> Counters {
        Counters {
            connections: self.connections.len(),
            sessions: self.sessions.len(),
            subscriptions: self.subscriptions,
            retained: self.retained.len(),
            ..self.counters
        }
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

    /// Takes a CONNECT whose sender is known. The CONNACK waits in the connection's output; an error is the CONNACK to send
    /// before closing.
    pub fn connect(
        &mut self,
        request: ConnectRequest,
        gate: &mut impl Gate,
        now: Timestamp,
    ) -> Result<ConnectionId, Box<ConnAck>> {
        let ConnectRequest { mut connect, principal, peer, withheld } = request;
        let client = match self.client_id(&mut connect) {
            Ok(client) => client,
            Err(text) => {
                let origin = Origin { client: &connect.client_id, principal: &principal, peer: &peer };
                return Err(self.refuse(origin, ReasonCode::ClientIdentifierNotValid, text, now));
            }
        };
        let origin = Origin { client: &client, principal: &principal, peer: &peer };
        if let Some(will) = &connect.will
            && let Err(denial) = gate.publish(&client, &will_publish(will))
        {
            return Err(self.refuse(origin, denial.reason, &format!("will: {}", denial.text), now));
        }
        let existing = self.by_client.get(&client).copied();
        if let Some(owner) =
            existing.and_then(|id| self.session(id)).map(|session| Arc::clone(&session.principal))
            && owner != principal
        {
            let text = format!("client id {client} belongs to a session of {owner}");
            return Err(self.refuse(origin, ReasonCode::ClientIdentifierNotValid, &text, now));
        }
        if let Some(connection) = existing.and_then(|id| self.session(id)?.connection) {
            self.disconnect_with(connection, ReasonCode::SessionTakenOver, "session taken over");
            self.detach(connection, "session taken over", now);
        }

        // Before the CONNECT's own record, so that the journal tells it in the order in which it takes effect.
        if let Some(session) = existing.filter(|_| connect.clean_start) {
            self.end_session(session, "clean start", now);
        }
        let expiry = self.session_expiry(&connect);
        self.access(AccessEvent::Connect, origin, "", "", &state::connect(connect.clean_start, expiry), now);
        let (session_id, session_present) = self.begin_session(&client, &principal, expiry);
        if session_present {
            // What the session was granted once may have been withdrawn while it was away.
            self.withdraw(session_id, origin, gate, now);
        }
        let id = self.open_connection(
            session_id,
            &connect,
            &client,
            &principal,
            &peer,
            expiry,
            session_present,
            now,
        );
        if let Some(connection) = self.connection_mut(id) {
            connection.withheld = withheld;
        }
        if let Some(session) = self.sessions.get_mut(session_id.index as usize) {
            session.begin_connection(id);
        }
        self.wake(id);
        Ok(id)
    }

    /// Records that somebody was not let in, and gives the CONNACK that says so.
    pub fn refuse(
        &mut self,
        origin: Origin<'_>,
        reason: ReasonCode,
        text: &str,
        now: Timestamp,
    ) -> Box<ConnAck> {
        self.access(AccessEvent::Refuse, origin, "", text, &[], now);
        Box::new(ConnAck {
            session_present: false,
            reason,
            properties: ConnAckProperties {
                reason_string: Some(text.into()),
                ..ConnAckProperties::default()
            },
        })
    }

    /// Records somebody who was turned away before a CONNECT, as by TLS.
    pub fn refused_early(&mut self, peer: &str, listener: &str, text: &str, now: Timestamp) {
        let origin = Origin { peer, ..Origin::default() };
        self.access(AccessEvent::Refuse, origin, listener, text, &[], now);
    }

    /// Ends the subscriptions of a connected client that `gate` does not allow any more, and withholds from now on `withheld`.
    pub fn regrant(
        &mut self,
        id: ConnectionId,
        withheld: Arc<[Box<str>]>,
        gate: &mut impl Gate,
        now: Timestamp,
    ) {
        let Some(connection) = self.connection_mut(id) else { return };
        connection.withheld = withheld;
        let (session, client) = (connection.session, Arc::clone(&connection.client));
        let (principal, peer) = (Arc::clone(&connection.principal), Arc::clone(&connection.peer));
        self.withdraw(session, Origin { client: &client, principal: &principal, peer: &peer }, gate, now);
    }

    fn withdraw(&mut self, id: SessionId, origin: Origin<'_>, gate: &mut impl Gate, now: Timestamp) {
        let Some(session) = self.session(id) else { return };
        let client = Arc::clone(&session.client);
        let filters: Vec<Box<str>> = session.subscriptions.keys().cloned().collect();
        for filter in filters {
            if let Err(denial) = gate.subscribe(&client, &filter) {
                self.remove_subscription(id, &filter);
                self.access(AccessEvent::Unsubscribe, origin, &filter, &denial.text, &[], now);
            }
        }
    }

    /// Records that the node read its configuration anew.
    pub fn reloaded(&mut self, detail: &str, reason: &str, now: Timestamp) {
        self.access(AccessEvent::Reload, Origin::default(), detail, reason, &[], now);
    }

    /// The network connection is gone, for this reason: the last call about it.
    pub fn end(&mut self, id: ConnectionId, reason: &str, now: Timestamp) {
        self.detach(id, reason, now);
        if self.connection(id).is_some() {
            self.connections.remove(id.slot());
        }
    }

    /// Parts session and connection; the connection stays until its last bytes are out.
    pub(crate) fn detach(&mut self, id: ConnectionId, reason: &str, now: Timestamp) {
        let Some(connection) = self.connection_mut(id) else { return };
        if std::mem::replace(&mut connection.detached, true) {
            return;
        }
        let session_id = connection.session;
        let will = connection.will.take();
        let (client, principal) = (Arc::clone(&connection.client), Arc::clone(&connection.principal));
        let peer = Arc::clone(&connection.peer);
        let Some(session) = self.sessions.get_mut(session_id.index as usize) else { return };
        session.connection = None;
        session.lanes.forget_qos0();
        let expiry = session.expiry;
        let origin = Origin { client: &client, principal: &principal, peer: &peer };
        self.access(AccessEvent::Disconnect, origin, "", reason, &state::disconnect(expiry), now);
        self.alerts_lost(session_id, now);
        self.after_disconnect(session_id, expiry, will, now);
    }

    /// Ends a connection from the server's side, with the reason that MQTT 5 clients are told.
    pub fn disconnect_with(&mut self, id: ConnectionId, reason: ReasonCode, text: &str) {
        let Some(connection) = self.connection_mut(id) else { return };
        if connection.closing {
            return;
        }
        if connection.version == Version::V5 {
            let reason_string = connection.wants_reasons.then(|| ByteString::from(text));
            connection.send(Packet::Disconnect(Disconnect {
                reason,
                session_expiry: None,
                reason_string,
                user: Vec::new(),
                server_reference: None,
            }));
        }
        connection.closing = true;
        self.wake(id);
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

    /// When [`Broker::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Does what is due: silent clients, delayed wills, expired sessions.
    pub fn tick(&mut self, now: Timestamp) {
        while let Some((_, timer)) = self.timers.pop_due(now) {
            match timer {
                Timer::KeepAlive(id) => self.check_keep_alive(id, now),
                Timer::Will(id) => self.check_will(id, now),
                Timer::Expiry(id) => self.check_expiry(id, now),
            }
        }
    }

    fn check_keep_alive(&mut self, id: ConnectionId, now: Timestamp) {
        let Some(connection) = self.connection(id) else { return };
        let deadline = connection.last_received + keep_alive_grace(connection.keep_alive);
        if deadline > now {
            self.timers.set(deadline, Timer::KeepAlive(id));
        } else {
            self.disconnect_with(id, ReasonCode::KeepAliveTimeout, "keep alive timeout");
            self.detach(id, "keep alive timeout", now);
        }
    }

    fn check_will(&mut self, id: SessionId, now: Timestamp) {
        let Some(session) =
            self.sessions.get_mut(id.index as usize).filter(|s| s.generation == id.generation)
        else {
            return;
        };
        if session.will.as_ref().is_some_and(|(due, _)| *due <= now)
            && let Some((_, will)) = session.will.take()
        {
            let (client, principal) = (Arc::clone(&session.client), Arc::clone(&session.principal));
            self.publish_will(&will, client, principal, now);
        }
    }

    fn check_expiry(&mut self, id: SessionId, now: Timestamp) {
        if self.session(id).is_none() {
            return;
        }
        let Some(session) = self.sessions.get_mut(id.index as usize) else { return };
        session.expiry_timer = None;
        match session.expires_at {
            Some(at) if at <= now => self.end_session(id, "session expired", now),
            Some(at) => {
                session.expiry_timer = Some(at);
                self.timers.set(at, Timer::Expiry(id));
            }
            None => {}
        }
    }

    fn client_id(&self, connect: &mut Connect) -> Result<Arc<str>, &'static str> {
        if !connect.client_id.is_empty() {
            return Ok(Arc::from(&*connect.client_id));
        }
        if connect.version != Version::V5 && !connect.clean_start {
            // [MQTT-3.1.3-8] of 3.1.1
            return Err("an empty client id needs a clean session");
        }
        // The next offset is used by this CONNECT's own record, so that no other client is ever given this name.
        Ok(Arc::from(format!("auto-{}-{}", self.node, self.log.next_offset())))
    }

    fn session_expiry(&self, connect: &Connect) -> u32 {
        let wish = match connect.version {
            Version::V5 => connect.properties.session_expiry.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => NEVER,
        };
        wish.min(self.limits.session_expiry_max)
    }

    /// Finds or makes the session; says whether there was one to continue.
    pub(crate) fn begin_session(
        &mut self,
        client: &Arc<str>,
        principal: &Arc<str>,
        expiry: u32,
    ) -> (SessionId, bool) {
        if let Some(&id) = self.by_client.get(client)
            && let Some(session) = self.sessions.get_mut(id.index as usize)
        {
            session.expiry = expiry;
            return (id, true);
        }
        let generation = self.next_generation();
        let mut session = Session::new(generation, Arc::clone(client), Arc::clone(principal));
        session.expiry = expiry;
        let id = SessionId { index: self.sessions.insert(session) as u32, generation };
        self.by_client.insert(Arc::clone(client), id);
        (id, false)
    }

    #[expect(clippy::too_many_arguments, reason = "one call, taking apart what CONNECT put together")]
    fn open_connection(
        &mut self,
        session: SessionId,
        connect: &Connect,
        client: &Arc<str>,
        principal: &Arc<str>,
        peer: &Arc<str>,
        expiry: u32,
        session_present: bool,
        now: Timestamp,
    ) -> ConnectionId {
        let generation = self.next_generation();
        let wish = &connect.properties;
        let limits = &self.limits;
        let override_keep_alive = connect.version == Version::V5
            && limits.keep_alive_max > 0
            && (connect.keep_alive == 0 || connect.keep_alive > limits.keep_alive_max);
        let keep_alive = if override_keep_alive { limits.keep_alive_max } else { connect.keep_alive };
        let window = wish.receive_maximum.map_or(u16::MAX, |maximum| maximum.get()).min(limits.in_flight_max);
        let mut connection = Connection {
            generation,
            session,
            client: Arc::clone(client),
            principal: Arc::clone(principal),
            peer: Arc::clone(peer),
            version: connect.version,
            keep_alive,
            last_received: now,
            will: connect.will.as_ref().map(detached_will),
            packet_bytes_max: wish.maximum_packet_size.unwrap_or(u32::MAX),
            send_window: window,
            unacknowledged: 0,
            withheld: Arc::from([]),
            wants_reasons: wish.request_problem_information != Some(false),
            authentication_method: wish.authentication_method.as_deref().map(ByteString::from),
            aliases: Vec::new(),
            control: BytesMut::new(),
            subacks_held: 0,
            woken: false,
            closing: false,
            detached: false,
        };
        let properties = if connect.version == Version::V5 {
            ConnAckProperties {
                session_expiry: (expiry != wish.session_expiry.unwrap_or(0)).then_some(expiry),
                receive_maximum: std::num::NonZeroU16::new(limits.receive_maximum),
                maximum_packet_size: Some(limits.packet_bytes_max),
                assigned_client_id: connect.client_id.is_empty().then(|| ByteString::from(&**client)),
                topic_alias_maximum: Some(limits.topic_alias_maximum),
                server_keep_alive: override_keep_alive.then_some(keep_alive),
                authentication_method: connection.authentication_method.clone(),
                ..ConnAckProperties::default()
            }
        } else {
            ConnAckProperties::default()
        };
        connection.send(Packet::ConnAck(Box::new(ConnAck {
            session_present,
            reason: ReasonCode::Success,
            properties,
        })));
        let id = ConnectionId { index: self.connections.insert(connection) as u32, generation };
        if keep_alive > 0 {
            self.timers.set(now + keep_alive_grace(keep_alive), Timer::KeepAlive(id));
        }
        id
    }

    /// What follows once a session has no connection: its will, and its end, now or later.
    fn after_disconnect(&mut self, id: SessionId, expiry: u32, will: Option<Will>, now: Timestamp) {
        let Some(session) = self.sessions.get_mut(id.index as usize) else { return };
        let (client, principal) = (Arc::clone(&session.client), Arc::clone(&session.principal));
        if let Some(will) = will {
            // A will is published at the latest when the session ends [MQTT-3.1.2-8].
            let delay = will.delay.unwrap_or(0).min(expiry);
            if delay == 0 {
                self.publish_will(&will, client, principal, now);
            } else {
                let due = now + Duration::from_secs(delay.into());
                session.will = Some((due, will));
                self.timers.set(due, Timer::Will(id));
            }
        }
        if expiry == 0 {
            self.end_session(id, "connection ended", now);
        } else {
            self.expire_later(id, expiry, now);
        }
    }

    pub(crate) fn expire_later(&mut self, id: SessionId, expiry: u32, now: Timestamp) {
        if expiry == NEVER {
            return;
        }
        let Some(session) = self.sessions.get_mut(id.index as usize) else { return };
        let at = now + Duration::from_secs(expiry.into());
        session.expires_at = Some(at);
        if session.expiry_timer.is_none_or(|set| set > at) {
            session.expiry_timer = Some(at);
            self.timers.set(at, Timer::Expiry(id));
        }
    }

    /// Forgets a session and all that it was owed.
    pub(crate) fn end_session(&mut self, id: SessionId, reason: &str, now: Timestamp) {
        let Some(session) = self.forget_session(id) else { return };
        let origin = Origin { client: &session.client, principal: &session.principal, peer: "" };
        self.access(AccessEvent::SessionEnd, origin, "", reason, &[], now);
        if let Some((_, will)) = session.will {
            self.publish_will(&will, Arc::clone(&session.client), Arc::clone(&session.principal), now);
        }
    }

    pub(crate) fn forget_session(&mut self, id: SessionId) -> Option<Session> {
        self.session(id)?;
        let session = self.sessions.remove(id.index as usize);
        self.by_client.remove(&session.client);
        for filter in session.subscriptions.keys() {
            self.remove_subscriber(id, filter);
        }
        Some(session)
    }

    fn publish_will(&mut self, will: &Will, client: Arc<str>, principal: Arc<str>, now: Timestamp) {
        self.accept(&will_publish(will), client, principal, "", None, 0, now);
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
        self.connections.get(id.slot()).filter(|connection| connection.generation == id.generation)
    }

    pub(crate) fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot()).filter(|connection| connection.generation == id.generation)
    }

    pub(crate) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(id.index as usize).filter(|session| session.generation == id.generation)
    }

    pub(crate) fn session_of(&mut self, id: ConnectionId) -> Option<&mut Session> {
        let index = self.connection(id)?.session.index;
        self.sessions.get_mut(index as usize)
    }

    pub(crate) fn wake(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id.slot())
            && connection.generation == id.generation
            && !connection.woken
        {
            connection.woken = true;
            self.woken.push(id);
        }
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }
}

/// One and a half times the keep-alive [MQTT-3.1.2-22].
fn keep_alive_grace(keep_alive: u16) -> Duration {
    Duration::from_millis(u64::from(keep_alive) * 1_500)
}

fn will_publish(will: &Will) -> Publish {
    Publish {
        dup: false,
        qos: will.qos,
        retain: will.retain,
        topic: will.topic.clone(),
        packet_id: None,
        properties: will.properties.clone(),
        payload: will.payload.clone(),
    }
}

/// A copy that does not pin the buffer that the CONNECT was read into.
fn detached_will(will: &Will) -> Will {
    let publish = will_publish(will).detached();
    Will {
        topic: publish.topic,
        payload: publish.payload,
        properties: publish.properties,
        qos: will.qos,
        retain: will.retain,
        delay: will.delay,
    }
}
