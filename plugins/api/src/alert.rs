//! What reaches a person, and what the person answers.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Kind, Mode, Phase, Priority, State};

/// Longest time for which an alert can be shelved: long enough for a procedure, short enough to end within
/// the shift.
pub const SHELVE_MAX: Duration = Duration::from_secs(60 * 60);

/// The payload of `alerts/...` and, with the current state, of `alarms/...`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its id, unique in the world: node and journal offset of the condition that began it.
    pub alert: String,
    /// Counts the steps of this alert, from 1.
    pub revision: u32,
    /// The step this message tells of.
    pub phase: Phase,
    /// Where the alert stands after it.
    pub state: State,
    /// How urgent it is.
    pub priority: Priority,
    /// Patient or equipment.
    pub kind: Kind,
    /// Ward.
    pub unit: String,
    /// Bed in it.
    pub bed: String,
    /// Name of the condition.
    pub condition: String,
    /// Signal concerned.
    pub signal: Option<String>,
    /// The signal's MDC code.
    pub mdc: Option<u32>,
    /// The reading that decided it.
    #[serde(serialize_with = "crate::number::serialize")]
    pub value: Option<f64>,
    /// Unit of `value` and `limit`.
    pub ucum: Option<String>,
    /// The limit in force.
    #[serde(serialize_with = "crate::number::serialize")]
    pub limit: Option<f64>,
    /// `policy`, or the principal who set the limit.
    pub limit_by: Option<String>,
    /// The tier it has reached, from 1.
    pub tier: u32,
    /// Role or person (`@n.ito`) told.
    pub to: String,
    /// When the hazard began.
    pub since: Timestamp,
    /// When this step was taken.
    pub at: Timestamp,
    /// When it moves on if nobody answers; none if it does not.
    pub deadline: Option<Timestamp>,
    /// Whose reading it was.
    pub mode: Mode,
    /// A sentence for people. Outside mode `real` it begins with `TEST: ` or `DEMO: `.
    pub text: String,
    /// Topic on which to answer.
    pub respond: String,
    /// Who answered last; left out until somebody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerWord>,
}

impl Alert {
    /// The bytes of its payload.
    pub fn json(&self) -> Vec<u8> {
        crate::json(self)
    }
}

/// The answers of a person (IHE ACM), and shelving (ISA-18.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerWord {
    /// Responsibility accepted.
    Accepted,
    /// Accepted; the alert was true and called for action.
    AcceptedPositive,
    /// Accepted; the alert was true and called for none.
    AcceptedNotRelevant,
    /// Accepted; the alert was not true.
    AcceptedFalse,
    /// Not mine: tell the next.
    Rejected,
    /// The matter is settled.
    Completed,
    /// Put off, for a reason and a time.
    Shelve,
}

/// The payload of `responses/{unit}/{bed}/{alert}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// The answer.
    pub answer: AnswerWord,
    /// How long it is shelved: ISO 8601 or `10m`.
    #[serde(rename = "for")]
    pub span: Option<String>,
    /// Why; required for shelving.
    pub reason: Option<String>,
}
