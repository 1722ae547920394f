//! From a condition to a person: tiers, receipts, responses.
//!
//! It does not decide that a hazard exists: plugins that do publish conditions
//! (`conditions/{unit}/{bed}/{condition}`), and this one turns each into one alert,
//! `alerts/{unit}/{to}/{priority}/{bed}/{condition}`, whose current state is retained on
//! `alarms/{unit}/{bed}/{condition}`.
//!
//! Invariants
//! - an open alert always has a next deadline, unless a person answered for it, or its priority has no
//!   `[[escalation]]` and a pager confirmed it;
//! - it climbs when nobody answers in time, when nobody is there to receive it, when the pager does not
//!   confirm, when the person rejects. After the last tier it is repeated there, and to every tier while the
//!   last one cannot be reached. Nothing limits how many alerts are open: none is dropped;
//! - a condition of high or medium priority that ends before a pager confirmed it is latched: it goes on
//!   climbing until one has. If it comes back before that, it is another alert when the first is on its way to a
//!   pager, and the same one when nobody could be told;
//! - an answer concerns one alert. Acknowledging or shelving ends with the condition; what begins later is a
//!   new alert;
//! - alerts of different modes, beds and names never touch each other. Of the modes of one condition, the
//!   first of real, demo, test owns the retained topic;
//! - an alert is named after node and offset of the publish that began it, so that the same journal gives the
//!   same names.
//!
//! A priority without `[[escalation]]` has one tier, `nurse`, that does not time out; while no pager confirms
//! it, it is repeated every [`RETRY_EVERY`].

mod open;
mod plugin;
mod response;
mod rules;

pub use open::RETRY_EVERY;
pub use plugin::{Escalation, FINISHED_MAX};
pub use rules::{EscalationRule, Paths, Problem, Rules, TierRule};
