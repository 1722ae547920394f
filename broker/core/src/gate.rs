//! The question the core asks before anything takes effect. The answer is somebody else's.

use std::sync::Arc;

use wardline_wire::{Publish, ReasonCode};

/// Why something is refused: the code for the client and the sentence for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// 0x80 or above.
    pub reason: ReasonCode,
    /// For people; also the audit row's reason.
    pub text: String,
}

/// Decides on behalf of one connection.
pub trait Gate {
    /// May `client` publish this? The topic is resolved, the payload whole.
    fn publish(&mut self, client: &Arc<str>, publish: &Publish) -> Result<(), Denial>;
    /// May `client` subscribe this filter, shared or not?
    fn subscribe(&mut self, client: &Arc<str>, filter: &str) -> Result<(), Denial>;
}

/// Lets everything pass. For tests and benchmarks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Gate for Open {
    fn publish(&mut self, _client: &Arc<str>, _publish: &Publish) -> Result<(), Denial> {
        Ok(())
    }

    fn subscribe(&mut self, _client: &Arc<str>, _filter: &str) -> Result<(), Denial> {
        Ok(())
    }
}
