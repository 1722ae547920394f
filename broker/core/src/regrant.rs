//! What a connected client may do changes: after a reload, or because it has proved again who it is.

use std::sync::Arc;

use jiff::Timestamp;
use wardline_journal::{AccessEvent, Log, Origin, Outcome};
use wardline_wire::{Auth, Packet};

use crate::{
    broker::Broker,
    connection::ConnectionId,
    gate::{Denial, Gate},
    leaving::will_publish,
    session::SessionId,
};

impl<L: Log> Broker<L> {
    /// Ends the subscriptions of a connected client that `gate` does not allow any more, takes back its will if that is not
    /// allowed, and withholds from now on `withheld`.
    pub fn regrant(
        &mut self,
        id: ConnectionId,
        withheld: Arc<[Box<str>]>,
        gate: &mut impl Gate,
        now: Timestamp,
    ) {
        let Some(connection) = self.connection_mut(id) else { return };
        connection.withheld = withheld;
        let (session, source) = (connection.session, Arc::clone(&connection.source));
        let origin = source.origin();
        let will = self.session(session).filter(|session| session.connection == Some(id));
        if let Some(will) = will.and_then(|session| session.will.as_deref()).map(will_publish)
            && let Err(denial) = gate.publish(&source.client, &will)
        {
            if let Some(session) = self.session_mut(session) {
                session.will = None;
            }
            // As when it is published, its record has no peer: by that a restart knows that the will is gone.
            let origin = Origin { peer: "", ..origin };
            self.record(&will, origin, 0, Outcome::Denied, &format!("will: {}", denial.text), now);
            self.counters.publishes_denied += 1;
        }
        self.withdraw(session, origin, gate, now);
    }

    pub(crate) fn withdraw(
        &mut self,
        id: SessionId,
        origin: Origin<'_>,
        gate: &mut impl Gate,
        now: Timestamp,
    ) {
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

    /// Answers a connected client's AUTH packet with another.
    pub fn authenticate(&mut self, id: ConnectionId, auth: Auth, now: Timestamp) {
        if let Some(connection) = self.connection_mut(id).filter(|connection| !connection.closing) {
            connection.last_received = now;
            connection.send(Packet::Auth(auth));
            self.wake(id);
        }
    }

    /// A connected client has proved again who it is: records it with `detail`, and grants anew as [`Self::regrant`] does.
    pub fn reauthenticated(
        &mut self,
        id: ConnectionId,
        detail: &str,
        withheld: Arc<[Box<str>]>,
        gate: &mut impl Gate,
        now: Timestamp,
    ) {
        self.record_reauthentication(id, detail, "", now);
        self.regrant(id, withheld, gate, now);
    }

    /// A connected client has not proved again who it is: records it and ends the connection [MQTT-4.12.1-2].
    pub fn reauthentication_failed(&mut self, id: ConnectionId, denial: &Denial, now: Timestamp) {
        self.record_reauthentication(id, "", &denial.text, now);
        self.disconnect_with(id, denial.reason, &denial.text);
    }

    fn record_reauthentication(&mut self, id: ConnectionId, detail: &str, reason: &str, now: Timestamp) {
        let Some(connection) = self.connection(id) else { return };
        let source = Arc::clone(&connection.source);
        self.access(AccessEvent::Reauthenticate, source.origin(), detail, reason, &[], now);
    }
}
