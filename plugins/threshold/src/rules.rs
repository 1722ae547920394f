//! The organization's rules, and what is wrong with them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wardline_plugin_api::signal::{COUNT, SIGNALS, Signal};
use wardline_plugin_api::{Onset, Priority, Severity, span, words};

use crate::machine::{Criterion, Side};

/// Readings further apart than this do not show that a limit was violated in between.
const GAP_DEFAULT: Duration = Duration::from_secs(5);

/// The sections of a rules file that are about readings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// `[[limit]]`
    pub limit: Vec<LimitRule>,
    /// `[[absence]]`
    pub absence: Vec<AbsenceRule>,
    /// `[[score]]`
    pub score: Vec<ScoreRule>,
}

/// `[[limit]]`: when a value is a condition.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// Name of the signal.
    pub signal: String,
    /// The condition `{signal}-low` holds while the value is below.
    pub low: Option<f64>,
    /// The condition `{signal}-high` holds while the value is above.
    pub high: Option<f64>,
    /// Only for these patients; left out, for all whose profile has no rule of its own.
    pub profile: Option<Profile>,
    /// What ignoring it would cost.
    pub severity: Severity,
    /// How fast.
    pub onset: Onset,
    /// How long it has to hold without a break before it is a condition.
    #[serde(default, with = "span")]
    pub delay: Duration,
    /// How far inside the limit the value must be for the condition to end; in the signal's unit.
    #[serde(default)]
    pub hysteresis: f64,
    /// Readings further apart than this restart the delay.
    #[serde(default = "gap_default", with = "span")]
    pub gap: Duration,
}

/// `[[absence]]`: when silence is a condition, `{signal}-absent`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbsenceRule {
    /// Name of the signal.
    pub signal: String,
    /// How long after its last good reading.
    #[serde(with = "span")]
    pub after: Duration,
    /// What ignoring it would cost.
    #[serde(default = "absence_severity")]
    pub severity: Severity,
    /// How fast.
    #[serde(default = "absence_onset")]
    pub onset: Onset,
}

/// `[[score]]`: known, and refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreRule {
    /// `news2`
    pub kind: String,
}

const fn gap_default() -> Duration {
    GAP_DEFAULT
}

const fn absence_severity() -> Severity {
    Severity::Reversible
}

const fn absence_onset() -> Onset {
    Onset::Prompt
}

/// Which patients' limits apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Also where nobody said who is in the bed.
    #[default]
    Adult,
    /// Child.
    Paediatric,
    /// Newborn.
    Neonate,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Adult, Self::Paediatric, Self::Neonate];

    /// The word for it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Adult => "adult",
            Self::Paediatric => "paediatric",
            Self::Neonate => "neonate",
        }
    }
}

/// A section of the rules file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `[[limit]]`
    Limit,
    /// `[[absence]]`
    Absence,
    /// `[[score]]`
    Score,
}

/// Something in the rules that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// In which kind of section.
    pub section: Section,
    /// In which of them, from 0.
    pub index: usize,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Rules that were found sound, ready to be looked up by each reading.
#[derive(Clone, Debug)]
pub struct Policy {
    limits: [[[Option<Criterion>; 2]; COUNT]; Profile::ALL.len()],
    absences: [Option<Absence>; COUNT],
    /// Which signals any rule is about.
    watched: [bool; COUNT],
}

/// What [`AbsenceRule`] says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absence {
    pub(crate) after: Duration,
    pub(crate) priority: Priority,
    pub(crate) lethal: bool,
}

impl Policy {
    /// Checks the rules and makes them ready.
    ///
    /// # Errors
    /// Every problem, in the order of the file's sections.
    pub fn new(rules: &Rules) -> Result<Self, Vec<Problem>> {
        let problems = rules.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let limits = [[[None; 2]; COUNT]; Profile::ALL.len()];
        let mut policy = Self { limits, absences: [None; COUNT], watched: [false; COUNT] };
        // Rules for one profile come last, so that they replace those for all.
        let (general, special): (Vec<_>, Vec<_>) =
            rules.limit.iter().partition(|rule| rule.profile.is_none());
        for rule in general.into_iter().chain(special) {
            policy.add(rule);
        }
        for rule in &rules.absence {
            if let Some(place) = Signal::named(&rule.signal).and_then(|s| policy.absences.get_mut(s.index()))
            {
                *place = Some(Absence {
                    after: rule.after,
                    priority: Priority::of(rule.severity, rule.onset),
                    lethal: words::is_lethal(rule.severity, rule.onset),
                });
            }
        }
        policy.watched = SIGNALS.each_ref().map(|signal| policy.has_rule(signal));
        Ok(policy)
    }

    fn add(&mut self, rule: &LimitRule) {
        let Some(signal) = Signal::named(&rule.signal) else { return };
        for (profile, limits) in Profile::ALL.into_iter().zip(&mut self.limits) {
            if rule.profile.is_some_and(|only| only != profile) {
                continue;
            }
            let Some(sides) = limits.get_mut(signal.index()) else { continue };
            for (place, limit) in sides.iter_mut().zip([rule.low, rule.high]) {
                if let Some(limit) = limit {
                    *place = Some(Criterion {
                        limit,
                        hysteresis: rule.hysteresis,
                        delay: rule.delay,
                        gap: rule.gap,
                        priority: Priority::of(rule.severity, rule.onset),
                        lethal: words::is_lethal(rule.severity, rule.onset),
                    });
                }
            }
        }
    }

    /// The organization's limit on one side.
    pub(crate) fn limit(&self, profile: Profile, signal: &Signal, side: Side) -> Option<&Criterion> {
        self.limits.get(profile as usize)?.get(signal.index())?.get(side as usize)?.as_ref()
    }

    /// After how long silence is a condition.
    pub(crate) fn absence(&self, signal: &Signal) -> Option<&Absence> {
        self.absences.get(signal.index())?.as_ref()
    }

    /// Whether any rule is about this signal.
    pub(crate) fn watches(&self, signal: &Signal) -> bool {
        self.watched.get(signal.index()).is_some_and(|watched| *watched)
    }

    fn has_rule(&self, signal: &Signal) -> bool {
        self.absence(signal).is_some()
            || Profile::ALL
                .iter()
                .any(|profile| Side::BOTH.iter().any(|side| self.limit(*profile, signal, *side).is_some()))
    }

    /// Whether there is no rule at all.
    pub(crate) fn is_empty(&self) -> bool {
        !self.watched.contains(&true)
    }
}

impl Rules {
    /// Everything in them that cannot be meant.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, rule) in self.limit.iter().enumerate() {
            let mut say = |message| problems.push(Problem { section: Section::Limit, index, message });
            rule.problems(&mut say);
            self.limit.iter().take(index).for_each(|earlier| rule.conflicts(earlier, &mut say));
        }
        for (index, rule) in self.absence.iter().enumerate() {
            let mut say = |message| problems.push(Problem { section: Section::Absence, index, message });
            if Signal::named(&rule.signal).is_none() {
                say(unknown_signal(&rule.signal));
            }
            if rule.after.is_zero() {
                say("after = 0 would make every moment without a reading an alarm; give it at least \"5s\""
                    .into());
            }
            if self.absence.iter().take(index).any(|earlier| earlier.signal == rule.signal) {
                say(format!("a second absence rule for {}; keep one", rule.signal));
            }
        }
        for (index, rule) in self.score.iter().enumerate() {
            let message = match rule.kind.as_str() {
                "news2" => {
                    "the score news2 is not available in this version of Wardline; remove the section".into()
                }
                other => format!("there is no score {other:?}; remove the section"),
            };
            problems.push(Problem { section: Section::Score, index, message });
        }
        problems
    }
}

impl LimitRule {
    fn problems(&self, say: &mut dyn FnMut(String)) {
        let Some(signal) = Signal::named(&self.signal) else { return say(unknown_signal(&self.signal)) };
        if self.low.is_none() && self.high.is_none() {
            say("a limit needs low, high or both".into());
        }
        for (side, limit) in Side::BOTH.into_iter().zip([self.low, self.high]) {
            if let Some(message) = limit.and_then(|limit| side.implausible(signal, limit)) {
                say(message);
            }
        }
        if !(self.hysteresis.is_finite() && self.hysteresis >= 0.0) {
            say(format!("hysteresis = {} must be 0 or more", self.hysteresis));
        }
        if let (Some(low), Some(high)) = (self.low, self.high) {
            if low >= high {
                say(format!("low = {low} is not below high = {high}; are they swapped?"));
            } else if low + self.hysteresis > high - self.hysteresis {
                say(format!(
                    "hysteresis = {} reaches across from one limit to the other; no value could end both",
                    self.hysteresis
                ));
            }
        }
        if words::is_lethal(self.severity, self.onset) && !self.delay.is_zero() {
            say("a condition that kills at once (severity death, onset immediate) takes no delay; remove delay, or use onset = \"prompt\"".into());
        }
        if self.gap.is_zero() {
            say("gap = 0 would restart the delay with every reading; leave it out for \"5s\"".into());
        }
    }

    fn conflicts(&self, earlier: &Self, say: &mut dyn FnMut(String)) {
        if self.signal != earlier.signal {
            return;
        }
        for (side, mine, other) in [(Side::Low, self.low, earlier.low), (Side::High, self.high, earlier.high)]
        {
            if mine.is_some() && other.is_some() && self.profile == earlier.profile {
                let whom = self.profile.map_or("every profile", Profile::text);
                say(format!("a second {side} limit of {} for {whom}; keep one", self.signal));
            }
        }
        let overlap = self.profile.is_none() || earlier.profile.is_none() || self.profile == earlier.profile;
        for (low, high) in [(self.low, earlier.high), (earlier.low, self.high)] {
            if let (Some(low), Some(high)) = (low, high)
                && overlap
                && low >= high
                && (self.low.is_none() || self.high.is_none())
                && (earlier.low.is_none() || earlier.high.is_none())
            {
                say(format!(
                    "low = {low} is not below high = {high} of an earlier rule for {}; are they swapped?",
                    self.signal
                ));
            }
        }
    }
}

fn unknown_signal(name: &str) -> String {
    let known: Vec<_> = SIGNALS.iter().map(|signal| signal.name).collect();
    format!("there is no signal {name:?}; known are {}", known.join(", "))
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
