//! Runs seeds, and tells of each that fails what it takes to repeat it: `simulate SEEDS [FIRST]`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use wardline_simulation::{Summary, Violation, run, trace};

fn main() -> ExitCode {
    let arguments: Result<Vec<u64>, _> = std::env::args().skip(1).map(|text| text.parse()).collect();
    let (seeds, first) = match arguments.as_deref() {
        Ok([seeds]) => (*seeds, 0),
        Ok([seeds, first]) => (*seeds, *first),
        _ => {
            eprintln!("usage: simulate SEEDS [FIRST]");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let mut sum = Summary::default();
    for seed in first..first.saturating_add(seeds) {
        match catch_unwind(|| run(seed)) {
            Ok(Ok(summary)) => {
                sum.publishes += summary.publishes;
                sum.crashes += summary.crashes;
                sum.records += summary.records;
            }
            Ok(Err(violation)) => return fail(seed, &violation),
            Err(_) => return fail(seed, &Violation("a panic".to_owned())),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds clean from {first} on, {:.0} a second: {} publishes, {} crashes, {} records",
        seeds as f64 / seconds,
        sum.publishes,
        sum.crashes,
        sum.records
    );
    ExitCode::SUCCESS
}

fn fail(seed: u64, violation: &Violation) -> ExitCode {
    // A panic has said why, and leaves no steps.
    if let Ok(Some(report)) = catch_unwind(AssertUnwindSafe(|| trace(seed))) {
        for step in report.steps {
            println!("{step}");
        }
    }
    println!("seed {seed} FAILED: {violation}");
    println!("again: tests/simulate 1 {seed}");
    ExitCode::FAILURE
}
