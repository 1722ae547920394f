//! What the clients know of the run: where the broker is, and what is asked of them.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How soon a client that was turned away tries again.
const RETRY: Duration = Duration::from_millis(5);

/// Shared by the one who kills and the clients.
#[derive(Debug)]
pub(super) struct Stage {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct State {
    broker: Option<SocketAddr>,
    act: Act,
}

/// What is asked of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Publish, read, come and go.
    Load,
    /// Publish nothing new; get acknowledged what is not, and read all that comes.
    Settle,
    /// Go.
    Over,
}

impl Stage {
    /// No broker yet.
    pub(super) const fn new() -> Self {
        let state = State { broker: None, act: Act::Load };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The broker is there now, or is not.
    pub(super) fn set_broker(&self, broker: Option<SocketAddr>) {
        self.lock().broker = broker;
        self.changed.notify_all();
    }

    /// Something else is asked.
    pub(super) fn set_act(&self, act: Act) {
        self.lock().act = act;
        self.changed.notify_all();
    }

    /// What is asked now.
    pub(super) fn act(&self) -> Act {
        self.lock().act
    }

    /// Waits for a broker; `None` once all is over.
    pub(super) fn broker(&self) -> Option<SocketAddr> {
        let mut state = self.lock();
        loop {
            match *state {
                State { act: Act::Over, .. } => return None,
                State { broker: Some(address), .. } => return Some(address),
                State { broker: None, .. } => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Rests after a connection that could not be made.
    pub(super) fn rest(&self) {
        self.stay_away(RETRY);
    }

    /// Stays away for so long; ends early when something else is asked.
    pub(super) fn stay_away(&self, time: Duration) {
        let state = self.lock();
        let act = state.act;
        let waited = self.changed.wait_timeout_while(state, time, |state| state.act == act);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
