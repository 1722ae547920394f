//! Snapshots as the server takes them: in memory at one step, on the disk at a later one, and then the journal lets go of
//! what nobody needs.

use std::collections::VecDeque;

use wardline_core::Broker;
use wardline_journal::{Entry, Journal, Log, Mark, Offset, Reader, SNAPSHOTS_KEPT, Snapshot};

use crate::{Violation, ensure, node::fetch};

#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// Taken, and not on the disk.
    pending: Option<Pending>,
    /// On the disk, oldest first.
    taken: VecDeque<Place>,
}

/// A snapshot on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    number: u64,
    /// Of the first record that is not in it.
    offset: Offset,
    /// From here on it needs the journal.
    needs: Offset,
}

#[derive(Debug)]
struct Pending {
    snapshot: Snapshot,
    /// So many of the journal's entries must be durable before it counts.
    entries: u64,
    needs: Offset,
}

impl Keeper {
    /// Of a broker that has just begun, with this snapshot if with any.
    pub(crate) fn new(began_with: Option<Place>) -> Self {
        Self { pending: None, taken: began_with.into_iter().collect() }
    }

    /// Takes a snapshot, or writes the one that was taken; in words, which, and nothing where that has to wait.
    pub(crate) fn step(&mut self, broker: &mut Broker<Journal>) -> Result<Option<String>, Violation> {
        let journal = broker.log().clone();
        let Some(pending) = self.pending.take() else { return self.take(broker, &journal).map(Some) };
        if journal.durable_entries() < pending.entries {
            self.pending = Some(pending);
            return Ok(None);
        }
        let (number, offset) = (pending.snapshot.number, pending.snapshot.offset);
        if let Err(error) = journal.snapshots().write(&pending.snapshot) {
            return Ok(Some(format!("snapshot {number} cannot be written: {error}")));
        }
        self.taken.push_back(Place { number, offset, needs: pending.needs });
        while self.taken.len() > SNAPSHOTS_KEPT {
            self.taken.pop_front();
        }
        let kept: Vec<u64> = self.taken.iter().map(|place| place.number).collect();
        let pruned = journal.snapshots().prune(&kept);
        Ok(Some(format!("snapshot {number} is written; {pruned:?}")))
    }

    fn take(&mut self, broker: &mut Broker<Journal>, journal: &Journal) -> Result<String, Violation> {
        let there = journal.snapshots().list().map_err(|error| Violation(error.to_string()))?;
        let newest = self.taken.back();
        let last = newest.map(|place| place.number).into_iter().chain(there).max();
        let number = last.unwrap_or(0) + 1;
        // What is owed from long ago every other one carries; for the rest the journal has to be kept.
        let carried = match newest.filter(|_| number.is_multiple_of(2)) {
            Some(place) => fetch(journal, &broker.to_carry(place.offset, usize::MAX).unwrap_or_default())?,
            None => Vec::new(),
        };
        let taken = broker.snapshot(number, carried).map_err(|error| Violation(error.to_string()))?;
        let (needs, mut state) = (taken.horizon(), Vec::new());
        taken.encode(&mut state).map_err(|error| Violation(error.to_string()))?;
        let (offset, entries) = (journal.next_offset(), journal.entries());
        self.pending = Some(Pending { snapshot: Snapshot { number, offset, state }, entries, needs });
        Ok(format!("snapshot {number} is taken at {offset}; needed is the journal from {needs} on"))
    }

    /// Has the journal let go of what neither the older of two snapshots nor the audit store needs.
    pub(crate) fn release(&self, journal: &Journal, audited: Offset) -> Option<String> {
        let oldest = self.taken.front().filter(|_| self.taken.len() >= SNAPSHOTS_KEPT)?;
        match journal.release(audited.min(oldest.needs)) {
            Ok(0) => None,
            Ok(bytes) => Some(format!("{bytes} bytes of the journal are released")),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// Has a new broker take what the journal holds, from the newest snapshot on; which that was.
pub(crate) fn recover<L: Log>(journal: &Journal, broker: &mut Broker<L>) -> Result<Option<Place>, Violation> {
    let snapshots = journal.snapshots();
    let newest = snapshots.list().map_err(|error| Violation(error.to_string()))?.first().copied();
    let mut began_with = None;
    let mut reader = match newest {
        Some(number) => {
            // It has its name, so that it is whole, and so is what it builds on.
            let snapshot = snapshots.read(number).map_err(|error| Violation(error.to_string()))?;
            broker.restore(&snapshot.state).map_err(|error| Violation(error.to_string()))?;
            began_with = Some(Place { number, offset: snapshot.offset, needs: broker.horizon() });
            behind_mark(journal.reader(snapshot.offset), number)?
        }
        None => {
            ensure!(journal.first_offset() == Offset(0), "released, and no snapshot is there");
            journal.reader(Offset(0))
        }
    };
    let mut events = Vec::new();
    while let Some(entry) = reader.next().map_err(|error| Violation(error.to_string()))? {
        broker.recover(&entry).map_err(|error| Violation(error.to_string()))?;
        broker.take_events(&mut events);
        events.clear();
    }
    Ok(began_with)
}

fn behind_mark(mut reader: Reader, number: u64) -> Result<Reader, Violation> {
    loop {
        match reader.next().map_err(|error| Violation(error.to_string()))? {
            Some(Entry::Mark(Mark::Snapshot { number: found })) if found == number => return Ok(reader),
            Some(Entry::Mark(_)) => {}
            Some(Entry::Record(..)) | None => {
                return Err(Violation(format!("the journal has no mark of snapshot {number}")));
            }
        }
    }
}
