//! Brings a directory into the state in which writing can go on: reads every frame, cuts off a torn end.
//!
//! A journal with keys goes on in a new segment each time: no position is ever written twice under one key, and what is
//! written is sealed with the newest.
//!
//! It is thorough rather than quick, because a broker must not run on a record that it cannot prove; the core reads
//! the same frames directly afterwards.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Damage, Flaw, OpenError, ReadError};
use crate::frame::{self, BATCH_FRAME_BYTES, Batch};
use crate::index::{Index, Segments};
use crate::keys::{KeyRing, Refused};
use crate::reader::{Reader, Segment};
use crate::record::Offset;
use crate::scanner::Step;
use crate::seal::{SealedWith, SegmentKey};
use crate::segment::{self, Header, SPARE_FILE};
use crate::storage::{SegmentFile, Storage};
use crate::tail::Tail;

/// What opening a journal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The oldest record there is, or `next_offset` where there is none.
    pub first_offset: Offset,
    /// What the next record gets.
    pub next_offset: Offset,
    /// Number of segments.
    pub segments: usize,
    /// Their written bytes.
    pub bytes: u64,
    /// What a crash had cut short and recovery removed; nothing in it had been reported durable.
    pub torn: Option<Torn>,
}

/// A write that never became durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment it was in.
    pub file: PathBuf,
    /// Where it began, in bytes.
    pub position: u64,
    /// How many bytes of it were there.
    pub bytes: u64,
}

/// The segment being written.
pub(crate) struct Active {
    pub(crate) file: Box<dyn SegmentFile>,
    pub(crate) path: PathBuf,
    pub(crate) base: Offset,
    pub(crate) salt: u64,
    /// Of a sealed segment.
    pub(crate) key: Option<SegmentKey>,
    /// Where the next batch goes.
    pub(crate) position: u64,
    /// Everything before it survives power loss.
    pub(crate) synced: u64,
    /// Up to here the disk holds written bytes, frames or zeros.
    pub(crate) filled: u64,
    /// What the next record gets.
    pub(crate) next: Offset,
}

impl Active {
    /// Completes the batch frame that `frames` have room for at their beginning; returns them as they are to lie in the
    /// file from the position on. `sealed` holds them in a sealed segment.
    pub(crate) fn stored<'a>(
        &self,
        frames: &'a mut [u8],
        sealed: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], Refused> {
        let head = Batch { salt: self.salt, position: self.position, synced: self.synced };
        frames[..BATCH_FRAME_BYTES].copy_from_slice(&frame::batch(self.next, &head));
        let Some(key) = &self.key else { return Ok(frames) };
        sealed.clear();
        frame::seal_all(frames, self.position, key, sealed)?;
        Ok(sealed)
    }
}

/// A segment that is full.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) base: Offset,
    /// Written bytes.
    pub(crate) bytes: u64,
    pub(crate) index: Index,
}

/// Everything that the journal starts from.
pub(crate) struct Recovered {
    pub(crate) active: Active,
    pub(crate) segments: Segments,
    pub(crate) report: Recovery,
}

/// Checks all segments of `directory` and makes the last one ready for writing; makes the first of all where there
/// is none. The caller holds the lock.
pub(crate) fn recover(
    directory: &Path,
    node: u16,
    segment_bytes: u64,
    on: &Arc<dyn Storage>,
    keys: Option<&KeyRing>,
) -> Result<Recovered, OpenError> {
    let storage = &**on;
    match storage.remove(&directory.join(SPARE_FILE)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::io("remove", directory.join(SPARE_FILE), error)),
    }
    let mut files = segment::list(storage, directory)?;
    if let Some((base, path)) = files.last()
        && let Some(lost) = segment::open(storage, *base, path)?.1.lost
    {
        // Nothing is made in another node's journal, or in one whose keys are not there.
        closed_segments(storage, keys, &files, node)?;
        let identity = (node, lost.until, segment::HEADER_BYTES as u64);
        create_spare(directory, segment_bytes, storage)
            .and_then(|spare| name_segment(directory, spare, identity, keys, &mut [], storage))
            .map_err(|error| OpenError::io("make a segment in", directory, error))?;
        files = segment::list(storage, directory)?;
    }
    let Some((first, last)) = files.first().zip(files.last()) else {
        let active = create_spare(directory, segment_bytes, storage)
            .and_then(|spare| name_segment(directory, spare, (node, Offset(0), 0), keys, &mut [], storage))
            .map_err(|error| OpenError::io("make a segment in", directory, error))?;
        let report = Recovery {
            first_offset: Offset(0),
            next_offset: Offset(0),
            segments: 1,
            bytes: active.position,
            torn: None,
        };
        let segments = Segments::new(VecDeque::new(), active.base);
        return Ok(Recovered { active, segments, report });
    };
    let mut segments = Segments::new(closed_segments(storage, keys, &files, node)?, last.0);
    storage.drop_cache(&last.1).map_err(|error| OpenError::io("read", &last.1, error))?;
    let segment = read_all(on, keys, directory, first.0, &mut segments)?;
    let torn = torn_end(&segment)?;
    let position = segment.scanner.next_position();
    let file = storage.open(&segment.path).map_err(|error| OpenError::io("write", &segment.path, error))?;
    if torn.is_some() {
        // Cutting off and growing again leaves zeros, so that nothing old can ever follow a new frame.
        file.set_len(position).map_err(|error| OpenError::io("truncate", &segment.path, error))?;
        file.sync().map_err(|error| OpenError::io("sync", &segment.path, error))?;
    }
    match keys {
        None => file.preallocate(segment_bytes),
        Some(_) => file.set_len(position),
    }
    .map_err(|error| OpenError::io("resize", &segment.path, error))?;
    // After kill -9 what was read may still be in memory only.
    file.sync().map_err(|error| OpenError::io("sync", &segment.path, error))?;
    storage.sync_directory(directory).map_err(|error| OpenError::io("sync", directory, error))?;
    let next_offset = segment.expected;
    let active = match keys {
        None => Active {
            file,
            path: segment.path,
            base: segment.header.base,
            salt: segment.header.salt,
            key: None,
            position,
            synced: position,
            filled: position,
            next: next_offset,
        },
        Some(_) => begin_anew(directory, &segment, keys, &mut segments, segment_bytes, storage)?,
    };
    let report = Recovery {
        first_offset: first.0,
        next_offset,
        segments: segments.closed.len() + 1,
        bytes: segments.closed.iter().map(|closed| closed.bytes).sum::<u64>() + active.position,
        torn,
    };
    Ok(Recovered { active, segments, report })
}

/// Begins a segment behind `last`, which is at its end; in its place where it holds no record, since the two would have
/// one name. Marks in it are carried over.
fn begin_anew(
    directory: &Path,
    last: &Segment,
    keys: Option<&KeyRing>,
    segments: &mut Segments,
    segment_bytes: u64,
    storage: &dyn Storage,
) -> Result<Active, OpenError> {
    let Header { node, base, previous_bytes, .. } = last.header;
    let (end, next) = (last.scanner.next_position(), last.expected);
    let failed = |error| OpenError::io("make a segment in", directory, error);
    let spare = create_spare(directory, segment_bytes, storage).map_err(failed)?;
    if next > base {
        let active = name_segment(directory, spare, (node, next, end), keys, &mut [], storage);
        segments.turn(end, next);
        return active.map_err(failed);
    }
    let mut marks = marks(storage, keys, last)?;
    let active = name_segment(directory, spare, (node, base, previous_bytes), keys, &mut marks, storage);
    segments.restart();
    active.map_err(failed)
}

/// The entries of a segment without a record as plain frames, behind room for a batch frame; empty where it has none.
fn marks(storage: &dyn Storage, keys: Option<&KeyRing>, last: &Segment) -> Result<Vec<u8>, ReadError> {
    let mut at = Segment::open(storage, keys, last.header.base, last.path.clone())?;
    let mut frames = vec![0; BATCH_FRAME_BYTES];
    while matches!(at.advance(last.scanner.next_position())?, Step::Frame) {
        let Some(frame) = at.scanner.frame().filter(|frame| frame.batch().is_none()) else { continue };
        frame::push(&mut frames, frame.offset, |out| {
            out.extend_from_slice(frame.body);
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap_or_else(|never| match never {});
    }
    if frames.len() == BATCH_FRAME_BYTES {
        frames.clear();
    }
    Ok(frames)
}

/// Makes a segment under the spare's name; [`name_segment`] gives it its own.
pub(crate) fn create_spare(
    directory: &Path,
    segment_bytes: u64,
    storage: &dyn Storage,
) -> std::io::Result<Box<dyn SegmentFile>> {
    let file = storage.create(&directory.join(SPARE_FILE))?;
    file.preallocate(segment_bytes)?;
    Ok(file)
}

/// Makes a preallocated spare the segment that begins at `base`, with `frames`, which begin with room for a batch frame, or
/// none. Header and frames are durable before the name is, so that a segment without a sound header is damage and never
/// an accident.
pub(crate) fn name_segment(
    directory: &Path,
    spare: Box<dyn SegmentFile>,
    (node, base, previous_bytes): (u16, Offset, u64),
    keys: Option<&KeyRing>,
    frames: &mut [u8],
    storage: &dyn Storage,
) -> std::io::Result<Active> {
    // Unknown to whoever writes payloads; a hasher's keys are the standard library's random numbers.
    let salt = RandomState::new().build_hasher().finish();
    let sealed = keys.map(SealedWith::newest).transpose().map_err(std::io::Error::other)?;
    let header = Header { node, base, salt, previous_bytes, sealed, lost: None };
    let path = directory.join(segment::file_name(base));
    let key = header.key(keys, &path).map_err(std::io::Error::other)?;
    let position = segment::HEADER_BYTES as u64;
    let mut active = Active {
        file: spare,
        path,
        base,
        salt,
        key,
        position,
        synced: position,
        filled: position,
        next: base,
    };
    active.file.write_all_at(&header.encode(), 0)?;
    if !frames.is_empty() {
        let mut sealed = Vec::new();
        let stored = active.stored(frames, &mut sealed).map_err(std::io::Error::other)?;
        active.file.write_all_at(stored, position)?;
        active.position += stored.len() as u64;
    }
    active.file.sync()?;
    (active.synced, active.filled) = (active.position, active.position);
    storage.rename(&directory.join(SPARE_FILE), &active.path)?;
    storage.sync_directory(directory)?;
    Ok(active)
}

/// Checks whose journal it is and that its keys are there, and learns from each header where the segment before ends.
fn closed_segments(
    storage: &dyn Storage,
    keys: Option<&KeyRing>,
    files: &[(Offset, PathBuf)],
    node: u16,
) -> Result<VecDeque<Closed>, OpenError> {
    let mut closed = VecDeque::with_capacity(files.len());
    let (mut previous, mut was_sealed) = (None, false);
    for (base, path) in files {
        let (_, header) = segment::open(storage, *base, path)?;
        if header.node != node {
            return Err(OpenError::Node { file: path.clone(), found: header.node, expected: node });
        }
        // Asked for before anything is read, which may take a while.
        let is_sealed = header.key(keys, path)?.is_some();
        if was_sealed && !is_sealed && header.lost.is_none() {
            return Err(ReadError::from(Damage { file: path.clone(), position: 0, flaw: Flaw::Plain }).into());
        }
        was_sealed |= is_sealed;
        if let Some((base, lost)) = previous.replace((*base, header.lost)) {
            let bytes = if lost.is_some() { segment::HEADER_BYTES as u64 } else { header.previous_bytes };
            closed.push_back(Closed { base, bytes, index: Index::default() });
        }
    }
    Ok(closed)
}

/// Reads every entry and notes where they lie; returns the last segment, at its end.
fn read_all(
    storage: &Arc<dyn Storage>,
    keys: Option<&KeyRing>,
    directory: &Path,
    first: Offset,
    segments: &mut Segments,
) -> Result<Segment, OpenError> {
    let mut reader = Reader::open_on(Arc::clone(storage), directory, first)?.with_keys(keys.cloned());
    while reader.next()?.is_some() {
        let at = reader.segment();
        if let Some((at, frame)) = at.and_then(|at| Some((at, at.scanner.frame()?))) {
            segments.note(at.header.base, frame.offset, at.scanner.position());
        }
    }
    reader.into_segment().ok_or_else(|| {
        let vanished = std::io::Error::new(std::io::ErrorKind::NotFound, "the segments have vanished");
        OpenError::io("read", directory, vanished)
    })
}

fn torn_end(segment: &Segment) -> Result<Option<Torn>, ReadError> {
    let position = segment.scanner.next_position();
    match segment.judge_tail()? {
        Tail::Unused => Ok(None),
        Tail::Torn(bytes) => Ok(Some(Torn { file: segment.path.clone(), position, bytes })),
        Tail::Damaged => Err(segment.damaged(position, Flaw::Unreachable)),
    }
}
