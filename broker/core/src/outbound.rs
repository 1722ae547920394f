//! Bytes to a client.

use std::sync::Arc;

use bytes::BytesMut;
use jiff::Timestamp;
use wardline_journal::{Log, Mark};
use wardline_wire::{Ack, Delivery, Packet, PacketId, QoS, ReasonCode, Version, topic};

use crate::{
    broker::{Broker, HeldPacket},
    connection::ConnectionId,
    lane::Outgoing,
    session::InFlight,
    stored::Lane,
};

/// Publishes that are put in flight in one go while those before them wait for the disk: so many of QoS 2 share one wait for it.
const AHEAD_MAX: usize = 64;

/// What is to be done with a connection after [`Broker::transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// All that may be sent now is in the buffer.
    Idle,
    /// The budget is used up; there is more.
    More,
    /// Write what is in the buffer, then close.
    Close,
}

/// What a publish became when it was taken from its lane.
enum Written {
    Yes,
    /// Expired, withheld, or too large for this client.
    Dropped,
}

impl<L: Log> Broker<L> {
    /// Appends to `out` what the client may be sent now, alerts before telemetry, until about `budget` bytes are in it.
    pub fn transmit(
        &mut self,
        id: ConnectionId,
        out: &mut BytesMut,
        budget: usize,
        now: Timestamp,
    ) -> Transmit {
        loop {
            let transmit = self.transmit_at_hand(id, out, budget, now);
            if transmit != Transmit::Idle || self.carried.is_empty() || !self.supply_carried(id) {
                return transmit;
            }
        }
    }

    fn transmit_at_hand(
        &mut self,
        id: ConnectionId,
        out: &mut BytesMut,
        budget: usize,
        now: Timestamp,
    ) -> Transmit {
        let durable = self.durable;
        let Some(connection) = self.connection_mut(id) else { return Transmit::Close };
        if connection.opens_after > durable {
            return Transmit::Idle;
        }
        // Ahead of every publish, and not counted against the window [MQTT-3.3.4-10] [MQTT-4.9.0-3].
        let packets = connection.take_control(out);
        let over = connection.closing || connection.detached;
        let subacks_held = connection.subacks_held;
        self.counters.packets_sent += packets;
        if over {
            return Transmit::Close;
        }
        if subacks_held > 0 {
            return Transmit::Idle;
        }
        let windows = self.connection(id).and_then(|connection| {
            let session = self.session(connection.session)?;
            Some((session.window(connection, Lane::Alert), session.window(connection, Lane::Telemetry)))
        });
        let Some((window, telemetry_window)) = windows else { return Transmit::Close };
        let (mut ahead_left, mut held, mut alerts_wait) = (AHEAD_MAX, false, true);
        loop {
            if out.len() >= budget {
                return Transmit::More;
            }
            if alerts_wait {
                alerts_wait = self.draw(id, Lane::Alert);
            }
            let Some(session) = self.session_of(id) else { return Transmit::Close };
            let flying = session.in_flight.len();
            if let Some(next) = session.in_flight.get(session.sent) {
                // [MQTT-3.3.4-9] [MQTT-4.9.0-2]
                let at_hand = session.sent < window && next.is_ready();
                let ready = at_hand && next.after <= durable;
                let waits_for_disk = at_hand && !ready;
                let mut ahead = None;
                if ahead_left > 0 && flying < window && !(ready && next.outgoing.lane == Lane::Alert) {
                    ahead = session.lanes.pop_alert();
                }
                if ahead_left > 0 && flying < telemetry_window && waits_for_disk && ahead.is_none() {
                    ahead = session.lanes.pop_own();
                }
                if waits_for_disk && !std::mem::replace(&mut held, true) {
                    self.hold(id, HeldPacket::Wake);
                }
                match ahead {
                    Some(outgoing) => {
                        ahead_left -= 1;
                        self.send(id, outgoing, out, now);
                    }
                    None if ready => self.send_in_flight(id, out, now),
                    None => return Transmit::Idle,
                }
                continue;
            }
            let has_room = |lane| match lane {
                Lane::Alert => flying < window,
                Lane::Telemetry => flying < telemetry_window,
            };
            if let Some(outgoing) = session.lanes.pop(has_room) {
                self.send(id, outgoing, out, now);
            } else if !self.draw(id, Lane::Alert) && !self.draw(id, Lane::Telemetry) {
                // Alerts once more: what was dropped here has made room.
                return Transmit::Idle;
            }
        }
    }

    /// Sends a publish at QoS 0 [MQTT-4.3.1-1], or puts it in flight under an unused identifier, to be sent from there
    /// [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2].
    fn send(&mut self, id: ConnectionId, outgoing: Outgoing, out: &mut BytesMut, now: Timestamp) {
        if outgoing.qos == QoS::AtMostOnce {
            self.write(id, &outgoing, None, false, out, now);
            return;
        }
        let Some(session) = self.session_of(id) else { return };
        let Some(packet_id) = session.allocate_id() else {
            // Cannot be: the window is below the number of identifiers. Keep it for later all the same.
            return session.lanes.push_front(outgoing);
        };
        let (client, recorded) = (Arc::clone(&session.client), session.is_recorded(&outgoing));
        let mut after = 0;
        if let (true, Some(publish)) = (recorded, outgoing.offset()) {
            match outgoing.share {
                Some(share) => self.mark_drawn(&client, share.group, &outgoing, packet_id.0.get()),
                None => self.log.mark(&Mark::Sent { client: &client, publish, packet_id: packet_id.0.get() }),
            }
            if outgoing.qos == QoS::ExactlyOnce {
                after = self.log.entries();
            }
        }
        if let Some(session) = self.session_of(id) {
            session.begin(InFlight { packet_id, outgoing, received: false, after, repeated: false });
        }
    }

    /// Sends the next publish in flight: for the first time, or again because an earlier connection left it unsettled
    /// [MQTT-4.4.0-1].
    fn send_in_flight(&mut self, id: ConnectionId, out: &mut BytesMut, now: Timestamp) {
        let Some(session) = self.session_of(id) else { return };
        let at = session.sent;
        session.sent += 1;
        let flight = &session.in_flight[at];
        let packet_id = flight.packet_id;
        if flight.received {
            let release =
                Ack { packet_id, reason: ReasonCode::Success, reason_string: None, user: Vec::new() };
            if let Some(connection) = self.connection_mut(id) {
                connection.send(Packet::PubRel(release));
                let packets = connection.take_control(out);
                self.counters.packets_sent += packets;
            }
            return;
        }
        let (outgoing, repeated) = (flight.outgoing.clone(), flight.repeated);
        match self.write(id, &outgoing, Some(packet_id), repeated, out, now) {
            Written::Dropped => self.abandon(id, at, now),
            Written::Yes => {
                if let Some(flight) = self.session_of(id).and_then(|session| session.in_flight.get_mut(at)) {
                    flight.park();
                }
            }
        }
    }

    /// Gives up a publish that this client can never be sent: to the session it counts as settled.
    fn abandon(&mut self, id: ConnectionId, at: usize, now: Timestamp) {
        let Some(flight) = self.session_of(id).and_then(|session| session.settle(at)) else { return };
        self.declined(id, flight.packet_id, &flight.outgoing, now);
        if flight.outgoing.qos == QoS::ExactlyOnce {
            self.completed(id, &flight);
        }
    }

    fn write(
        &mut self,
        id: ConnectionId,
        outgoing: &Outgoing,
        packet_id: Option<PacketId>,
        dup: bool,
        out: &mut BytesMut,
        now: Timestamp,
    ) -> Written {
        // Nothing is taken from a lane or sent from flight before it is at hand.
        let Some(stored) = outgoing.stored() else { return Written::Dropped };
        if !dup && stored.is_expired(now) {
            self.counters.expired += 1;
            return Written::Dropped; // [MQTT-3.3.2-5]; what was begun is completed [MQTT-4.3.3-7]
        }
        let Some(connection) = self.connection_mut(id) else { return Written::Dropped };
        if connection.withheld.iter().any(|filter| topic::reaches(filter, &stored.publish.topic)) {
            self.counters.withheld += 1;
            return Written::Dropped;
        }
        let (version, packet_bytes_max) = (connection.version, connection.packet_bytes_max);
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
        let fits = |delivery: &Delivery<'_>| {
            stored.template(version).filter(|template| {
                template.encoded_len(delivery).is_ok_and(|length| length <= packet_bytes_max as usize)
            })
        };
        let mut template = fits(&delivery);
        if template.is_none() && delivery.topic_alias.take().is_some() {
            template = fits(&delivery);
        }
        if template.is_none_or(|template| template.write(&delivery, out).is_err()) {
            self.counters.too_large += 1;
            return Written::Dropped; // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
        }
        if let Some(alias) = delivery.topic_alias {
            connection.aliases_sent.sent(&stored.publish.topic, alias);
        }
        if !dup && stored.alert().is_some() {
            self.alerts_sent.push(stored.received_at);
        }
        self.counters.packets_sent += 1;
        self.counters.publishes_sent += 1;
        self.counters.publish_bytes_sent += stored.publish.payload.len() as u64;
        Written::Yes
    }

    /// Publishes that the client is owed, waiting or in flight. For tests and for a clean stop.
    pub fn owed(&self, id: ConnectionId) -> usize {
        self.connection(id)
            .and_then(|connection| self.session(connection.session))
            .map_or(0, |session| session.owed())
    }
}
