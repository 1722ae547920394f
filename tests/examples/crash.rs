//! Devices and subscribers under a broker that is killed KILLS times, and what they lost:
//!
//! `tests/crash KILLS [--store sqlite|postgres|both] [--seed SEED] [--quota MIB]`, or
//! `cargo run --release -p wardline-tests --example crash -- KILLS …`
//!
//! With both stores, the default, half of the kills go to each. A quota of 32 makes the journal's room short within a hundred
//! kills: then what the broker says it has let go may be missing, and no more. Prints a table for each, with the seed. Exits 1
//! when anything is wrong, and keeps the data for inspection then.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to people")]

use std::process::ExitCode;

use wardline_tests::Dice;
use wardline_tests::crash::{Plan, Store, run};

const WRONG_USAGE: u8 = 2;
const USAGE: &str = "usage: crash KILLS [--store sqlite|postgres|both] [--seed SEED] [--quota MIB]";

struct Order {
    kills: u32,
    seed: u64,
    stores: &'static [(&'static str, Store)],
    journal_quota_mib: Option<u32>,
}

const STORES: [(&str, Store); 2] = [("sqlite", Store::Sqlite), ("postgres", Store::Postgres)];

fn main() -> ExitCode {
    let Some(order) = order(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(WRONG_USAGE);
    };
    let mut all_right = true;
    for (place, &(name, store)) in order.stores.iter().enumerate() {
        let stores = u32::try_from(order.stores.len()).unwrap_or(1);
        let share = order.kills / stores + u32::from((place as u32) < order.kills % stores);
        println!("{name}, {share} kills, seed {}", order.seed);
        let report =
            run(Plan { kills: share, seed: order.seed, store, journal_quota_mib: order.journal_quota_mib });
        println!("{report}");
        all_right &= report.faults.is_empty();
    }
    if all_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn order(mut words: impl Iterator<Item = String>) -> Option<Order> {
    let kills = words.next()?.parse().ok()?;
    // Whatever number the process has will do as a seed that differs from run to run.
    let seed = Dice::new(u64::from(std::process::id())).throw() % 1_000_000;
    let mut order = Order { kills, seed, stores: &STORES, journal_quota_mib: None };
    while let Some(option) = words.next() {
        let value = words.next()?;
        match (option.as_str(), value.as_str()) {
            ("--seed", seed) => order.seed = seed.parse().ok()?,
            ("--quota", quota) => order.journal_quota_mib = Some(quota.parse().ok()?),
            ("--store", "both") => order.stores = &STORES,
            ("--store", "sqlite") => order.stores = &STORES[..1],
            ("--store", "postgres") => order.stores = &STORES[1..],
            _ => return None,
        }
    }
    Some(order)
}
