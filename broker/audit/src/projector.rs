//! Tails the journal into the store: one task that owns the database connection, one thread that reads and
//! hashes.
//!
//! The thread hands over whole batches through a short channel, so while the database is away it simply stops
//! reading: the journal is the buffer. A batch that was handed over is tried until the store has it; the
//! cursor makes that exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use wardline_journal::{Entry, Offset};

use crate::background::{self, PIECE_ROWS};
use crate::batch::Batch;
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::key::{KeyError, SigningKey};
use crate::payload::PayloadPolicy;
use crate::source::{Source, SourceError};
use crate::store::writer::{Position, Writer};
use crate::store::{Store, StoreError};
use crate::tree::Hash;

/// Rows in a batch; larger ones gain little and hold the transaction open longer.
const BATCH_ROWS_MAX: usize = 5_000;
/// Text and payload in a batch: what a batch of large messages may take of memory. A single larger record
/// passes alone.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How long the first row of a batch waits for company while the store is quick.
const BATCH_AGE_MIN: Duration = Duration::from_millis(50);
/// And however slow it is.
const BATCH_AGE_MAX: Duration = Duration::from_secs(1);
/// Otherwise so many times as long as the batch before took to be committed. A commit has costs of its own, a
/// signature, round trips, a sync: a store that is busy with them gets fewer and larger batches.
const BATCH_AGE_COMMITS: u32 = 10;
/// Batches read ahead while one is being written.
const BATCHES_AHEAD_MAX: usize = 1;
/// How often the reading thread looks up from a journal that has nothing for it to see whether it should stop.
const IDLE_POLL: Duration = Duration::from_millis(100);
/// At most one checkpoint in this time.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// First pause after a failure; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest pause between attempts.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// After this a transaction counts as lost: the connection is given up, and the cursor tells whether it had
/// succeeded.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the projector needs to know.
#[derive(Debug)]
pub struct Options {
    /// Whose record.
    pub node: u16,
    /// Which payloads are kept.
    pub payload: PayloadPolicy,
    /// Signs each batch.
    pub key: SigningKey,
    /// The broker's clock.
    pub clock: fn() -> Timestamp,
    /// How long to keep trying to empty the journal after shutdown was asked for. What remains is projected
    /// at the next start.
    pub drain: Duration,
}

/// How far the record is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every record before this offset is in the store; `None` until the store was reached for the first
    /// time.
    pub audited_up_to: Option<Offset>,
    /// Durable records that were waiting when last looked; the journal knows better while the store is away.
    pub lag: u64,
    /// Why the store cannot be written to just now.
    pub last_error: Option<String>,
}

/// Why the projector gave up. The journal keeps everything that is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// Trying again cannot help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot be read.
    #[error("reading the journal for the audit record: {0}")]
    Source(#[from] SourceError),
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store has rows that this journal has not.
    #[error(
        "the audit store already has {store} records of node {node}, this journal only {journal}; \
         the data directory is another one or was lost: give the node a new id, or bring the old journal back"
    )]
    AheadOfJournal {
        /// Whose record.
        node: u16,
        /// Rows in the store.
        store: Offset,
        /// Records in the journal.
        journal: Offset,
    },
    /// The system has no thread for reading.
    #[error(
        "no thread to read the journal for the audit record: {0}; raise the limit of processes, then restart"
    )]
    NoThread(std::io::Error),
    /// The reading thread ended without saying why.
    #[error("the thread that reads the journal for the audit record has ended; restart the broker")]
    ReaderLost,
}

/// Projects `source` into `store` until `shutdown` becomes true or its sender is gone, then empties what is
/// durable, signs a last checkpoint and returns. Database failures are retried for ever and told through
/// `progress`.
pub async fn run<S: Source>(
    mut source: S,
    store: Store,
    options: Options,
    shutdown: watch::Receiver<bool>,
    progress: watch::Sender<Progress>,
) -> Result<(), ProjectorError> {
    let mut projector = Projector {
        store,
        key: options.key,
        node: options.node,
        clock: options.clock,
        drain: options.drain,
        shutdown: shutdown.clone(),
        progress,
        writer: None,
        epoch: 0,
        unpublished: None,
        checkpoint_due: Instant::now(),
        patience: Arc::default(),
    };
    let Some(position) = projector.claim().await? else { return Ok(()) };
    let next = Offset(position.range.size());
    let journal = source.durable_end();
    if next > journal {
        return Err(ProjectorError::AheadOfJournal { node: options.node, store: next, journal });
    }
    projector.tell(|progress| {
        progress.audited_up_to = Some(next);
        progress.lag = journal.0 - next.0;
    });
    projector.adopt(&position)?;
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD_MAX);
    let patience = Arc::clone(&projector.patience);
    let reading = background::spawn("audit-reader", move || {
        source.seek(next)?;
        let feed = Feed { source, node: options.node, policy: options.payload, shutdown, patience };
        feed.run(Batch::new(position.range), &sender)
    })
    .map_err(ProjectorError::NoThread)?;
    projector.write(receiver).await?;
    reading.await.map_err(|_| ProjectorError::ReaderLost)?.map_err(ProjectorError::Source)
}

fn is_stopping(shutdown: &watch::Receiver<bool>) -> bool {
    *shutdown.borrow() || shutdown.has_changed().is_err()
}

/// A batch and the end of the journal when it was read.
type Fed = (Arc<Batch>, Offset);

/// How long the first row of a batch waits for company: told by who commits to who reads.
#[derive(Debug, Default)]
struct Patience {
    commit_us: AtomicU64,
}

impl Patience {
    fn committed_in(&self, took: Duration) {
        self.commit_us.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_micros(self.commit_us.load(Ordering::Relaxed))
            .saturating_mul(BATCH_AGE_COMMITS)
            .clamp(BATCH_AGE_MIN, BATCH_AGE_MAX)
    }
}

/// The reading thread.
struct Feed<S> {
    source: S,
    node: u16,
    policy: PayloadPolicy,
    shutdown: watch::Receiver<bool>,
    patience: Arc<Patience>,
}

impl<S: Source> Feed<S> {
    fn run(mut self, mut batch: Batch, sender: &mpsc::Sender<Fed>) -> Result<(), SourceError> {
        let mut scratch = Vec::new();
        let mut due = None;
        loop {
            if batch.len() >= BATCH_ROWS_MAX || batch.size_bytes() >= BATCH_BYTES_MAX {
                due = None;
                if !self.send(&mut batch, sender) {
                    return Ok(());
                }
            }
            let expected = batch.end();
            match self.source.next()? {
                Some(Entry::Record(offset, record)) if offset == expected => {
                    batch.push(self.node, &record, &self.policy, &mut scratch);
                    if batch.len().is_multiple_of(PIECE_ROWS) {
                        background::give_way();
                    }
                    continue;
                }
                Some(Entry::Mark(_)) => continue,
                Some(Entry::Record(offset, _)) => {
                    return Err(SourceError(format!("offset {offset} came where {expected} was expected")));
                }
                None => {}
            }
            // All that is durable is read.
            let is_ending = is_stopping(&self.shutdown) || sender.is_closed();
            if batch.is_empty() {
                if is_ending {
                    return Ok(());
                }
                self.source.wait(IDLE_POLL);
                continue;
            }
            let now = Instant::now();
            let due_at = *due.get_or_insert_with(|| now + self.patience.get());
            if now < due_at && !is_ending {
                // Not woken by each record that becomes durable meanwhile: they are read together.
                std::thread::sleep(IDLE_POLL.min(due_at - now));
                continue;
            }
            due = None;
            if !self.send(&mut batch, sender) {
                return Ok(());
            }
        }
    }

    /// Hands `batch` over and begins the next; whether somebody takes it. If not, the journal still has it.
    fn send(&self, batch: &mut Batch, sender: &mpsc::Sender<Fed>) -> bool {
        let following = batch.following();
        let full = Arc::new(std::mem::replace(batch, following));
        sender.blocking_send((full, self.source.durable_end())).is_ok()
    }
}

/// The writing task.
struct Projector {
    store: Store,
    key: SigningKey,
    node: u16,
    clock: fn() -> Timestamp,
    drain: Duration,
    shutdown: watch::Receiver<bool>,
    progress: watch::Sender<Progress>,
    writer: Option<Writer>,
    epoch: i64,
    patience: Arc<Patience>,
    /// The newest head, while no checkpoint has it.
    unpublished: Option<SignedCheckpoint>,
    checkpoint_due: Instant,
}

impl Projector {
    /// Becomes the writer, however long the store takes to be there. `None`: shutdown was asked for before.
    async fn claim(&mut self) -> Result<Option<Position>, ProjectorError> {
        let mut retry = Retry::new(self.drain);
        loop {
            let claim = Writer::claim(&self.store, self.node, self.key.public(), (self.clock)());
            match expiring(claim, &self.store).await {
                Ok((writer, position)) => {
                    self.epoch = writer.epoch();
                    self.writer = Some(writer);
                    return Ok(Some(position));
                }
                Err(error) => self.report(error)?,
            }
            if !retry.pause(&mut self.shutdown).await {
                return Ok(None);
            }
        }
    }

    /// Goes on from where an earlier run was cut off before its last checkpoint.
    fn adopt(&mut self, position: &Position) -> Result<(), KeyError> {
        if position.range.size() > position.checkpointed {
            self.unpublished = Some(self.head(position.range.size(), position.range.root())?);
        }
        Ok(())
    }

    async fn write(&mut self, mut receiver: mpsc::Receiver<Fed>) -> Result<(), ProjectorError> {
        loop {
            tokio::select! {
                fed = receiver.recv() => match fed {
                    Some((batch, durable)) => {
                        if !self.add(&batch, durable).await? {
                            return Ok(());
                        }
                    }
                    None => break,
                },
                () = tokio::time::sleep_until(self.checkpoint_due), if self.unpublished.is_some() => {
                    self.publish().await?;
                }
            }
        }
        self.publish().await
    }

    /// Adds a batch, trying until the store has it. False: shutdown was asked for, and the store did not come
    /// back in time.
    async fn add(&mut self, batch: &Arc<Batch>, durable: Offset) -> Result<bool, ProjectorError> {
        let head = self.head(batch.end().0, batch.range().root())?;
        let mut retry = Retry::new(self.drain);
        loop {
            let with_checkpoint = Instant::now() >= self.checkpoint_due;
            match self.attempt(batch, &head, with_checkpoint).await {
                Ok(()) => {
                    self.unpublished = Some(head).filter(|_| !with_checkpoint);
                    if with_checkpoint {
                        self.checkpoint_due = Instant::now() + CHECKPOINT_INTERVAL;
                    }
                    self.tell(|progress| {
                        progress.audited_up_to = Some(batch.end());
                        progress.lag = durable.0.saturating_sub(batch.end().0);
                        progress.last_error = None;
                    });
                    return Ok(true);
                }
                Err(error) => self.report(error)?,
            }
            if !retry.pause(&mut self.shutdown).await {
                return Ok(false);
            }
        }
    }

    async fn attempt(
        &mut self,
        batch: &Arc<Batch>,
        head: &SignedCheckpoint,
        with_checkpoint: bool,
    ) -> Result<(), StoreError> {
        // Taken out for the attempt: a connection that failed or was given up half-way is never used again.
        let writer = self.writer.take();
        let (store, node, epoch) = (&self.store, self.node, self.epoch);
        let attempt = async {
            let mut writer = connected(writer, store, node, epoch).await?;
            let begun = Instant::now();
            writer.commit(batch, head, with_checkpoint).await?;
            Ok((writer, begun.elapsed()))
        };
        let (writer, took) = expiring(attempt, &self.store).await?;
        self.writer = Some(writer);
        self.patience.committed_in(took);
        Ok(())
    }

    /// Publishes the newest head as a checkpoint, if that is still to be done. Not tried again at once when
    /// it fails: the next batch or the next interval brings another.
    async fn publish(&mut self) -> Result<(), ProjectorError> {
        self.checkpoint_due = Instant::now() + CHECKPOINT_INTERVAL;
        let Some(head) = self.unpublished.clone() else { return Ok(()) };
        let writer = self.writer.take();
        let (store, node, epoch) = (&self.store, self.node, self.epoch);
        let attempt = async {
            let mut writer = connected(writer, store, node, epoch).await?;
            writer.checkpoint(&head).await?;
            Ok(writer)
        };
        match expiring(attempt, &self.store).await {
            Ok(writer) => {
                self.writer = Some(writer);
                self.unpublished = None;
            }
            Err(error) => self.report(error)?,
        }
        Ok(())
    }

    fn head(&self, size: u64, root: Hash) -> Result<SignedCheckpoint, KeyError> {
        Checkpoint::new(self.node, size, root, (self.clock)()).sign(&self.key)
    }

    /// Tells a failure that may pass; gives back one that will not.
    fn report(&self, error: StoreError) -> Result<(), ProjectorError> {
        if !error.is_passing() {
            return Err(error.into());
        }
        let text = error.to_string();
        if self.progress.borrow().last_error.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "the audit store is away; the journal keeps the rows");
        }
        self.tell(|progress| progress.last_error = Some(text));
        Ok(())
    }

    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }
}

/// The writer as it is, or, after the last attempt failed, on a new connection.
async fn connected(
    writer: Option<Writer>,
    store: &Store,
    node: u16,
    epoch: i64,
) -> Result<Writer, StoreError> {
    match writer {
        Some(writer) => Ok(writer),
        None => Writer::reconnect(store, node, epoch).await,
    }
}

async fn expiring<T>(
    attempt: impl Future<Output = Result<T, StoreError>>,
    store: &Store,
) -> Result<T, StoreError> {
    timeout(COMMIT_TIMEOUT, attempt).await.unwrap_or_else(|_| {
        Err(StoreError::Database {
            store: store.name().to_owned(),
            doing: "waiting for an answer",
            source: std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
        })
    })
}

/// Pauses that double up to a maximum, and end some time after shutdown was asked for.
struct Retry {
    pause: Duration,
    drain: Duration,
    deadline: Option<Instant>,
}

impl Retry {
    fn new(drain: Duration) -> Self {
        Self { pause: RETRY_MIN, drain, deadline: None }
    }

    /// False when it is time to give up.
    async fn pause(&mut self, shutdown: &mut watch::Receiver<bool>) -> bool {
        if !is_stopping(shutdown) {
            tokio::select! {
                () = sleep(self.pause) => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
        } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return false;
        } else {
            self.deadline.get_or_insert_with(|| Instant::now() + self.drain);
            sleep(self.pause.min(self.drain)).await;
        }
        self.pause = (self.pause * 2).min(RETRY_MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_longer_for_company_where_commits_are_slow_but_not_for_ever() {
        let patience = Patience::default();
        assert_eq!(patience.get(), BATCH_AGE_MIN);
        for (commit_ms, wait_ms) in [(1, 50), (20, 200), (99, 990), (400, 1_000), (3, 50)] {
            patience.committed_in(Duration::from_millis(commit_ms));
            assert_eq!(patience.get(), Duration::from_millis(wait_ms));
        }
        patience.committed_in(Duration::MAX);
        assert_eq!(patience.get(), BATCH_AGE_MAX);
    }

    #[tokio::test]
    async fn retrying_ends_after_shutdown_and_the_drain_time() {
        let (stop, mut shutdown) = watch::channel(false);
        let mut retry = Retry::new(Duration::from_millis(20));
        assert!(retry.pause(&mut shutdown).await);
        stop.send(true).unwrap();
        let begun = Instant::now();
        while retry.pause(&mut shutdown).await {
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
    }
}
