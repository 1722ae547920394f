//! The state as a function of the journal: every entry taken again, in order, with nothing written and nobody connected.

use std::{num::NonZeroU16, sync::Arc};

use jiff::Timestamp;
use wardline_journal::{Access, AccessEvent, Entry, Log, Mark, Offset, Origin, Outcome, Publish, Record};
use wardline_wire::{PacketId, QoS};

use crate::{
    broker::{Broker, Counters, Event},
    queues::Overflow,
    session::{InFlight, SessionId},
    state,
    stored::Stored,
};

/// What the `reload` record of a node's start says: between the record before it and this one nobody was there.
pub const START: &str = "start";

/// A record that the journal vouches for and the core cannot read.
#[derive(Debug, thiserror::Error)]
#[error(
    "journal record {offset} ({what}) was not written by this version of Wardline: start the version that wrote it, \
     or a newer one"
)]
pub struct RecoverError {
    /// Where.
    pub offset: Offset,
    /// What could not be read.
    pub what: &'static str,
}

impl<L: Log> Broker<L> {
    /// Takes one journal entry. Events for the plugins follow from it as they did when it was new.
    pub fn recover(&mut self, entry: &Entry<'_>) -> Result<(), RecoverError> {
        self.recovering = true;
        if let Entry::Mark(Mark::Will { client, will }) = *entry {
            self.will_announced = Some((client.into(), will.into()));
            return Ok(());
        }
        // Of the very next record, or of none: a crash may have cut that off.
        let will = self.will_announced.take();
        match entry {
            Entry::Record(offset, Record::Publish(publish)) => self.recover_publish(*offset, publish),
            Entry::Record(offset, Record::Access(access)) => self.recover_access(*offset, access, will),
            Entry::Record(_, Record::Delivery(delivery)) => {
                self.events.push(Event::Receipt {
                    topic: delivery.topic.into(),
                    alert: delivery.alert.into(),
                    step: delivery.step,
                    principal: delivery.origin.principal.into(),
                });
                Ok(())
            }
            Entry::Mark(mark) => {
                self.recover_mark(mark);
                Ok(())
            }
        }
    }

    fn recover_mark(&mut self, mark: &Mark<'_>) {
        let (Mark::Confirmed { client, .. }
        | Mark::Released { client, .. }
        | Mark::Sent { client, .. }
        | Mark::Drawn { client, .. }
        | Mark::Received { client, .. }
        | Mark::Returned { client, .. }
        | Mark::Completed { client, .. }) = *mark
        else {
            return; // A snapshot changes nothing.
        };
        let Some(id) = self.session_by_client(client) else { return };
        let Some(session) = id.of_mut(&mut self.sessions) else { return };
        match *mark {
            Mark::Confirmed { publish, .. } => {
                let of = |flight: &InFlight| flight.outgoing.offset() == Some(publish) && !flight.received;
                let own = |flight: &InFlight| of(flight) && flight.outgoing.share.is_none();
                let flights = &session.in_flight;
                // Older versions wrote the same marks for what a session was sent as a member of a group.
                match flights.iter().position(own).or_else(|| flights.iter().position(of)) {
                    Some(at) if session.in_flight[at].outgoing.qos == QoS::ExactlyOnce => {
                        session.in_flight[at].received = true;
                    }
                    Some(at) => drop(session.settle(at)),
                    None if self.groups.take(&session.groups, id, publish).is_some() => {}
                    None => drop(session.lanes.remove(publish)),
                }
            }
            Mark::Released { packet_id, .. } => {
                if let Some(packet_id) = identifier(packet_id) {
                    session.received.remove(packet_id);
                }
            }
            Mark::Sent { publish, packet_id, .. } => {
                let packet_id = identifier(packet_id);
                let own = session.lanes.remove(publish);
                let outgoing = own.or_else(|| self.groups.take(&session.groups, id, publish));
                if let (Some(packet_id), Some(outgoing)) = (packet_id, outgoing) {
                    session.resume(packet_id, outgoing);
                }
            }
            Mark::Drawn { subscription, publish, packet_id, qos, .. } => {
                let packet_id = identifier(packet_id);
                let qos = state::qos(qos).unwrap_or(QoS::AtMostOnce);
                let outgoing = self.recover_drawn(id, subscription, publish, qos);
                let session = self.session_mut(id);
                if let (Some(session), Some(packet_id), Some(outgoing)) = (session, packet_id, outgoing) {
                    session.resume(packet_id, outgoing);
                }
            }
            Mark::Received { packet_id, .. } => {
                let packet_id = identifier(packet_id);
                if let Some(at) = packet_id.and_then(|packet_id| session.position(packet_id)) {
                    session.in_flight[at].received = true;
                }
            }
            Mark::Returned { packet_id, .. } => {
                let packet_id = identifier(packet_id);
                let at = packet_id.and_then(|packet_id| session.position(packet_id));
                let returned = at.and_then(|at| session.settle(at)).map(|flight| flight.outgoing);
                self.give_back(returned.into_iter().collect());
            }
            Mark::Completed { packet_id, .. } => {
                let packet_id = identifier(packet_id);
                if let Some(at) = packet_id.and_then(|packet_id| session.position(packet_id)) {
                    session.settle(at);
                }
            }
            Mark::Snapshot { .. } | Mark::Will { .. } => {}
        }
    }

    /// The journal is read to its end: the node starts, and that is recorded. Who was connected when it stopped is not any more,
    /// and leaves a will as whoever is lost does; what fell due meanwhile is published now.
    pub fn recovered(&mut self, now: Timestamp) {
        self.recovering = false;
        // Counted are the broker's own doings since it started, not those it read of.
        self.counters = Counters::default();
        self.overflow = Overflow::default();
        self.access(AccessEvent::Reload, Origin::default(), START, "", &[], now);
        let ids: Vec<SessionId> = self
            .sessions
            .iter()
            .map(|(index, session)| SessionId { index: index as u32, generation: session.generation })
            .collect();
        for id in ids {
            let Some(session) = self.session_mut(id) else { continue };
            if !std::mem::take(&mut session.connected_before) {
                self.await_will(id, now);
                continue;
            }
            let state = state::disconnect(session.expiry, session.will.is_some());
            let (client, principal) = (Arc::clone(&session.client), Arc::clone(&session.principal));
            let origin = Origin { client: &client, principal: &principal, peer: "" };
            self.access(AccessEvent::Disconnect, origin, "", "the node stopped without warning", &state, now);
            self.after_disconnect(id, now);
        }
    }

    fn recover_publish(&mut self, offset: Offset, publish: &Publish<'_>) -> Result<(), RecoverError> {
        let publisher = self.session_by_client(publish.origin.client);
        if publish.origin.peer.is_empty()
            && let Some(session) = publisher.and_then(|id| self.session_mut(id))
        {
            session.take_will(); // Published, or taken back.
        }
        if publish.outcome == Outcome::Denied {
            return Ok(());
        }
        let stored = Arc::new(Stored::read(offset, publish)?);
        if let Some(packet_id) = identifier(publish.packet_id)
            && let Some(session) = publisher.and_then(|id| self.session_mut(id))
        {
            session.received.insert(packet_id);
        }
        let route = self.routes.of(&stored.publish.topic, publisher, &self.tree, &self.limits);
        self.distribute(&stored, &route, publish.received_at);
        Ok(())
    }

    /// `will`: what was announced for the CONNECT of a client.
    fn recover_access(
        &mut self,
        offset: Offset,
        access: &Access<'_>,
        will: Option<(Box<str>, Box<[u8]>)>,
    ) -> Result<(), RecoverError> {
        let unreadable = |what| RecoverError { offset, what };
        let session = self.session_by_client(access.origin.client);
        match access.event {
            AccessEvent::Connect => {
                let (_, expiry) =
                    state::read_connect(access.state).ok_or_else(|| unreadable("state of a connect"))?;
                let (client, principal) = (access.origin.client.into(), access.origin.principal.into());
                let will = will
                    .filter(|(announced, _)| **announced == *access.origin.client)
                    .map(|(_, bytes)| state::read_will(&bytes).ok_or_else(|| unreadable("will of a connect")))
                    .transpose()?;
                // An earlier session that a clean start took away has its own record before this one.
                let (id, _) = self.begin_session(&client, &principal, expiry);
                if let Some(session) = self.session_mut(id) {
                    session.connected_before = true;
                    session.expires_at = None;
                    session.replace_will(will.map(Box::new));
                }
            }
            AccessEvent::Disconnect => {
                let (expiry, keeps_will) = state::read_disconnect(access.state)
                    .ok_or_else(|| unreadable("state of a disconnect"))?;
                if let Some(id) = session
                    && let Some(session) = self.session_mut(id)
                {
                    session.connected_before = false;
                    session.expiry = expiry;
                    if !keeps_will {
                        session.take_will();
                    }
                    session.begin_will_delay(access.at);
                    self.expire_later(id, expiry, access.at);
                }
            }
            AccessEvent::Subscribe if access.reason.is_empty() => {
                let subscription =
                    state::read_subscribe(access.state).ok_or_else(|| unreadable("state of a subscribe"))?;
                if let Some(id) = session {
                    let new = self.add_subscription(id, access.detail, subscription);
                    if subscription.wants_retained(new) {
                        self.queue_retained(id, access.detail, subscription, access.at);
                    }
                }
            }
            AccessEvent::Unsubscribe => {
                if let Some(id) = session {
                    self.remove_subscription(id, access.detail);
                }
            }
            AccessEvent::SessionEnd => {
                if let Some(id) = session {
                    self.forget_session(id);
                }
            }
            AccessEvent::Subscribe
            | AccessEvent::Refuse
            | AccessEvent::Reauthenticate
            | AccessEvent::Reload
            | AccessEvent::Lost => {}
        }
        Ok(())
    }

    fn session_by_client(&self, client: &str) -> Option<SessionId> {
        self.by_client.get(client).copied()
    }
}

/// A packet identifier of a mark; 0 is none.
fn identifier(number: u16) -> Option<PacketId> {
    NonZeroU16::new(number).map(PacketId)
}
