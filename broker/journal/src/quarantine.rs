//! Takes what is damaged out of a journal on purpose, so that it opens again: nothing is thrown away, no offset is ever
//! used twice, and what is lost stays visible.
//!
//! A damaged segment is copied whole and cut where the damage begins. The records from there to the next segment become a
//! segment of lost ones ([`crate::lost`]); later segments stay as they are. Each step leaves a journal that this, called
//! again, can go on with: the copy is durable before anything is changed, and the lost records have their segment
//! before the bytes go that say how many they were.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::codec;
use crate::error::{Damage, Flaw, OpenError, ReadError};
use crate::frame::{self, BATCH_SALT_AT};
use crate::keys::KeyRing;
use crate::lock::Lock;
use crate::lost::Lost;
use crate::options::JournalOptions;
use crate::reader::Segment;
use crate::record::Offset;
use crate::scanner::Step;
use crate::segment::{self, Header};
use crate::storage::Disk;
use crate::tail::Tail;

/// A segment of lost records before it has its name.
const PART_FILE: &str = "lost.part";
/// The least that a record takes: frame header, kind, instant, a byte, and the lengths of its strings.
const RECORD_FRAME_BYTES_MIN: u64 = frame::HEADER_BYTES as u64 + 1 + 8 + 1 + 6 * 4;

/// What was cut out of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: PathBuf,
    /// Where the damage began, in bytes; everything from there on was cut off.
    pub position: u64,
    /// What was wrong.
    pub flaw: String,
    /// The segment as it was, whole; `None` where it is missing.
    pub kept: Option<PathBuf>,
    /// Offsets of the records that the journal has lost.
    pub lost: Range<u64>,
}

/// What others know of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Offsets below it are used, even where the journal does not know them.
    pub used: Offset,
    /// Records from here on are needed.
    pub needed: Offset,
}

/// A segment as far as it can be read.
struct Found {
    base: Offset,
    path: PathBuf,
    /// `None` where it cannot be read.
    header: Option<Header>,
    /// The sound frames end here.
    end: u64,
    /// The offset behind the last sound record.
    next: Offset,
    /// Where its last sound record begins, and its offset.
    last: Option<(u64, Offset)>,
    /// What ended it, unless it was its end.
    flaw: Option<Flaw>,
    tail: Tail,
}

/// Mends the journal that `options` name: keeps damaged segments in the directory `into` and has the journal say which
/// records it has lost, as of `at`; what is `known` besides the journal says what is missing at its ends. Nothing is done
/// where nothing is damaged. No broker may run.
///
/// # Errors
/// When the journal is in use or another node's, a key is missing, or a file cannot be read or written. What was done until
/// then is sound; call it again.
pub fn quarantine(
    options: &JournalOptions,
    into: &Path,
    known: Known,
    at: Timestamp,
) -> Result<Vec<Cut>, OpenError> {
    let directory = &options.directory;
    let _lock = Lock::acquire(directory)?;
    let files = segment::list(&Disk, directory)?;
    let mut found = Vec::with_capacity(files.len());
    for (base, path) in files {
        let segment = examine(base, path, options.keys.as_ref())?;
        if let Some(header) = segment.header.filter(|header| header.node != options.node) {
            let (file, found, expected) = (segment.path, header.node, options.node);
            return Err(OpenError::Node { file, found, expected });
        }
        found.push(segment);
    }
    let mut cuts = Vec::new();
    if let Some(lost) = missing_before(found.first(), known) {
        let segment = directory.join(segment::file_name(lost.start));
        name_lost(directory, lost.clone(), 0, (options.node, at))?;
        let flaw = Flaw::Missing(lost.start).to_string();
        cuts.push(Cut { segment, position: 0, flaw, kept: None, lost: lost.start.0..lost.end.0 });
    }
    for (index, segment) in found.iter().enumerate() {
        let follower = found.get(index + 1);
        let Some((flaw, cut)) = judge(segment, follower, known.used)? else { continue };
        let kept = keep(&segment.path, into)?;
        note(&kept, segment, &flaw, &cut)?;
        let lost = cut.lost.start.0..cut.lost.end.0;
        let cut_out = Cut { segment: segment.path.clone(), position: cut.end, flaw, kept: Some(kept), lost };
        // Where the header is gone its neighbour knows; behind lost records nobody looks.
        let before = index.checked_sub(1).and_then(|before| found.get(before)).map_or(0, |before| before.end);
        apply(directory, segment, &cut, before, (options.node, at))?;
        cuts.push(cut_out);
    }
    Ok(cuts)
}

/// What is missing before the first segment, or instead of any.
fn missing_before(first: Option<&Found>, known: Known) -> Option<Range<Offset>> {
    let (begin, end) = match first {
        Some(first) => (known.needed, first.base),
        // A journal goes on behind an offset that it has lost at least.
        None => (known.needed.min(Offset(known.used.0.saturating_sub(1))), known.used),
    };
    (begin < end).then_some(begin..end)
}

/// How a segment is to be mended.
struct Mend {
    /// The segment ends here.
    end: u64,
    /// Behind it these are lost; empty where its follower takes up its last record.
    lost: Range<Offset>,
}

/// Reads a segment as far as it is sound.
fn examine(base: Offset, path: PathBuf, keys: Option<&KeyRing>) -> Result<Found, OpenError> {
    let mut found = Found {
        base,
        path: path.clone(),
        header: None,
        end: 0,
        next: base,
        last: None,
        flaw: None,
        tail: Tail::Unused,
    };
    let mut segment = match Segment::open(&Disk, keys, base, path) {
        Ok(segment) => segment,
        Err(ReadError::Damaged(Damage { flaw, .. })) => {
            found.flaw = Some(flaw);
            return Ok(found);
        }
        Err(other) => return Err(other.into()),
    };
    found.header = Some(segment.header);
    loop {
        let before = segment.expected;
        match segment.advance(u64::MAX)? {
            Step::Frame => {}
            Step::End => break,
            Step::Bad(flaw) => {
                found.flaw = Some(flaw);
                // A sound frame in a wrong place: it begins where the damage does.
                segment.expected = before;
                break;
            }
        }
        let (position, frame) = (segment.scanner.position(), segment.frame());
        if let Some(frame) = frame.filter(|frame| frame.batch().is_none()) {
            if let Err(error) = codec::decode(frame.body) {
                found.flaw = Some(Flaw::Body(error));
                segment.expected = before;
                found.end = position;
                found.next = before;
                found.tail = Tail::Damaged;
                return Ok(found);
            }
            if frame.is_record() {
                found.last = Some((position, frame.offset));
            }
        }
    }
    found.end = segment.scanner.position();
    found.next = segment.expected;
    found.tail = match found.flaw {
        // Sound and yet wrong, or what nobody who has no key can write: never a torn write.
        Some(Flaw::Order { .. } | Flaw::Sealed) => Tail::Damaged,
        _ => segment.judge_tail()?,
    };
    Ok(found)
}

/// What is wrong with a segment before its `follower`, and how to mend it; `None` where it is sound.
fn judge(
    segment: &Found,
    follower: Option<&Found>,
    used: Offset,
) -> Result<Option<(String, Mend)>, OpenError> {
    let Some(follower) = follower else { return last(segment, used) };
    let ends_at = follower.header.map(|header| header.previous_bytes);
    let is_lost = segment.header.is_some_and(|header| header.lost.is_some());
    let is_whole = segment.header.is_some() && segment.next == follower.base;
    if is_whole && (is_lost || segment.flaw.is_none() && ends_at.is_none_or(|bytes| bytes == segment.end)) {
        return Ok(None);
    }
    if segment.next > follower.base {
        let flaw = Flaw::Order { expected: segment.next, found: follower.base };
        return Err(ReadError::from(Damage { file: follower.path.clone(), position: 0, flaw }).into());
    }
    let said = segment.flaw.map_or_else(
        || match ends_at.filter(|_| is_whole) {
            Some(bytes) => Flaw::EndsEarly(bytes).to_string(),
            None => Flaw::Missing(segment.next).to_string(),
        },
        |flaw| flaw.to_string(),
    );
    if is_whole && ends_at.is_none_or(|bytes| bytes == segment.end) {
        // What follows the end is nobody's.
        return Ok(Some((said, Mend { end: segment.end, lost: follower.base..follower.base })));
    }
    // Where only marks are missing behind the last record, that record goes with them: their place needs an offset.
    let (end, from) = match segment.last.filter(|_| is_whole) {
        Some((position, offset)) => (position, offset),
        None if is_whole => (0, segment.base),
        None => (segment.end, segment.next),
    };
    Ok(Some((said, Mend { end, lost: from..follower.base })))
}

/// As [`judge`] for the last segment, whose end a crash may have torn.
fn last(segment: &Found, used: Offset) -> Result<Option<(String, Mend)>, OpenError> {
    let is_sound = segment.header.is_some() && segment.tail != Tail::Damaged;
    if is_sound && segment.next >= used {
        return Ok(None);
    }
    let (said, until) = if is_sound {
        (
            format!(
                "it ends before record {}, but the audit store or a snapshot knows those below {used}",
                segment.next
            ),
            used,
        )
    } else {
        let said = segment.flaw.map_or_else(|| Flaw::Unreachable.to_string(), |flaw| flaw.to_string());
        (said, used_until(segment)?.max(used))
    };
    Ok(Some((said, Mend { end: segment.end, lost: segment.next..until })))
}

/// An offset that no record at or behind the damage of the last segment can have: found in the sound frames behind it, and
/// for what follows those counted by the least that a record takes.
fn used_until(segment: &Found) -> Result<Offset, OpenError> {
    let failed = |error| OpenError::io("read", &segment.path, error);
    let bytes = fs::read(&segment.path).map_err(failed)?;
    let begin =
        usize::try_from(segment.end).unwrap_or(usize::MAX).max(segment::HEADER_BYTES).min(bytes.len());
    let mut end = begin;
    let mut next = segment.next.0;
    if let Some(header) = segment.header {
        let salt = header.salt.to_le_bytes();
        let salts = bytes.windows(salt.len()).enumerate().skip(begin);
        for (salt_at, _) in salts.filter(|(_, window)| *window == salt) {
            let Some(batch_at) = salt_at.checked_sub(BATCH_SALT_AT).filter(|at| *at >= end) else { continue };
            let mut at = batch_at;
            while let Some(frame) = bytes.get(at..).and_then(sound) {
                next = next.max(frame.0);
                at += frame.1;
            }
            if at > batch_at {
                end = at;
            }
        }
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let unread = used.saturating_sub(end) as u64;
    Ok(Offset(next.saturating_add(unread.div_ceil(RECORD_FRAME_BYTES_MIN))))
}

/// The offset behind the frame that `bytes` begin with, sealed or not, and its size; `None` where it is not sound.
fn sound(bytes: &[u8]) -> Option<(u64, usize)> {
    let size = frame::frame_bytes(bytes.first_chunk()?)?;
    let frame = frame::parse(bytes.get(..size)?)?;
    Some((frame.offset.0.saturating_add(u64::from(frame.is_record())), size))
}

/// Copies a segment as it is to where it can be looked at; returns the copy, which is durable.
fn keep(segment: &Path, into: &Path) -> Result<PathBuf, OpenError> {
    let failed = |error| OpenError::io("keep a copy in", into, error);
    DirBuilder::new().recursive(true).mode(0o700).create(into).map_err(failed)?;
    let name = segment.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 0.. {
        let copy = into.join(if number == 0 { name.clone() } else { format!("{name}.{number}") });
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy) {
            Ok(file) => file,
            // An earlier one: it may have what is no longer to be had.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(failed(error)),
        };
        let mut source = File::open(segment).map_err(|error| OpenError::io("read", segment, error))?;
        io::copy(&mut source, &mut file).and_then(|_| file.sync_all()).map_err(failed)?;
        sync_directory(into)?;
        return Ok(copy);
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}

/// Leaves a note beside the copy.
fn note(kept: &Path, segment: &Found, flaw: &str, mend: &Mend) -> Result<(), OpenError> {
    let mut text = String::new();
    let Range { start: Offset(start), end: Offset(end) } = mend.lost;
    // Writing to a String cannot fail.
    let _ = writeln!(text, "segment: {}", segment.path.display());
    let _ = writeln!(text, "damaged at byte {}: {flaw}", mend.end);
    let _ = match end - start {
        0 => writeln!(text, "no record was lost"),
        count => writeln!(text, "{count} records lost, offsets {start} to {}", end - 1),
    };
    let path = PathBuf::from(format!("{}.txt", kept.display()));
    let failed = |error| OpenError::io("write", &path, error);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Changes the journal: first who is lost, then what they lay in.
fn apply(
    directory: &Path,
    segment: &Found,
    mend: &Mend,
    before_bytes: u64,
    (node, at): (u16, Timestamp),
) -> Result<(), OpenError> {
    let Range { start, end } = mend.lost;
    let in_place = start == segment.base;
    if start < end {
        let previous_bytes = match segment.header {
            Some(header) if in_place => header.previous_bytes,
            None => before_bytes,
            Some(_) => mend.end,
        };
        name_lost(directory, start..end, previous_bytes, (node, at))?;
    }
    if !in_place {
        let failed = |error| OpenError::io("truncate", &segment.path, error);
        let file = OpenOptions::new().write(true).open(&segment.path).map_err(failed)?;
        file.set_len(mend.end).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// Makes the segment that stands for lost records.
fn name_lost(
    directory: &Path,
    Range { start, end }: Range<Offset>,
    previous_bytes: u64,
    (node, at): (u16, Timestamp),
) -> Result<(), OpenError> {
    let part = directory.join(PART_FILE);
    let failed = |error| OpenError::io("write", &part, error);
    let lost = Some(Lost { until: end, at });
    let header = Header { node, base: start, salt: 0, previous_bytes, sealed: None, lost };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    file.and_then(|file| {
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()
    })
    .map_err(failed)?;
    fs::rename(&part, directory.join(segment::file_name(start))).map_err(failed)?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), OpenError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| OpenError::io("sync", directory, error))
}
