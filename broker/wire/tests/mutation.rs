//! The fuzz target's body on seeded mutations of valid packets, so that every test run fuzzes a little.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::check::check;
use common::mutations::{corpus, mutations};

/// About two seconds unoptimized.
const ROUNDS: usize = 30_000;

#[test]
fn no_input_panics_and_what_decodes_encodes_to_the_same() {
    let corpus = corpus();
    corpus.iter().for_each(|packet| check(packet));
    mutations(corpus).take(ROUNDS).for_each(|input| check(&input));
}
