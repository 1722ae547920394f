//! Snapshots of the node, so that a restart costs what is live, not what has been, and the journal can let go of the past.
//!
//! One is taken whenever so much has been journaled since the last, and at a clean stop. The broker is held up for as long
//! as it takes to write down who is owed what; contents are encoded and written while it works on. It counts from the moment
//! it is on the disk; once there are two, segments that the older of them, the audit store and everybody who is owed
//! something can do without are released.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use wardline_core::{SnapshotError, Stored};
use wardline_journal::{
    ADVISORY_ROOM_PERCENT, Access, AccessEvent, Entry, Journal, Known, Log, Mark, Offset, Pressure,
    ReadError, Reader, Record, SNAPSHOTS_KEPT, Snapshot, SnapshotFileError, Snapshots,
};

use crate::{audited::Audited, metrics::Metrics, node::Node};

/// How often it is looked whether one is due, and whether segments can go.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// One is taken when as much as configured was journaled since the last, or this part of the quota, where that is less,
const QUOTA_PARTS: u64 = 16;
/// but not before so many times what the last one took: snapshots are not to be most of what is written.
const OWN_SIZE_TIMES: u64 = 4;
/// While room is short one is taken so long after the last, however little was journaled,
const PRESSED_INTERVAL: Duration = Duration::from_secs(2);
/// but not before so many times what the last one took.
const PRESSED_TIMES: u32 = 10;
/// What may be carried from snapshot to snapshot, in bytes: memory, and part of every snapshot,
const CARRIED_BYTES_MAX: u64 = 4 << 20;
/// or this part of the quota, where that is less.
const CARRIED_QUOTA_PARTS: u64 = 64;
/// Once telemetry is slowed so much of the oldest is shed that this much room is left, in percent of the capacity.
const SHED_TO_ROOM_PERCENT: u64 = ADVISORY_ROOM_PERCENT + 5;
/// How long the disk may take until what a snapshot builds on is durable.
const DURABLE_WITHIN: Duration = Duration::from_secs(60);
/// The same where somebody waits for the end of the process.
pub const DURABLE_WITHIN_AT_STOP: Duration = Duration::from_secs(5);

/// A snapshot's state: version 1, the node's clock, its plugins and, to the end, its core.
const VERSION: u8 = 1;

/// What the snapshot of a node begins with.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    /// Microseconds since 1970.
    at: i64,
    /// From here on it needs the journal.
    needs: u64,
    #[serde(borrow)]
    plugins: Vec<(&'a str, &'a [u8])>,
}

/// A node's state at one moment, in memory.
#[derive(Debug)]
pub struct Taken {
    pub(crate) number: u64,
    pub(crate) offset: Offset,
    /// So many of the journal's entries must be durable before it counts.
    pub(crate) entries: u64,
    pub(crate) at: Timestamp,
    pub(crate) core: wardline_core::Snapshot,
    pub(crate) plugins: Vec<(&'static str, Vec<u8>)>,
    /// How long the node was held up.
    pub(crate) pause: Duration,
}

impl Taken {
    /// The bytes of a snapshot file.
    fn encode(self) -> Result<Snapshot, SnapshotError> {
        let plugins = self.plugins.iter().map(|(name, bytes)| (*name, &**bytes)).collect();
        let head = Head { at: self.at.as_microsecond(), needs: self.core.horizon().0, plugins };
        let mut state = postcard::to_extend(&head, vec![VERSION])?;
        self.core.encode(&mut state)?;
        Ok(Snapshot { number: self.number, offset: self.offset, state })
    }
}

/// What is read back.
pub(crate) struct Saved<'a> {
    pub(crate) at: Timestamp,
    pub(crate) needs: Offset,
    pub(crate) plugins: Vec<(&'a str, &'a [u8])>,
    pub(crate) core: &'a [u8],
}

impl<'a> Saved<'a> {
    pub(crate) fn read(state: &'a [u8]) -> Result<Self, SnapshotError> {
        let head = match state.split_first() {
            Some((&VERSION, head)) => head,
            Some((&other, _)) => return Err(SnapshotError::Version(other)),
            None => return Err(SnapshotError::Malformed("it is empty")),
        };
        let (Head { at, needs, plugins }, core) =
            postcard::take_from_bytes(head).map_err(|_| SnapshotError::Malformed("its plugins"))?;
        let at = Timestamp::from_microsecond(at).map_err(|_| SnapshotError::Malformed("its instant"))?;
        Ok(Self { at, needs: Offset(needs), plugins, core })
    }
}

/// Why a snapshot cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file.
    #[error(transparent)]
    File(#[from] SnapshotFileError),
    /// The journal behind it.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// Somebody deleted them.
    #[error("there is none")]
    Missing,
    /// The journal ends before the place where it was taken.
    #[error("it was taken at offset {taken}, and the journal ends at {end}")]
    Beyond {
        /// Offset of the snapshot.
        taken: Offset,
        /// The next record's.
        end: Offset,
    },
    /// The journal has other records at the place where it was taken.
    #[error("it is not of this journal")]
    Foreign,
}

impl Unusable {
    /// Whether what the journal had is missing, if all of it was durable when the snapshot got its name.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Self::Beyond { .. } | Self::Foreign)
    }
}

/// Reads a snapshot, and gives what reads on behind its mark.
pub(crate) fn resume(journal: &Journal, number: u64) -> Result<(Snapshot, Reader), Unusable> {
    let snapshot = journal.snapshots().read(number)?;
    let (taken, end) = (snapshot.offset, journal.next_offset());
    if end < taken {
        return Err(Unusable::Beyond { taken, end });
    }
    let mut reader = journal.reader(taken);
    loop {
        match reader.next()? {
            Some(Entry::Mark(Mark::Snapshot { number: found })) if found == number => {
                return Ok((snapshot, reader));
            }
            Some(Entry::Mark(_)) => {}
            // The mark is lost, and whatever is lost before it is in the snapshot.
            None | Some(Entry::Record(_, Record::Access(Access { event: AccessEvent::Lost, .. }))) => break,
            Some(Entry::Record(..)) => return Err(Unusable::Foreign),
        }
    }
    tracing::warn!(number, "the journal has lost the mark of a snapshot, and perhaps what followed it");
    Ok((snapshot, journal.reader(taken)))
}

/// What the snapshots beside a journal know of it.
///
/// # Errors
/// A directory that cannot be read; a snapshot that cannot be is passed over.
pub(crate) fn known(snapshots: &Snapshots) -> Result<Known, SnapshotFileError> {
    let mut known = Known::default();
    for number in snapshots.list()? {
        let Ok(snapshot) = snapshots.read(number) else { continue };
        let Ok(saved) = Saved::read(&snapshot.state) else { continue };
        if snapshot.offset > known.used {
            known = Known { used: snapshot.offset, needed: saved.needs };
        }
    }
    Ok(known)
}

/// What the journal is kept for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Number of the newest snapshot that is on the disk; `None` before the first.
    pub number: Option<u64>,
    /// The records from here on are needed by the older of two snapshots, or by those it says are owed them.
    pub from: Option<Offset>,
    /// The client or shared subscription that was owed the oldest when the newest snapshot was taken, and its offset.
    pub owed: Option<(Offset, Arc<str>)>,
}

/// Takes snapshots of a node, and releases what its journal can do without.
#[derive(Debug)]
pub struct Keeper {
    node: Arc<Node>,
    journal: Journal,
    metrics: Arc<Metrics>,
    every_bytes: u64,
    carried_bytes_max: usize,
    /// Held while the disk is waited for, by those only who take snapshots and release segments.
    state: Mutex<State>,
    /// What `state` says, for whoever asks: nobody waits for it.
    kept: Mutex<Kept>,
}

/// Where a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the snapshot.
    pub number: u64,
    /// The next record's offset then.
    pub offset: Offset,
    /// From here on it needs the journal.
    pub needs: Offset,
}

#[derive(Debug, Default)]
struct State {
    /// On the disk, oldest first.
    taken: VecDeque<Place>,
    /// Bytes of the last one.
    bytes: u64,
    /// All that the journal had taken when the last one was.
    journaled: u64,
    /// When the last one of this process was on the disk, and how long that took.
    last: Option<(Instant, Duration)>,
    /// Bytes released since the start.
    released: u64,
    /// Telemetry published below has been shed since the last one.
    shed_until: Offset,
    /// Why none could be taken when it was last tried; empty if one was.
    failure: String,
}

impl Keeper {
    /// A keeper for a node that has just begun, which takes a snapshot whenever `every_bytes` were journaled.
    pub fn new(node: Arc<Node>, journal: Journal, every_bytes: u64, quota_bytes: u64) -> Self {
        let metrics = Arc::clone(node.metrics());
        let state = State { taken: node.began_with().into_iter().collect(), ..State::default() };
        let every_bytes = every_bytes.min(quota_bytes / QUOTA_PARTS);
        let carried_bytes_max = CARRIED_BYTES_MAX.min(quota_bytes / CARRIED_QUOTA_PARTS) as usize;
        let kept = Mutex::new(state.kept(None));
        Self { node, journal, metrics, every_bytes, carried_bytes_max, state: Mutex::new(state), kept }
    }

    /// What the journal is kept for. Never waits for the disk.
    pub fn kept(&self) -> Kept {
        self.kept.lock().clone()
    }

    /// Takes one now; the disk may take so long until what it builds on is durable. Blocking.
    ///
    /// # Errors
    /// What went wrong, for the log; the next one may do.
    pub fn take(
        &self,
        audited_up_to: Option<Offset>,
        durable_within: Duration,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut state = self.state.lock();
        let begun = Instant::now();
        let snapshots = self.journal.snapshots();
        let newest = state.taken.back().copied();
        // Numbers of files that could not be used are not used again.
        let last = newest.map(|place| place.number).into_iter().chain(snapshots.list()?).max();
        let number = last.unwrap_or(0) + 1;
        let carried = match newest {
            Some(place) => self.carried(place.offset, state.shed_until)?,
            None => Vec::new(),
        };
        let taken = self.node.snapshot(number, carried)?;
        let offset = taken.offset;
        let (entries, horizon, pause) = (taken.entries, taken.core.horizon(), taken.pause);
        let owed = taken.core.owed_by().map(|whose| (horizon, Arc::clone(whose)));
        let journaled = self.journaled(&state);
        let snapshot = taken.encode()?;
        if !self.journal.wait_entries(entries, durable_within) {
            return Err("what it builds on does not become durable".into());
        }
        snapshots.write(&snapshot)?;
        state.taken.push_back(Place { number, offset, needs: horizon });
        (state.bytes, state.journaled) = (snapshot.state.len() as u64, journaled);
        self.metrics.snapshot_pause.observe(pause.as_secs_f64());
        self.metrics.snapshot_bytes.set(i64::try_from(state.bytes).unwrap_or(i64::MAX));
        let (bytes, took) = (state.bytes, begun.elapsed());
        tracing::debug!(number, bytes, ?pause, ?took, "took a snapshot");
        state.last = Some((Instant::now(), took));
        while state.taken.len() > SNAPSHOTS_KEPT {
            state.taken.pop_front();
        }
        *self.kept.lock() = state.kept(owed);
        let kept: Vec<u64> = state.taken.iter().map(|place| place.number).collect();
        snapshots.prune(&kept)?;
        state.shed_until = audited_up_to.map_or(Offset(0), |audited| self.shed(offset, audited));
        Ok(())
    }

    /// What somebody is owed from before `until`, and is to be carried; of what is before `shed_until` if that is too much.
    fn carried(&self, until: Offset, shed_until: Offset) -> Result<Vec<Arc<Stored>>, ReadError> {
        let to_carry = |until| self.node.to_carry(until, self.carried_bytes_max);
        // What is not shed, as alerts, must not hold back the segments that the shedding was for.
        let wanted = to_carry(until).or_else(|| to_carry(shed_until)).unwrap_or_default();
        let mut carried = Vec::with_capacity(wanted.len());
        self.journal.fetch(&wanted, |offset, record| {
            if let Record::Publish(publish) = record {
                carried.extend(Stored::read(offset, &publish).ok().map(Arc::new));
            }
        })?;
        Ok(carried)
    }

    /// Where room is short, lets the oldest telemetry go that holds the journal back and that the audit store has; gives the
    /// place below which it is gone. Only once a snapshot is on the disk: where none can be written, it would be in vain.
    fn shed(&self, until: Offset, audited_up_to: Offset) -> Offset {
        let too_much = || self.node.to_carry(until, self.carried_bytes_max).is_none();
        if self.journal.pressure() < Pressure::Near || !too_much() {
            return Offset(0);
        }
        let until = self.shed_point().min(until).min(audited_up_to);
        let publishes = self.node.shed_below(until);
        if publishes > 0 {
            tracing::warn!(
                publishes,
                "the journal's room is short: telemetry that waited longest for absent or slow clients is gone"
            );
        }
        until
    }

    /// Below it is what has to go so that room is left.
    fn shed_point(&self) -> Offset {
        let space = self.journal.space();
        let wanted = u128::from(space.capacity_bytes) * u128::from(SHED_TO_ROOM_PERCENT) / 100;
        self.journal.release_point((wanted as u64).saturating_sub(space.room_bytes))
    }

    /// Says why no snapshot was taken, once for each reason.
    fn tell(&self, failure: String) {
        let before = std::mem::replace(&mut self.state.lock().failure, failure.clone());
        if !failure.is_empty() && failure != before {
            tracing::warn!(
                error = failure,
                "no snapshot was taken: a restart will take longer, and the journal grows"
            );
        }
    }

    /// Releases what nobody needs: neither the older snapshot nor the audit store. Blocking.
    fn release(&self, audited_up_to: Option<Offset>) {
        let mut state = self.state.lock();
        let Some((needed, audited)) = state.oldest().zip(audited_up_to) else { return };
        match self.journal.release(needed.min(audited)) {
            Ok(bytes) => state.released += bytes,
            Err(error) => tracing::warn!(%error, "cannot release a segment of the journal"),
        }
    }

    fn is_due(&self, audited_up_to: Option<Offset>) -> bool {
        let state = self.state.lock();
        let since = self.journaled(&state).saturating_sub(state.journaled);
        // Where publishers are held back little is journaled, and what has been settled since the last would stay for ever.
        let is_pressed = self.journal.pressure() != Pressure::Normal
            && state.oldest() < audited_up_to
            && state
                .last
                .is_none_or(|(last, took)| last.elapsed() >= PRESSED_INTERVAL.max(took * PRESSED_TIMES));
        is_pressed || since >= self.every_bytes.max(state.bytes.saturating_mul(OWN_SIZE_TIMES))
    }

    /// All that was ever in the journal since the start.
    fn journaled(&self, state: &State) -> u64 {
        self.journal.stored_bytes().saturating_add(state.released)
    }
}

impl State {
    /// `owed`: who was owed the oldest when the newest snapshot was taken, and what.
    fn kept(&self, owed: Option<(Offset, Arc<str>)>) -> Kept {
        Kept { number: self.taken.back().map(|place| place.number), from: self.oldest(), owed }
    }

    /// From where on the journal is needed, once two snapshots are safe.
    fn oldest(&self) -> Option<Offset> {
        (self.taken.len() >= SNAPSHOTS_KEPT).then(|| self.taken.front().map(|place| place.needs))?
    }
}

/// Takes snapshots when they are due, and releases segments, until the task ends.
pub async fn run(keeper: Arc<Keeper>, audited: Audited) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let keeper = Arc::clone(&keeper);
        let audited_up_to = audited.up_to();
        let look = move || {
            if keeper.is_due(audited_up_to) {
                let taken = keeper.take(audited_up_to, DURABLE_WITHIN);
                keeper.tell(taken.err().map(|error| error.to_string()).unwrap_or_default());
            }
            keeper.release(audited_up_to);
        };
        // A panic has been reported by then, and the next look is another one.
        let _ = tokio::task::spawn_blocking(look).await;
    }
}
