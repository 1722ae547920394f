//! How many connections each principal has.

use std::{collections::HashMap, sync::Arc};

/// Counts connections that have not been parted from their session; a principal without one takes no room.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    connections: HashMap<Arc<str>, u32>,
}

impl Presence {
    pub(crate) fn of(&self, principal: &str) -> u32 {
        self.connections.get(principal).copied().unwrap_or(0)
    }

    pub(crate) fn arrived(&mut self, principal: &Arc<str>) {
        *self.connections.entry(Arc::clone(principal)).or_default() += 1;
    }

    pub(crate) fn left(&mut self, principal: &str) {
        if let Some(count) = self.connections.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(principal);
            }
        }
    }
}
