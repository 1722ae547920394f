//! The journal itself: opening, appending, releasing, closing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;

use crate::codec;
use crate::error::{Failure, OpenError, ReadError, ReleaseError};
use crate::fetch;
use crate::index::Segments;
use crate::keys::KeyRing;
use crate::options::{Commit, JournalOptions};
use crate::reader::Reader;
use crate::record::{Log, Mark, Offset, Record};
use crate::recovery::{self, Recovery};
use crate::room::{Pressure, Room, Space};
use crate::segment;
use crate::shared::{BACKLOG_BYTES_MAX, Place, Progress, Shared};
use crate::snapshots::Snapshots;
use crate::storage::{Disk, Held, Storage};
use crate::writer::{Stepper, Writer};

/// An open journal. Clones are the same journal; when the last is dropped it is closed.
///
/// The progress callback runs on the writer thread, between two batches: it should hand on and return. It may hold
/// a clone, but then only [`Journal::close`] ends the journal.
#[derive(Clone, Debug)]
pub struct Journal {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    directory: PathBuf,
    commit: Commit,
    node: u16,
    shared: Arc<Shared>,
    segments: Arc<Mutex<Segments>>,
    /// One release at a time; held across I/O, but nobody else takes it.
    release: Mutex<()>,
    storage: Arc<dyn Storage>,
    keys: Option<KeyRing>,
    /// `None` where the writer has no thread of its own, or that has ended.
    writer: Mutex<Option<JoinHandle<()>>>,
    writer_thread: Option<ThreadId>,
    /// The writer holds it as long as it writes.
    lock: Weak<dyn Held>,
}

impl Journal {
    /// Opens the journal of a directory, or makes it: takes its lock, checks every frame, removes a torn end, starts
    /// the writer thread. `on_progress` is told whenever more has become durable, and once if the disk fails.
    ///
    /// # Errors
    /// When another process has it, another node or version wrote it, it is damaged, or cannot be written. Apart from
    /// the lock file, and a spare segment that goes, nothing is changed then.
    pub fn open(
        options: JournalOptions,
        on_progress: impl Fn(Progress) + Send + 'static,
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_on(Arc::new(Disk), options, on_progress)
    }

    /// As [`Journal::open`], on another disk than the operating system's.
    pub fn open_on(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
        on_progress: impl Fn(Progress) + Send + 'static,
    ) -> Result<(Self, Recovery), OpenError> {
        let directory = options.directory.clone();
        let (mut owner, report, writer) = Self::recover(storage, options, on_progress)?;
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::io("start the writer thread of", &directory, error))?;
        owner.writer_thread = Some(thread.thread().id());
        owner.writer = Mutex::new(Some(thread));
        Ok((Self { owner: Arc::new(owner) }, report))
    }

    /// As [`Journal::open_on`], without a thread: nothing is written but by [`Stepper::step`], so that a simulation
    /// decides when. [`Journal::close`] does not wait; step until the writer has ended.
    pub fn open_stepped<P: Fn(Progress)>(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
        on_progress: P,
    ) -> Result<(Self, Recovery, Stepper<P>), OpenError> {
        let (owner, report, writer) = Self::recover(storage, options, on_progress)?;
        Ok((Self { owner: Arc::new(owner) }, report, Stepper::new(writer)))
    }

    fn recover<P>(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
        on_progress: P,
    ) -> Result<(Owner, Recovery, Writer<P>), OpenError> {
        let segment_bytes = options.checked_segment_bytes()?;
        let JournalOptions { directory, node, commit, quota_bytes, keys, .. } = options;
        storage
            .make_directory(&directory)
            .map_err(|error| OpenError::io("make the directory", &directory, error))?;
        let lock = storage.lock(&directory)?;
        let held = Arc::downgrade(&lock);
        let recovered = recovery::recover(&directory, node, segment_bytes, &storage, keys.as_ref())?;
        let report = recovered.report;
        log(&directory, &report);
        let active = recovered.active;
        let readable = Place { base: active.base, position: active.position };
        let room = Room::new(report.bytes, quota_bytes);
        room.ask(&*storage, &directory)
            .map_err(|error| OpenError::io("ask for free space on", &directory, error))?;
        let shared = Arc::new(Shared::new(active.next, readable, room));
        let segments = Arc::new(Mutex::new(recovered.segments));
        let writer = Writer {
            _lock: lock,
            storage: Arc::clone(&storage),
            keys: keys.clone(),
            directory: directory.clone(),
            node,
            segment_bytes,
            commit,
            active,
            spare: None,
            segments: Arc::clone(&segments),
            shared: Arc::clone(&shared),
            buffer: Vec::new(),
            sealed: Vec::new(),
            sync_due: None,
            on_progress,
        };
        let owner = Owner {
            directory,
            commit,
            node,
            shared,
            segments,
            release: Mutex::new(()),
            storage,
            keys,
            writer: Mutex::new(None),
            writer_thread: None,
            lock: held,
        };
        Ok((owner, report, writer))
    }

    /// What it promises of a record that it has told durable.
    pub fn commit(&self) -> Commit {
        self.owner.commit
    }

    /// All records below are durable, as the commit mode defines it: their acknowledgements may leave.
    pub fn durable(&self) -> Offset {
        self.owner.shared.durable()
    }

    /// As [`Log::entries`], those that are durable.
    pub fn durable_entries(&self) -> u64 {
        self.owner.shared.reached().entries
    }

    /// Waits until records beyond `past` are durable, that is [`Journal::durable`] is above it, at most so long;
    /// returns what is durable then.
    pub fn wait_durable(&self, past: Offset, timeout: Duration) -> Offset {
        self.owner.shared.wait(timeout, |reached| reached.durable > past);
        self.durable()
    }

    /// Waits until the first `entries` entries since it was opened are durable, at most so long; whether they are. Does
    /// not wait for what will never be, once the journal is closed or has failed.
    pub fn wait_entries(&self, entries: u64, timeout: Duration) -> bool {
        let timeout = if self.owner.lock.strong_count() == 0 { Duration::ZERO } else { timeout };
        self.owner.shared.wait(timeout, |reached| reached.entries >= entries || reached.failure.is_some());
        self.durable_entries() >= entries
    }

    /// The snapshots beside its segments.
    pub fn snapshots(&self) -> Snapshots {
        let owner = &*self.owner;
        let storage = Arc::clone(&owner.storage);
        Snapshots::new(owner.directory.clone(), owner.node, storage, owner.keys.clone())
    }

    /// Why nothing more becomes durable; `None` while all is well.
    pub fn failure(&self) -> Option<Failure> {
        self.owner.shared.failure()
    }

    /// What is appended and not yet written, in bytes.
    pub fn backlog_bytes(&self) -> usize {
        self.owner.shared.backlog_bytes()
    }

    /// Whether [`BACKLOG_BYTES_MAX`] is reached: stop reading from publishers until it is not. Appending works still.
    pub fn is_congested(&self) -> bool {
        self.backlog_bytes() >= BACKLOG_BYTES_MAX
    }

    /// How short the room is, as far as the file system was asked; see [`Journal::inspect`].
    pub fn pressure(&self) -> Pressure {
        self.owner.shared.room.pressure(self.backlog_bytes())
    }

    /// What it has of the disk, and may have.
    pub fn space(&self) -> Space {
        self.owner.shared.room.space(self.backlog_bytes())
    }

    /// How long the sync under way has taken; zero while there is none.
    pub fn syncing_for(&self) -> Duration {
        self.owner.shared.syncing_for()
    }

    /// Looks after the disk: asks how much of it is free, for [`Journal::pressure`], and whether the journal is still
    /// where it was opened. To be called every second or so; blocking.
    ///
    /// # Errors
    /// When the directory was removed, replaced, or cannot be reached: nothing that is written is kept by anybody.
    pub fn inspect(&self) -> Result<Space, Failure> {
        let owner = &*self.owner;
        // Once closed the directory may be another process's.
        if let Some(lock) = owner.lock.upgrade() {
            lock.check(&owner.directory)?;
            let asked = owner.shared.room.ask(&*owner.storage, &owner.directory);
            asked.map_err(|error| Failure::storage("ask for free space on", &owner.directory, error))?;
        }
        Ok(self.space())
    }

    /// What the segments hold, in bytes; preallocated room is not counted.
    pub fn stored_bytes(&self) -> u64 {
        self.owner.shared.room.stored_bytes()
    }

    /// The oldest record that can still be read, or the next one's offset where there is none.
    pub fn first_offset(&self) -> Offset {
        self.owner.segments.lock().first_offset()
    }

    /// A reader of what is durable and safe from power loss, from the record at `from` on and the marks before it.
    /// With [`crate::Commit::Interval`] it stays behind [`Journal::durable`] by up to the interval, so that nothing
    /// which a crash could take back reaches the audit tables.
    pub fn reader(&self, from: Offset) -> Reader {
        let owner = &*self.owner;
        Reader::live(Arc::clone(&owner.storage), owner.directory.clone(), from, Arc::clone(&owner.shared))
            .with_keys(owner.keys.clone())
    }

    /// Reads back the records at `offsets`, each below [`Journal::durable`], and hands them to `each` in the same order.
    /// Quickest where they ascend. Blocking, beside writer and readers; what is passed on the way is checked too.
    ///
    /// # Errors
    /// A record that is not there: released, not yet written, or damaged. Those before it have been handed over.
    pub fn fetch(&self, offsets: &[Offset], each: impl FnMut(Offset, Record<'_>)) -> Result<(), ReadError> {
        let owner = &*self.owner;
        let written = owner.shared.durable();
        let keys = owner.keys.as_ref();
        fetch::fetch(&*owner.storage, keys, &owner.directory, &owner.segments, written, offsets, each)
    }

    /// Deletes the segments in which everything lies below the record `up_to`: everybody who reads the journal,
    /// audit and snapshot alike, must have what is in them. The newest segment always stays, and one more where
    /// marks behind the record before `up_to` may be in it. Returns the bytes freed; 0 once the journal is closed.
    ///
    /// # Errors
    /// When a file cannot be deleted. The rest stays, and the next call tries again.
    pub fn release(&self, up_to: Offset) -> Result<u64, ReleaseError> {
        let owner = &*self.owner;
        let _one_at_a_time = owner.release.lock();
        // Once closed the directory may be another process's.
        let Some(_lock) = owner.lock.upgrade() else { return Ok(0) };
        let mut freed = 0;
        loop {
            let oldest = {
                let segments = owner.segments.lock();
                let successor = segments.closed.get(1).map_or(segments.active, |closed| closed.base);
                let oldest = segments.closed.front().filter(|_| successor < up_to);
                oldest.map(|closed| (closed.base, closed.bytes))
            };
            let Some((base, bytes)) = oldest else { return Ok(freed) };
            let file = owner.directory.join(segment::file_name(base));
            // Each deletion is made durable before the next, so that a crash leaves no gap.
            let removed = match owner.storage.remove(&file) {
                // By an earlier call, which may have failed before it was durable.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            };
            let deleted = removed.and_then(|()| owner.storage.sync_directory(&owner.directory));
            deleted.map_err(|source| ReleaseError { file, source })?;
            owner.segments.lock().closed.pop_front();
            owner.shared.room.released(bytes);
            freed += bytes;
        }
    }

    /// What [`Journal::release`] is to be given to free at least so many bytes; all but the newest segment's if that is less.
    pub fn release_point(&self, bytes: u64) -> Offset {
        let segments = self.owner.segments.lock();
        let successors = segments.closed.iter().skip(1).map(|closed| closed.base).chain([segments.active]);
        let mut freed = 0;
        let needed = segments.closed.iter().zip(successors).take_while(|(closed, _)| {
            let more = freed < bytes;
            freed += closed.bytes;
            more
        });
        // The successor's first record is the first one that is kept, and may still be needed.
        needed.last().map_or(Offset(0), |(_, Offset(successor))| Offset(successor + 1))
    }

    /// Writes and syncs what was appended, ends the writer thread and closes every clone. What is appended
    /// afterwards still gets an offset, but is let go and never reported durable.
    ///
    /// # Errors
    /// The failure for which not everything that was appended is durable.
    pub fn close(&self) -> Result<(), Failure> {
        self.owner.close();
        self.failure().map_or(Ok(()), Err)
    }
}

impl Log for Journal {
    fn append(&mut self, record: &Record<'_>) -> Offset {
        self.owner.shared.append(|out| codec::encode(record, out))
    }

    fn mark(&mut self, mark: &Mark<'_>) {
        self.owner.shared.mark(|out| codec::encode_mark(mark, out));
    }

    fn next_offset(&self) -> Offset {
        self.owner.shared.next_offset()
    }

    fn readable(&self) -> Offset {
        self.durable()
    }

    fn entries(&self) -> u64 {
        self.owner.shared.entries()
    }
}

impl Owner {
    fn close(&self) {
        self.shared.close();
        // On the writer thread itself, from the progress callback, there is nothing to wait for.
        if Some(std::thread::current().id()) != self.writer_thread {
            // Under the lock, so that whoever closes at the same time also returns only when it is done. A panic of
            // the thread has been noted as the journal's failure.
            let mut writer = self.writer.lock();
            let _ended = writer.take().map(JoinHandle::join);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

fn log(directory: &Path, recovery: &Recovery) {
    let directory = directory.display();
    let (first, next) = (recovery.first_offset.0, recovery.next_offset.0);
    tracing::info!(%directory, first, next, segments = recovery.segments, "the journal is open");
    if let Some(torn) = &recovery.torn {
        let file = torn.file.display();
        tracing::warn!(%file, position = torn.position, bytes = torn.bytes, "removed a torn write");
    }
}
