//! What holds for every input: the body of the fuzz target in `fuzz/`, and of a test on seeded mutations.

use bytes::BytesMut;
use wardline_wire::{
    DecodeError, Decoder, Packet, Version, decode_properties, encode, encode_properties, encoded_len,
};

/// A server's decoder after a plain CONNECT.
pub(crate) fn connected(version: Version, max_packet_size: u32) -> Decoder {
    let connect: &[u8] = match version {
        Version::V31 => b"\x10\x0F\0\x06MQIsdp\x03\x02\0\0\0\x01c",
        Version::V311 => b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0",
        Version::V5 => b"\x10\x0D\0\x04MQTT\x05\x02\0\0\0\0\0",
    };
    let mut decoder = Decoder::server_side(max_packet_size);
    assert!(matches!(decoder.decode(&mut BytesMut::from(connect)), Ok(Some(Packet::Connect(_)))));
    assert_eq!(decoder.version(), Some(version));
    decoder
}

/// Packets, and what ended them if not the end of the bytes; fed in pieces of `piece` bytes.
pub(crate) fn decode_all(
    mut decoder: Decoder,
    bytes: &[u8],
    piece: usize,
) -> (Vec<Packet>, Option<DecodeError>) {
    let (mut buf, mut packets) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        buf.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

/// Nothing panics; cutting changes nothing; what decodes encodes again, no longer than it came, to the same value.
pub(crate) fn check(bytes: &[u8]) {
    const MAX: u32 = 1 << 16;
    for version in [Version::V31, Version::V311, Version::V5] {
        check_stream(&connected(version, MAX), bytes);
        check_stream(&Decoder::client_side(version, MAX), bytes);
    }
    check_stream(&Decoder::server_side(MAX), bytes);
    check_properties(bytes);
}

fn check_stream(decoder: &Decoder, bytes: &[u8]) {
    let (packets, error) = decode_all(decoder.clone(), bytes, bytes.len());
    assert_eq!(decode_all(decoder.clone(), bytes, 1), (packets.clone(), error));

    let mut decoder = decoder.clone();
    let mut again = BytesMut::new();
    for packet in &packets {
        let version = match packet {
            Packet::Connect(connect) => connect.version,
            _ => decoder.version().expect("only a CONNECT comes before the version is known"),
        };
        encode(packet, version, &mut again).expect("what was decoded can be encoded");
        assert_eq!(encoded_len(packet, version), Ok(again.len()));
        assert_eq!(decoder.decode(&mut again).as_ref(), Ok(&Some(packet.clone())));
        assert!(again.is_empty());
    }
    let total: usize = packets
        .iter()
        .map(|packet| encoded_len(packet, decoder.version().unwrap_or(Version::V5)).expect("encoded before"))
        .sum();
    assert!(total <= bytes.len());
}

fn check_properties(block: &[u8]) {
    let Ok(properties) = decode_properties(block) else { return };
    let mut again = Vec::new();
    encode_properties(&properties, &mut again).expect("what was decoded can be encoded");
    assert_eq!(again.len(), block.len());
    assert_eq!(decode_properties(&again), Ok(properties));
}
