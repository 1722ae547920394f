//! The broker's process: journal and core, without threads, from opening to whatever ends it.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc};

use jiff::Timestamp;
use wardline_core::{Broker, Limits, Stored};
use wardline_journal::{
    Journal, JournalOptions, Offset, OpenError, Progress, Reader, Record, SEGMENT_BYTES_MIN, Stepper,
};
use wardline_test_disk::SimulatedDisk;

use crate::{
    Violation,
    snapshots::{self, Keeper},
};

const NODE: u16 = 1;
const DIRECTORY: &str = "journal";

type Told = Rc<RefCell<VecDeque<Progress>>>;
type OnProgress = Box<dyn Fn(Progress)>;

pub(crate) struct Node {
    pub(crate) journal: Journal,
    pub(crate) broker: Broker<Journal>,
    /// As the audit store reads it.
    pub(crate) follower: Reader,
    keeper: Keeper,
    writer: Stepper<OnProgress>,
    /// What the writer has said and the core has not heard yet.
    told: Told,
}

/// Why there is no process.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The disk does not let it.
    Disk(String),
    /// It would not have had to be so.
    Violation(Violation),
}

impl From<Violation> for StartError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// Small, so that queues outgrow memory.
fn limits() -> Limits {
    Limits { head_messages_max: 2, ..Limits::default() }
}

impl Node {
    pub(crate) fn start(disk: &SimulatedDisk, now: Timestamp) -> Result<Self, StartError> {
        let options =
            JournalOptions { segment_bytes: SEGMENT_BYTES_MIN, ..JournalOptions::new(DIRECTORY, NODE) };
        let told = Told::default();
        let teller = Rc::clone(&told);
        let on_progress: OnProgress = Box::new(move |progress| teller.borrow_mut().push_back(progress));
        let opened = Journal::open_stepped(Arc::new(disk.clone()), options, on_progress);
        let (journal, _, writer) = opened.map_err(|error| match error {
            OpenError::Read(error) => StartError::Violation(Violation(error.to_string())),
            error => StartError::Disk(error.to_string()),
        })?;
        let mut broker = Broker::new(NODE, limits(), journal.clone());
        let keeper = Keeper::new(snapshots::recover(&journal, &mut broker)?);
        broker.recovered(now);
        let follower = journal.reader(journal.first_offset());
        Ok(Self { journal, broker, follower, keeper, writer, told })
    }

    /// The writer writes and syncs what is there; false: the journal has failed or is closed.
    pub(crate) fn write(&mut self) -> bool {
        self.writer.step()
    }

    /// The core hears how far the disk is; whether there was something.
    pub(crate) fn hear(&mut self) -> bool {
        let told: Vec<Progress> = self.told.borrow_mut().drain(..).collect();
        for progress in &told {
            if let Progress::Durable { entries, .. } = progress {
                self.broker.durable(*entries);
            }
        }
        !told.is_empty()
    }

    /// Whether something waits for the writer.
    pub(crate) fn has_backlog(&self) -> bool {
        self.journal.backlog_bytes() > 0
    }

    /// Takes a snapshot, or writes the one that was taken.
    pub(crate) fn keep(&mut self) -> Result<Option<String>, Violation> {
        self.keeper.step(&mut self.broker)
    }

    /// Releases what is not needed, with so many records audited.
    pub(crate) fn release(&self, audited: u64) -> Option<String> {
        self.keeper.release(&self.journal, Offset(audited))
    }
}

/// The publishes at these offsets, read back.
pub(crate) fn fetch(journal: &Journal, offsets: &[Offset]) -> Result<Vec<Arc<Stored>>, Violation> {
    let mut found = Vec::new();
    let mut wrong = None;
    let fetched = journal.fetch(offsets, |offset, record| match record {
        Record::Publish(publish) => match Stored::read(offset, &publish) {
            Ok(stored) => found.push(Arc::new(stored)),
            Err(error) => wrong = Some(error.to_string()),
        },
        Record::Access(_) | Record::Delivery(_) => wrong = Some(format!("{offset} is no publish")),
    });
    let wrong = fetched.err().map(|error| error.to_string()).or(wrong);
    wrong.map_or(Ok(found), |text| Err(Violation(format!("what is owed cannot be read back: {text}"))))
}
