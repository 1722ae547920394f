//! A token bucket: how much may happen in a second.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// What a full bucket holds: what flows into it in this time.
pub const BURST: Duration = Duration::from_secs(1);

/// Holds the tokens of one second and is refilled evenly. What has happened is always taken, if need be from what is still to
/// flow in; the next waits until the bucket is out of debt and has a token for it.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    per_second: NonZeroU32,
    /// When it is full again.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(per_second: NonZeroU32, now: Instant) -> Self {
        Self { per_second, full_at: now }
    }

    /// Takes `tokens` out.
    pub fn take(&mut self, tokens: u64, now: Instant) {
        let full_at = self.full_at.max(now);
        // A debt that no clock can tell does not come about by packets.
        self.full_at = full_at.checked_add(self.time_of(tokens)).unwrap_or(full_at);
    }

    /// How long until it has a token; nothing if it has one.
    pub fn wait(&self, now: Instant) -> Duration {
        (self.full_at.saturating_duration_since(now) + self.time_of(1)).saturating_sub(BURST)
    }

    /// In which `tokens` flow in.
    fn time_of(&self, tokens: u64) -> Duration {
        let nanoseconds = u128::from(tokens) * BURST.as_nanos() / u128::from(self.per_second.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(per_second: u32) -> (Bucket, Instant) {
        let now = Instant::now();
        (Bucket::new(NonZeroU32::new(per_second).unwrap(), now), now)
    }

    #[test]
    fn a_full_bucket_gives_one_second_at_once_and_then_one_token_at_a_time() {
        let (mut bucket, mut now) = bucket(4);
        for _ in 0..4 {
            assert_eq!(bucket.wait(now), Duration::ZERO);
            bucket.take(1, now);
        }
        for _ in 0..3 {
            assert_eq!(bucket.wait(now), Duration::from_millis(250));
            now += Duration::from_millis(250);
            assert_eq!(bucket.wait(now), Duration::ZERO);
            bucket.take(1, now);
        }
        now += Duration::from_secs(60);
        bucket.take(3, now);
        assert_eq!(bucket.wait(now), Duration::ZERO, "no more than full, and three of four are gone");
        bucket.take(1, now);
        assert_eq!(bucket.wait(now), Duration::from_millis(250));
    }

    #[test]
    fn what_was_taken_beyond_its_tokens_is_waited_for() {
        let (mut bucket, now) = bucket(1_000);
        bucket.take(3_000, now);
        assert_eq!(bucket.wait(now), Duration::from_millis(2_001));
    }

    proptest! {
        /// In any time no more is taken than flowed in, one burst, and the one that went into debt.
        #[test]
        fn whoever_waits_keeps_to_the_rate(
            per_second in 1..5_000u32,
            steps in prop::collection::vec((1..200u64, 0..400u64), 1..200),
        ) {
            let (mut bucket, start) = bucket(per_second);
            let mut now = start;
            let mut taken = Vec::new();
            for (tokens, pause_ms) in steps {
                now += Duration::from_millis(pause_ms);
                now += bucket.wait(now);
                prop_assert_eq!(bucket.wait(now), Duration::ZERO);
                bucket.take(tokens, now);
                taken.push((now, tokens));
            }
            for (from, &(began, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for &(at, tokens) in &taken[from..] {
                    let seconds = (at.duration_since(began) + BURST).as_secs_f64();
                    // One more for what rounding to nanoseconds gives away.
                    let allowed = seconds * f64::from(per_second) + 1.0;
                    prop_assert!(sum as f64 <= allowed, "{sum} before the last, of {allowed}");
                    sum += tokens;
                }
            }
        }

        /// Nobody waits longer than for what they took.
        #[test]
        fn nobody_waits_for_more_than_they_took(per_second in 1..5_000u32, tokens in 0..100_000u64) {
            let (mut bucket, now) = bucket(per_second);
            bucket.take(tokens, now);
            let owed = tokens.saturating_sub(u64::from(per_second) - 1) as f64 / f64::from(per_second);
            prop_assert!((bucket.wait(now).as_secs_f64() - owed).abs() < 1e-6);
        }
    }
}
