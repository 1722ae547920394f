//! What appenders, the writer thread and readers share.
//!
//! Two locks, never held together and never across I/O: `pending` between appenders and the writer, `progress`
//! between the writer and whoever waits for it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::codec::RecordTooLarge;
use crate::error::Failure;
use crate::frame::{self, BATCH_FRAME_BYTES};
use crate::record::Offset;
use crate::room::Room;

/// What may wait for the disk before the journal is congested, in bytes: about a second of 100,000 publishes a
/// second. Appending still works beyond; the server stops reading from publishers.
pub const BACKLOG_BYTES_MAX: usize = 32 << 20;

/// A batch buffer that grew beyond this is given back rather than kept, in bytes.
const BUFFER_KEEP_BYTES: usize = BACKLOG_BYTES_MAX;

/// What the writer thread reports, in order.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Everything so far is durable as [`crate::Commit`] defines it.
    Durable {
        /// All records below are durable.
        offset: Offset,
        /// All records and marks below are durable, counted as [`crate::Log::entries`] counts.
        entries: u64,
    },
    /// A sync came back after so long.
    Synced(Duration),
    /// Nothing more will become durable. Reported once, as the last.
    Failed(Failure),
}

/// A place in the segments: everything before it may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) base: Offset,
    pub(crate) position: u64,
}

/// How far the writer has come.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    pub(crate) durable: Offset,
    pub(crate) entries: u64,
    /// Synced, so that no crash takes it back; with [`crate::Commit::Off`] written.
    pub(crate) readable: Place,
    pub(crate) failure: Option<Failure>,
}

/// Frames on their way to the writer. `buffer` begins with room for a batch frame.
#[derive(Debug)]
struct Pending {
    buffer: Vec<u8>,
    /// What `next` and `entries` were after the last frame that went into the buffer.
    buffered: (Offset, u64),
    closing: bool,
    /// After closing or a failure appends are numbered and let go: nobody may believe them durable.
    discarding: bool,
    too_large: Option<RecordTooLarge>,
}

/// What the writer is to do next.
#[derive(Debug)]
pub(crate) enum Work {
    /// Write the buffer; afterwards `next` and `entries` are reached.
    Batch { next: Offset, entries: u64 },
    /// The deadline has passed.
    Deadline,
    /// Nothing is left and nothing will come.
    Close,
    /// Everything before it is written; this cannot be.
    Refuse(RecordTooLarge),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pending: Mutex<Pending>,
    /// The next record's offset. Like `entries` changed only under `pending`, and read by appenders without it.
    next: AtomicU64,
    /// Records and marks that were appended.
    entries: AtomicU64,
    work: Condvar,
    progress: Mutex<Reached>,
    moved: Condvar,
    backlog_bytes: AtomicUsize,
    pub(crate) room: Room,
    /// When the sync began that has not come back.
    syncing_since: Mutex<Option<Instant>>,
}

impl Shared {
    pub(crate) fn new(next: Offset, readable: Place, room: Room) -> Self {
        Self {
            pending: Mutex::new(Pending {
                buffer: vec![0; BATCH_FRAME_BYTES],
                buffered: (next, 0),
                closing: false,
                discarding: false,
                too_large: None,
            }),
            next: AtomicU64::new(next.0),
            entries: AtomicU64::new(0),
            work: Condvar::new(),
            progress: Mutex::new(Reached { durable: next, entries: 0, readable, failure: None }),
            moved: Condvar::new(),
            backlog_bytes: AtomicUsize::new(0),
            room,
            syncing_since: Mutex::new(None),
        }
    }

    /// Appends a frame that takes an offset.
    pub(crate) fn append(&self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), RecordTooLarge>) -> Offset {
        let mut pending = self.pending.lock();
        let offset = self.next_offset();
        self.next.store(offset.0 + 1, Ordering::Relaxed);
        self.push(&mut pending, offset, encode);
        offset
    }

    /// Appends a frame that takes none.
    pub(crate) fn mark(&self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), RecordTooLarge>) {
        let mut pending = self.pending.lock();
        self.push(&mut pending, self.next_offset(), encode);
    }

    fn push(
        &self,
        pending: &mut Pending,
        offset: Offset,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), RecordTooLarge>,
    ) {
        let entries = self.entries() + 1;
        self.entries.store(entries, Ordering::Relaxed);
        if pending.discarding {
            return;
        }
        let before = pending.buffer.len();
        match frame::push(&mut pending.buffer, offset, encode) {
            Ok(()) => pending.buffered = (self.next_offset(), entries),
            Err(too_large) => {
                pending.too_large = Some(too_large);
                pending.discarding = true;
            }
        }
        self.backlog_bytes.fetch_add(pending.buffer.len() - before, Ordering::Relaxed);
        self.work.notify_one();
    }

    pub(crate) fn next_offset(&self) -> Offset {
        Offset(self.next.load(Ordering::Relaxed))
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(crate) fn backlog_bytes(&self) -> usize {
        self.backlog_bytes.load(Ordering::Relaxed)
    }

    /// Runs a sync, and returns how long it took.
    pub(crate) fn time_sync<E>(&self, sync: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
        let began = Instant::now();
        *self.syncing_since.lock() = Some(began);
        let outcome = sync();
        *self.syncing_since.lock() = None;
        outcome.map(|()| began.elapsed())
    }

    /// How long the sync under way has taken; zero while there is none.
    pub(crate) fn syncing_for(&self) -> Duration {
        self.syncing_since.lock().map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// Lets the writer finish what is pending and end.
    pub(crate) fn close(&self) {
        let mut pending = self.pending.lock();
        pending.closing = true;
        pending.discarding = true;
        self.work.notify_one();
    }

    /// Waits for work and swaps the pending frames into `buffer`, whose content is written and no longer needed.
    pub(crate) fn take(&self, buffer: &mut Vec<u8>, deadline: Option<Instant>) -> Work {
        if buffer.capacity() > BUFFER_KEEP_BYTES {
            *buffer = Vec::new();
        }
        buffer.clear();
        buffer.resize(BATCH_FRAME_BYTES, 0);
        let mut pending = self.pending.lock();
        loop {
            if pending.buffer.len() > BATCH_FRAME_BYTES {
                std::mem::swap(&mut pending.buffer, buffer);
                let (next, entries) = pending.buffered;
                return Work::Batch { next, entries };
            }
            if let Some(too_large) = pending.too_large.take() {
                return Work::Refuse(too_large);
            }
            if pending.closing {
                return Work::Close;
            }
            match deadline {
                None => self.work.wait(&mut pending),
                Some(deadline) => {
                    if self.work.wait_until(&mut pending, deadline).timed_out() {
                        return Work::Deadline;
                    }
                }
            }
        }
    }

    /// Takes written frames off the backlog.
    pub(crate) fn written(&self, buffer: &[u8]) {
        self.backlog_bytes.fetch_sub(buffer.len().saturating_sub(BATCH_FRAME_BYTES), Ordering::Relaxed);
    }

    pub(crate) fn reached(&self) -> Reached {
        self.progress.lock().clone()
    }

    pub(crate) fn durable(&self) -> Offset {
        self.progress.lock().durable
    }

    pub(crate) fn readable(&self) -> Place {
        self.progress.lock().readable
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.progress.lock().failure.clone()
    }

    /// Changes how far the writer has come and wakes who waits for it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Reached)) {
        change(&mut self.progress.lock());
        self.moved.notify_all();
    }

    /// Waits until `enough`, at most so long; whether it came.
    pub(crate) fn wait(&self, timeout: Duration, enough: impl Fn(&Reached) -> bool) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut reached = self.progress.lock();
        while !enough(&reached) {
            match deadline {
                None => self.moved.wait(&mut reached),
                Some(deadline) => {
                    if self.moved.wait_until(&mut reached, deadline).timed_out() {
                        return enough(&reached);
                    }
                }
            }
        }
        true
    }

    /// Ends the journal's life: nothing more becomes durable.
    pub(crate) fn fail(&self, failure: &Failure) {
        {
            let mut pending = self.pending.lock();
            pending.discarding = true;
            pending.buffer = vec![0; BATCH_FRAME_BYTES];
        }
        self.backlog_bytes.store(0, Ordering::Relaxed);
        self.update(|reached| reached.failure = Some(failure.clone()));
    }
}
