//! One network connection after its CONNECT was accepted.

use std::sync::Arc;

use bytes::BytesMut;
use jiff::Timestamp;
use slab::Slab;
use wardline_wire::{Packet, PacketId, PacketType, SUCCESS_BYTES, Version, encode, encode_success, fit};

use crate::{
    alias::{AliasesReceived, AliasesSent},
    limits::ClientLimits,
    session::SessionId,
    source::Source,
};

/// Bytes that stay allocated for the acknowledgements of one connection while there are none.
const CONTROL_KEPT_BYTES: usize = 1_024;

/// Names a connection; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// Its slot: small, dense, used again by later connections. For tables beside the core.
    pub fn slot(self) -> usize {
        self.index as usize
    }

    /// The connection of this name, unless it has ended: its slot may be another's by now.
    pub(crate) fn of(self, connections: &Slab<Box<Connection>>) -> Option<&Connection> {
        let connection = &**connections.get(self.slot())?;
        (connection.generation == self.generation).then_some(connection)
    }

    /// As [`Self::of`].
    pub(crate) fn of_mut(self, connections: &mut Slab<Box<Connection>>) -> Option<&mut Connection> {
        let connection = &mut **connections.get_mut(self.slot())?;
        (connection.generation == self.generation).then_some(connection)
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    pub(crate) session: SessionId,
    pub(crate) source: Arc<Source>,
    pub(crate) limits: Arc<ClientLimits>,
    pub(crate) version: Version,
    /// Seconds, 0 for none: what is enforced, the server's own if it overrode the client's.
    pub(crate) keep_alive: u16,
    pub(crate) last_received: Timestamp,
    /// The journal's entries that must be durable before anything is sent: CONNACK says that the will is kept, and that the
    /// session before it is gone.
    pub(crate) opens_after: u64,
    /// Bytes the client takes in one packet.
    pub(crate) packet_bytes_max: u32,
    /// QoS 1 and 2 publishes the client takes before acknowledging.
    pub(crate) send_window: u16,
    /// QoS 1 and 2 publishes of the client that are not acknowledged yet.
    pub(crate) unacknowledged: u32,
    /// Filters of topics that the client is never sent.
    pub(crate) withheld: Arc<[Box<str>]>,
    pub(crate) wants_reasons: bool,
    /// The client's aliases; gone with the connection [MQTT-3.3.2-7].
    pub(crate) aliases: AliasesReceived,
    /// Aliases in use towards the client.
    pub(crate) aliases_sent: AliasesSent,
    /// Encoded and ready to go before anything in the lanes. Answers, so that it is bounded by what is heard: a client that does
    /// not take them is not read.
    pub(crate) control: BytesMut,
    /// How many packets that is.
    pub(crate) control_packets: u32,
    /// Answers that wait for the disk.
    pub(crate) answers_held: usize,
    /// It will be woken once something is durable.
    pub(crate) wake_held: bool,
    /// SUBACKs that wait for the disk. Until they are out nothing is drawn from the lanes, so that a client hears that it is
    /// subscribed before it hears what it subscribed to.
    pub(crate) subacks_held: u32,
    /// Already in the list of connections to be woken.
    pub(crate) woken: bool,
    /// To be closed once `control` is out.
    pub(crate) closing: bool,
    /// Its session has gone on without it.
    pub(crate) detached: bool,
}

impl Connection {
    /// Queues a packet ahead of the lanes. What this client would not take or its version cannot say ends the connection.
    pub(crate) fn send(&mut self, mut packet: Packet) {
        let fitted = fit(&mut packet, self.version, self.packet_bytes_max);
        match fitted.and_then(|()| encode(&packet, self.version, &mut self.control)) {
            Ok(()) => self.control_packets += 1,
            Err(_) => self.closing = true,
        }
    }

    /// As [`Self::send`] an acknowledgement that says success.
    pub(crate) fn send_success(&mut self, packet: PacketType, packet_id: PacketId) {
        if self.packet_bytes_max < SUCCESS_BYTES {
            self.closing = true;
            return;
        }
        encode_success(packet, packet_id, &mut self.control);
        self.control_packets += 1;
    }

    /// Moves what is queued ahead of the lanes to `out`; says how many packets that was.
    pub(crate) fn take_control(&mut self, out: &mut BytesMut) -> u64 {
        if self.control_packets == 0 {
            return 0;
        }
        out.extend_from_slice(&self.control);
        if self.control.capacity() > CONTROL_KEPT_BYTES {
            self.control = BytesMut::new();
        }
        self.control.clear();
        std::mem::take(&mut self.control_packets).into()
    }
}
