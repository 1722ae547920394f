//! What is counted while a run lasts: one meter for each thread, so that nothing is shared where messages pass.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;

/// Longest latency that is told apart, in nanoseconds: a quarter of an hour.
const LATENCY_NS_MAX: u64 = 900_000_000_000;
/// Significant decimal digits of a latency.
const LATENCY_DIGITS: u8 = 3;

/// Latencies, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "1 is half of the highest at most, and 3 digits are below 6")]
        Self(
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)
                .expect("bounds and digits are in range"),
        )
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, from_ns: u64, to_ns: u64) {
        self.0.saturating_record(to_ns.saturating_sub(from_ns).max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        #[expect(clippy::expect_used, reason = "all have the same bounds")]
        self.0.add(&other.0).expect("what one histogram holds fits another of the same bounds");
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value below which `share` of all lie, in microseconds.
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        // The histogram knows a value to its last digit, and answers with the highest that it may have been.
        self.0.value_at_quantile(share).min(self.0.max()) as f64 / 1e3
    }
}

/// Counts of one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    /// Messages to subscribers, each counted once for each of them, since the first; the slow one's are not counted.
    pub(crate) delivered: u64,
    /// As `delivered`, to the slow subscriber.
    pub(crate) delivered_slow: u64,
    /// Of `delivered`, while it was measured.
    pub(crate) delivered_measured: u64,
    /// Publishes written while it was measured.
    pub(crate) sent_measured: u64,
    /// From sending, or its due time, to a subscriber: messages due while it was measured.
    pub(crate) latency: Latencies,
    /// From its due time to being written, at a fixed rate.
    pub(crate) sent_late: Latencies,
    /// From sending, or its due time, to the last acknowledgement.
    pub(crate) acknowledgement: Latencies,
    /// From the due time to CONNACK.
    pub(crate) connect: Latencies,
    /// Connections that ended, or never were, and the first one's reason.
    pub(crate) ended: u64,
    pub(crate) trouble: Option<String>,
}

impl Meter {
    /// A connection ended that should not have.
    pub(crate) fn ended(&mut self, client: &str, reason: &dyn std::fmt::Display) {
        self.ended += 1;
        self.trouble.get_or_insert_with(|| format!("{client}: {reason}"));
    }

    fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.delivered_slow += other.delivered_slow;
        self.delivered_measured += other.delivered_measured;
        self.sent_measured += other.sent_measured;
        self.latency.add(&other.latency);
        self.sent_late.add(&other.sent_late);
        self.acknowledgement.add(&other.acknowledgement);
        self.connect.add(&other.connect);
        self.ended += other.ended;
        self.trouble = self.trouble.take().or_else(|| other.trouble.clone());
    }
}

/// A thread's meter, which its clients share and the run reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedMeter(Arc<Mutex<Meter>>);

impl SharedMeter {
    /// Held for a batch of messages; nobody else wants it but at the end.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Meter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All meters together.
pub(crate) fn sum(meters: &[SharedMeter]) -> Meter {
    let mut sum = Meter::default();
    meters.iter().for_each(|meter| sum.add(&meter.lock()));
    sum
}

/// What is measured: from when on, and until when, in nanoseconds of the run.
pub(crate) type Measured = Range<u64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_in_microseconds_and_to_three_digits() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        for us in 1..=500 {
            one.record(1_000, 1_000 + us * 1_000);
            other.record(0, (500 + us) * 1_000);
        }
        one.add(&other);
        assert_eq!(one.count(), 1_000);
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let us = one.quantile_us(share);
            assert!((us - expected).abs() / expected < 0.002, "{share}: {us}");
        }
        assert_eq!(Latencies::default().quantile_us(0.5), 0.0);
        other.record(5, 4);
        other.record(0, u64::MAX);
        assert_eq!(other.count(), 502, "neither a clock nor a stall can stop it");
    }
}
