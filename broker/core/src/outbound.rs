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
        let Some(connection) = self.connection_mut(id) else { return Transmit::Close };
        out.unsplit(connection.control.split());
        if connection.closing || connection.detached {
            return Transmit::Close;
        }
        if connection.subacks_held > 0 {
            return Transmit::Idle;
        }
        let window = usize::from(connection.send_window);
        loop {
            if out.len() >= budget {
                return Transmit::More;
            }
            let Some(session) = self.session_of(id) else { return Transmit::Close };
            if session.sent < session.in_flight.len() {
                let after = session.in_flight[session.sent].after;
                if session.sent >= window {
                    return Transmit::Idle;
                }
                if after > self.durable {
                    self.hold(id, HeldPacket::Wake);
                    return Transmit::Idle;
                }
                self.send_in_flight(id, out, now);
                continue;
            }
            // Telemetry leaves some of the window to alerts, so that no alert waits for a telemetry acknowledgement.
            let reserve = (window / 4).min(ALERT_RESERVE);
            let flying = session.in_flight.len();
            let fits = |lane: Lane, limit: usize| {
                session.lanes.front(lane).is_some_and(|next| next.qos == QoS::AtMostOnce || flying < limit)
            };
            let lane = if fits(Lane::Alert, window) {
                Lane::Alert
            } else if fits(Lane::Telemetry, window - reserve) {
                Lane::Telemetry
            } else {
                return Transmit::Idle;
            };
            let Some(outgoing) = session.lanes.pop(lane) else { return Transmit::Idle };
            self.send(id, outgoing, out, now);
        }
    }

    /// Sends a publish at QoS 0, or puts it in flight, to be sent from there.
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
        let (client, durable) = (Arc::clone(&session.client), session.expiry > 0);
        let mut after = 0;
        if let (true, Some(publish)) = (durable, outgoing.stored.offset) {
            self.log.mark(&Mark::Sent { client: &client, publish, packet_id: packet_id.0.get() });
            if outgoing.qos == QoS::ExactlyOnce {
                after = self.log.entries();
            }
        }
        if let Some(session) = self.session_of(id) {
            session.in_flight.push_back(InFlight {
                packet_id,
                outgoing,
                received: false,
                after,
                repeated: false,
            });
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
                out.unsplit(connection.control.split());
            }
            return;
        }
        let (outgoing, repeated) = (flight.outgoing.clone(), flight.repeated);
        if matches!(self.write(id, &outgoing, Some(packet_id), repeated, out, now), Written::Dropped) {
            self.abandon(id, at, now);
        }
    }

    /// Gives up a publish that this client can never be sent: to the session it counts as settled.
    fn abandon(&mut self, id: ConnectionId, at: usize, now: Timestamp) {
        let Some(flight) = self.session_of(id).and_then(|session| session.settle(at)) else { return };
        if flight.outgoing.qos == QoS::ExactlyOnce {
            self.completed(id, flight.packet_id);
        }
        let stored = flight.outgoing.stored;
        if stored.alert().is_some() {
            self.alert_abandoned(&stored, now);
        }
        let client = self.connection(id).map(|connection| Arc::clone(&connection.client));
        if let (Some(client), Some(publish)) = (client, stored.offset) {
            self.log.mark(&Mark::Confirmed { client: &client, publish });
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
        let stored = &outgoing.stored;
        if stored.is_expired(now) {
            self.counters.expired += 1;
            return Written::Dropped; // [MQTT-3.3.2-5]
        }
        let Some(connection) = self.connection(id) else { return Written::Dropped };
        if connection.withheld.iter().any(|filter| topic::matches(filter, &stored.publish.topic)) {
            self.counters.withheld += 1;
            return Written::Dropped;
        }
        let (version, packet_bytes_max) = (connection.version, connection.packet_bytes_max);
        let delivery = Delivery {
            dup,
            qos: outgoing.qos,
            retain: outgoing.retain,
            packet_id,
            subscription_ids: if version == Version::V5 { &outgoing.subscription_ids } else { &[] },
            topic_alias: None,
            message_expiry: if version == Version::V5 { stored.expiry_left(now) } else { None },
        };
        let fitting = stored.template(version).filter(|template| {
            template.encoded_len(&delivery).is_ok_and(|length| length <= packet_bytes_max as usize)
        });
        if fitting.is_none_or(|template| template.write(&delivery, out).is_err()) {
            self.counters.too_large += 1;
            return Written::Dropped; // [MQTT-3.1.2-24]
        }
        if !dup && stored.alert().is_some() {
            self.alerts_sent.push(stored.received_at);
        }
        self.counters.publishes_sent += 1;
        Written::Yes
    }

    /// Whether the client is owed more than it was sent. For tests and for a clean stop.
    pub fn owed(&self, id: ConnectionId) -> usize {
        self.connection(id)
            .and_then(|connection| self.session(connection.session))
            .map_or(0, |session| session.owed())
    }
}

/// Places of a client's in-flight window that telemetry leaves free, at most a quarter of the window.
const ALERT_RESERVE: usize = 16;
