//! Brings a directory into the state in which writing can go on: reads every frame, cuts off a torn end.
//!
//! It is thorough rather than quick, because a broker must not run on a record that it cannot prove; the core reads
//! the same frames directly afterwards.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use crate::error::{Flaw, OpenError, ReadError};
use crate::index::{Index, Segments};
use crate::reader::{Reader, Segment};
use crate::record::Offset;
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
    /// Where the next batch goes.
    pub(crate) position: u64,
    /// Everything before it survives power loss.
    pub(crate) synced: u64,
    /// Up to here the disk holds written bytes, frames or zeros.
    pub(crate) filled: u64,
    /// What the next record gets.
    pub(crate) next: Offset,
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
    storage: &dyn Storage,
) -> Result<Recovered, OpenError> {
    match storage.remove(&directory.join(SPARE_FILE)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::io("remove", directory.join(SPARE_FILE), error)),
    }
    let files = segment::list(directory)?;
    let Some((first, last)) = files.first().zip(files.last()) else {
        let active = first_segment(directory, node, segment_bytes, storage)?;
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
    let mut segments = Segments::new(closed_segments(&files, node)?, last.0);
    read_from_disk(&last.1)?;
    let segment = read_all(directory, first.0, &mut segments)?;
    let torn = torn_end(&segment)?;
    let position = segment.scanner.next_position();
    let file = storage.open(&segment.path).map_err(|error| OpenError::io("write", &segment.path, error))?;
    if torn.is_some() {
        // Cutting off and growing again leaves zeros, so that nothing old can ever follow a new frame.
        file.set_len(position).map_err(|error| OpenError::io("truncate", &segment.path, error))?;
        file.sync().map_err(|error| OpenError::io("sync", &segment.path, error))?;
    }
    file.preallocate(segment_bytes).map_err(|error| OpenError::io("preallocate", &segment.path, error))?;
    // After kill -9 what was read may still be in memory only.
    file.sync().map_err(|error| OpenError::io("sync", &segment.path, error))?;
    storage.sync_directory(directory).map_err(|error| OpenError::io("sync", directory, error))?;
    let report = Recovery {
        first_offset: first.0,
        next_offset: segment.expected,
        segments: files.len(),
        bytes: segments.closed.iter().map(|closed| closed.bytes).sum::<u64>() + position,
        torn,
    };
    let active = Active {
        file,
        path: segment.path,
        base: segment.header.base,
        salt: segment.header.salt,
        position,
        synced: position,
        filled: position,
        next: segment.expected,
    };
    Ok(Recovered { active, segments, report })
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

/// Makes a preallocated spare the segment that begins at `base`. Its header is durable before its name is, so that
/// a segment without a sound header is damage and never an accident.
pub(crate) fn name_segment(
    directory: &Path,
    spare: Box<dyn SegmentFile>,
    (node, base, previous_bytes): (u16, Offset, u64),
    storage: &dyn Storage,
) -> std::io::Result<Active> {
    // Unknown to whoever writes payloads; a hasher's keys are the standard library's random numbers.
    let salt = RandomState::new().build_hasher().finish();
    let header = Header { node, base, salt, previous_bytes }.encode();
    spare.write_all_at(&header, 0)?;
    spare.sync()?;
    let path = directory.join(segment::file_name(base));
    storage.rename(&directory.join(SPARE_FILE), &path)?;
    storage.sync_directory(directory)?;
    let position = header.len() as u64;
    Ok(Active { file: spare, path, base, salt, position, synced: position, filled: position, next: base })
}

fn first_segment(
    directory: &Path,
    node: u16,
    segment_bytes: u64,
    storage: &dyn Storage,
) -> Result<Active, OpenError> {
    create_spare(directory, segment_bytes, storage)
        .and_then(|spare| name_segment(directory, spare, (node, Offset(0), 0), storage))
        .map_err(|error| OpenError::io("make a segment in", directory, error))
}

/// Checks whose journal it is, and learns from each header where the segment before ends.
fn closed_segments(files: &[(Offset, PathBuf)], node: u16) -> Result<VecDeque<Closed>, OpenError> {
    let mut closed = VecDeque::with_capacity(files.len());
    let mut previous = None;
    for (base, path) in files {
        let (_, header) = segment::open(*base, path)?;
        if header.node != node {
            return Err(OpenError::Node { file: path.clone(), found: header.node, expected: node });
        }
        if let Some(base) = previous.replace(*base) {
            closed.push_back(Closed { base, bytes: header.previous_bytes, index: Index::default() });
        }
    }
    Ok(closed)
}

/// Has the last segment read from the disk itself: after a failed sync the page cache may hold what the disk does not.
fn read_from_disk(path: &Path) -> Result<(), OpenError> {
    let file = std::fs::File::open(path).map_err(|error| OpenError::io("read", path, error))?;
    file.sync_all().map_err(|error| OpenError::io("sync", path, error))?;
    if let Err(error) = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed) {
        tracing::debug!(file = %path.display(), %error, "the page cache is kept");
    }
    Ok(())
}

/// Reads every entry and notes where they lie; returns the last segment, at its end.
fn read_all(directory: &Path, first: Offset, segments: &mut Segments) -> Result<Segment, OpenError> {
    let mut reader = Reader::open(directory, first)?;
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
