//! Deadlines, soonest first.

use std::{cmp::Reverse, collections::BinaryHeap};

use jiff::Timestamp;

use crate::{connection::ConnectionId, session::SessionId};

/// What may have to be done at a deadline. Each is looked at again when it fires, so that nothing is ever cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The client may have been silent for one and a half keep-alives.
    KeepAlive(ConnectionId),
    /// The will's delay may be over.
    Will(SessionId),
    /// The session may have outlived its expiry.
    Expiry(SessionId),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, Timer)>>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Timestamp, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }
}
