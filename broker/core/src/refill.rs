//! What a connected client is owed and is not at hand: named to whoever can read the journal, and taken from there.

use std::sync::Arc;

use wardline_journal::{Log, Offset};
use wardline_wire::ReasonCode;

use crate::{
    backlog::Room,
    broker::{Broker, HeldPacket},
    connection::ConnectionId,
    lane::Content,
    limits::Limits,
    session::Session,
    stored::Stored,
};

impl<L: Log> Broker<L> {
    /// Appends to `into` the offsets of the records that the client's next publishes need, ascending, each once, each below
    /// [`Log::readable`], at most what [`Limits`] has room for. Read them with [`Stored::read`] and hand them to
    /// [`Broker::supply`] before asking again. When something is lacking that cannot be read yet, the client is woken once it can.
    pub fn wanted(&mut self, id: ConnectionId, into: &mut Vec<Offset>) {
        let open = self.connection(id).filter(|connection| !connection.closing && !connection.detached);
        let Some(connection) = open else { return };
        let Some(session) = self.session(connection.session) else { return };
        let waits = session.wanted(self.log.readable(), &self.limits, into);
        into.retain(|offset| !self.carried.contains_key(offset));
        if waits && into.is_empty() {
            self.hold(id, HeldPacket::Wake);
        }
        into.sort_unstable();
        into.dedup();
    }

    /// Takes the records that were wanted, ascending. For a connection that has ended meanwhile they are let go.
    pub fn supply(&mut self, id: ConnectionId, records: &[Arc<Stored>]) {
        let Some(connection) = self.connection(id) else { return };
        let session = connection.session;
        let Self { sessions, carried, .. } = self;
        let find = |offset: Offset| {
            let at = records.binary_search_by_key(&Some(offset), |stored| stored.offset);
            at.ok().and_then(|at| records.get(at)).or_else(|| carried.get(&offset)).cloned()
        };
        let session = session.of_mut(sessions).filter(|session| session.connection == Some(id));
        let Some(session) = session else { return };
        session.supply(find);
        self.wake(id);
    }

    /// Gives a client what it needs next and is carried; whether there was something.
    pub(crate) fn supply_carried(&mut self, id: ConnectionId) -> bool {
        let Self { connections, sessions, carried, limits, .. } = self;
        let Some(connection) = connections.get(id.slot()) else { return false };
        let Some(session) = connection.session.of_mut(sessions) else { return false };
        let mut wanted = Vec::new();
        session.wanted(Offset(u64::MAX), limits, &mut wanted);
        let found = wanted.iter().any(|offset| carried.contains_key(offset));
        found && session.supply(|offset| carried.get(&offset).cloned())
    }

    /// What was wanted cannot be read, which should never be: the connection ends, and what is owed stays owed.
    pub fn unreadable(&mut self, id: ConnectionId) {
        self.counters.unreadable += 1;
        let text = "what waits for this client cannot be read from the journal";
        self.disconnect_with(id, ReasonCode::ImplementationSpecificError, text);
    }
}

impl Session {
    /// As [`Broker::wanted`]. True: something is lacking and cannot be read yet.
    fn wanted(&self, readable: Offset, limits: &Limits, into: &mut Vec<Offset>) -> bool {
        let mut room = Room::whole(limits);
        for flight in self.in_flight.iter().skip(self.sent) {
            if !room.takes(flight.outgoing.bytes) {
                break;
            }
            room.take(flight.outgoing.bytes);
            match flight.outgoing.offset() {
                Some(offset) if !flight.is_ready() && offset < readable => into.push(offset),
                Some(_) if !flight.is_ready() => return true,
                _ => {}
            }
        }
        self.lanes.wanted(readable, limits, into)
    }

    /// Whether something was found.
    fn supply(&mut self, find: impl Fn(Offset) -> Option<Arc<Stored>>) -> bool {
        let mut found = false;
        for flight in self.in_flight.iter_mut().skip(self.sent).filter(|flight| !flight.is_ready()) {
            if let Some(stored) = flight.outgoing.offset().and_then(&find) {
                flight.outgoing.content = Content::Here(stored);
                found = true;
            }
        }
        self.lanes.refill(find) || found
    }
}
