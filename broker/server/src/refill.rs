//! Brings back from the journal what clients are owed and is not at hand: off the node's lock, and off their tasks.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::{sync::Semaphore, task::JoinHandle};
use wardline_core::{RecoverError, Stored};
use wardline_journal::{Access, AccessEvent, Journal, Offset, Origin, Outcome, Publish, ReadError, Record};

use crate::node::OWN_PRINCIPAL;

/// Clients for whom the journal is read at a time. Reading is mostly copying from the page cache, so that more would only
/// take turns; and each has up to a head of publishes in memory.
const READING_MAX: usize = 4;
/// Where a session is told of a publish that it was owed and is lost.
const LOST_TOPIC: &str = "wardline/lost";

/// Why a client cannot be sent what it is owed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The reading itself ended early.
    #[error("the reading of the journal ended early: {0}")]
    Ended(#[from] tokio::task::JoinError),
    /// Something else stands there.
    #[error(
        "journal record {0} is owed to a client and is no publish; keep a copy of the data directory, and report it"
    )]
    NotAPublish(Offset),
    /// The journal does not give it back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not understood.
    #[error(transparent)]
    Record(#[from] RecoverError),
}

type Fetched = Result<Vec<Arc<Stored>>, FetchError>;

/// Reads publishes back for all clients of a node.
#[derive(Debug)]
pub(crate) struct Fetcher {
    journal: Journal,
    places: Arc<Semaphore>,
}

impl Fetcher {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, places: Arc::new(Semaphore::new(READING_MAX)) }
    }

    fn fetch(&self, offsets: Vec<Offset>) -> JoinHandle<Fetched> {
        let (journal, places) = (self.journal.clone(), Arc::clone(&self.places));
        tokio::spawn(async move {
            // Nobody closes it; were it closed, reading would merely be unbounded.
            let _place = places.acquire().await;
            tokio::task::spawn_blocking(move || read(&journal, &offsets)).await?
        })
    }
}

fn read(journal: &Journal, offsets: &[Offset]) -> Fetched {
    let mut publishes = Vec::with_capacity(offsets.len());
    let mut failure = None;
    let fetched = journal.fetch(offsets, |offset, record| {
        let publish = match record {
            Record::Publish(publish) => Stored::read(offset, &publish).map_err(FetchError::from),
            Record::Access(Access { event: AccessEvent::Lost, at, .. }) => {
                Stored::read(offset, &in_place_of_lost(at)).map_err(FetchError::from)
            }
            Record::Access(_) | Record::Delivery(_) => Err(FetchError::NotAPublish(offset)),
        };
        match publish {
            Ok(publish) => publishes.push(Arc::new(publish)),
            Err(error) => failure = failure.take().or(Some(error)),
        }
    });
    match fetched {
        // What was wanted has been shed or is carried since: the client's session no longer asks for it.
        Err(_) if offsets.first().is_some_and(|first| *first < journal.first_offset()) => Ok(publishes),
        fetched => {
            fetched?;
            failure.map_or(Ok(publishes), Err)
        }
    }
}

/// What a client gets in the place of a publish that the journal has lost: to be told is more than to get nothing.
fn in_place_of_lost(at: Timestamp) -> Publish<'static> {
    Publish {
        received_at: at,
        origin: Origin { principal: OWN_PRINCIPAL, ..Origin::default() },
        topic: LOST_TOPIC,
        qos: 1,
        retain: false,
        packet_id: 0,
        properties: b"",
        payload: b"a publish for this session was lost to damage of the journal",
        outcome: Outcome::Accepted,
        reason: "",
    }
}

/// What one client is to be brought: one request in the air at a time.
#[derive(Debug, Default)]
pub(crate) struct Refill {
    wanted: Vec<Offset>,
    reading: Option<JoinHandle<Fetched>>,
}

impl Refill {
    /// Where to say what is wanted; `None` while something is being read.
    pub(crate) fn wanted(&mut self) -> Option<&mut Vec<Offset>> {
        self.reading.is_none().then_some(&mut self.wanted)
    }

    /// Begins to read what is wanted, if anything.
    pub(crate) fn begin(&mut self, fetcher: &Fetcher) {
        if !self.wanted.is_empty() {
            self.reading = Some(fetcher.fetch(std::mem::take(&mut self.wanted)));
        }
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// What was read; waits for it. May be dropped and called again.
    pub(crate) async fn done(&mut self) -> Fetched {
        let Some(reading) = &mut self.reading else { return Ok(Vec::new()) };
        let fetched = reading.await;
        self.reading = None;
        fetched?
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        // Whose turn has not come is not read for a client that is gone.
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}
