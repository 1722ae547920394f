//! How a node comes back: from its newest snapshot that can be used, and what the journal says since.

use std::collections::BTreeMap;

use wardline_core::{START, SnapshotError};
use wardline_journal::{Access, AccessEvent, Commit, Entry, Journal, Offset, Reader, Record};
use wardline_plugin_api::{NotASnapshot, Output};

use super::Inner;
use crate::{
    clock,
    snapshots::{self, Place, Saved},
};

/// By topic: what the plugins said while the journal was read, and which of them, and the journal did not repeat.
type Unsaid = BTreeMap<String, (usize, Output)>;

impl Inner {
    /// Becomes what the journal says; gives the snapshot that it went on from.
    pub(super) fn recover(&mut self, node: u16, journal: &Journal) -> Result<Option<Place>, RecoverError> {
        let (mut reader, snapshot) = self.begin(journal)?;
        // What the plugins say again while the journal is read stands in it already, save what a crash cut off at its end,
        // and what other rules than before make them say. The last word on a topic is what counts.
        let mut unsaid = Unsaid::new();
        while let Some(entry) = reader.next().map_err(RecoverError::Read)? {
            self.recover_entry(node, &entry, &mut unsaid)?;
        }
        let now = self.advance(clock::now());
        self.broker.recovered(now);
        self.host.tick(now, &mut self.outputs);
        for (plugin, output) in unsaid.into_values() {
            self.publish_output(plugin, output, now);
        }
        self.settle(node, now);
        Ok(snapshot)
    }

    /// Goes to where the newest snapshot that can be used was taken; gives what reads on from there, and which it was.
    fn begin(&mut self, journal: &Journal) -> Result<(Reader, Option<Place>), RecoverError> {
        let snapshots = journal.snapshots();
        let mut refused = None;
        for number in snapshots.list().map_err(RecoverError::Snapshots)? {
            match snapshots::resume(journal, number) {
                Ok((snapshot, reader)) => {
                    self.restore(&snapshot.state)?;
                    tracing::info!(number, offset = snapshot.offset.0, "going on from a snapshot");
                    let (offset, needs) = (snapshot.offset, self.broker.horizon());
                    let first = journal.first_offset();
                    if needs < first {
                        return Err(RecoverError::BeginningMissing { needs, first });
                    }
                    return Ok((reader, Some(Place { number, offset, needs })));
                }
                Err(error) if error.is_loss() && journal.commit() == Commit::Always => {
                    return Err(RecoverError::EndMissing { number, error });
                }
                Err(error) => {
                    tracing::warn!(number, %error, "a snapshot cannot be used: trying the one before it");
                    refused.get_or_insert(error);
                }
            }
        }
        match journal.first_offset() {
            Offset(0) => Ok((journal.reader(Offset(0)), None)),
            first => {
                let error = Box::new(refused.unwrap_or(snapshots::Unusable::Missing));
                Err(RecoverError::NoSnapshot { first, error })
            }
        }
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RecoverError> {
        let saved = Saved::read(state)?;
        self.broker.restore(saved.core)?;
        self.host.restore(saved.plugins)?;
        self.last = saved.at;
        Ok(())
    }

    fn recover_entry(
        &mut self,
        node: u16,
        entry: &Entry<'_>,
        unsaid: &mut Unsaid,
    ) -> Result<(), RecoverError> {
        let at = match entry {
            Entry::Record(_, Record::Publish(publish)) => publish.received_at,
            Entry::Record(_, Record::Access(access)) => access.at,
            Entry::Record(_, Record::Delivery(delivery)) => delivery.at,
            Entry::Mark(_) => self.last,
        };
        let now = self.advance(at);
        if matches!(entry, Entry::Record(_, Record::Access(access)) if is_start(access)) {
            // What fell due while the node was away is made up for once, not once for every time it was missed.
            self.host.tick(now, &mut self.outputs);
        }
        while let Some(due) = self.host.next_deadline().filter(|due| *due <= now) {
            self.host.tick(due, &mut self.outputs);
            self.leave_unsaid(unsaid);
        }
        if let Entry::Record(_, Record::Publish(publish)) = entry
            && publish.origin.principal.starts_with("plugin:")
        {
            unsaid.remove(publish.topic);
        }
        self.broker.recover(entry).map_err(RecoverError::Core)?;
        let mut events = std::mem::take(&mut self.events);
        self.broker.take_events(&mut events);
        for event in events.drain(..) {
            self.show(node, &event, now);
        }
        self.events = events;
        self.leave_unsaid(unsaid);
        Ok(())
    }

    fn leave_unsaid(&mut self, unsaid: &mut Unsaid) {
        for (plugin, output) in self.outputs.drain(..) {
            unsaid.insert(output.topic.clone(), (plugin, output));
        }
    }
}

/// Whether a record is that of a node's start. What it says is said of filters too, which clients choose.
fn is_start(access: &Access<'_>) -> bool {
    access.event == AccessEvent::Reload && access.detail == START
}

/// Why a node cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// An entry could not be read.
    #[error("cannot read the journal to its end: {0}")]
    Read(#[source] wardline_journal::ReadError),
    /// The directory of the snapshots cannot be read.
    #[error("{0}")]
    Snapshots(#[source] wardline_journal::SnapshotFileError),
    /// No snapshot can be used, and the journal does not begin at its beginning.
    #[error(
        "the journal begins at offset {first}, and no snapshot of what was before can be used ({error}): bring the \
         data directory back from a backup"
    )]
    NoSnapshot {
        /// The oldest record there is.
        first: Offset,
        /// What is wrong with the newest.
        error: Box<snapshots::Unusable>,
    },
    /// Records that were durable are not there any more.
    #[error(
        "snapshot {number} was taken of more than the journal has: {error}. Newer records are missing; nothing was changed. \
         Bring the missing segments back, or give up what they held with `wardline journal quarantine`"
    )]
    EndMissing {
        /// Of the snapshot.
        number: u64,
        /// What shows it.
        error: snapshots::Unusable,
    },
    /// Segments that are needed are not there any more.
    #[error(
        "the journal begins at offset {first}, and clients are owed records from {needs} on; nothing was changed. Bring the \
         missing segments back, or give up what they held with `wardline journal quarantine`"
    )]
    BeginningMissing {
        /// The oldest record that somebody is owed.
        needs: Offset,
        /// The oldest there is.
        first: Offset,
    },
    /// A snapshot that another version wrote.
    #[error("{0}")]
    Snapshot(#[from] SnapshotError),
    /// A plugin that does not understand what it remembered.
    #[error("{0}")]
    Plugin(#[from] NotASnapshot),
    /// The core does not understand a record.
    #[error("{0}")]
    Core(#[source] wardline_core::RecoverError),
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use jiff::Timestamp;
    use parking_lot::Mutex;
    use wardline_core::Limits;
    use wardline_journal::{JournalOptions, Log, Origin};
    use wardline_plugin_api::{Input, Plugin};

    use super::*;
    use crate::{host::Host, metrics::Metrics, node::Node};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    /// Has one deadline, and remembers when it was told of it.
    struct Timer {
        deadline: Option<Timestamp>,
        told: Arc<Mutex<Vec<Timestamp>>>,
    }

    impl Plugin for Timer {
        fn name(&self) -> &'static str {
            "timer"
        }

        fn interests(&self) -> Vec<String> {
            Vec::new()
        }

        fn handle(&mut self, _input: Input<'_>, now: Timestamp, _out: &mut Vec<Output>) {
            self.deadline = None;
            self.told.lock().push(now);
        }

        fn next_deadline(&self) -> Option<Timestamp> {
            self.deadline
        }

        fn snapshot(&self) -> Vec<u8> {
            Vec::new()
        }

        fn restore(&mut self, _: &[u8]) -> Result<(), NotASnapshot> {
            Ok(())
        }
    }

    /// When a deadline of second 5 is served that only a record of second 60 follows.
    fn served_before(event: AccessEvent) -> Timestamp {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(JournalOptions::new(directory.path(), 1), |_| {}).unwrap();
        let origin = Origin { client: "c", principal: "device:c", peer: "10.0.0.1:1" };
        let reason = "denied";
        journal.append(&Record::Access(Access {
            at: at(60),
            event,
            origin,
            detail: START,
            reason,
            state: &[],
        }));
        assert!(journal.wait_entries(journal.entries(), Duration::from_secs(60)));
        let told = Arc::default();
        let host = Host::new(vec![Box::new(Timer { deadline: Some(at(5)), told: Arc::clone(&told) })]);
        Node::recover(1, Limits::default(), journal, host, Arc::new(Metrics::new())).unwrap();
        let told = told.lock();
        assert_eq!(told.len(), 1);
        told[0]
    }

    #[test]
    fn a_deadline_is_served_late_only_where_the_node_was_away() {
        assert_eq!(served_before(AccessEvent::Reload), at(60));
        assert_eq!(served_before(AccessEvent::Subscribe), at(5), "a filter that is called like a start");
    }
}
