//! Seeded conversations; the same that the fuzzer looks for without end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod conversation;
mod support;

use std::panic;

const SEEDS: u64 = 800;
const TAPE_BYTES_MAX: u64 = 2_000;

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }
}

fn tape(seed: u64) -> Vec<u8> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (seed + 1) << 20);
    (0..random.next() % TAPE_BYTES_MAX).map(|_| random.next() as u8).collect()
}

#[test]
fn whatever_happens_the_broker_says_what_it_may_and_answers_everything() {
    for seed in 0..SEEDS {
        let tape = tape(seed);
        if let Err(problem) = panic::catch_unwind(|| conversation::run(&tape)) {
            println!("seed {seed}");
            panic::resume_unwind(problem);
        }
    }
}
