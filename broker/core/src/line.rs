//! The way out to one client: what its session has is sent, or put in flight, as its windows allow.

use bytes::BytesMut;
use jiff::Timestamp;
use wardline_journal::{Log, Mark};
use wardline_wire::{Delivery, PacketId, PacketType, QoS, Version, topic};

use crate::{
    broker::{Broker, Counters},
    connection::{Connection, ConnectionId},
    lane::Outgoing,
    session::{InFlight, Session},
    shared::Groups,
    stored::Lane,
};

/// Publishes that are put in flight in one go while those before them wait for the disk: so many of QoS 2 share one wait for it.
const AHEAD_MAX: usize = 64;

/// One connected client, and what is touched when it is sent something.
pub(crate) struct Line<'a, L> {
    writer: Writer<'a>,
    pub(crate) session: &'a mut Session,
    groups: &'a Groups,
    log: &'a mut L,
}

/// Writes publishes to one client, and counts them.
struct Writer<'a> {
    connection: &'a mut Connection,
    counters: &'a mut Counters,
    /// When what led to the alerts that are written had been received.
    alerts_sent: &'a mut Vec<Timestamp>,
}

/// What stays the same, and what is used up, while a client is transmitted to.
#[derive(Debug)]
pub(crate) struct Turn {
    /// QoS 1 and 2 publishes that may be in flight when one more goes there.
    window: usize,
    telemetry_window: usize,
    /// Of the journal's entries so many are durable.
    durable: u64,
    ahead_left: usize,
    /// It is known that something waits for the disk.
    waits_for_disk: bool,
}

impl Turn {
    pub(crate) fn new<L>(line: &Line<'_, L>, durable: u64) -> Self {
        let Line { writer: Writer { connection, .. }, session, .. } = line;
        Self {
            window: session.window(connection, Lane::Alert),
            telemetry_window: session.window(connection, Lane::Telemetry),
            durable,
            ahead_left: AHEAD_MAX,
            waits_for_disk: false,
        }
    }
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A publish was sent, put in flight or dropped.
    Done,
    /// The session has nothing that may be sent, now or for want of room; a group of it may.
    Empty,
    /// What is next in flight must wait.
    Waits,
    /// The same, for the disk: said once, and the next step may find something else.
    WaitsForDisk,
    /// What stands here in flight can never be sent to this client.
    Unsendable(usize),
}

/// What a publish became when it was taken from its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Yes,
    /// Expired, withheld, or too large for this client.
    Dropped,
}

impl<L> Broker<L> {
    pub(crate) fn line(&mut self, id: ConnectionId) -> Option<Line<'_, L>> {
        let Self { connections, sessions, groups, log, counters, alerts_sent, .. } = self;
        let connection = id.of_mut(connections)?;
        let session = connection.session.of_mut(sessions)?;
        Some(Line { writer: Writer { connection, counters, alerts_sent }, session, groups, log })
    }
}

impl<L: Log> Line<'_, L> {
    /// Sends or puts in flight what comes next, if it may.
    pub(crate) fn step(&mut self, turn: &mut Turn, out: &mut BytesMut, now: Timestamp) -> Step {
        let Self { session, .. } = self;
        let flying = session.in_flight.len();
        let Some(next) = session.in_flight.get(session.sent) else {
            let has_room = |lane| match lane {
                Lane::Alert => flying < turn.window,
                Lane::Telemetry => flying < turn.telemetry_window,
            };
            let Some(outgoing) = session.lanes.pop(has_room) else { return Step::Empty };
            self.send(outgoing, out, now);
            return Step::Done;
        };
        // [MQTT-3.3.4-9] [MQTT-4.9.0-2]
        let at_hand = session.sent < turn.window && next.is_ready();
        let ready = at_hand && next.after <= turn.durable;
        if at_hand && !ready && !std::mem::replace(&mut turn.waits_for_disk, true) {
            return Step::WaitsForDisk;
        }
        let mut ahead = None;
        if turn.ahead_left > 0 && flying < turn.window && !(ready && next.outgoing.lane == Lane::Alert) {
            ahead = session.lanes.pop_alert();
        }
        if turn.ahead_left > 0 && flying < turn.telemetry_window && at_hand && !ready && ahead.is_none() {
            ahead = session.lanes.pop_own();
        }
        match ahead {
            Some(outgoing) => {
                turn.ahead_left -= 1;
                self.send(outgoing, out, now);
                Step::Done
            }
            None if ready => self.send_in_flight(out, now),
            None => Step::Waits,
        }
    }

    /// Sends a publish at QoS 0 [MQTT-4.3.1-1], or puts it in flight under an unused identifier, to be sent from there
    /// [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2].
    fn send(&mut self, outgoing: Outgoing, out: &mut BytesMut, now: Timestamp) {
        let Self { writer, session, groups, log } = self;
        if outgoing.qos == QoS::AtMostOnce {
            writer.write(&outgoing, None, false, out, now);
            return;
        }
        let Some(packet_id) = session.allocate_id() else {
            // Cannot be: the window is below the number of identifiers. Keep it for later all the same.
            return session.lanes.push_front(outgoing);
        };
        let mut after = 0;
        if let (true, Some(publish)) = (session.is_recorded(&outgoing), outgoing.offset()) {
            let (client, number) = (&*session.client, packet_id.0.get());
            match outgoing.share {
                Some(share) => groups.mark_drawn(*log, client, share.group, &outgoing, number),
                None => log.mark(&Mark::Sent { client, publish, packet_id: number }),
            }
            if outgoing.qos == QoS::ExactlyOnce {
                after = log.entries();
            }
        }
        session.begin(InFlight { packet_id, outgoing, received: false, after, repeated: false });
    }

    /// Sends the next publish in flight: for the first time, or again because an earlier connection left it unsettled
    /// [MQTT-4.4.0-1].
    fn send_in_flight(&mut self, out: &mut BytesMut, now: Timestamp) -> Step {
        let Self { writer, session, .. } = self;
        let at = session.sent;
        let Some(flight) = session.in_flight.get_mut(at) else { return Step::Empty };
        session.sent += 1;
        if flight.received {
            writer.connection.send_success(PacketType::PubRel, flight.packet_id);
            writer.counters.packets_sent += writer.connection.take_control(out);
            return Step::Done;
        }
        match writer.write(&flight.outgoing, Some(flight.packet_id), flight.repeated, out, now) {
            Written::Yes => {
                flight.park();
                Step::Done
            }
            Written::Dropped => Step::Unsendable(at),
        }
    }
}

impl Writer<'_> {
    fn write(
        &mut self,
        outgoing: &Outgoing,
        packet_id: Option<PacketId>,
        dup: bool,
        out: &mut BytesMut,
        now: Timestamp,
    ) -> Written {
        let Self { connection, counters, alerts_sent } = self;
        // Nothing is taken from a lane or sent from flight before it is at hand.
        let Some(stored) = outgoing.stored() else { return Written::Dropped };
        if !dup && stored.is_expired(now) {
            counters.expired += 1;
            return Written::Dropped; // [MQTT-3.3.2-5]; what was begun is completed [MQTT-4.3.3-7]
        }
        if connection.withheld.iter().any(|filter| topic::reaches(filter, &stored.publish.topic)) {
            counters.withheld += 1;
            return Written::Dropped;
        }
        let version = connection.version;
        let mut delivery = Delivery {
            dup, // whatever it was when it came in [MQTT-3.3.1-1] [MQTT-3.3.1-3]
            qos: outgoing.qos,
            retain: outgoing.retain,
            packet_id,
            // [MQTT-3.3.4-3]
            subscription_ids: if version == Version::V5 { &outgoing.subscription_ids } else { &[] },
            topic_alias: connection.aliases_sent.find(&stored.publish.topic),
            message_expiry: if version == Version::V5 { stored.expiry_left(now) } else { None },
        };
        let bytes_max = connection.packet_bytes_max;
        let mut written = stored.write(version, &delivery, bytes_max, out);
        if !written && delivery.topic_alias.take().is_some() {
            written = stored.write(version, &delivery, bytes_max, out);
        }
        if !written {
            counters.too_large += 1;
            return Written::Dropped; // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
        }
        if let Some(alias) = delivery.topic_alias {
            connection.aliases_sent.sent(&stored.publish.topic, alias);
        }
        if !dup && stored.alert().is_some() {
            alerts_sent.push(stored.received_at);
        }
        counters.packets_sent += 1;
        counters.publishes_sent += 1;
        counters.publish_bytes_sent += stored.publish.payload.len() as u64;
        Written::Yes
    }
}
