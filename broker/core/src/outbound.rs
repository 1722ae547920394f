//! Bytes to a client.

use bytes::BytesMut;
use jiff::Timestamp;
use wardline_journal::Log;
use wardline_wire::QoS;

use crate::{
    broker::{Broker, HeldPacket},
    connection::ConnectionId,
    line::{Step, Turn},
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
        let Self { connections, counters, .. } = self;
        let Some(connection) = id.of_mut(connections) else { return Transmit::Close };
        if connection.opens_after > durable {
            return Transmit::Idle;
        }
        // Ahead of every publish, and not counted against the window [MQTT-3.3.4-10] [MQTT-4.9.0-3].
        counters.packets_sent += connection.take_control(out);
        if connection.closing || connection.detached {
            return Transmit::Close;
        }
        if connection.subacks_held > 0 {
            return Transmit::Idle;
        }
        let Some(line) = self.line(id) else { return Transmit::Close };
        let mut turn = Turn::new(&line, durable);
        let shares = !line.session.groups.is_empty();
        let mut alerts_wait = shares;
        loop {
            if out.len() >= budget {
                return Transmit::More;
            }
            if alerts_wait {
                alerts_wait = self.draw(id, Lane::Alert);
            }
            let Some(mut line) = self.line(id) else { return Transmit::Close };
            let mut step = line.step(&mut turn, out, now);
            while step == Step::Done && !alerts_wait && out.len() < budget {
                step = line.step(&mut turn, out, now);
            }
            match step {
                Step::Done => {}
                // Alerts once more: what was dropped here has made room.
                Step::Empty if shares && (self.draw(id, Lane::Alert) || self.draw(id, Lane::Telemetry)) => {}
                Step::Empty | Step::Waits => return Transmit::Idle,
                Step::WaitsForDisk => self.hold(id, HeldPacket::Wake),
                Step::Unsendable(at) => self.abandon(id, at, now),
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

    /// Publishes that the client is owed, waiting or in flight. For tests and for a clean stop.
    pub fn owed(&self, id: ConnectionId) -> usize {
        self.connection(id)
            .and_then(|connection| self.session(connection.session))
            .map_or(0, |session| session.owed())
    }
}
