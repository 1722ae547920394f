//! How far the audit record is: for who lets segments of the journal go, and for who is asked.

use tokio::sync::watch;
use wardline_audit::Progress;
use wardline_journal::{Journal, Log, Offset};

/// The audit record of a node at work, or that none is kept (`[audit] store = "none"`).
#[derive(Clone, Debug)]
pub struct Audited {
    journal: Journal,
    progress: Option<watch::Receiver<Progress>>,
}

impl Audited {
    /// Of what is in `journal`; `progress` is told by who writes the record, if anybody does.
    pub fn new(journal: Journal, progress: Option<watch::Receiver<Progress>>) -> Self {
        Self { journal, progress }
    }

    /// Whether there is a record.
    pub fn is_kept(&self) -> bool {
        self.progress.is_some()
    }

    /// The journal need not keep what is below for the record's sake: the store has it or, where no record is kept, it is
    /// durable. `None` until the store was reached for the first time.
    pub fn up_to(&self) -> Option<Offset> {
        match &self.progress {
            Some(progress) => progress.borrow().audited_up_to,
            None => Some(self.journal.durable()),
        }
    }

    /// Records that the journal has and the store has not; 0 where no record is kept.
    pub fn lag_records(&self) -> u64 {
        let Some(progress) = &self.progress else { return 0 };
        let up_to = progress.borrow().audited_up_to.map_or(0, |offset| offset.0);
        self.journal.next_offset().0.saturating_sub(up_to)
    }

    /// Why the store cannot be written to just now.
    pub fn error(&self) -> Option<String> {
        self.progress.as_ref().and_then(|progress| progress.borrow().last_error.clone())
    }
}
