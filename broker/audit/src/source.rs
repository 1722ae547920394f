//! Where the rows come from: the durable entries of a journal, in order.

use std::time::Duration;

use wardline_journal::{Entry, Journal, Offset, Reader};

/// A journal as the projector reads it. Calls may block; they run on a thread of their own.
pub trait Source: Send + 'static {
    /// Makes the record at `offset` the next one.
    fn seek(&mut self, offset: Offset) -> Result<(), SourceError>;

    /// The next durable entry, or `None` when there is none yet. The offsets of records are consecutive.
    fn next(&mut self) -> Result<Option<Entry<'_>>, SourceError>;

    /// Offset after the last durable record.
    fn durable_end(&self) -> Offset;

    /// Returns when there may be more to read, or after `timeout`.
    fn wait(&mut self, timeout: Duration);
}

/// The journal could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Follows an open journal.
#[derive(Debug)]
pub struct JournalSource {
    journal: Journal,
    reader: Reader,
}

impl JournalSource {
    /// From the first record that `journal` still holds.
    pub fn new(journal: Journal) -> Self {
        let reader = journal.reader(journal.first_offset());
        Self { journal, reader }
    }
}

impl Source for JournalSource {
    fn seek(&mut self, offset: Offset) -> Result<(), SourceError> {
        let first = self.journal.first_offset();
        if offset < first {
            return Err(SourceError(format!(
                "the audit store needs the journal from record {offset} on, but it begins at {first}; \
                 bring back the store that had the records before, or begin a new one under a new node id"
            )));
        }
        self.reader = self.journal.reader(offset);
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Entry<'_>>, SourceError> {
        self.reader.next().map_err(|error| SourceError(error.to_string()))
    }

    fn durable_end(&self) -> Offset {
        self.journal.durable()
    }

    fn wait(&mut self, timeout: Duration) {
        self.reader.wait(timeout);
    }
}
