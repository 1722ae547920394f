//! A recording as publishes, each with its own time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use wardline_plugin_api::Mode;

use super::reading::{Outgoing, Place};
use crate::recording::RecordedReading;

/// Longest wait for a reading: a pause of centuries is as good as one of a year.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a recording is played.
#[derive(Clone, Copy, Debug)]
pub struct Playback {
    /// The time of the recording's second 0.
    pub base: Timestamp,
    /// The recording's seconds in one of ours; none: as fast as it is acknowledged.
    pub speed: Option<f64>,
    /// What the readings are marked as.
    pub mode: Mode,
}

impl Playback {
    /// Publishes `readings` in their order, until the last, until `stop` is true, or until nobody takes them any more.
    pub async fn play(
        self,
        place: &Place,
        readings: &[RecordedReading],
        mut stop: watch::Receiver<bool>,
        publishes: mpsc::Sender<Outgoing>,
    ) {
        let began = Instant::now();
        let first_t_s = readings.first().map_or(0.0, |reading| reading.t_s);
        for reading in readings {
            let wait = self.speed.map_or(0.0, |speed| (reading.t_s - first_t_s) / speed);
            let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX).min(WAIT_MAX);
            let publish = place.reading(reading.signal, reading.value, self.time_of(reading), self.mode);
            let send = async {
                if !wait.is_zero() {
                    sleep_until(began + wait).await;
                }
                publishes.send(publish).await
            };
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                sent = send => if sent.is_err() { return },
            }
        }
    }

    /// To the microsecond, and within the calendar.
    fn time_of(&self, reading: &RecordedReading) -> Timestamp {
        // A cast from float to integer saturates.
        let elapsed = SignedDuration::from_micros((reading.t_s * 1e6).round() as i64);
        self.base.saturating_add(elapsed).unwrap_or(self.base)
    }
}

#[cfg(test)]
mod tests {
    use wardline_plugin_api::signal::Signal;

    use super::*;

    async fn played(speed: Option<f64>, t_s: &[f64]) -> (Vec<String>, Duration) {
        let place = Place { unit: "icu-3".into(), bed: "b1".into(), device: "mon-1".into() };
        let signal = Signal::named("hr").unwrap();
        let readings: Vec<_> =
            t_s.iter().map(|t_s| RecordedReading { t_s: *t_s, signal, value: 57.8 }).collect();
        let base = "2026-01-01T00:00:00Z".parse().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let (sender, mut receiver) = mpsc::channel(100);
        let began = Instant::now();
        Playback { base, speed, mode: Mode::Test }.play(&place, &readings, stopped, sender).await;
        let elapsed = began.elapsed();
        let mut times = Vec::new();
        while let Some(publish) = receiver.recv().await {
            let payload: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
            times.push(payload["at"].as_str().unwrap().to_owned());
        }
        (times, elapsed)
    }

    #[tokio::test(start_paused = true)]
    async fn readings_carry_the_recordings_own_time_at_any_speed() {
        let expected = ["2026-01-01T00:01:40.017Z", "2026-01-01T00:01:41.017Z", "2026-01-01T00:05:00.5Z"];
        let (times, elapsed) = played(None, &[100.017, 101.017, 300.5]).await;
        assert_eq!((times, elapsed), (expected.map(str::to_owned).to_vec(), Duration::ZERO));
        let (times, elapsed) = played(Some(10.0), &[100.017, 101.017, 300.5]).await;
        assert_eq!(times, expected);
        assert!(
            (Duration::from_millis(20_048)..Duration::from_millis(20_051)).contains(&elapsed),
            "{elapsed:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_beyond_the_calendar_does_not_panic() {
        assert_eq!(played(None, &[-1e300, 1e300]).await.0.len(), 2);
    }
}
