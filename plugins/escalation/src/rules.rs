//! Who is told, in which order, and how long each has to answer.

use std::time::Duration;

use serde::Deserialize;
use wardline_plugin_api::{Priority, span};

/// How long a pager has to confirm before it counts as out of reach.
const CONFIRM_DEFAULT: Duration = Duration::from_secs(5);

/// The sections of a rules file that are about people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// `[[escalation]]`
    pub escalation: Vec<EscalationRule>,
}

/// `[[escalation]]`: the way of one priority.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscalationRule {
    /// Which.
    pub priority: Priority,
    /// From the first to be told to the last.
    pub tiers: Vec<TierRule>,
    /// How long a pager has to confirm receipt before the alert climbs.
    #[serde(default = "confirm_default", with = "span")]
    pub confirm: Duration,
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierRule {
    /// Role, or person as `@n.ito`.
    pub to: String,
    /// How long they have to answer.
    #[serde(with = "span")]
    pub wait: Duration,
}

const fn confirm_default() -> Duration {
    CONFIRM_DEFAULT
}

/// Something in the rules that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// In which `[[escalation]]`, from 0.
    pub index: usize,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Rules that were found sound.
#[derive(Clone, Debug)]
pub struct Paths {
    low: Path,
    medium: Path,
    high: Path,
}

#[derive(Clone, Debug)]
pub(crate) struct Path {
    first: Tier,
    rest: Vec<Tier>,
    pub(crate) confirm: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Tier {
    pub(crate) to: String,
    /// None: they have all the time there is.
    pub(crate) wait: Option<Duration>,
}

impl Paths {
    /// Checks the rules and makes them ready.
    ///
    /// # Errors
    /// Every problem, in the file's order.
    pub fn new(rules: &Rules) -> Result<Self, Vec<Problem>> {
        let problems = rules.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let path = |priority| {
            let rule = rules.escalation.iter().find(|rule| rule.priority == priority);
            rule.and_then(Path::new).unwrap_or_else(Path::unconfigured)
        };
        Ok(Self { low: path(Priority::Low), medium: path(Priority::Medium), high: path(Priority::High) })
    }

    pub(crate) const fn of(&self, priority: Priority) -> &Path {
        match priority {
            Priority::Low => &self.low,
            Priority::Medium => &self.medium,
            Priority::High => &self.high,
        }
    }
}

impl Path {
    fn new(rule: &EscalationRule) -> Option<Self> {
        let mut tiers = rule.tiers.iter().map(|tier| Tier { to: tier.to.clone(), wait: Some(tier.wait) });
        Some(Self { first: tiers.next()?, rest: tiers.collect(), confirm: rule.confirm })
    }

    fn unconfigured() -> Self {
        Self {
            first: Tier { to: "nurse".to_owned(), wait: None },
            rest: Vec::new(),
            confirm: CONFIRM_DEFAULT,
        }
    }

    /// The tier of that place, or the last: rules may have become shorter while an alert stood.
    pub(crate) fn tier(&self, place: usize) -> &Tier {
        place
            .checked_sub(1)
            .map_or(&self.first, |place| self.rest.get(place).or(self.rest.last()).unwrap_or(&self.first))
    }

    /// Place of the last tier, from 0.
    pub(crate) fn last(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn recipients(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.first).chain(&self.rest).map(|tier| tier.to.as_str())
    }
}

impl Rules {
    /// Everything in them that cannot be meant.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, rule) in self.escalation.iter().enumerate() {
            let mut say = |message: String| problems.push(Problem { index, message });
            if self.escalation.iter().take(index).any(|earlier| earlier.priority == rule.priority) {
                say(format!("a second escalation for priority {}; keep one", rule.priority));
            }
            if rule.tiers.is_empty() {
                say("tiers is empty: an alert must go to somebody".into());
            }
            if rule.confirm.is_zero() {
                say("confirm = 0 gives no pager time to confirm; leave it out for \"5s\"".into());
            }
            for (place, tier) in rule.tiers.iter().enumerate() {
                if tier.to.is_empty() || tier.to.contains(['/', '+', '#', '\0']) {
                    say(format!(
                        "to = {:?} cannot be a level of a topic; write a role such as \"nurse\" or a person such as \"@n.ito\"",
                        tier.to
                    ));
                }
                if tier.wait.is_zero() {
                    say(format!("wait of tier {:?} is 0: nobody can answer in no time", tier.to));
                }
                if rule.tiers.iter().take(place).any(|earlier| earlier.to == tier.to) {
                    say(format!("{:?} is in two tiers; the last tier is repeated anyway", tier.to));
                }
            }
        }
        problems
    }
}
