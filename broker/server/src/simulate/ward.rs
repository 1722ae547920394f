//! A bed: a simulated patient, and the monitor that measures at its pace.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use wardline_plugin_api::{Mode, signal::Signal};

use super::{
    model::{Course, Patient},
    reading::{Outgoing, Place},
};

/// How time passes on the ward.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two measurements of a monitor, in the patient's time; not zero.
    pub step: Duration,
    /// The patient's seconds in one of ours; above 0.
    pub speed: f64,
    /// The patient's time of the first measurement.
    pub start: Timestamp,
    /// What the readings are marked as.
    pub mode: Mode,
}

/// Measures `patient` until `stop` is true or nobody takes the readings any more. A monitor that was held up catches up.
pub async fn measure(
    place: Place,
    mut patient: Patient,
    pace: Pace,
    course: watch::Receiver<Course>,
    mut stop: watch::Receiver<bool>,
    publishes: mpsc::Sender<Outgoing>,
) {
    let began = Instant::now();
    let mut lived = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            // A controller that has gone without a word stops the ward, too.
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep_until(began + lived.div_f64(pace.speed)) => {}
        }
        patient.set_course(*course.borrow());
        let elapsed = SignedDuration::try_from(lived).unwrap_or(SignedDuration::MAX);
        let at = pace.start.saturating_add(elapsed).unwrap_or(Timestamp::MAX);
        for vital in patient.advance(pace.step) {
            let Some(signal) = Signal::named(vital.signal) else { continue };
            if publishes.send(place.reading(signal, vital.value, at, pace.mode)).await.is_err() {
                return;
            }
        }
        lived += pace.step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_monitor_measures_at_its_pace_in_the_patients_time() {
        let place = Place { unit: "icu-3".into(), bed: "b2".into(), device: "mon-2".into() };
        let start: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let pace = Pace { step: Duration::from_millis(500), speed: 10.0, start, mode: Mode::Test };
        let (_course, course) = watch::channel(Course::default());
        let (stop, stopped) = watch::channel(false);
        let (sender, mut receiver) = mpsc::channel(1000);
        let began = Instant::now();
        let monitor = tokio::spawn(measure(place, Patient::new(1), pace, course, stopped, sender));
        let mut times = Vec::new();
        while times.len() < 5 {
            let publish = receiver.recv().await.unwrap();
            if publish.topic.ends_with("/spo2") {
                let payload: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
                times.push(payload["at"].as_str().unwrap().to_owned());
            }
        }
        let expected = ["00", "00.5", "01", "01.5", "02"].map(|second| format!("2026-11-21T08:00:{second}Z"));
        assert_eq!(times, expected);
        assert_eq!(began.elapsed(), Duration::from_millis(200), "ten times faster than life");
        stop.send_replace(true);
        monitor.await.unwrap();
    }

    #[test]
    fn the_model_speaks_of_known_signals_only() {
        let vitals = Patient::new(1).advance(Duration::from_secs(1));
        assert!(vitals.iter().all(|vital| Signal::named(vital.signal).is_some()), "{vitals:?}");
    }
}
