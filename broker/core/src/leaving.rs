//! How connections and sessions end: by either side, by silence, by their expiry; and their wills.

use std::{sync::Arc, time::Duration};

use bytestring::ByteString;
use jiff::Timestamp;
use wardline_journal::{AccessEvent, Log, Mark, Origin};
use wardline_wire::{Disconnect, Packet, Publish, ReasonCode, Version, Will};

use crate::{
    broker::Broker,
    connection::ConnectionId,
    session::{NEVER, Session, SessionId},
    source::Source,
    state,
    timer::Timer,
};

impl<L: Log> Broker<L> {
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
        let source = Arc::clone(&connection.source);
        self.connections_by_principal.ended(&source.principal);
        let Some(session) = self.session_mut(session_id) else { return };
        session.connection = None;
        session.lanes.forget_qos0();
        let expiry = session.expiry;
        let state = state::disconnect(expiry, session.will.is_some());
        self.access(AccessEvent::Disconnect, source.origin(), "", reason, &state, now);
        self.alerts_lost(session_id, now);
        if let Some(session) = self.session_mut(session_id) {
            let unsent = session.lanes.take_shared();
            session.park();
            self.give_back(unsent);
        }
        self.after_disconnect(session_id, now);
    }

    /// Ends a connection from the server's side, with the reason that MQTT 5 clients are told; nothing is sent after it
    /// [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.1-1] [MQTT-4.13.2-1].
    pub fn disconnect_with(&mut self, id: ConnectionId, reason: ReasonCode, text: &str) {
        let Some(connection) = self.connection_mut(id) else { return };
        if connection.closing {
            return;
        }
        if connection.version == Version::V5 {
            let reason_string = connection.wants_reasons.then(|| ByteString::from(text));
            connection.send(Packet::Disconnect(Disconnect {
                reason,
                session_expiry: None, // [MQTT-3.14.2-2]
                reason_string,
                user: Vec::new(),
                server_reference: None,
            }));
        }
        connection.closing = true;
        self.wake(id);
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
            self.timers.set(keep_alive_look(deadline, now), Timer::KeepAlive(id));
        } else {
            self.disconnect_with(id, ReasonCode::KeepAliveTimeout, "keep alive timeout");
            self.detach(id, "keep alive timeout", now);
        }
    }

    fn check_will(&mut self, id: SessionId, now: Timestamp) {
        let Some(session) = self.session_mut(id) else { return };
        session.will_timer = None;
        self.await_will(id, now);
    }

    /// Publishes the will of a client that is lost if its delay is over; else it is looked at again when it will be.
    pub(crate) fn await_will(&mut self, id: SessionId, now: Timestamp) {
        let Some(session) = self.session_mut(id) else { return };
        let Some(due) = session.will_due else { return };
        if due <= now {
            self.publish_will(id, now);
        } else if session.will_timer.is_none_or(|set| set > due) {
            session.will_timer = Some(due);
            self.timers.set(due, Timer::Will(id));
        }
    }

    fn check_expiry(&mut self, id: SessionId, now: Timestamp) {
        let Some(session) = self.session_mut(id) else { return };
        session.expiry_timer = None;
        match session.expires_at {
            Some(at) if at <= now => {
                self.counters.sessions_expired += 1;
                self.end_session(id, "session expired", now); // [MQTT-4.1.0-2]
            }
            Some(at) => {
                session.expiry_timer = Some(at);
                self.timers.set(at, Timer::Expiry(id));
            }
            None => {}
        }
    }

    /// What follows once a session has no connection: its will, and its end, now or later.
    pub(crate) fn after_disconnect(&mut self, id: SessionId, now: Timestamp) {
        let Some(session) = self.session_mut(id) else { return };
        let expiry = session.expiry;
        session.begin_will_delay(now);
        self.await_will(id, now);
        if expiry == 0 {
            self.end_session(id, "connection ended", now);
        } else {
            self.expire_later(id, expiry, now);
        }
    }

    /// Keeps a session for its expiry after its connection [MQTT-3.1.2-23], not while there is one [MQTT-4.1.0-1].
    pub(crate) fn expire_later(&mut self, id: SessionId, expiry: u32, now: Timestamp) {
        if expiry == NEVER {
            return;
        }
        let Some(session) = self.session_mut(id) else { return };
        let at = later(now, expiry);
        session.expires_at = Some(at);
        if session.expiry_timer.is_none_or(|set| set > at) {
            session.expiry_timer = Some(at);
            self.timers.set(at, Timer::Expiry(id));
        }
    }

    /// Forgets a session and all that it was owed. First its will is published: were its end in the journal before, a crash
    /// between the two would lose the will.
    pub(crate) fn end_session(&mut self, id: SessionId, reason: &str, now: Timestamp) {
        self.publish_will(id, now);
        let Self { sessions, log, .. } = self;
        if let Some(session) = id.of(sessions) {
            // The journal took them for sent; what was sent at QoS 2 is completed by this session or by nobody.
            for flight in session.untouched().filter(|flight| flight.outgoing.share.is_some()) {
                log.mark(&Mark::Returned { client: &session.client, packet_id: flight.packet_id.0.get() });
            }
        }
        let Some(session) = self.forget_session(id) else { return };
        let origin = Origin { client: &session.client, principal: &session.principal, peer: "" };
        self.access(AccessEvent::SessionEnd, origin, "", reason, &[], now);
    }

    pub(crate) fn forget_session(&mut self, id: SessionId) -> Option<Box<Session>> {
        self.session(id)?;
        let mut session = self.sessions.remove(id.index as usize);
        self.by_client.remove(&session.client);
        self.sessions_by_principal.ended(&session.principal);
        for filter in session.subscriptions.keys() {
            self.remove_subscriber(id, filter);
        }
        self.give_back(session.take_shared());
        Some(session)
    }

    /// Publishes the session's will if there is one [MQTT3-3.1.2-12], which thereby leaves the session [MQTT-3.1.2-10]. It is
    /// its client's publish also to the client's own subscriptions [MQTT-3.8.3-3].
    ///
    /// The record is the only kind of a client without a peer, so that reading it has the same effect: a will is published once
    /// wherever the journal is cut. Where there is no room to retain it, those who have subscribed hear it all the same.
    fn publish_will(&mut self, id: SessionId, now: Timestamp) {
        let Some(session) = self.session_mut(id) else { return };
        let Some(will) = session.take_will() else { return };
        let (client, principal) = (Arc::clone(&session.client), Arc::clone(&session.principal));
        let source = Arc::new(Source { client, principal, ..Source::default() });
        let mut publish = will_publish(&will);
        if let Err((limit, _)) = self.retained.check(&publish, &self.limits, now) {
            publish.retain = false;
            self.reached.count_of_will(limit);
        }
        self.accept(&publish, source, Some(id), 0, now);
    }
}

/// So many seconds after `now`, or the last instant there is.
pub(crate) fn later(now: Timestamp, seconds: u32) -> Timestamp {
    now.checked_add(Duration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX)
}

/// How far ahead a client's silence is looked at. The timer outlives the connection: of a client that promises a long keep-alive
/// and comes and goes all the time, so many timers stay as it comes within this time, not within a day.
const KEEP_ALIVE_LOOK_MAX: Duration = Duration::from_secs(60);

/// When to look whether a client has been silent until `deadline`.
pub(crate) fn keep_alive_look(deadline: Timestamp, now: Timestamp) -> Timestamp {
    deadline.min(now + KEEP_ALIVE_LOOK_MAX)
}

/// One and a half times the keep-alive [MQTT-3.1.2-22].
pub(crate) fn keep_alive_grace(keep_alive: u16) -> Duration {
    Duration::from_millis(u64::from(keep_alive) * 1_500)
}

pub(crate) fn will_publish(will: &Will) -> Publish {
    Publish {
        dup: false,
        qos: will.qos,
        retain: will.retain, // [MQTT-3.1.2-14] [MQTT-3.1.2-15]
        topic: will.topic.clone(),
        packet_id: None,
        properties: will.properties.clone().into(), // [MQTT-3.1.3-10]
        payload: will.payload.clone(),
    }
}

/// A copy that does not pin the buffer that the CONNECT was read into.
pub(crate) fn detached_will(will: &Will) -> Will {
    let publish = will_publish(will).detached();
    Will {
        topic: publish.topic,
        payload: publish.payload,
        properties: publish.properties.into(),
        qos: will.qos,
        retain: will.retain,
        delay: will.delay,
    }
}
