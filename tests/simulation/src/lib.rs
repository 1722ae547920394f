//! Core and journal on a disk and a network that fail, with a model that knows what must come of it.
//!
//! A seed decides everything: who the clients are, what they do, when bytes arrive, when connections are cut, when the
//! process or the power goes, what the disk keeps. So a seed that fails is a test: `tests/simulate 1 SEED` repeats it.
//!
//! Promised, and asserted all the way and in the end:
//! - every acknowledged publish is in the journal, and reaches every durable subscriber whose subscription was acknowledged
//!   before it was sent: at least once, exactly once at QoS 2 on both ways, in order for each publisher and topic;
//! - a shared subscription takes each of them for one of its members;
//! - the will of a client whose CONNACK was heard and whose connection was lost is published, once;
//! - retained is the last accepted, after every recovery;
//! - nothing arrives that was denied or never sent;
//! - a reader that follows the journal sees accepted and denied once each, at dense offsets, and never what is gone later;
//! - a session that was acknowledged anything is there after every crash.

mod brief;
mod client;
mod history;
mod model;
mod network;
mod node;
mod probe;
mod snapshots;
mod world;

pub use world::{Report, Summary, run, trace};

/// What was promised and is not so, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Ends a seed with a violation unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::Violation(format!($($text)+)));
        }
    };
}
pub(crate) use ensure;
