//! A patient's vital signs: pure, seeded, the same for the same steps.
//!
//! Each sign wanders around the patient's own baseline, and is pulled back to it. On top lies the course: a patient told to
//! deteriorate loses oxygen saturation while heart and respiration race, and regains it when told to recover.

use std::time::Duration;

/// Points of SpO2 lost at the bottom of a deterioration.
const SPO2_LOSS: f64 = 15.0;
/// Heart beats a minute added there.
const HR_GAIN: f64 = 28.0;
/// Breaths a minute added there.
const RR_GAIN: f64 = 9.0;
/// From the first falling breath to the bottom.
const FALL: Duration = Duration::from_secs(8);
/// From the bottom back to the baseline.
const RISE: Duration = Duration::from_secs(6);
/// A cuff inflates this often.
const NBP_INTERVAL: Duration = Duration::from_secs(300);
/// A thermometer reports this often.
const TEMP_INTERVAL: Duration = Duration::from_secs(60);

/// One value of one signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vital {
    /// As in topics: `spo2`.
    pub signal: &'static str,
    /// In the signal's unit, rounded as a monitor shows it.
    pub value: f64,
}

/// Where a patient is heading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Course {
    /// At, or back to, the baseline.
    #[default]
    Recovering,
    /// Down to a SpO2 in the low eighties, and staying there.
    Deteriorating,
}

/// One simulated adult.
#[derive(Clone, Debug)]
pub struct Patient {
    random: Random,
    hr: Wander,
    spo2: Wander,
    rr: Wander,
    nbp_sys: Wander,
    temp: Wander,
    course: Course,
    /// 0 at the baseline, 1 at the bottom of the deterioration.
    distress: f64,
    /// Since the cuff's last reading, and the thermometer's; none before the first.
    since_nbp: Option<Duration>,
    since_temp: Option<Duration>,
}

impl Patient {
    /// A patient whose baseline and every later step follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut around = |center: f64, spread: f64, agitation: f64| {
            Wander::new(center + spread * (2.0 * random.unit() - 1.0), agitation)
        };
        Self {
            hr: around(76.0, 6.0, 1.2),
            spo2: around(97.3, 0.5, 0.2),
            rr: around(15.0, 1.5, 0.4),
            nbp_sys: around(122.0, 8.0, 1.0),
            temp: around(36.9, 0.2, 0.01),
            random,
            course: Course::default(),
            distress: 0.0,
            since_nbp: None,
            since_temp: None,
        }
    }

    /// From the next step on.
    pub fn set_course(&mut self, course: Course) {
        self.course = course;
    }

    /// Lives for `step`, and reports what the monitors would then show: heart rate, saturation and respiration each time,
    /// cuff pressures and temperature when they are due.
    pub fn advance(&mut self, step: Duration) -> Vec<Vital> {
        let change = match self.course {
            Course::Recovering => -step.as_secs_f64() / RISE.as_secs_f64(),
            Course::Deteriorating => step.as_secs_f64() / FALL.as_secs_f64(),
        };
        self.distress = (self.distress + change).clamp(0.0, 1.0);

        let hr = self.hr.advance(step, &mut self.random) + HR_GAIN * self.distress;
        let spo2 = self.spo2.advance(step, &mut self.random) - SPO2_LOSS * self.distress;
        let rr = self.rr.advance(step, &mut self.random) + RR_GAIN * self.distress;
        let nbp_sys = self.nbp_sys.advance(step, &mut self.random);
        let temp = self.temp.advance(step, &mut self.random);

        let mut vitals = vec![
            Vital { signal: "hr", value: hr.round() },
            Vital { signal: "spo2", value: spo2.min(100.0).round() },
            Vital { signal: "rr", value: rr.round() },
        ];
        if is_due(&mut self.since_nbp, step, NBP_INTERVAL) {
            let nbp_dia = nbp_sys * 0.63;
            let nbp_mean = nbp_dia + (nbp_sys - nbp_dia) / 3.0;
            vitals.extend([
                Vital { signal: "nbp-sys", value: nbp_sys.round() },
                Vital { signal: "nbp-dia", value: nbp_dia.round() },
                Vital { signal: "nbp-mean", value: nbp_mean.round() },
            ]);
        }
        if is_due(&mut self.since_temp, step, TEMP_INTERVAL) {
            vitals.push(Vital { signal: "temp", value: (temp * 10.0).round() / 10.0 });
        }
        vitals
    }
}

/// Whether an instrument reports after this step; it does at the first one.
fn is_due(since: &mut Option<Duration>, step: Duration, interval: Duration) -> bool {
    let waited = since.map_or(interval, |since| since + step);
    let due = waited >= interval;
    *since = Some(if due { waited - interval } else { waited });
    due
}

/// A value that wanders and is pulled back to its center (an Ornstein-Uhlenbeck process).
#[derive(Clone, Debug)]
struct Wander {
    center: f64,
    /// Per square root of a second.
    agitation: f64,
    value: f64,
}

impl Wander {
    /// Share of the distance to the center that is regained in a second.
    const PULL: f64 = 0.3;
    /// Longest step of the integration: beyond it the pull would overshoot.
    const STEP_MAX_S: f64 = 1.0;

    fn new(center: f64, agitation: f64) -> Self {
        Self { center, agitation, value: center }
    }

    fn advance(&mut self, step: Duration, random: &mut Random) -> f64 {
        let seconds = step.as_secs_f64().min(Self::STEP_MAX_S);
        self.value += Self::PULL * (self.center - self.value) * seconds;
        self.value += self.agitation * seconds.sqrt() * random.normal();
        self.value
    }
}

/// SplitMix64: small, fast, good enough for noise, and ours, so that a seed means the same patient for ever.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean 0, variance 1, never beyond 6: the sum of twelve uniform numbers is normal enough for noise.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn value(vitals: &[Vital], signal: &str) -> f64 {
        vitals.iter().find(|vital| vital.signal == signal).unwrap().value
    }

    #[test]
    fn a_seed_is_a_patient() {
        let live = |seed| {
            let mut patient = Patient::new(seed);
            (0..600).flat_map(|_| patient.advance(SECOND)).collect::<Vec<_>>()
        };
        assert_eq!(live(7), live(7));
        assert_ne!(live(7), live(8));
    }

    #[test]
    fn a_stable_patient_stays_within_usual_limits_for_a_day() {
        for seed in 0..8 {
            let mut patient = Patient::new(seed);
            for second in 0..86_400 {
                let vitals = patient.advance(SECOND);
                for (signal, low, high) in [("hr", 50.0, 120.0), ("spo2", 93.0, 100.0), ("rr", 8.0, 30.0)] {
                    let value = value(&vitals, signal);
                    assert!((low..=high).contains(&value), "seed {seed}, second {second}: {signal} {value}");
                }
            }
        }
    }

    #[test]
    fn saturation_falls_stays_down_and_comes_back() {
        for seed in 0..32 {
            let mut patient = Patient::new(seed);
            patient.advance(SECOND);
            patient.set_course(Course::Deteriorating);
            let falling: Vec<f64> = (0..30).map(|_| value(&patient.advance(SECOND), "spo2")).collect();
            assert!(falling[8..].iter().all(|spo2| (78.0..=86.0).contains(spo2)), "{falling:?}");
            patient.set_course(Course::Recovering);
            let rising: Vec<f64> = (0..30).map(|_| value(&patient.advance(SECOND), "spo2")).collect();
            assert!(rising[6..].iter().all(|spo2| *spo2 >= 94.0), "{rising:?}");
        }
    }

    #[test]
    fn cuff_and_thermometer_report_at_once_and_then_at_their_own_pace() {
        let mut patient = Patient::new(1);
        let steps: Vec<_> = (0..601).map(|_| patient.advance(SECOND)).collect();
        let times = |signal| {
            let has = |vitals: &Vec<Vital>| vitals.iter().any(|vital| vital.signal == signal);
            steps
                .iter()
                .enumerate()
                .filter(|(_, vitals)| has(vitals))
                .map(|(second, _)| second)
                .collect::<Vec<_>>()
        };
        assert_eq!(times("nbp-mean"), [0, 300, 600]);
        assert_eq!(times("temp"), [0, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600]);
    }
}
