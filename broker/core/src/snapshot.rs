//! The state as bytes, so that a restart need not read the journal from its beginning.
//!
//! What is taken is what reading the journal up to this moment would give: connections are not part of it, and what only
//! they are owed neither. Contents stay in the journal, but for the retained messages, which outlive it: so the journal can
//! be released up to the [`Snapshot::horizon`]. Of what is owed from before only what is [carried](crate::carry) is left.
//!
//! The encoding: a version byte and a [`Head`], then so many groups, sessions, carried and retained publishes.

use std::{collections::HashSet, num::NonZeroU16, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wardline_journal::{Body, Log, Mark, Offset, Origin, Outcome, Record};
use wardline_wire::{PacketId, encode_properties};

use crate::{
    broker::Broker,
    lane::Lanes,
    ledger::{Ledger, Saved},
    session::{Session, SessionId},
    shared::GroupId,
    state,
    stored::Stored,
    timer::Timer,
};

const VERSION: u8 = 1;

/// Why a snapshot cannot be taken or used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Another version's.
    #[error(
        "the snapshot has format {0}, and this version of Wardline reads {VERSION}: start the version that wrote it, or a newer one"
    )]
    Version(u8),
    /// It ends too early or says what cannot be.
    #[error("the snapshot cannot be read: {0}")]
    Malformed(&'static str),
    /// It could not be encoded.
    #[error("the snapshot cannot be written: {0}")]
    Encode(#[from] postcard::Error),
    /// A publish within is too large.
    #[error("the snapshot cannot be written: {0}")]
    Record(#[from] wardline_journal::RecordTooLarge),
}

/// The state at one moment. Taken quickly, so that nobody waits; [`Snapshot::encode`] does the rest.
#[derive(Debug)]
pub struct Snapshot {
    head: Head,
    /// Groups and sessions.
    encoded: Vec<u8>,
    carried: Vec<Arc<Stored>>,
    retained: Vec<Arc<Stored>>,
    owed_by: Option<Arc<str>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Head {
    horizon: u64,
    groups: u64,
    sessions: u64,
    carried: u64,
    retained: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedGroup<'a> {
    index: u32,
    generation: u32,
    subscription: &'a str,
    #[serde(borrow)]
    waiting: [Vec<Saved<'a>>; 2],
}

#[derive(Serialize, Deserialize)]
struct SavedSession<'a> {
    client: &'a str,
    principal: &'a str,
    connected: bool,
    expiry: u32,
    /// Microseconds since 1970.
    expires_at: Option<i64>,
    will: Option<Vec<u8>>,
    /// As `expires_at`.
    will_due: Option<i64>,
    /// Filters with what a `subscribe` record says of them.
    #[serde(borrow)]
    subscriptions: Vec<(&'a str, [u8; 6])>,
    #[serde(borrow)]
    lanes: [Vec<Saved<'a>>; 2],
    #[serde(borrow)]
    flights: Vec<Saved<'a>>,
    /// Of each flight: its identifier, and whether the client has it.
    identifiers: Vec<(u16, bool)>,
    last_id: u16,
    /// QoS 2 identifiers of the client that it has not released yet.
    received: Vec<u16>,
}

#[derive(Serialize, Deserialize)]
struct SavedPublish<'a> {
    offset: u64,
    record: &'a [u8],
}

impl Snapshot {
    /// All records below may be released, as far as the state is concerned, once this snapshot is safe.
    pub fn horizon(&self) -> Offset {
        Offset(self.head.horizon)
    }

    /// The client for which the record at the horizon is kept; `None` where nobody is owed one.
    pub fn owed_by(&self) -> Option<&Arc<str>> {
        self.owed_by.as_ref()
    }

    /// Appends the bytes that [`Broker::restore`] reads.
    ///
    /// # Errors
    /// What no memory can hold.
    pub fn encode(self, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
        out.push(VERSION);
        put(&self.head, out)?;
        out.extend_from_slice(&self.encoded);
        drop(self.encoded);
        let mut record = Vec::new();
        for stored in self.carried.iter().chain(&self.retained) {
            let Some(Offset(offset)) = stored.offset else { continue };
            record.clear();
            encode_stored(stored, &mut record)?;
            put(&SavedPublish { offset, record: &record }, out)?;
        }
        Ok(())
    }
}

fn put(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
    *out = postcard::to_extend(value, std::mem::take(out))?;
    Ok(())
}

fn encode_stored(stored: &Stored, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
    let publish = &stored.publish;
    let mut properties = Vec::new();
    encode_properties(&publish.properties, &mut properties)
        .map_err(|_| SnapshotError::Malformed("the properties of a publish"))?;
    let origin = Origin { peer: "", ..stored.source.origin() };
    wardline_journal::encode(
        &Record::Publish(wardline_journal::Publish {
            received_at: stored.received_at,
            origin,
            topic: &publish.topic,
            qos: publish.qos as u8,
            retain: publish.retain,
            packet_id: 0,
            properties: &properties,
            payload: &publish.payload,
            outcome: Outcome::Accepted,
            reason: "",
        }),
        out,
    )?;
    Ok(())
}

impl<L: Log> Broker<L> {
    /// Takes a snapshot, and marks the place in the journal from which reading goes on: [`Log::next_offset`], behind the mark
    /// of this `number`. It counts once that mark is durable. What [`Broker::to_carry`] named is `carried` from now on.
    ///
    /// # Errors
    /// What no memory can hold; then nothing is marked.
    pub fn snapshot(&mut self, number: u64, carried: Vec<Arc<Stored>>) -> Result<Snapshot, SnapshotError> {
        self.carry(carried);
        let (horizon, owed_by) = self.survey();
        self.horizon = horizon;
        let carried: Vec<Arc<Stored>> = self.carried.values().cloned().collect();
        let retained: Vec<Arc<Stored>> = self.retained.recorded().cloned().collect();
        let mut encoded = Vec::new();
        let mut groups = 0;
        for (id, subscription, waiting) in self.groups.saved() {
            let group = SavedGroup { index: id.index, generation: id.generation, subscription, waiting };
            put(&group, &mut encoded)?;
            groups += 1;
        }
        for (_, session) in &self.sessions {
            put(&save(session), &mut encoded)?;
        }
        self.log.mark(&Mark::Snapshot { number });
        let head = Head {
            horizon: horizon.0,
            groups,
            sessions: self.sessions.len() as u64,
            carried: carried.len() as u64,
            retained: retained.len() as u64,
        };
        Ok(Snapshot { head, encoded, carried, retained, owed_by })
    }

    /// The oldest offset that somebody is owed and is not carried, and who; carried publishes that nobody is owed any more go.
    fn survey(&mut self) -> (Offset, Option<Arc<str>>) {
        // From here on nothing is carried, and only the oldest counts.
        let until = self.carried.last_key_value().map_or(self.horizon, |(&Offset(last), _)| Offset(last + 1));
        let until = until.max(self.horizon);
        let mut still = HashSet::new();
        let mut oldest = (self.log.next_offset(), None);
        let (carried, horizon) = (&self.carried, self.horizon);
        let mut look = |offset: Offset, whose: &Arc<str>| {
            if carried.contains_key(&offset) {
                still.insert(offset);
            } else if offset < oldest.0 && offset >= horizon {
                oldest = (offset, Some(Arc::clone(whose)));
            }
        };
        for (_, session) in &self.sessions {
            let flights = session.in_flight.iter().filter_map(|flight| flight.outgoing.offset());
            flights.chain(session.lanes.low_offsets(until)).for_each(|offset| look(offset, &session.client));
        }
        for (subscription, offset) in self.groups.low_offsets(until) {
            look(offset, subscription);
        }
        self.carried.retain(|offset, _| still.contains(offset));
        oldest
    }

    /// Below it the journal may have been released: what is owed from there is carried.
    pub fn horizon(&self) -> Offset {
        self.horizon
    }

    /// Takes over what a snapshot holds. The broker must be new; what the journal says after the snapshot's mark is to be
    /// [recovered](Broker::recover) next.
    ///
    /// # Errors
    /// Bytes that [`Snapshot::encode`] of this version never writes; then the broker is of no use.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.recovering = true;
        let mut reader = match bytes.split_first() {
            Some((&VERSION, rest)) => Reader(rest),
            Some((&other, _)) => return Err(SnapshotError::Version(other)),
            None => return Err(SnapshotError::Malformed("it is empty")),
        };
        let head: Head = reader.next("its head")?;
        self.horizon = Offset(head.horizon);
        let mut groups = Vec::new();
        for _ in 0..head.groups {
            let SavedGroup { index, generation, subscription, waiting } =
                reader.next("a shared subscription")?;
            groups.push((GroupId { index, generation }, subscription, waiting));
        }
        if !self.restore_groups(groups) {
            return Err(SnapshotError::Malformed("the name of a shared subscription"));
        }
        let mut restored = Vec::new();
        for _ in 0..head.sessions {
            restored.push(self.restore_session(reader.next("a session")?)?);
        }
        for _ in 0..head.carried {
            let stored = reader.publish()?;
            if let Some(offset) = stored.offset {
                self.carried.insert(offset, Arc::new(stored));
            }
        }
        for _ in 0..head.retained {
            self.retained.keep(&Arc::new(reader.publish()?));
        }
        // Nobody is connected: what a member of a group had not been sent is the group's.
        for id in restored {
            let Some(session) = self.sessions.get_mut(id.index as usize) else { continue };
            session.lanes.forget_qos0();
            let unsent = session.lanes.take_shared();
            if session.expiry == 0 {
                session.lanes = Lanes::default();
            }
            self.give_back(unsent);
        }
        if reader.0.is_empty() { Ok(()) } else { Err(SnapshotError::Malformed("there are bytes too many")) }
    }

    fn restore_session(&mut self, saved: SavedSession<'_>) -> Result<SessionId, SnapshotError> {
        let malformed = SnapshotError::Malformed;
        let (id, existed) = self.begin_session(&saved.client.into(), &saved.principal.into(), saved.expiry);
        if existed {
            return Err(malformed("two sessions have one client id"));
        }
        for (filter, options) in saved.subscriptions {
            let subscription =
                state::read_subscribe(&options).ok_or(malformed("the options of a subscription"))?;
            self.add_subscription(id, filter, subscription);
        }
        let session =
            self.sessions.get_mut(id.index as usize).ok_or(malformed("a session that is not there"))?;
        session.connected_before = saved.connected;
        session.lanes = Lanes::restore(saved.lanes);
        let flights = Ledger::restore(saved.flights);
        if flights.len() != saved.identifiers.len() {
            return Err(malformed("the identifiers of what is in flight"));
        }
        for (outgoing, (packet_id, received)) in flights.iter().zip(saved.identifiers) {
            let packet_id = NonZeroU16::new(packet_id).map(PacketId);
            session.resume(packet_id.ok_or(malformed("a packet identifier"))?, outgoing);
            if let Some(flight) = session.in_flight.back_mut() {
                flight.received = received;
            }
        }
        session.last_id = saved.last_id;
        let received = saved.received.into_iter().map(|id| NonZeroU16::new(id).map(PacketId));
        session.received = received.collect::<Option<_>>().ok_or(malformed("a packet identifier"))?;
        let will = saved.will.map(|will| state::read_will(&will).ok_or(malformed("a will")));
        session.will = will.transpose()?.map(Box::new);
        session.will_due = instant(saved.will_due)?;
        if let Some(at) = instant(saved.expires_at)? {
            session.expires_at = Some(at);
            session.expiry_timer = Some(at);
            self.timers.set(at, Timer::Expiry(id));
        }
        Ok(id)
    }
}

fn instant(microseconds: Option<i64>) -> Result<Option<Timestamp>, SnapshotError> {
    let instant = microseconds.map(Timestamp::from_microsecond).transpose();
    instant.map_err(|_| SnapshotError::Malformed("an instant"))
}

fn save(session: &Session) -> SavedSession<'_> {
    // What is not journaled of a session that ends with its connection is not owed after it.
    let flights = || session.in_flight.iter().filter(|flight| session.is_recorded(&flight.outgoing));
    let mut in_flight = Ledger::default();
    for flight in flights() {
        if let Some(offset) = flight.outgoing.offset() {
            in_flight.push(offset, &flight.outgoing);
        }
    }
    let recorded = flights().filter(|flight| flight.outgoing.offset().is_some());
    SavedSession {
        client: &session.client,
        principal: &session.principal,
        connected: session.connection.is_some(),
        expiry: session.expiry,
        expires_at: session.expires_at.map(Timestamp::as_microsecond),
        will: session.will.as_deref().map(state::will),
        will_due: session.will_due.map(Timestamp::as_microsecond),
        subscriptions: session
            .subscriptions
            .iter()
            .map(|(filter, subscription)| (&**filter, state::subscribe(subscription)))
            .collect(),
        lanes: session.lanes.saved(),
        flights: in_flight.saved().map(Saved::detached).collect(),
        identifiers: recorded.map(|flight| (flight.packet_id.0.get(), flight.received)).collect(),
        last_id: session.last_id,
        received: session.received.iter().map(|id| id.0.get()).collect(),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next<T: Deserialize<'a>>(&mut self, what: &'static str) -> Result<T, SnapshotError> {
        let (value, rest) = postcard::take_from_bytes(self.0).map_err(|_| SnapshotError::Malformed(what))?;
        self.0 = rest;
        Ok(value)
    }

    fn publish(&mut self) -> Result<Stored, SnapshotError> {
        let malformed = SnapshotError::Malformed("a publish");
        let SavedPublish { offset, record } = self.next("a publish")?;
        match wardline_journal::decode(record) {
            Ok(Body::Record(Record::Publish(publish))) => {
                Stored::read(Offset(offset), &publish).map_err(|_| malformed)
            }
            _ => Err(malformed),
        }
    }
}
