//! One limit of one signal of one patient: when it becomes a condition, and when it ends.
//!
//! The rule, for a low limit (a high one is its mirror image): violated while value < limit. A condition once
//! it has been violated without a break for the delay, counted from its first reading. Over at the first
//! value >= limit + hysteresis. No reading is no break, but readings further apart than the gap restart the
//! delay.
//!
//! A device that measures more rarely than the gap would so restart its delay for ever. Therefore
//! [`SPARSE_READINGS`] violating readings in a row, each further than the gap from the one before, count as
//! held throughout.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wardline_plugin_api::Priority;
use wardline_plugin_api::signal::Signal;
use wardline_plugin_api::span::between;

/// So many violating readings in a row, each beyond the gap, are a slow device and not an interrupted one.
const SPARSE_READINGS: u32 = 3;

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Low = 0,
    High = 1,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Low, Self::High];

    /// Why a limit cannot be meant, if it cannot.
    pub(crate) fn implausible(self, signal: &Signal, limit: f64) -> Option<String> {
        let range = match self {
            Self::Low => &signal.low,
            Self::High => &signal.high,
        };
        (!range.contains(&limit)).then(|| {
            format!(
                "{self} = {limit} is not plausible for {}: a {self} limit is from {} to {} {}",
                signal.name,
                range.start(),
                range.end(),
                signal.ucum
            )
        })
    }

    fn violates(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Low => value < limit,
            Self::High => value > limit,
        }
    }

    fn recovers(self, value: f64, limit: f64, hysteresis: f64) -> bool {
        match self {
            Self::Low => value >= limit + hysteresis,
            Self::High => value <= limit - hysteresis,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::High => "high",
        })
    }
}

/// A limit with everything that belongs to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Criterion {
    pub(crate) limit: f64,
    pub(crate) hysteresis: f64,
    pub(crate) delay: Duration,
    pub(crate) gap: Duration,
    pub(crate) priority: Priority,
    pub(crate) lethal: bool,
}

/// Where one limit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Machine {
    /// Not violated.
    #[default]
    Normal,
    /// Violated, not yet for the delay.
    Pending {
        /// What the delay counts from.
        since: Timestamp,
        /// First of the violating readings before any gap.
        first: Timestamp,
        /// Readings in a row, each beyond the gap from the one before.
        sparse: u32,
    },
    /// A condition.
    Active {
        /// First violating reading.
        since: Timestamp,
        /// The limit last told of.
        limit: f64,
    },
}

/// What a reading did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Turn {
    Begin {
        since: Timestamp,
    },
    /// It stands, under another limit.
    Relimit {
        since: Timestamp,
    },
    End {
        since: Timestamp,
    },
}

impl Machine {
    /// Takes a reading. `before` is the time of the one before it, if there was one.
    pub(crate) fn sample(
        &mut self,
        side: Side,
        criterion: Option<&Criterion>,
        value: f64,
        at: Timestamp,
        before: Option<Timestamp>,
    ) -> Option<Turn> {
        let Some(criterion) = criterion else { return self.switch_off() };
        let &Criterion { limit, hysteresis, delay, gap, .. } = criterion;
        if let Self::Active { since, limit: told } = *self {
            if side.recovers(value, limit, hysteresis) {
                *self = Self::Normal;
                return Some(Turn::End { since });
            }
            if told == limit {
                return None;
            }
            *self = Self::Active { since, limit };
            return Some(Turn::Relimit { since });
        }
        if !side.violates(value, limit) {
            *self = Self::Normal;
            return None;
        }
        let fresh = Self::Pending { since: at, first: at, sparse: 1 };
        *self = match (*self, before) {
            // A recording that starts over.
            (Self::Pending { .. }, Some(before)) if at < before => fresh,
            (Self::Pending { first, sparse, .. }, Some(before)) if between(before, at) > gap => {
                Self::Pending { since: at, first, sparse: sparse.saturating_add(1) }
            }
            (Self::Pending { since, .. }, _) => Self::Pending { since, first: since, sparse: 1 },
            _ => fresh,
        };
        if let Self::Pending { since, first, sparse } = *self {
            let since = if sparse >= SPARSE_READINGS { first } else { since };
            if between(since, at) >= delay {
                *self = Self::Active { since, limit };
                return Some(Turn::Begin { since });
            }
        }
        None
    }

    /// There is no limit any more.
    pub(crate) fn switch_off(&mut self) -> Option<Turn> {
        match std::mem::take(self) {
            Self::Active { since, .. } => Some(Turn::End { since }),
            Self::Normal | Self::Pending { .. } => None,
        }
    }

    /// Forgets a delay that is running.
    pub(crate) fn restart(&mut self) {
        if matches!(self, Self::Pending { .. }) {
            *self = Self::Normal;
        }
    }

    pub(crate) const fn is_active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }
}
