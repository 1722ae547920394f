//! A connection: two pipes whose bytes arrive in pieces, late, or not at all.

use bytes::{Buf, BytesMut};
use wardline_core::ConnectionId;
use wardline_journal::Offset;
use wardline_test_disk::Random;
use wardline_wire::{Decoder, Packet, Version, encode};

use crate::Violation;

/// What is on the way in one direction, and what has arrived and is not a whole packet yet.
#[derive(Debug)]
pub(crate) struct Pipe {
    transit: BytesMut,
    arrived: BytesMut,
    decoder: Decoder,
}

impl Pipe {
    fn new(decoder: Decoder) -> Self {
        Self { transit: BytesMut::new(), arrived: BytesMut::new(), decoder }
    }

    pub(crate) fn push(&mut self, packet: &Packet, version: Version) -> Result<(), Violation> {
        encode(packet, version, &mut self.transit).map_err(|error| Violation(format!("{packet:?}: {error}")))
    }

    /// Where a sender writes.
    pub(crate) fn end(&mut self) -> &mut BytesMut {
        &mut self.transit
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.transit.is_empty()
    }

    /// So many bytes arrive; whether there were any.
    pub(crate) fn carry(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(self.transit.len());
        self.arrived.extend_from_slice(&self.transit.split_to(bytes));
        bytes > 0
    }

    /// The rest never arrives, but for the first so many bytes.
    pub(crate) fn cut(&mut self, random: &mut Random) {
        let kept = random.below(self.transit.len() + 1);
        self.transit.truncate(kept);
    }

    pub(crate) fn clear(&mut self) {
        self.transit.clear();
        self.arrived.advance(self.arrived.len());
    }

    /// The next packet that has arrived whole.
    pub(crate) fn packet(&mut self) -> Result<Option<Packet>, Violation> {
        self.decoder.decode(&mut self.arrived).map_err(|error| Violation(format!("unreadable: {error}")))
    }
}

/// One network connection, from the client's connecting to the broker's knowing that it is over.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) client: usize,
    pub(crate) to_broker: Pipe,
    pub(crate) to_client: Pipe,
    /// The broker's name for it, once a CONNECT was accepted.
    pub(crate) connection: Option<ConnectionId>,
    /// The client's end is gone: what is on its way to the broker is the last.
    pub(crate) client_gone: bool,
    /// The broker's end is gone.
    pub(crate) broker_gone: bool,
    /// What is being read from the journal for it.
    pub(crate) wanted: Vec<Offset>,
}

impl Line {
    pub(crate) fn new(client: usize, version: Version) -> Self {
        Self {
            client,
            to_broker: Pipe::new(Decoder::server_side(u32::MAX)),
            to_client: Pipe::new(Decoder::client_side(version, u32::MAX)),
            connection: None,
            client_gone: false,
            broker_gone: false,
            wanted: Vec::new(),
        }
    }
}
