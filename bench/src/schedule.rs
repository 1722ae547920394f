//! When each message of a fixed rate is due.

use std::time::{Duration, Instant};

/// The time of a run: nanoseconds since it was made ready.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Nanoseconds since the beginning.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The instant so many nanoseconds after the beginning.
    pub fn instant(&self, ns: u64) -> Instant {
        self.origin + Duration::from_nanos(ns)
    }
}

/// What is due at a fixed rate from a start to an end, however late it is done: so that a broker that stalls pays for
/// every message that it kept waiting, and not only for the one that noticed.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start_ns: u64,
    /// Between two.
    interval_ns: f64,
    /// In all.
    count: u64,
}

impl Schedule {
    /// `rate_per_second` from `start_ns` on, before `end_ns`.
    pub fn new(rate_per_second: f64, start_ns: u64, end_ns: u64) -> Self {
        let interval_ns = 1e9 / rate_per_second;
        let count = (end_ns.saturating_sub(start_ns) as f64 / interval_ns).ceil() as u64;
        Self { start_ns, interval_ns, count }
    }

    /// `share` of `shares` that have the same rate, evenly apart: together they are `rate_per_second`.
    pub fn shared(rate_per_second: f64, start_ns: u64, end_ns: u64, share: u32, shares: u32) -> Self {
        let apart_ns = 1e9 / rate_per_second * f64::from(share);
        let start_ns = start_ns.saturating_add(apart_ns as u64);
        Self::new(rate_per_second / f64::from(shares.max(1)), start_ns, end_ns)
    }

    /// How many there are in all.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many are due until `now_ns`, from the beginning.
    pub fn due(&self, now_ns: u64) -> u64 {
        let Some(elapsed_ns) = now_ns.checked_sub(self.start_ns) else { return 0 };
        // Rounding may be one off, and then `at` is what counts.
        let mut due = (elapsed_ns as f64 / self.interval_ns) as u64;
        while self.at(due) <= now_ns {
            due += 1;
        }
        while due > 0 && self.at(due - 1) > now_ns {
            due -= 1;
        }
        due.min(self.count)
    }

    /// When the one with this number, from 0, is due.
    pub fn at(&self, number: u64) -> u64 {
        self.start_ns.saturating_add((number as f64 * self.interval_ns) as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_evenly_spread_over_its_time() {
        let schedule = Schedule::new(4.0, 1_000, 1_000_001_000);
        assert_eq!(schedule.count(), 4);
        assert_eq!([0, 1, 2, 3].map(|n| schedule.at(n)), [1_000, 250_001_000, 500_001_000, 750_001_000]);
        assert_eq!(schedule.due(999), 0);
        assert_eq!(schedule.due(1_000), 1);
        assert_eq!(schedule.due(250_000_999), 1);
        assert_eq!(schedule.due(250_001_000), 2);
        assert_eq!(
            schedule.due(u64::MAX / 2),
            4,
            "what a stall kept waiting is due all the same, and no more"
        );
    }

    proptest! {
        #[test]
        fn what_is_due_is_what_has_its_time_behind_it(
            rate in 0.1_f64..1e6,
            start_ns in 0_u64..1_000_000_000,
            now_ns in 0_u64..3_000_000_000,
            share in 0_u32..10,
        ) {
            let end_ns = start_ns + 2_000_000_000;
            let schedule = Schedule::shared(rate, start_ns, end_ns, share, 10);
            let due = schedule.due(now_ns);
            prop_assert!(due <= schedule.count());
            prop_assert!(due == 0 || schedule.at(due - 1) <= now_ns);
            prop_assert!(due == schedule.count() || schedule.at(due) > now_ns);
            prop_assert!(schedule.count() == 0 || schedule.at(schedule.count() - 1) <= end_ns);
        }

        #[test]
        fn shares_are_together_the_whole(rate in 10_f64..1e5, shares in 1_u32..50) {
            let whole = Schedule::new(rate, 0, 1_000_000_000).count();
            let parts: u64 = (0..shares)
                .map(|share| Schedule::shared(rate, 0, 1_000_000_000, share, shares).count())
                .sum();
            prop_assert!(parts.abs_diff(whole) <= 1, "{} is not {}", parts, whole);
        }
    }
}
