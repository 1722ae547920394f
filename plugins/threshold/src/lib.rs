//! Limits, delays, hysteresis and absence: from readings to alarm conditions.
//!
//! It is not the one who tells anybody: it publishes conditions (`conditions/{unit}/{bed}/{condition}`), and
//! escalation finds the person. It knows no sockets and no clock.
//!
//! Invariants
//! - a condition belongs to one mode, one bed and one name; readings of one mode or bed never move another's;
//! - for mode `real` only the broker's time counts. A device's clock decides nothing. In `test` and `demo`
//!   the reading's own `at` counts for limits, so that a recording can be played faster than life; absence is
//!   always of the broker's time;
//! - missing data is not recovery: a gap restarts a delay that is running, and never ends a condition that
//!   stands;
//! - a condition that began on one device does not end because another device of the bed reads well,
//!   and each device's silence is a condition although another one speaks;
//! - a value that is not a reading moves no limit: it is a technical condition, `{signal}-invalid`, low, or
//!   `device-data` where not even the signal can be told. It begins at once, at most every [`INVALID_EVERY`],
//!   and ends with the next good reading;
//! - memory is bounded: [`BEDS_MAX`] beds, [`STREAMS_PER_BED_MAX`] streams each.

mod admission;
mod bed;
mod condition;
mod limits;
mod machine;
mod plugin;
mod rules;
mod topics;

pub use bed::{INVALID_EVERY, STREAMS_PER_BED_MAX};
pub use plugin::{BEDS_MAX, Threshold};
pub use rules::{AbsenceRule, LimitRule, Policy, Problem, Profile, Rules, ScoreRule, Section};
