//! What a client has between connections: subscriptions, what it is owed, and the QoS flows.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU16,
    sync::Arc,
};

use jiff::Timestamp;
use slab::Slab;
use wardline_wire::{PacketId, RetainHandling, SubscribeOptions, Will};

use crate::{
    connection::{Connection, ConnectionId},
    lane::{Lanes, Outgoing},
    leaving::later,
    packet_ids::PacketIds,
    shared::GroupId,
    stored::Lane,
};

/// Names a session; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SessionId {
    /// The session of this name, unless it has ended: its place may be another's by now.
    pub(crate) fn of(self, sessions: &Slab<Box<Session>>) -> Option<&Session> {
        let session = &**sessions.get(self.index as usize)?;
        (session.generation == self.generation).then_some(session)
    }

    /// As [`Self::of`].
    pub(crate) fn of_mut(self, sessions: &mut Slab<Box<Session>>) -> Option<&mut Session> {
        let session = &mut **sessions.get_mut(self.index as usize)?;
        (session.generation == self.generation).then_some(session)
    }
}

/// Never expires [MQTT 5, 3.1.2.11.2].
pub(crate) const NEVER: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) options: SubscribeOptions,
    pub(crate) id: Option<u32>,
}

impl Subscription {
    /// Whether a SUBSCRIBE with these options is answered with retained messages [MQTT-3.3.1-9] [MQTT-3.3.1-10]
    /// [MQTT-3.3.1-11].
    pub(crate) fn wants_retained(&self, new: bool) -> bool {
        match self.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::DoNotSend => false,
        }
    }
}

/// A QoS 1 or 2 publish that was sent and is not settled.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) packet_id: PacketId,
    pub(crate) outgoing: Outgoing,
    /// QoS 2: the client has it (PUBREC), so that only PUBREL is repeated.
    pub(crate) received: bool,
    /// The journal's entries that must be durable before it is sent: with QoS 2 the identifier has to be known after a crash.
    pub(crate) after: u64,
    /// It went out on an earlier connection, so that a repeat carries DUP.
    pub(crate) repeated: bool,
}

impl InFlight {
    /// Whether all that is to be sent is at hand.
    pub(crate) fn is_ready(&self) -> bool {
        self.received || self.outgoing.stored().is_some()
    }

    /// Lets go of a content that is not needed unless it is repeated. An alert keeps it, to tell of its confirmation.
    pub(crate) fn park(&mut self) {
        if self.outgoing.stored().is_some_and(|stored| stored.alert().is_none()) {
            self.outgoing.let_go();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) generation: u32,
    pub(crate) client: Arc<str>,
    /// Only this principal may take the session over.
    pub(crate) principal: Arc<str>,
    pub(crate) connection: Option<ConnectionId>,
    /// While the journal is read: connected at this point of it.
    pub(crate) connected_before: bool,
    /// Seconds it outlives its connection; [`NEVER`] for ever.
    pub(crate) expiry: u32,
    pub(crate) expires_at: Option<Timestamp>,
    /// When its expiry is looked at next: one timer a session, however often it comes and goes.
    pub(crate) expiry_timer: Option<Timestamp>,
    /// What is to be published when its client is lost.
    pub(crate) will: Option<Box<Will>>,
    /// Its client is lost: when the will's delay is over.
    pub(crate) will_due: Option<Timestamp>,
    /// When that is looked at next: as with the expiry, one timer a session.
    pub(crate) will_timer: Option<Timestamp>,
    pub(crate) subscriptions: BTreeMap<Box<str>, Subscription>,
    /// How many of them may match a topic of the alert lane.
    pub(crate) alert_subscriptions: usize,
    /// Of the shared ones among them.
    pub(crate) groups: Vec<GroupId>,
    pub(crate) lanes: Lanes,
    /// In the order in which they were first sent, and in which they are repeated [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    pub(crate) in_flight: VecDeque<InFlight>,
    /// How many of `in_flight`, from the front, went out on the present connection.
    pub(crate) sent: usize,
    ids: PacketIds,
    pub(crate) last_id: u16,
    /// QoS 2 identifiers of the client that it has not released yet.
    pub(crate) received: PacketIds,
}

/// Places of a client's in-flight window that telemetry leaves free, at most a quarter of the window.
const ALERT_RESERVE: usize = 16;

impl Session {
    pub(crate) fn new(generation: u32, client: Arc<str>, principal: Arc<str>) -> Self {
        Self {
            generation,
            client,
            principal,
            connection: None,
            connected_before: false,
            expiry: 0,
            expires_at: None,
            expiry_timer: None,
            will: None,
            will_due: None,
            will_timer: None,
            subscriptions: BTreeMap::new(),
            alert_subscriptions: 0,
            groups: Vec::new(),
            lanes: Lanes::default(),
            in_flight: VecDeque::new(),
            sent: 0,
            ids: PacketIds::default(),
            last_id: 0,
            received: PacketIds::default(),
        }
    }

    /// A free packet identifier, or `None` if all 65,535 are in use [MQTT-2.2.1-4].
    pub(crate) fn allocate_id(&mut self) -> Option<PacketId> {
        if self.ids.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            let id = PacketId(NonZeroU16::MIN.checked_add(self.last_id).unwrap_or(NonZeroU16::MIN));
            self.last_id = id.0.get();
            if self.ids.insert(id) {
                return Some(id);
            }
        }
    }

    /// Puts a publish in flight. An alert passes telemetry that could not be sent yet: it may wait for the disk, or to be fetched.
    pub(crate) fn begin(&mut self, flight: InFlight) {
        let at = match flight.outgoing.lane {
            Lane::Telemetry => self.in_flight.len(),
            Lane::Alert => {
                let mut unsent = self.in_flight.iter().skip(self.sent);
                self.sent
                    + unsent.rposition(|flight| flight.outgoing.lane == Lane::Alert).map_or(0, |at| at + 1)
            }
        };
        self.in_flight.insert(at, flight);
    }

    /// Takes over what the journal says was sent under an identifier.
    pub(crate) fn resume(&mut self, packet_id: PacketId, outgoing: Outgoing) {
        self.ids.insert(packet_id);
        self.last_id = packet_id.0.get();
        self.in_flight.push_back(InFlight { packet_id, outgoing, received: false, after: 0, repeated: true });
    }

    pub(crate) fn position(&self, packet_id: PacketId) -> Option<usize> {
        self.in_flight.iter().position(|flight| flight.packet_id == packet_id)
    }

    /// What has an identifier and was never sent.
    pub(crate) fn untouched(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter().skip(self.sent).filter(|flight| !flight.repeated)
    }

    /// Where that is which was sent under this identifier on the present connection, and so may be answered.
    pub(crate) fn sent_at(&self, packet_id: PacketId) -> Option<usize> {
        self.in_flight.iter().take(self.sent).position(|flight| flight.packet_id == packet_id)
    }

    /// Whether this identifier stands for something that is yet to be sent on the present connection, for the first time or
    /// again. An answer to it comes too early: it is passed over, and will be given once more.
    pub(crate) fn is_to_be_sent(&self, packet_id: PacketId) -> bool {
        self.ids.contains(packet_id) && self.sent_at(packet_id).is_none()
    }

    /// The client is away: lets go of contents that the journal has, but for alerts in flight, whose answers are told of.
    pub(crate) fn park(&mut self) {
        self.lanes.park();
        for flight in &mut self.in_flight {
            flight.park();
        }
    }

    /// Settles a publish in flight, whose identifier is free again.
    pub(crate) fn settle(&mut self, position: usize) -> Option<InFlight> {
        let flight = self.in_flight.remove(position)?;
        self.ids.remove(flight.packet_id);
        if position < self.sent {
            self.sent -= 1;
        }
        Some(flight)
    }

    /// Begins anew on another connection: what is in flight will be repeated.
    pub(crate) fn begin_connection(&mut self, connection: ConnectionId, will: Option<Box<Will>>) {
        self.connection = Some(connection);
        self.expires_at = None;
        self.replace_will(will);
        for flight in self.in_flight.iter_mut().take(self.sent) {
            flight.repeated = true;
        }
        self.sent = 0;
    }

    /// The client is there, and leaves this will [MQTT-3.1.2-7]; that of an earlier connection is not published any more
    /// [MQTT-3.1.3-9].
    pub(crate) fn replace_will(&mut self, will: Option<Box<Will>>) {
        self.will = will;
        self.will_due = None;
    }

    /// The client is lost, and the will's delay begins. It is over at the latest with the session [MQTT-3.1.2-8].
    pub(crate) fn begin_will_delay(&mut self, lost_at: Timestamp) {
        self.will_due =
            self.will.as_ref().map(|will| later(lost_at, will.delay.unwrap_or(0).min(self.expiry)));
    }

    /// The will, to be published or taken back.
    pub(crate) fn take_will(&mut self) -> Option<Box<Will>> {
        self.will_due = None;
        self.will.take()
    }

    /// Whether the journal is told what becomes of a publish: it has to be known after a crash.
    pub(crate) fn is_recorded(&self, outgoing: &Outgoing) -> bool {
        self.expiry > 0 || outgoing.share.is_some()
    }

    /// QoS 1 and 2 publishes that may be in flight when one of this lane is sent. Where alerts may come, telemetry leaves some
    /// of the window to them, so that none waits for a telemetry acknowledgement.
    pub(crate) fn window(&self, connection: &Connection, lane: Lane) -> usize {
        let window = usize::from(connection.send_window);
        match lane {
            Lane::Telemetry if self.alert_subscriptions > 0 => window - (window / 4).min(ALERT_RESERVE),
            Lane::Alert | Lane::Telemetry => window,
        }
    }

    /// Whether room in its windows may let something be sent.
    pub(crate) fn has_more(&self) -> bool {
        self.in_flight.len() > self.sent || !self.lanes.is_empty() || !self.groups.is_empty()
    }

    /// Publishes waiting or in flight.
    pub(crate) fn owed(&self) -> usize {
        self.lanes.len() + self.in_flight.len()
    }
}
