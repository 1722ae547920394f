//! Load averages: what happens in a minute, as seen over one, five and fifteen minutes.

use std::time::Duration;

const MINUTE_S: f64 = 60.0;
/// The spans over which a load is averaged, minutes, and how they are named.
pub const SPANS: [(f64, &str); 3] = [(1.0, "1min"), (5.0, "5min"), (15.0, "15min")];

/// Of one counter: exponentially decaying averages of how much it grows in a minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    total: u64,
    per_minute: [f64; SPANS.len()],
}

impl Load {
    /// The counter stands at `total`, `elapsed` after it was looked at last.
    pub fn observe(&mut self, total: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let grown = total.saturating_sub(self.total) as f64;
        self.total = total;
        let now = grown * MINUTE_S / seconds;
        for (average, (minutes, _)) in self.per_minute.iter_mut().zip(SPANS) {
            let kept = (-seconds / (minutes * MINUTE_S)).exp();
            *average = now + kept * (*average - now);
        }
    }

    /// In the order of [`SPANS`].
    pub fn per_minute(&self) -> [f64; SPANS.len()] {
        self.per_minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    #[test]
    fn a_steady_load_is_approached_by_the_shortest_span_first() {
        let mut load = Load::default();
        let mut total = 0;
        for _ in 0..6 {
            total += 100;
            load.observe(total, STEP);
        }
        let [one, five, fifteen] = load.per_minute();
        // 600 a minute for one minute: 1 - 1/e of it in the first average.
        assert!((one - 600.0 * (1.0 - (-1.0f64).exp())).abs() < 1e-9, "{one}");
        assert!(one > five && five > fifteen && fifteen > 0.0);
        for _ in 0..1_000 {
            total += 100;
            load.observe(total, STEP);
        }
        assert!(load.per_minute().iter().all(|average| (average - 600.0).abs() < 1.0));
    }

    #[test]
    fn how_often_it_is_looked_at_makes_no_difference_to_the_past() {
        let (mut often, mut seldom) = (Load::default(), Load::default());
        often.observe(600, STEP);
        seldom.observe(600, STEP);
        for _ in 0..30 {
            often.observe(600, STEP);
        }
        seldom.observe(600, 30 * STEP);
        for (a, b) in often.per_minute().into_iter().zip(seldom.per_minute()) {
            assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
    }

    #[test]
    fn no_time_is_no_load() {
        let mut load = Load::default();
        load.observe(5, Duration::ZERO);
        assert_eq!(load.per_minute(), [0.0; 3]);
    }
}
