//! Any bytes, as from either end in every version.
#![no_main]

#[path = "../../tests/common/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
