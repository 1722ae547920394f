//! The writer thread: takes what was appended since it last looked, writes it, syncs it, and says so.
//!
//! While it syncs, the next batch gathers: the slower the disk, the larger the groups. On a quick disk [`PACE`]
//! makes them large enough. It owns the segment files; nobody else writes to them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::Failure;
use crate::frame::{self, BATCH_FRAME_BYTES};
use crate::index::Segments;
use crate::keys::KeyRing;
use crate::options::Commit;
use crate::record::Offset;
use crate::recovery::{self, Active};
use crate::seal::TAG_BYTES;
use crate::segment;
use crate::shared::{Place, Progress, Shared, Work};
use crate::storage::{Held, SegmentFile, Storage};

/// While many wait for syncs, one begins so long after the other at the soonest: a sync costs the processor a hundred
/// microseconds and more, however little it is for, and whoever it acknowledges is woken for it.
const PACE: Duration = Duration::from_millis(1);
/// So many entries in a batch are of many, who go on sending meanwhile. Fewer are of somebody who waits for the answer.
const PACED_ENTRIES_MIN: u64 = 4;
/// Zeros are written this far ahead of the frames, in bytes. Preallocated but unwritten blocks cost a commit of the
/// file system's own journal at each sync: on ext4 0.25 to 0.32 ms, against 0.17 to 0.18 ms for blocks that were
/// written before.
const RUNWAY_BYTES: usize = 1 << 20;
/// Batches from this size on pay for their own blocks: the sync is a small part of their cost.
const RUNWAY_BATCH_BYTES_MAX: usize = RUNWAY_BYTES / 4;
static RUNWAY: [u8; RUNWAY_BYTES] = [0; RUNWAY_BYTES];
/// What is encrypted before it is written, in bytes: few enough to stay in the processor's cache, and in memory twice
/// for a moment only.
const SEALED_AT_ONCE_BYTES: usize = 1 << 20;

pub(crate) struct Writer<P> {
    /// Nobody else opens the directory before the last write.
    pub(crate) _lock: Arc<dyn Held>,
    pub(crate) storage: Arc<dyn Storage>,
    /// Every segment it writes is sealed with the newest, or none is.
    pub(crate) keys: Option<KeyRing>,
    pub(crate) directory: PathBuf,
    pub(crate) node: u16,
    pub(crate) segment_bytes: u64,
    pub(crate) commit: Commit,
    pub(crate) active: Active,
    /// The next segment, so that turning to it is quick and there is room for it even when the disk is full.
    pub(crate) spare: Option<Box<dyn SegmentFile>>,
    pub(crate) segments: Arc<Mutex<Segments>>,
    pub(crate) shared: Arc<Shared>,
    /// The batch being written.
    pub(crate) buffer: Vec<u8>,
    /// A part of it, encrypted.
    pub(crate) sealed: Vec<u8>,
    /// With [`Commit::Interval`], when what was written has to be synced.
    pub(crate) sync_due: Option<Instant>,
    pub(crate) on_progress: P,
}

impl<P: Fn(Progress)> Writer<P> {
    /// Runs until the journal is closed or the disk fails.
    pub(crate) fn run(mut self) {
        let mut ended = EndGuard { shared: Arc::clone(&self.shared), ended: false };
        self.prepare_spare();
        let mut before = 0;
        loop {
            let work = self.shared.take(&mut self.buffer, self.sync_due);
            let begun = Instant::now();
            let entries = match work {
                Work::Batch { entries, .. } => entries - std::mem::replace(&mut before, entries),
                _ => 0,
            };
            if !self.step(work) {
                break;
            }
            if matches!(self.commit, Commit::Always) {
                std::thread::sleep(pause(entries, begun.elapsed()));
            }
        }
        ended.ended = true;
    }

    /// Does what is to be done, and tells of a failure; whether there can be more.
    fn step(&mut self, work: Work) -> bool {
        self.work(work).unwrap_or_else(|failure| {
            tracing::error!(%failure, "the journal has failed");
            self.shared.fail(&failure);
            (self.on_progress)(Progress::Failed(failure));
            false
        })
    }

    fn work(&mut self, work: Work) -> Result<bool, Failure> {
        match work {
            Work::Batch { next, entries } => {
                let mut buffer = std::mem::take(&mut self.buffer);
                self.write(&mut buffer, next)?;
                self.shared.written(&buffer);
                self.buffer = buffer;
                match self.commit {
                    Commit::Always => self.sync()?,
                    Commit::Interval(interval) => {
                        let now = Instant::now();
                        self.sync_due = self.sync_due.or_else(|| now.checked_add(interval));
                        if self.sync_due.is_some_and(|due| due <= now) {
                            self.sync()?;
                        }
                    }
                    Commit::Off => {}
                }
                self.report(next, entries);
                self.prepare_spare();
            }
            Work::Deadline => {
                self.sync()?;
                self.shared.update(|reached| reached.readable = self.readable());
            }
            Work::Close => {
                self.close()?;
                return Ok(false);
            }
            Work::Refuse(too_large) => return Err(too_large.into()),
        }
        Ok(true)
    }

    /// Writes the frames of `buffer`, behind room for a batch frame; `next` is the offset after them.
    fn write(&mut self, buffer: &mut [u8], next: Offset) -> Result<(), Failure> {
        let mut begin = BATCH_FRAME_BYTES;
        while begin < buffer.len() {
            let room = self.room();
            let (bytes, next) = if self.keys.is_none() && buffer.len() - begin <= room {
                (buffer.len() - begin, next)
            } else {
                self.fitting(&buffer[begin..], room)
            };
            if bytes == 0 {
                self.turn(&buffer[begin..])?;
                continue;
            }
            // The bytes before are written already, or the room left for the first batch frame.
            self.write_batch(&mut buffer[begin - BATCH_FRAME_BYTES..begin + bytes], next)?;
            begin += bytes;
        }
        Ok(())
    }

    /// What the active segment can still take beside a batch frame, in bytes.
    fn room(&self) -> usize {
        let used = self.active.position.saturating_add((BATCH_FRAME_BYTES + self.tag_bytes()) as u64);
        usize::try_from(self.segment_bytes.saturating_sub(used)).unwrap_or(usize::MAX)
    }

    /// What sealing adds to a frame.
    fn tag_bytes(&self) -> usize {
        if self.keys.is_some() { TAG_BYTES } else { 0 }
    }

    /// How many bytes of whole frames fit into `room`, and the offset after them; no more than are sealed at once.
    ///
    /// A segment that holds no record takes frames up to its first one in any case: its successor would have its
    /// name. So a record larger than a segment finds a place too.
    fn fitting(&self, frames: &[u8], room: usize) -> (usize, Offset) {
        let at_once = if self.keys.is_some() { SEALED_AT_ONCE_BYTES } else { usize::MAX };
        let (mut bytes, mut stored, mut next) = (0, 0, self.active.next);
        while let Some((size, frame)) = frame::first(&frames[bytes..]) {
            stored += size + self.tag_bytes();
            if (stored > room && next > self.active.base) || (stored > at_once && bytes > 0) {
                break;
            }
            bytes += size;
            next.0 += u64::from(frame.is_record());
        }
        (bytes, next)
    }

    fn write_batch(&mut self, batch: &mut [u8], next: Offset) -> Result<(), Failure> {
        let stored = self.active.stored(batch, &mut self.sealed).map_err(|refused| {
            Failure::storage("encrypt", &self.active.path, std::io::Error::other(refused))
        });
        let batch = stored?;
        let active = &mut self.active;
        let written = |error| Failure::storage("write", &active.path, error);
        active.file.write_all_at(batch, active.position).map_err(written)?;
        self.segments.lock().written(batch, active.position);
        active.position += batch.len() as u64;
        active.next = next;
        if active.position > active.filled {
            active.filled = active.position;
            let runway = usize::try_from(self.segment_bytes.saturating_sub(active.filled))
                .map_or(RUNWAY_BYTES, |rest| rest.min(RUNWAY_BYTES));
            if batch.len() <= RUNWAY_BATCH_BYTES_MAX && runway > 0 {
                active.file.write_all_at(&RUNWAY[..runway], active.filled).map_err(written)?;
                active.filled += runway as u64;
            }
        }
        self.shared.room.stored(batch.len() as u64);
        // A single record may have been large.
        self.sealed.clear();
        self.sealed.shrink_to(2 * SEALED_AT_ONCE_BYTES);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        if self.active.synced < self.active.position {
            let took = self.shared.time_sync(|| self.active.file.sync());
            let took = took.map_err(|error| Failure::storage("sync", &self.active.path, error))?;
            self.active.synced = self.active.position;
            (self.on_progress)(Progress::Synced(took));
        }
        self.sync_due = None;
        Ok(())
    }

    /// Ends the active segment and begins the next, with room for the first of `frames`.
    fn turn(&mut self, frames: &[u8]) -> Result<(), Failure> {
        // In every commit mode, so that only the last segment can ever be torn.
        self.sync()?;
        let full = &self.active;
        let full_bytes = full.position;
        full.file.set_len(full.position).map_err(|error| Failure::storage("truncate", &full.path, error))?;
        let path = self.directory.join(segment::file_name(full.next));
        let failed = |error| Failure::storage("make the segment", &path, error);
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => {
                recovery::create_spare(&self.directory, self.segment_bytes, &*self.storage).map_err(failed)?
            }
        };
        let first_bytes = frame::first(frames).map_or(0, |(size, _)| size);
        let frames_bytes = BATCH_FRAME_BYTES + first_bytes + 2 * self.tag_bytes();
        let needed = (segment::HEADER_BYTES + frames_bytes) as u64;
        if needed > self.segment_bytes {
            spare.preallocate(needed).map_err(failed)?;
        }
        let identity = (self.node, full.next, full.position);
        self.active = recovery::name_segment(
            &self.directory,
            spare,
            identity,
            self.keys.as_ref(),
            &mut [],
            &*self.storage,
        )
        .map_err(failed)?;
        self.shared.room.stored(self.active.position);
        self.segments.lock().turn(full_bytes, self.active.base);
        Ok(())
    }

    /// Preallocates the next segment. That it cannot is no failure yet, but the last call before one.
    fn prepare_spare(&mut self) {
        if self.spare.is_some() {
            return;
        }
        match recovery::create_spare(&self.directory, self.segment_bytes, &*self.storage) {
            Ok(spare) => {
                self.spare = Some(spare);
                self.shared.room.set_spare_missing(false);
            }
            Err(error) => {
                if !self.shared.room.set_spare_missing(true) {
                    let directory = self.directory.display();
                    tracing::warn!(%directory, %error, "no room for the journal's next segment");
                }
            }
        }
    }

    fn readable(&self) -> Place {
        let position = match self.commit {
            Commit::Always | Commit::Interval(_) => self.active.synced,
            Commit::Off => self.active.position,
        };
        Place { base: self.active.base, position }
    }

    fn report(&self, offset: Offset, entries: u64) {
        let readable = self.readable();
        self.shared.update(|reached| {
            reached.durable = offset;
            reached.entries = entries;
            reached.readable = readable;
        });
        (self.on_progress)(Progress::Durable { offset, entries });
    }

    /// Syncs, and leaves a batch frame that vouches for all before it: after a clean end nothing passes as torn.
    fn close(&mut self) -> Result<(), Failure> {
        self.sync()?;
        let next = self.active.next;
        self.write_batch(&mut [0; BATCH_FRAME_BYTES], next)?;
        self.sync()?;
        self.shared.update(|reached| reached.readable = self.readable());
        if self.spare.take().is_some() {
            let path = self.directory.join(segment::SPARE_FILE);
            self.storage.remove(&path).map_err(|error| Failure::storage("remove", path, error))?;
        }
        Ok(())
    }
}

/// A writer without a thread, which does one thing at a time when it is told to.
pub struct Stepper<P> {
    /// `None` once it has ended.
    writer: Option<Writer<P>>,
}

impl<P> fmt::Debug for Stepper<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepper").field("ended", &self.writer.is_none()).finish_non_exhaustive()
    }
}

impl<P: Fn(Progress)> Stepper<P> {
    pub(crate) fn new(mut writer: Writer<P>) -> Self {
        writer.prepare_spare();
        Self { writer: Some(writer) }
    }

    /// Writes and syncs what was appended since it was last called, and reports it; ends the journal where that was
    /// asked for. Whether there can be more: not once the journal is closed or has failed.
    pub fn step(&mut self) -> bool {
        let Some(writer) = &mut self.writer else { return false };
        // A deadline that has passed: nothing to do is no reason to wait here.
        let work = writer.shared.take(&mut writer.buffer, Some(Instant::now()));
        let idle = matches!(work, Work::Deadline) && writer.sync_due.is_none();
        if !idle && !writer.step(work) {
            self.writer = None;
        }
        self.writer.is_some()
    }
}

/// How long the next sync is put off after one that was for so many entries and `took` so long.
fn pause(entries: u64, took: Duration) -> Duration {
    if entries >= PACED_ENTRIES_MIN { PACE.saturating_sub(took) } else { Duration::ZERO }
}

/// Tells whoever waits, should the thread end by a panic.
struct EndGuard {
    shared: Arc<Shared>,
    ended: bool,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.fail(&Failure::WriterEnded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_who_wait_share_the_next_sync_and_who_waits_alone_is_not_kept_waiting() {
        let took = PACE / 4;
        assert_eq!(pause(PACED_ENTRIES_MIN, took), PACE - took);
        assert_eq!(pause(PACED_ENTRIES_MIN - 1, took), Duration::ZERO);
        assert_eq!(pause(1_000, 2 * PACE), Duration::ZERO, "a slow disk gathers by itself");
    }
}
