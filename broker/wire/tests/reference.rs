//! The same packets through another implementation, mqtt-protocol-core: what one writes the other reads.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::BytesMut;
use common::mutations::{corpus, mutations};
use common::other::{by_the_other, is_beyond_the_other};
use common::{SENDERS, bytes, decoder_for, packets};
use proptest::prelude::*;
use wardline_wire::{Decoder, Packet, Sender, Version};

const ROUNDS: usize = 20_000;
const CONVERSATIONS: [(Version, Sender); 4] = [
    (Version::V311, Sender::Client),
    (Version::V311, Sender::Server),
    (Version::V5, Sender::Client),
    (Version::V5, Sender::Server),
];

fn any_packet() -> impl Strategy<Value = (Version, Sender, Packet)> {
    let versions = prop::sample::select(vec![Version::V311, Version::V5]);
    (versions, prop::sample::select(SENDERS.to_vec()))
        .prop_flat_map(|(version, sender)| (Just(version), Just(sender), packets::packet(version, sender)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn each_reads_what_the_other_writes((version, sender, packet) in any_packet()) {
        prop_assume!(!is_beyond_the_other(&packet));
        let ours = bytes(&packet, version);
        let theirs = by_the_other(&ours, version);
        prop_assert!(theirs.is_ok(), "{:?}: {:02x?}", theirs, &ours[..]);
        let mut theirs = BytesMut::from(&theirs.unwrap()[..]);
        prop_assert_eq!(&theirs, &ours);
        prop_assert_eq!(decoder_for(&packet, version, sender).decode(&mut theirs), Ok(Some(packet)));
    }
}

#[test]
fn what_we_accept_another_implementation_accepts_as_the_same() {
    let mut agreed = 0;
    for input in mutations(corpus()).take(ROUNDS) {
        for (version, sender) in CONVERSATIONS {
            for mut decoder in
                [Decoder::server_side(u32::MAX), decoder_for(&Packet::PingReq, version, sender)]
            {
                let mut buf = BytesMut::from(&input[..]);
                let Ok(Some(packet)) = decoder.decode(&mut buf) else { continue };
                if decoder.version() != Some(version) || is_beyond_the_other(&packet) {
                    continue;
                }
                let read = &input[..input.len() - buf.len()];
                let theirs = by_the_other(read, version);
                assert!(theirs.is_ok(), "{theirs:?} {packet:?} {read:02x?}");
                let mut theirs = BytesMut::from(&theirs.unwrap()[..]);
                let again = decoder_for(&packet, version, sender).decode(&mut theirs);
                assert_eq!(again, Ok(Some(packet)), "{read:02x?}");
                agreed += 1;
            }
        }
    }
    assert!(agreed > ROUNDS / 10, "only {agreed} inputs were packets");
}
