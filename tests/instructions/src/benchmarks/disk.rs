//! A journal whose disk costs nothing that is counted.

use std::sync::Arc;

use wardline_journal::{Journal, JournalOptions, Progress, Stepper};
use wardline_test_disk::SimulatedDisk;

/// Written before more than so much waits, so that the buffers keep their size.
const BACKLOG_BYTES: usize = 64 << 10;
const SEGMENT_BYTES: u64 = 1 << 20;

/// A journal and its writer.
pub(super) struct Recorder {
    pub(super) journal: Journal,
    writer: Stepper<fn(Progress)>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let options = JournalOptions { segment_bytes: SEGMENT_BYTES, ..JournalOptions::new("journal", 1) };
        let on_progress: fn(Progress) = |_| {};
        let opened = Journal::open_stepped(Arc::new(SimulatedDisk::new(1)), options, on_progress);
        let (journal, _, writer) = opened.expect("an empty disk in memory can be written");
        Self { journal, writer }
    }

    pub(super) fn write_when_due(&mut self) {
        if self.journal.backlog_bytes() > BACKLOG_BYTES {
            assert!(self.writer.step(), "the disk has failed");
        }
    }
}
