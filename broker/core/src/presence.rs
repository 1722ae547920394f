//! How many of a kind each principal has: connections, or sessions.

use std::{collections::HashMap, sync::Arc};

/// A principal who has none takes no room.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    counts: HashMap<Arc<str>, u32>,
}

impl Presence {
    pub(crate) fn of(&self, principal: &str) -> u32 {
        self.counts.get(principal).copied().unwrap_or(0)
    }

    pub(crate) fn begun(&mut self, principal: &Arc<str>) {
        *self.counts.entry(Arc::clone(principal)).or_default() += 1;
    }

    pub(crate) fn ended(&mut self, principal: &str) {
        if let Some(count) = self.counts.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(principal);
            }
        }
    }
}
