//! From a CONNECT whose sender is known to a connection, or to a refusal.

use std::sync::Arc;

use bytes::BytesMut;
use bytestring::ByteString;
use jiff::Timestamp;
use wardline_journal::{AccessEvent, Log, Mark, Origin};
use wardline_wire::{ConnAck, ConnAckProperties, Connect, Packet, ReasonCode, Version};

use crate::{
    alias::{AliasesReceived, AliasesSent},
    broker::{Broker, ConnectRequest, HeldPacket},
    connection::{Connection, ConnectionId},
    gate::{Denial, Gate},
    inbound::check_payload,
    leaving::{detached_will, keep_alive_grace, keep_alive_look, will_publish},
    limits::{ClientLimits, Limit},
    session::{NEVER, Session, SessionId},
    source::Source,
    state,
    timer::Timer,
};

impl<L: Log> Broker<L> {
    /// Takes a CONNECT whose sender is known. The CONNACK waits in the connection's output; an error is the CONNACK to send
    /// before closing.
    pub fn connect(
        &mut self,
        request: ConnectRequest,
        gate: &mut impl Gate,
        now: Timestamp,
    ) -> Result<ConnectionId, Box<ConnAck>> {
        let ConnectRequest { connect, principal, peer, limits, .. } = &request;
        self.counters.packets_received += 1;
        let client = match self.client_id(connect) {
            Ok(client) => client,
            Err(text) => {
                let origin = Origin { client: &connect.client_id, principal, peer };
                return Err(self.refuse(origin, ReasonCode::ClientIdentifierNotValid, text, now));
            }
        };
        let origin = Origin { client: &client, principal, peer };
        if let Some(will) = &connect.will {
            let checked = limits.check_name(&will.topic).map_err(|(limit, denial)| {
                self.reached.count(limits, limit);
                denial
            });
            let publish = will_publish(will);
            let checked = checked.and_then(|()| check_payload(&publish));
            if let Err(denial) = checked.and_then(|()| gate.publish(&client, &publish)) {
                // [MQTT-3.1.4-2]
                return Err(self.refuse(origin, denial.reason, &format!("will: {}", denial.text), now));
            }
        }
        let existing = self.by_client.get(&client).copied();
        if let Some(owner) =
            existing.and_then(|id| self.session(id)).map(|session| Arc::clone(&session.principal))
            && owner != *principal
        {
            // [MQTT3-3.1.3-9] [MQTT-3.1.3-8]
            let text = format!("client id {client} belongs to a session of {owner}");
            return Err(self.refuse(origin, ReasonCode::ClientIdentifierNotValid, &text, now));
        }
        let present = existing.and_then(|id| self.session(id)?.connection);
        if let Some(maximum) = limits.connections_per_principal
            && self.connections_by_principal.of(principal).saturating_sub(u32::from(present.is_some()))
                >= maximum.get()
        {
            self.reached.count(limits, Limit::ConnectionsPerPrincipal);
            let text = format!("{principal} has its {maximum} connections");
            return Err(self.refuse(origin, ReasonCode::QuotaExceeded, &text, now));
        }
        let expiry = self.session_expiry(connect, limits);
        if let Err((limit, denial)) = self.check_sessions(existing, expiry, principal, limits) {
            self.reached.count(limits, limit);
            return Err(self.refuse(origin, denial.reason, &denial.text, now));
        }
        if let Some(connection) = present {
            // [MQTT-3.1.4-3]
            self.disconnect_with(connection, ReasonCode::SessionTakenOver, "session taken over");
            self.detach(connection, "session taken over", now);
        }

        // Before the CONNECT's own record, so that the journal tells it in the order in which it takes effect [MQTT-3.1.2-4]
        // [MQTT-3.1.4-4].
        let taken_away = existing.filter(|_| connect.clean_start);
        if let Some(session) = taken_away {
            self.end_session(session, "clean start", now);
        }
        let will = connect.will.as_ref().map(detached_will);
        if let Some(will) = &will {
            debug_assert!(!peer.is_empty(), "a client's publish without a peer is its will");
            self.log.mark(&Mark::Will { client: &client, will: &state::will(will) });
        }
        self.access(AccessEvent::Connect, origin, "", "", &state::connect(connect.clean_start, expiry), now);
        let (session_id, session_present) = self.begin_session(&client, principal, expiry);
        if session_present {
            // What the session was granted once may have been withdrawn while it was away.
            self.withdraw(session_id, origin, gate, now);
        }
        let id = self.open_connection(session_id, request, &client, expiry, session_present, now);
        let has_will = will.is_some();
        if let Some(session) = self.session_mut(session_id) {
            session.begin_connection(id, will.map(Box::new));
        }
        // Were CONNACK sent before the end of the session taken away is durable, a crash would bring that session back to a
        // client that has forgotten it: what it sends under an identifier it used before would be taken for a repeat.
        if has_will || taken_away.is_some() {
            let opens_after = self.log.entries();
            if let Some(connection) = self.connection_mut(id) {
                connection.opens_after = opens_after;
            }
            self.hold(id, HeldPacket::Wake);
        } else {
            self.wake(id);
        }
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

    /// The client's own name [MQTT-3.1.3-2] [MQTT-3.1.3-5], or a new one [MQTT-3.1.3-6] [MQTT-3.2.2-16].
    fn client_id(&self, connect: &Connect) -> Result<Arc<str>, &'static str> {
        if !connect.client_id.is_empty() {
            return Ok(Arc::from(&*connect.client_id));
        }
        if connect.version != Version::V5 && !connect.clean_start {
            // [MQTT3-3.1.3-8]
            return Err("an empty client id needs a clean session");
        }
        // The next offset is used by this CONNECT's own record, so that no other client is ever given this name.
        Ok(Arc::from(format!("auto-{}-{}", self.node, self.log.next_offset())))
    }

    fn session_expiry(&mut self, connect: &Connect, limits: &ClientLimits) -> u32 {
        let wish = match connect.version {
            Version::V5 => connect.properties.session_expiry.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => NEVER,
        };
        if wish > limits.session_expiry_max {
            self.reached.count(limits, Limit::SessionExpiryMax);
        }
        wish.min(limits.session_expiry_max)
    }

    /// Whether there may be one more session that outlives its connection. Those that do not are as few as the connections.
    fn check_sessions(
        &self,
        existing: Option<SessionId>,
        expiry: u32,
        principal: &str,
        limits: &ClientLimits,
    ) -> Result<(), (Limit, Denial)> {
        let before = existing.and_then(|id| self.session(id));
        if expiry == 0 || before.is_some_and(|session| session.expiry > 0) {
            return Ok(());
        }
        let full = |limit, text| Err((limit, Denial { reason: ReasonCode::QuotaExceeded, text }));
        // One that ends with its connection makes way for this one.
        let others = self.sessions.len().saturating_sub(usize::from(before.is_some()));
        let maximum = self.limits.sessions_max;
        if others >= maximum {
            return full(Limit::Sessions, format!("the node has its {maximum} sessions"));
        }
        let others = self.sessions_by_principal.of(principal).saturating_sub(u32::from(before.is_some()));
        if let Some(maximum) = limits.sessions_per_principal
            && others >= maximum.get()
        {
            return full(Limit::SessionsPerPrincipal, format!("{principal} has its {maximum} sessions"));
        }
        Ok(())
    }

    /// Finds the session [MQTT-3.1.2-5] or makes it [MQTT-3.1.2-6]; says whether there was one to continue, which after a
    /// clean start there is not [MQTT-3.2.2-2] [MQTT-3.2.2-3].
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
        let mut session = Box::new(Session::new(generation, Arc::clone(client), Arc::clone(principal)));
        session.expiry = expiry;
        let id = SessionId { index: self.sessions.insert(session) as u32, generation };
        self.sessions_by_principal.begun(principal);
        self.by_client.insert(Arc::clone(client), id);
        (id, false)
    }

    fn open_connection(
        &mut self,
        session: SessionId,
        request: ConnectRequest,
        client: &Arc<str>,
        expiry: u32,
        session_present: bool,
        now: Timestamp,
    ) -> ConnectionId {
        let ConnectRequest { connect, principal, peer, withheld, limits, authentication_data } = request;
        let source = Arc::new(Source { client: Arc::clone(client), principal, peer });
        let generation = self.next_generation();
        let wish = &connect.properties;
        let keep_alive_limited = connect.version == Version::V5 && limits.max_keep_alive > 0;
        let override_keep_alive =
            keep_alive_limited && (connect.keep_alive == 0 || connect.keep_alive > limits.max_keep_alive);
        if override_keep_alive {
            self.reached.count(&limits, Limit::MaxKeepAlive);
        }
        // [MQTT-3.2.2-22]
        let keep_alive = if override_keep_alive { limits.max_keep_alive } else { connect.keep_alive };
        let window = wish.receive_maximum.map_or(u16::MAX, |maximum| maximum.get()).min(limits.in_flight);
        let mut connection = Connection {
            generation,
            session,
            source,
            limits,
            version: connect.version,
            keep_alive,
            last_received: now,
            opens_after: 0,
            packet_bytes_max: wish.maximum_packet_size.unwrap_or(u32::MAX),
            send_window: window, // [MQTT-4.9.0-1]
            unacknowledged: 0,
            withheld,
            wants_reasons: wish.request_problem_information != Some(false),
            aliases: AliasesReceived::default(),
            aliases_sent: AliasesSent::new(wish.topic_alias_maximum.unwrap_or(0)),
            control: BytesMut::new(),
            control_packets: 0,
            answers_held: 0,
            wake_held: false,
            subacks_held: 0,
            woken: false,
            closing: false,
            detached: false,
        };
        let properties = if connect.version == Version::V5 {
            ConnAckProperties {
                session_expiry: (expiry != wish.session_expiry.unwrap_or(0)).then_some(expiry),
                receive_maximum: std::num::NonZeroU16::new(connection.limits.receive_max),
                maximum_packet_size: Some(connection.limits.max_packet),
                // [MQTT-3.1.3-7]
                assigned_client_id: connect.client_id.is_empty().then(|| ByteString::from(&**client)),
                topic_alias_maximum: Some(connection.limits.topic_alias_max),
                // Also told to a client that asks for just the longest.
                server_keep_alive: (keep_alive_limited && keep_alive == connection.limits.max_keep_alive)
                    .then_some(keep_alive),
                // [MQTT-4.12.0-5]
                authentication_method: wish.authentication_method.clone(),
                authentication_data,
                response_information: self
                    .limits
                    .response_information
                    .as_deref()
                    .filter(|_| wish.request_response_information == Some(true)) // [MQTT-3.1.2-28]
                    .map(ByteString::from),
                ..ConnAckProperties::default()
            }
        } else {
            ConnAckProperties::default()
        };
        // The first packet of the connection, and its only CONNACK [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2].
        connection.send(Packet::ConnAck(Box::new(ConnAck {
            session_present,
            reason: ReasonCode::Success,
            properties,
        })));
        self.connections_by_principal.begun(&connection.source.principal);
        let id = ConnectionId { index: self.connections.insert(Box::new(connection)) as u32, generation };
        self.counters.connects += 1;
        self.counters.connections_peak = self.counters.connections_peak.max(self.connections.len());
        if keep_alive > 0 {
            let deadline = now + keep_alive_grace(keep_alive);
            self.timers.set(keep_alive_look(deadline, now), Timer::KeepAlive(id));
        }
        id
    }
}
