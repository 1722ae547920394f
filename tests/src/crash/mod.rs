//! The crash test: devices and subscribers under a broker that is killed with SIGKILL again and again, and an account of
//! what they must never see.
//!
//! Everybody behaves as a good client does: sessions last, what is not acknowledged is sent again in order, what comes is
//! acknowledged. Publishers have several publishes under way, at QoS 1 and 2, retained ones among them; subscribers are
//! prompt, slow, mostly away, or share a subscription; one device has patients that alarm, and a pager is told. The broker is
//! killed under load, while it starts, twice in a row, and right after a clean end; PostgreSQL, where it is the audit
//! store, with all its processes.
//!
//! The seed decides what is done when. The machine decides what is under way at that instant, so a seed does not repeat a
//! fault for certain; it repeats the story around it.

mod audit;
mod faults;
mod ledger;
mod link;
mod publisher;
mod retained;
mod stage;
mod story;
mod subscriber;
#[cfg(test)]
mod tests;
mod verdict;

use std::fmt;
use std::time::Duration;

pub use faults::{Fault, Faults};
pub use story::run;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often the broker is killed.
    pub kills: u32,
    /// Decides when, and what everybody does.
    pub seed: u64,
    /// Where the record goes.
    pub store: Store,
    /// The journal's quota; none is more than any run needs. Where it is less, the broker lets telemetry of those who are away
    /// go and says how much: no more than that may be missing.
    pub journal_quota_mib: Option<u32>,
}

/// The audit store of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// A file.
    Sqlite,
    /// A server of the run's own, killed as well.
    Postgres,
}

/// What happened, and what was wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kills of the broker when it served, when it was starting, and of the database.
    pub killed: Killed,
    /// Publishes that were acknowledged.
    pub acknowledged: usize,
    /// Publishes that came to subscribers, repeats included.
    pub delivered: usize,
    /// Different alerts that came to the pager.
    pub alerts: usize,
    /// Publishes that the broker let go, by its own word, because the journal's room was short.
    pub shed: usize,
    /// Rows of the publishes of this run in the audit store.
    pub rows: usize,
    /// From starting the broker to its being ready.
    pub ready_longest: Duration,
    /// Of the whole run.
    pub took: Duration,
    /// What must not be.
    pub faults: Faults,
}

/// Kills.
#[derive(Clone, Copy, Debug, Default)]
pub struct Killed {
    /// Of the broker with clients.
    pub serving: u32,
    /// Of the broker at any instant of its start.
    pub starting: u32,
    /// Of the database.
    pub database: u32,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Killed { serving, starting, database } = self.killed;
        writeln!(f, "{serving:>8}  kills under load, {starting} while starting, {database} of the database")?;
        writeln!(f, "{:>8}  publishes acknowledged", self.acknowledged)?;
        writeln!(f, "{:>8}  deliveries", self.delivered)?;
        writeln!(f, "{:>8}  alerts at the pager", self.alerts)?;
        writeln!(f, "{:>8}  publishes shed for the journal's room", self.shed)?;
        writeln!(f, "{:>8}  audit rows of these publishes", self.rows)?;
        writeln!(
            f,
            "{:>8.2}  seconds to ready, at most; {:.0} in all",
            self.ready_longest.as_secs_f64(),
            self.took.as_secs_f64()
        )?;
        write!(f, "{}", self.faults)
    }
}
