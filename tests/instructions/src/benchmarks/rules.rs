//! A reading held against the limits.

use jiff::{SignedDuration, Timestamp};
use wardline_plugin_api::{
    Input, Message, Onset, Output, Plugin, Severity,
    signal::{SIGNALS, Signal},
};
use wardline_threshold::{AbsenceRule, LimitRule, Policy, Profile, Rules, Threshold};

use super::wire::TOPIC;
use crate::operation::Operation;

/// The signal of [`TOPIC`].
const SIGNAL: &str = "spo2";
/// Within every limit, so that it is no condition: what nearly every reading is.
const VALUE: &[u8] = b"97";
/// Between readings.
const EVERY: SignedDuration = SignedDuration::from_secs(1);

struct Evaluate {
    plugin: Threshold,
    now: Timestamp,
    offset: u64,
    said: Vec<Output>,
}

impl Evaluate {
    fn under(rules: &Rules) -> Self {
        let policy = Policy::new(rules).expect("the rules are sound");
        Self { plugin: Threshold::new(policy), now: Timestamp::UNIX_EPOCH, offset: 0, said: Vec::new() }
    }

    /// As the host does with each publish that interests the plugin.
    fn publish(&mut self, topic: &str, payload: &[u8], principal: &str) -> bool {
        let message = Message { node: 1, offset: self.offset, topic, payload, principal };
        let admitted = self.plugin.admit(&message).is_ok();
        self.plugin.handle(Input::Message(message), self.now, &mut self.said);
        admitted
    }
}

fn limit(signal: &Signal, low: Option<f64>, high: Option<f64>, profile: Option<Profile>) -> LimitRule {
    LimitRule {
        signal: signal.name.to_owned(),
        low,
        high,
        profile,
        severity: Severity::Reversible,
        onset: Onset::Prompt,
        delay: std::time::Duration::from_secs(10),
        hysteresis: 0.0,
        gap: std::time::Duration::from_secs(5),
    }
}

fn absence(signal: &Signal) -> AbsenceRule {
    AbsenceRule {
        signal: signal.name.to_owned(),
        after: std::time::Duration::from_secs(30),
        severity: Severity::Reversible,
        onset: Onset::Prompt,
    }
}

/// Each rule that can be: for every signal, profile and side one, and for every signal's absence.
fn every() -> Rules {
    let mut rules = Rules::default();
    for signal in &SIGNALS {
        for profile in Profile::ALL {
            rules.limit.push(limit(signal, Some(*signal.low.start()), None, Some(profile)));
            rules.limit.push(limit(signal, None, Some(*signal.high.end()), Some(profile)));
        }
        rules.absence.push(absence(signal));
    }
    rules
}

/// Under the one rule that concerns the reading.
pub(super) fn one() -> Box<dyn Operation> {
    let spo2 = Signal::named(SIGNAL).expect("the signal is known");
    let rule = limit(spo2, Some(*spo2.low.start()), None, None);
    Box::new(Evaluate::under(&Rules { limit: vec![rule], ..Rules::default() }))
}

/// Under all rules that there can be, with limits of their own for so many patients.
pub(super) fn all(patients: usize) -> Box<dyn Operation> {
    let mut evaluate = Evaluate::under(&every());
    for patient in 0..patients {
        let (topic, reading) = (
            format!("limits/icu-0/b{patient}/{SIGNAL}"),
            format!("telemetry/icu-0/b{patient}/mon-1/{SIGNAL}"),
        );
        assert!(evaluate.publish(&topic, br#"{"low":85}"#, "staff:7"), "the limit was refused");
        assert!(evaluate.publish(&reading, VALUE, "device:mon-1"), "the reading was refused");
    }
    evaluate.said.clear();
    Box::new(evaluate)
}

impl Operation for Evaluate {
    fn run(&mut self) -> usize {
        usize::from(self.publish(TOPIC, VALUE, "device:mon-12"))
    }

    fn restore(&mut self) {
        assert!(self.said.is_empty(), "a good reading is no condition");
        self.now = self.now.checked_add(EVERY).expect("minutes from the epoch are in range");
        self.offset += 1;
    }
}
