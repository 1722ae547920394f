//! What one plugin tells another: an alarm condition begins, changes or ends.
//!
//! Published on `conditions/{unit}/{bed}/{condition}`, QoS 1, not retained. Whoever decides that a hazard
//! exists (limits, absence, a score) publishes here; escalation turns it into alerts. Only plugins may
//! publish it. A condition is identified by mode, unit, bed and name; an `end` for one that nobody began is
//! harmless, and a second `begin` says that it still stands.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Kind, Mode, Output, Priority};

/// First level of the topics of conditions.
pub const TOPIC_ROOT: &str = "conditions";

/// Which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The hazard exists.
    Begin,
    /// It still exists; its limit or priority is another.
    Update,
    /// It is gone.
    End,
}

/// An alarm condition at one bed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Ward.
    pub unit: String,
    /// Bed in it.
    pub bed: String,
    /// Its name: `spo2-low`, `hr-absent`, ….
    pub condition: String,
    /// Signal concerned.
    pub signal: Option<String>,
    /// The signal's MDC code.
    pub mdc: Option<u32>,
    /// What happened to it.
    pub phase: Change,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether ignoring it kills at once: then it cannot be shelved.
    #[serde(default)]
    pub lethal: bool,
    /// Patient or equipment.
    pub kind: Kind,
    /// The reading that decided it, in `ucum`.
    #[serde(serialize_with = "crate::number::serialize")]
    pub value: Option<f64>,
    /// Unit of `value` and `limit`.
    pub ucum: Option<String>,
    /// The limit in force.
    #[serde(serialize_with = "crate::number::serialize")]
    pub limit: Option<f64>,
    /// `policy`, or the principal who set it for this patient.
    pub limit_by: Option<String>,
    /// When the hazard began, before any delay.
    pub since: Timestamp,
    /// When this was decided.
    pub at: Timestamp,
    /// Whose reading it was.
    pub mode: Mode,
    /// A sentence for people, without the mode.
    pub text: String,
    /// Journal offset of the reading that decided it; none if time did.
    pub offset: Option<u64>,
    /// The device that sent it.
    pub device: Option<String>,
}

impl Condition {
    /// The publish that tells of it.
    pub fn publish(&self) -> Output {
        Output {
            topic: format!("{TOPIC_ROOT}/{}/{}/{}", self.unit, self.bed, self.condition),
            payload: crate::json(self),
            qos: 1,
            content_type: Some(crate::JSON),
            ..Output::default()
        }
    }
}
