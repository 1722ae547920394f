//! Seeded mutations of valid packets.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::{SENDERS, VERSIONS, bytes, packets};

/// Packets of each version and sender.
const PACKETS: usize = 100;
/// Mutations of one packet, at most.
const MUTATIONS_MAX: usize = 4;

/// The encoded packets to mutate, the same in every run.
pub(crate) fn corpus() -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let mut corpus = Vec::new();
    for version in VERSIONS {
        for sender in SENDERS {
            let packet = packets::packet(version, sender);
            corpus.extend((0..PACKETS).map(|_| {
                let packet = packet.new_tree(&mut runner).unwrap().current();
                bytes(&packet, version).to_vec()
            }));
        }
    }
    corpus
}

/// Endless inputs near the corpus, the same in every run.
pub(crate) fn mutations(corpus: Vec<Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random(0x5EED_0FA1_A12D);
    std::iter::repeat_with(move || {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(MUTATIONS_MAX) {
            let other = &corpus[random.below(corpus.len())];
            random.mutate(&mut input, other);
        }
        input
    })
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn byte(&mut self) -> u8 {
        const TELLING: [u8; 12] = [0x00, 0x01, 0x02, 0x03, 0x7F, 0x80, 0xFF, 0x23, 0x2B, 0x0B, 0xC0, 0xED];
        if self.below(2) == 0 { TELLING[self.below(TELLING.len())] } else { self.below(256) as u8 }
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        match self.below(6) {
            0 => bytes.insert(at, self.byte()),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            4 => bytes.splice(at.., other[self.below(other.len())..].iter().copied()).for_each(drop),
            _ if at < bytes.len() => bytes[at] = self.byte(),
            _ => {}
        }
    }
}
