//! What happens on the ward, and whether all of it did.
//!
//! A pure state machine: pages and time in, things to do and lines to tell out. The ward, the pagers and the clock are
//! its driver's.

use std::time::Duration;

use wardline_plugin_api::{Phase, State};

use crate::simulate::pager::Page;

/// The bed whose patient deteriorates.
pub const BED: u32 = 2;

/// What is expected to be raised there.
const CONDITION: &str = "spo2-low";

/// The ward is calm for this long first.
const CALM: Duration = Duration::from_secs(2);

/// The charge nurse takes this long from the page to the answer.
const CONSIDERATION: Duration = Duration::from_millis(1500);

/// The whole story takes this long, with some room for a slow machine.
pub const LENGTH: Duration = Duration::from_secs(25);

/// Who holds a pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Paged first; does not answer in this story.
    Nurse,
    /// Paged when the nurse does not answer; accepts.
    Charge,
}

/// The steps, in the order in which they must happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing yet.
    Calm,
    /// The patient's saturation falls.
    Deteriorating,
    /// The nurse's pager has the alert.
    NursePaged,
    /// The charge nurse's pager has it.
    ChargePaged,
    /// The charge nurse's answer was taken, and the patient gets oxygen.
    Accepted,
    /// Both pagers were told that it is over.
    Over,
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Let the patient deteriorate.
    Deteriorate,
    /// Let the charge nurse accept this page, and then the patient recover.
    Accept(Box<Page>),
}

/// Where the story stands.
#[derive(Debug)]
pub struct Story {
    step: Step,
    /// The alert that the story is about, once it was raised.
    alert: Option<String>,
    nurse_told_end: bool,
    charge_told_end: bool,
    /// What to do, and when, counted from the beginning of the story.
    next: Option<(Duration, Act)>,
}

impl Story {
    /// At its beginning.
    pub fn new() -> Self {
        Self {
            step: Step::Calm,
            alert: None,
            nurse_told_end: false,
            charge_told_end: false,
            next: Some((CALM, Act::Deteriorate)),
        }
    }

    /// When there is something to do next.
    pub fn due(&self) -> Option<Duration> {
        self.next.as_ref().map(|(due, _)| *due)
    }

    /// What is due, to be done now.
    pub fn act(&mut self) -> Option<Act> {
        self.next.take().map(|(_, act)| act)
    }

    /// The patient began to deteriorate.
    pub fn deteriorating(&mut self) {
        self.step = Step::Deteriorating;
    }

    /// The charge nurse's answer was taken.
    pub fn accepted(&mut self) {
        self.step = Step::Accepted;
    }

    /// A pager received something at `now`, counted from the beginning. The step that this completes, if it does.
    pub fn page(&mut self, holder: Holder, page: &Page, now: Duration) -> Option<Step> {
        let alert = &page.alert;
        let mine = alert.bed == bed(BED) && alert.condition == CONDITION;
        match (self.step, holder, alert.phase) {
            (Step::Deteriorating, Holder::Nurse, Phase::Start) if mine => {
                self.alert = Some(alert.alert.clone());
                self.advance(Step::NursePaged)
            }
            (Step::NursePaged, Holder::Charge, Phase::Escalate) if self.is_about(page) => {
                self.next = Some((now + CONSIDERATION, Act::Accept(Box::new(page.clone()))));
                self.advance(Step::ChargePaged)
            }
            (Step::Accepted, _, Phase::End) if self.is_about(page) && alert.state == State::Inactive => {
                match holder {
                    Holder::Nurse => self.nurse_told_end = true,
                    Holder::Charge => self.charge_told_end = true,
                }
                (self.nurse_told_end && self.charge_told_end).then(|| self.advance(Step::Over))?
            }
            _ => None,
        }
    }

    /// What has not happened, for people; empty when all has.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = [
            (Step::Deteriorating, "the patient in b2 did not deteriorate"),
            (Step::NursePaged, "the alert did not reach the nurse's pager"),
            (Step::ChargePaged, "the alert did not climb to the charge nurse's pager"),
            (Step::Accepted, "the charge nurse's answer was not taken"),
            (Step::Over, "the pagers were not told that the alert is over"),
        ];
        all.into_iter().filter(|(step, _)| *step > self.step).map(|(_, missing)| missing).collect()
    }

    /// Whether this page is about the alert that the story is about.
    pub fn is_about(&self, page: &Page) -> bool {
        self.alert.as_deref() == Some(page.alert.alert.as_str())
    }

    fn advance(&mut self, step: Step) -> Option<Step> {
        self.step = step;
        Some(step)
    }
}

impl Default for Story {
    fn default() -> Self {
        Self::new()
    }
}

/// A bed's name.
pub fn bed(number: u32) -> String {
    format!("b{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(alert: &str, phase: &str, state: &str) -> Page {
        let json = serde_json::json!({
            "alert": alert, "revision": 1, "phase": phase, "state": state, "priority": "high",
            "kind": "physiological", "unit": "icu-3", "bed": "b2", "condition": "spo2-low", "signal": "spo2",
            "mdc": 150456, "value": 84, "ucum": "%", "limit": 90, "limit_by": "policy", "tier": 1, "to": "nurse",
            "since": "2026-11-21T08:00:00Z", "at": "2026-11-21T08:00:02Z", "deadline": null, "mode": "demo",
            "text": "DEMO: SpO2 84 % below 90 %", "respond": "responses/icu-3/b2/n1-7",
        });
        Page {
            alert: serde_json::from_value(json).unwrap(),
            topic: "alerts/icu-3/nurse/high/b2/spo2-low".into(),
            respond: "responses/icu-3/b2/n1-7".into(),
            received_at: "2026-11-21T08:00:02Z".parse().unwrap(),
        }
    }

    #[test]
    fn told_in_its_order_the_story_is_complete() {
        let mut story = Story::new();
        assert_eq!(story.due(), Some(CALM));
        assert_eq!(story.act(), Some(Act::Deteriorate));
        story.deteriorating();
        let now = Duration::from_secs(8);
        assert_eq!(story.page(Holder::Nurse, &page("n1-7", "start", "active"), now), Some(Step::NursePaged));
        assert_eq!(story.due(), None);
        let climbed = page("n1-7", "escalate", "active");
        assert_eq!(story.page(Holder::Charge, &climbed, now), Some(Step::ChargePaged));
        assert_eq!(story.due(), Some(now + CONSIDERATION));
        assert_eq!(story.act(), Some(Act::Accept(Box::new(climbed))));
        story.accepted();
        assert_eq!(story.missing(), ["the pagers were not told that the alert is over"]);
        assert_eq!(story.page(Holder::Nurse, &page("n1-7", "end", "inactive"), now), None);
        assert_eq!(
            story.page(Holder::Nurse, &page("n1-7", "end", "inactive"), now),
            None,
            "the same pager again"
        );
        assert_eq!(story.page(Holder::Charge, &page("n1-7", "end", "inactive"), now), Some(Step::Over));
        assert!(story.missing().is_empty());
    }

    #[test]
    fn an_alert_of_an_earlier_run_or_another_bed_is_not_this_story() {
        let mut story = Story::new();
        let now = Duration::ZERO;
        assert_eq!(story.page(Holder::Nurse, &page("n1-1", "start", "active"), now), None, "before it began");
        story.deteriorating();
        let mut other = page("n1-2", "start", "active");
        other.alert.bed = "b3".into();
        assert_eq!(story.page(Holder::Nurse, &other, now), None);
        assert_eq!(story.page(Holder::Charge, &page("n1-1", "escalate", "active"), now), None);
        story.page(Holder::Nurse, &page("n1-7", "start", "active"), now);
        assert_eq!(story.page(Holder::Charge, &page("n1-1", "escalate", "active"), now), None);
        assert_eq!(story.missing().len(), 3);
    }
}
