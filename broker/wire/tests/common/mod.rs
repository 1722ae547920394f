//! What the test files share.
#![allow(dead_code, reason = "each test file is a crate of its own and uses its part")]

pub(crate) mod broken;
pub(crate) mod check;
pub(crate) mod mutations;
pub(crate) mod other;
pub(crate) mod packets;

use bytes::BytesMut;
use wardline_wire::{Decoder, Packet, Sender, Version, encode};

pub(crate) const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
pub(crate) const SENDERS: [Sender; 2] = [Sender::Client, Sender::Server];

/// The packet's bytes.
pub(crate) fn bytes(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).unwrap();
    out
}

/// A decoder in the middle of a connection; for a CONNECT, at its beginning.
pub(crate) fn decoder_for(packet: &Packet, version: Version, sender: Sender) -> Decoder {
    match (packet, sender) {
        (Packet::Connect(_), _) => Decoder::server_side(u32::MAX),
        (_, Sender::Client) => check::connected(version, u32::MAX),
        (_, Sender::Server) => Decoder::client_side(version, u32::MAX),
    }
}
