//! Any conversation of several clients with one broker.
#![no_main]

#[path = "../../tests/conversation/mod.rs"]
mod conversation;
#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|tape: &[u8]| conversation::run(tape));
