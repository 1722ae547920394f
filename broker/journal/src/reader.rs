//! Reads the journal in order, from files of its own: readers never hold up the writer, nor each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::{self, Body};
use crate::error::{Damage, Flaw, ReadError};
use crate::frame::Frame;
use crate::keys::KeyRing;
use crate::record::{Entry, Offset};
use crate::scanner::{Scanner, Step};
use crate::segment::{self, Header};
use crate::shared::{Place, Shared};
use crate::storage::{Disk, Storage};
use crate::tail::{self, Tail};

/// Reads entries in the order in which they were appended. Blocking; give it a thread of its own.
///
/// After an error it is spent, so that nothing can be skipped; read on with a new one.
#[derive(Debug)]
pub struct Reader {
    storage: Arc<dyn Storage>,
    keys: Option<KeyRing>,
    directory: PathBuf,
    from: Offset,
    live: Option<Arc<Shared>>,
    /// How far a live journal may be read, when last asked: asked again where that is reached, not for each entry.
    bound: Option<Place>,
    at: Option<Segment>,
    failed: bool,
}

/// Where a reader, or recovery, is.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) scanner: Scanner,
    /// The offset that the next record must have.
    pub(crate) expected: Offset,
    /// Where the segment ends, once its successor has told.
    end: Option<u64>,
    /// What is read in the place of each lost record; empty where there are none.
    lost: Vec<u8>,
}

/// What lies behind a segment.
enum Turn {
    Last,
    Longer,
    Turned(Box<Segment>),
}

impl Reader {
    /// Reads a journal that this process has not opened, for tools: from `from` on, as far as it is written when
    /// [`Reader::next`] is called. Changes nothing and takes no lock.
    pub fn open(directory: impl Into<PathBuf>, from: Offset) -> Result<Self, ReadError> {
        Self::open_on(Arc::new(Disk), directory, from)
    }

    /// As [`Reader::open`], of a journal that is on `storage`.
    pub fn open_on(
        storage: Arc<dyn Storage>,
        directory: impl Into<PathBuf>,
        from: Offset,
    ) -> Result<Self, ReadError> {
        let directory = directory.into();
        segment::list(&*storage, &directory)?;
        Ok(Self { storage, keys: None, directory, from, live: None, bound: None, at: None, failed: false })
    }

    /// With the keys that sealed segments need.
    #[must_use]
    pub fn with_keys(mut self, keys: Option<KeyRing>) -> Self {
        self.keys = keys;
        self
    }

    /// Follows an open journal, never past what is safe from a crash.
    pub(crate) fn live(
        storage: Arc<dyn Storage>,
        directory: PathBuf,
        from: Offset,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            storage,
            keys: None,
            directory,
            from,
            live: Some(shared),
            bound: None,
            at: None,
            failed: false,
        }
    }

    /// The next entry; `None` where for now there is none. Before the record at the starting offset come the marks
    /// that were appended after the record before it.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, which an Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(ReadError::Spent);
        }
        let found = self.advance()?;
        let segment = self.at.as_ref().filter(|_| found);
        let Some((segment, frame)) = segment.and_then(|segment| Some((segment, segment.frame()?))) else {
            self.failed = false;
            return Ok(None);
        };
        let entry = match codec::decode(frame.body) {
            Ok(Body::Record(record)) => Entry::Record(frame.offset, record),
            Ok(Body::Mark(mark)) => Entry::Mark(mark),
            Err(error) => return Err(segment.damaged(segment.scanner.position(), Flaw::Body(error))),
        };
        self.failed = false;
        Ok(Some(entry))
    }

    /// Waits until [`Reader::next`] has more, at most so long; whether it has. A reader of [`Reader::open`] has
    /// nobody to tell it, and just waits.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        let Some(shared) = &self.live else {
            std::thread::sleep(timeout);
            return true;
        };
        match &self.at {
            Some(segment) => {
                let place = segment.next_place();
                shared.wait(timeout, |reached| reached.readable > place)
            }
            None => shared.wait(timeout, |reached| reached.durable >= self.from),
        }
    }

    /// Where it is; `None` before the first entry.
    pub(crate) fn segment(&self) -> Option<&Segment> {
        self.at.as_ref()
    }

    /// As [`Reader::segment`], when reading is over.
    pub(crate) fn into_segment(self) -> Option<Segment> {
        self.at
    }

    /// Goes to the next frame that is an entry from the starting offset on; whether there is one.
    fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            let segment = match self.at.take() {
                Some(segment) => segment,
                None => match self.start()? {
                    Some(segment) => segment,
                    None => return Ok(false),
                },
            };
            let segment = self.at.insert(segment);
            if let Some(shared) = &self.live
                && self.bound.is_none_or(|bound| bound <= segment.next_place())
            {
                self.bound = Some(shared.readable());
            }
            let bound = self.bound;
            let is_last = bound.is_some_and(|bound| bound.base <= segment.header.base);
            let limit = match bound {
                Some(bound) if is_last => {
                    if bound <= segment.next_place() {
                        return Ok(false);
                    }
                    bound.position
                }
                _ => segment.end.unwrap_or(u64::MAX),
            };
            let flaw = match segment.advance(limit)? {
                Step::Frame => {
                    if segment.is_entry_from(self.from) {
                        return Ok(true);
                    }
                    continue;
                }
                Step::End if is_last => Flaw::EndsEarly(limit),
                Step::End => match segment.turn(&*self.storage, self.keys.as_ref(), &self.directory)? {
                    Turn::Last => return Ok(false),
                    Turn::Longer => continue,
                    Turn::Turned(next) => {
                        self.at = Some(*next);
                        continue;
                    }
                },
                // What has a sound checksum was written whole: in the wrong place it is never a torn write.
                Step::Bad(flaw @ (Flaw::Order { .. } | Flaw::Sealed)) => flaw,
                Step::Bad(flaw) if bound.is_none() && segment.is_torn(&*self.storage, &self.directory)? => {
                    tracing::debug!(file = %segment.path.display(), %flaw, "the journal ends in a torn write");
                    return Ok(false);
                }
                Step::Bad(flaw) => flaw,
            };
            return Err(segment.damaged(segment.scanner.position(), flaw));
        }
    }

    /// The segment to begin with: the one before the starting offset, as its end may hold marks that belong behind
    /// the record before.
    fn start(&self) -> Result<Option<Segment>, ReadError> {
        let mut segments = segment::list(&*self.storage, &self.directory)?;
        let before = segments.partition_point(|(base, _)| *base < self.from);
        let Some((base, path)) = segments.drain(before.saturating_sub(1)..).next() else { return Ok(None) };
        if base > self.from {
            return Err(ReadError::Released { from: self.from, first: base });
        }
        Segment::open(&*self.storage, self.keys.as_ref(), base, path).map(Some)
    }
}

impl Segment {
    pub(crate) fn open(
        storage: &dyn Storage,
        keys: Option<&KeyRing>,
        base: Offset,
        path: PathBuf,
    ) -> Result<Self, ReadError> {
        let (file, header) = segment::open(storage, base, &path)?;
        let scanner = Scanner::new(file, header.key(keys, &path)?);
        let lost = header.lost.map(|lost| lost.body()).unwrap_or_default();
        Ok(Self { path, header, scanner, expected: base, end: None, lost })
    }

    /// Goes to a place at which a frame that carries `carries` is known to begin.
    pub(crate) fn seek(&mut self, carries: Offset, position: u64) {
        self.scanner.seek(position);
        self.expected = carries;
    }

    pub(crate) fn damaged(&self, position: u64, flaw: Flaw) -> ReadError {
        Damage { file: self.path.clone(), position, flaw }.into()
    }

    pub(crate) fn io(&self, source: std::io::Error) -> ReadError {
        ReadError::Io { file: self.path.clone(), source }
    }

    /// What follows the last sound frame.
    pub(crate) fn judge_tail(&self) -> Result<Tail, ReadError> {
        let (file, key) = (self.scanner.file(), self.scanner.key());
        tail::judge(file, key, self.header.salt, self.scanner.next_position())
            .map_err(|source| self.io(source))
    }

    fn next_place(&self) -> Place {
        Place { base: self.header.base, position: self.scanner.next_position() }
    }

    /// The frame last advanced to.
    pub(crate) fn frame(&self) -> Option<Frame<'_>> {
        match self.header.lost {
            None => self.scanner.frame(),
            Some(_) => {
                let last = self.expected.0.checked_sub(1).filter(|last| *last >= self.header.base.0)?;
                Some(Frame { offset: Offset(last), body: &self.lost })
            }
        }
    }

    pub(crate) fn advance(&mut self, limit: u64) -> Result<Step, ReadError> {
        if let Some(lost) = self.header.lost {
            if self.expected >= lost.until {
                return Ok(Step::End);
            }
            self.expected.0 += 1;
            return Ok(Step::Frame);
        }
        let step = self.scanner.advance(limit).map_err(|source| self.io(source))?;
        if let Some(frame) = self.scanner.frame().filter(|_| matches!(step, Step::Frame)) {
            if frame.offset != self.expected {
                return Ok(Step::Bad(Flaw::Order { expected: self.expected, found: frame.offset }));
            }
            if frame.is_record() {
                self.expected = Offset(frame.offset.0.saturating_add(1));
            }
        }
        Ok(step)
    }

    fn is_entry_from(&self, from: Offset) -> bool {
        self.frame().is_some_and(|frame| frame.batch().is_none() && frame.offset >= from)
    }

    /// Whether the bad frame ahead is but a write cut short, at the very end of the journal.
    fn is_torn(&self, storage: &dyn Storage, directory: &Path) -> Result<bool, ReadError> {
        let is_last = successor(storage, directory, self.header.base)?.is_none();
        Ok(is_last && self.judge_tail()? != Tail::Damaged)
    }

    /// What comes when no frame is left.
    fn turn(
        &mut self,
        storage: &dyn Storage,
        keys: Option<&KeyRing>,
        directory: &Path,
    ) -> Result<Turn, ReadError> {
        let Some((base, path)) = successor(storage, directory, self.header.base)? else {
            return Ok(Turn::Last);
        };
        let next = Self::open(storage, keys, base, path)?;
        if base < self.expected {
            // Where this one ends is not for a file to say that has no place behind it.
            return Err(next.damaged(0, Flaw::Order { expected: self.expected, found: base }));
        }
        let end = next.header.previous_bytes;
        let position = self.scanner.position();
        // What follows lost records says where the segment ended that they were in.
        let is_lost = self.header.lost.is_some();
        if !is_lost && end > position && self.end.is_none() {
            // Written after it was looked at.
            self.end = Some(end);
            return Ok(Turn::Longer);
        }
        if !is_lost && end != position {
            return Err(self.damaged(position, Flaw::EndsEarly(end)));
        }
        if base != self.expected {
            return Err(next.damaged(0, Flaw::Order { expected: self.expected, found: base }));
        }
        Ok(Turn::Turned(Box::new(next)))
    }
}

fn successor(
    storage: &dyn Storage,
    directory: &Path,
    base: Offset,
) -> Result<Option<(Offset, PathBuf)>, ReadError> {
    Ok(segment::list(storage, directory)?.into_iter().find(|(other, _)| *other > base))
}
