//! What a running node says of itself when it is asked: the answer of `GET /status`, and of `wardline status`.

use std::fmt::{self, Display};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wardline_journal::{Log, Offset};

use crate::{alarms::Alarm, audited::Audited, node::Node, snapshots::Kept};

/// Where what the node runs stands in topics: an open alert is a retained message there.
const ALERTS_OPEN: &str = "alarms/#";

/// A node, as it is at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its number.
    pub node: u16,
    /// Of Wardline.
    pub version: String,
    /// When this was said.
    pub at: Timestamp,
    /// Whether it is on its way out.
    pub stopping: bool,
    /// Why nothing is acknowledged any more; the process is about to end.
    pub failure: Option<String>,
    /// Who is there.
    pub sessions: Sessions,
    /// What waits for them.
    pub lanes: Lanes,
    /// The journal.
    pub journal: JournalStatus,
    /// The audit store.
    pub audit: AuditStatus,
    /// Patients' alarms that are not over.
    pub alerts_open: usize,
    /// What is wrong with the node itself.
    pub alarms: Vec<Alarm>,
}

/// Clients and their sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// With a connection now.
    pub connected: usize,
    /// With and without.
    pub total: usize,
    /// Of all of them, shared ones included.
    pub subscriptions: usize,
}

/// Publishes on their way to subscribers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lanes {
    /// Waiting.
    pub queued_messages: usize,
    /// In bytes.
    pub queued_bytes: usize,
    /// Sent, and not acknowledged.
    pub in_flight: usize,
}

/// The journal and its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Offset of the oldest record there is.
    pub first_offset: u64,
    /// Offset that the next record gets.
    pub next_offset: u64,
    /// Records below are durable.
    pub durable_offset: u64,
    /// Written and kept, and waiting to be written, in bytes.
    pub used_bytes: u64,
    /// What it should stay within, in bytes.
    pub quota_bytes: u64,
    /// Free on its file system, in bytes, where that is known.
    pub free_bytes: Option<u64>,
    /// What quota and file system leave for it, in bytes.
    pub room_bytes: u64,
    /// `normal`, `advisory`, `near` or `full`.
    pub pressure: String,
    /// What is needed of it.
    pub held: Held,
}

/// The audit store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// Whether there is one: `[audit] store` is not `none`.
    pub kept: bool,
    /// It has every record below; `None` until it was reached for the first time, and where there is none.
    pub up_to: Option<u64>,
    /// Records that it has not; 0 where there is none.
    pub lag_records: u64,
    /// Why it cannot be written to just now.
    pub error: Option<String>,
}

/// Who needs how much of the journal: a segment goes when nobody needs anything in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The audit store has everything below, or there is none and this is durable.
    pub audit: u64,
    /// The snapshots to go on from cover everything below; `None` before there are two, while a start may read all.
    pub snapshot: Option<u64>,
    /// The oldest record that was owed when the newest snapshot was taken, and the client or shared subscription it is for.
    pub owed: Option<(u64, String)>,
}

impl Held {
    fn of(kept: Kept, audited: Option<Offset>) -> Self {
        Self {
            audit: audited.map_or(0, |offset| offset.0),
            snapshot: kept.from.map(|offset| offset.0),
            owed: kept.owed.map(|(offset, client)| (offset.0, client.to_string())),
        }
    }

    /// The oldest record that is needed, and by whom.
    pub fn oldest(&self) -> (u64, Holder<'_>) {
        let owed = self.owed.as_ref().map(|(offset, client)| (*offset, Holder::Session(client)));
        let snapshot = (self.snapshot.unwrap_or(0), Holder::Snapshot);
        // What is owed bounds the snapshots too, and is the better answer.
        let needed = [Some((self.audit, Holder::Audit)), owed, Some(snapshot)];
        needed.into_iter().flatten().min_by_key(|(offset, _)| *offset).unwrap_or(snapshot)
    }
}

/// Who holds a segment back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder<'a> {
    /// The audit store.
    Audit,
    /// The session of this client.
    Session(&'a str),
    /// The next start.
    Snapshot,
}

impl Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audit => f.write_str("the audit store, which does not have it yet"),
            Self::Session(client) => write!(f, "`{client}`, to whom it is owed"),
            Self::Snapshot => f.write_str("the next start: snapshots do not cover it yet"),
        }
    }
}

impl Status {
    /// Of `node`, with its record as far as `audited` says.
    pub fn of(node: &Node, kept: Kept, audited: &Audited, at: Timestamp) -> Self {
        // What the alarms say is to fit the numbers beside them.
        node.review_queues();
        let (journal, space, counters) = (node.journal(), node.review_disk(), node.counters());
        let next_offset = journal.next_offset().0;
        Self {
            node: node.id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at,
            stopping: node.is_stopping(),
            failure: node.failure().borrow().clone(),
            sessions: Sessions {
                connected: counters.connections,
                total: counters.sessions,
                subscriptions: counters.subscriptions,
            },
            lanes: Lanes {
                queued_messages: counters.queued_messages,
                queued_bytes: counters.queued_bytes,
                in_flight: counters.in_flight,
            },
            journal: JournalStatus {
                first_offset: journal.first_offset().0,
                next_offset,
                durable_offset: journal.durable().0,
                used_bytes: space.used_bytes,
                quota_bytes: space.quota_bytes,
                free_bytes: space.free_bytes,
                room_bytes: space.room_bytes,
                pressure: space.pressure.as_str().to_owned(),
                held: Held::of(kept, audited.up_to()),
            },
            audit: AuditStatus {
                kept: audited.is_kept(),
                up_to: audited.up_to().filter(|_| audited.is_kept()).map(|offset| offset.0),
                lag_records: audited.lag_records(),
                error: audited.error(),
            },
            alerts_open: node.retained_count(ALERTS_OPEN),
            alarms: node.alarms(),
        }
    }
}

/// For people.
impl Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, lanes, journal, audit, .. } = self;
        let doing = match (&self.failure, self.stopping) {
            (Some(_), _) => "has failed",
            (None, true) => "is stopping",
            (None, false) => "is running",
        };
        writeln!(f, "node      {} {doing}, wardline {}", self.node, self.version)?;
        if let Some(failure) = &self.failure {
            writeln!(f, "          {failure}")?;
        }
        let Sessions { connected, total, subscriptions } = sessions;
        writeln!(f, "sessions  {total}, {connected} of them connected; {subscriptions} subscriptions")?;
        let queued = Size(lanes.queued_bytes as u64);
        writeln!(
            f,
            "lanes     {} publishes wait ({queued}), {} are in flight",
            lanes.queued_messages, lanes.in_flight
        )?;
        let JournalStatus { first_offset, next_offset, durable_offset, .. } = journal;
        writeln!(
            f,
            "journal   records from {first_offset} on, {durable_offset} is the first that is not durable, \
             {next_offset} comes next"
        )?;
        let (used, quota, room) =
            (Size(journal.used_bytes), Size(journal.quota_bytes), Size(journal.room_bytes));
        write!(f, "          {used} of {quota} used, room for {room}")?;
        if let Some(free) = journal.free_bytes {
            write!(f, ", {} free on the disk", Size(free))?;
        }
        writeln!(f, "; pressure {}", journal.pressure)?;
        let (offset, holder) = journal.held.oldest();
        if offset < *next_offset {
            writeln!(f, "          record {offset} is kept for {holder}")?;
        }
        match audit.up_to {
            None if !audit.kept => {
                writeln!(f, "audit     no record is kept: [audit] store is \"none\"")?;
            }
            None => writeln!(f, "audit     the store was not reached yet; it lacks {}", audit.lag_records)?,
            Some(up_to) => {
                writeln!(
                    f,
                    "audit     the store has the records below {up_to}; it lacks {}",
                    audit.lag_records
                )?;
            }
        }
        if let Some(error) = &audit.error {
            writeln!(f, "          {error}")?;
        }
        writeln!(f, "alerts    {} open", self.alerts_open)?;
        for alarm in &self.alarms {
            let Alarm { condition, priority, since, text, .. } = alarm;
            writeln!(f, "alarm     {condition}, priority {}, since {since}: {text}", priority.as_str())?;
        }
        Ok(())
    }
}

/// Bytes, as people read them.
pub(crate) struct Size(pub(crate) u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match UNITS.into_iter().find(|(_, shift)| self.0 >> shift > 0) {
            Some((unit, shift)) => write!(f, "{:.1} {unit}", self.0 as f64 / (1_u64 << shift) as f64),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_need_holds_a_segment_back() {
        let mut held = Held { audit: 70, snapshot: None, owed: None };
        assert_eq!(held.oldest(), (0, Holder::Snapshot));
        held.snapshot = Some(90);
        assert_eq!(held.oldest(), (70, Holder::Audit));
        held.snapshot = Some(60);
        assert_eq!(held.oldest(), (60, Holder::Snapshot));
        held.owed = Some((12, "pager-7".to_owned()));
        assert_eq!(held.oldest(), (12, Holder::Session("pager-7")));
        assert!(held.oldest().1.to_string().contains("pager-7"));
    }

    #[test]
    fn sizes_are_read_by_people() {
        let sizes = [0, 1_023, 1_024, 12 << 20, (20 << 30) + (1 << 29), 3 << 40];
        let said = sizes.map(|bytes| Size(bytes).to_string());
        assert_eq!(said, ["0 bytes", "1023 bytes", "1.0 KiB", "12.0 MiB", "20.5 GiB", "3.0 TiB"]);
    }
}
