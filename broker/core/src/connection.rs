//! One network connection after its CONNECT was accepted.

use std::{num::NonZeroU16, sync::Arc};

use bytes::BytesMut;
use bytestring::ByteString;
use jiff::Timestamp;
use wardline_wire::{Packet, ReasonCode, Version, encode, fit};

use crate::{alias::Aliases, limits::ClientLimits, session::SessionId};

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
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    pub(crate) session: SessionId,
    pub(crate) client: Arc<str>,
    pub(crate) principal: Arc<str>,
    pub(crate) peer: Arc<str>,
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
    /// Topics of the client's aliases, alias 1 first; gone with the connection [MQTT-3.3.2-7].
    pub(crate) aliases: Vec<Option<ByteString>>,
    /// Aliases in use towards the client.
    pub(crate) aliases_sent: Aliases,
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

    /// Moves what is queued ahead of the lanes to `out`; says how many packets that was.
    pub(crate) fn take_control(&mut self, out: &mut BytesMut) -> u64 {
        out.unsplit(self.control.split());
        std::mem::take(&mut self.control_packets).into()
    }

    /// The topic behind an alias, which is defined first if the publish names both.
    ///
    /// # Errors
    /// The reason to disconnect with [3.3.2.3.4].
    pub(crate) fn resolve_alias(
        &mut self,
        alias: NonZeroU16,
        topic: &ByteString,
        maximum: u16,
    ) -> Result<ByteString, ReasonCode> {
        // Everything up to the maximum is taken [MQTT-3.3.2-12].
        if alias.get() > maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let index = usize::from(alias.get()) - 1;
        if topic.is_empty() {
            return self.aliases.get(index).cloned().flatten().ok_or(ReasonCode::ProtocolError);
        }
        if self.aliases.len() <= index {
            self.aliases.resize(index + 1, None);
        }
        // A copy: the alias outlives the read buffer that the topic is a slice of.
        self.aliases[index] = Some(ByteString::from(String::from(&**topic)));
        Ok(topic.clone())
    }
}
