//! A short set of seeds, the same at every run; `tests/simulate` runs as many as one likes.

use wardline_simulation::run;

const SEEDS: u64 = 1_000;

#[test]
fn what_was_acknowledged_comes_whatever_fails() {
    for seed in 0..SEEDS {
        let outcome = run(seed);
        assert!(outcome.is_ok(), "seed {seed}: {outcome:?}; again: tests/simulate 1 {seed}");
    }
}

#[test]
fn a_seed_is_the_same_at_every_run() {
    for seed in 0..20 {
        assert_eq!(format!("{:?}", run(seed)), format!("{:?}", run(seed)), "seed {seed}");
    }
}
