//! Which segments there are, and where in them a record lies, roughly: one known place every so many bytes, from which
//! frames are read on.

use std::collections::VecDeque;

use crate::frame;
use crate::record::Offset;
use crate::recovery::Closed;
use crate::segment;

/// Known places are this far apart, in bytes. A place takes 16 bytes of memory, so that a journal of 20 GiB takes 5 MiB.
pub(crate) const SPACING_BYTES: u64 = 64 << 10;

/// The known places of one segment, in memory only: noted as frames are written, and as recovery reads them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Where a frame begins, and the offset that this frame carries.
    places: Vec<(Offset, u64)>,
}

impl Index {
    /// Notes the frame at `position` unless the last place is near. Frames come in the order in which they lie.
    pub(crate) fn note(&mut self, carries: Offset, position: u64) {
        if position >= self.noted_up_to() + SPACING_BYTES {
            self.places.push((carries, position));
        }
    }

    /// Notes the frames of one write, which begin at `position`.
    pub(crate) fn note_all(&mut self, frames: &[u8], position: u64) {
        // Most writes are small and bring no new place.
        if position + (frames.len() as u64) < self.noted_up_to() + SPACING_BYTES {
            return;
        }
        let mut at = 0;
        while let Some((bytes, frame)) = frame::first(frames.get(at..).unwrap_or_default()) {
            self.note(frame.offset, position + at as u64);
            at += bytes;
        }
    }

    /// The last known place at or before the record at `offset`, as noted; `None`: the segment's beginning.
    pub(crate) fn before(&self, offset: Offset) -> Option<(Offset, u64)> {
        let after = self.places.partition_point(|(carries, _)| *carries <= offset);
        after.checked_sub(1).and_then(|at| self.places.get(at)).copied()
    }

    fn noted_up_to(&self) -> u64 {
        self.places.last().map_or(segment::HEADER_BYTES as u64, |(_, position)| *position)
    }
}

/// The segments of an open journal, for release and for reading single records.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Full ones, oldest first.
    pub(crate) closed: VecDeque<Closed>,
    /// Base of the one being written.
    pub(crate) active: Offset,
    /// Known places of the one being written.
    index: Index,
}

impl Segments {
    pub(crate) fn new(closed: VecDeque<Closed>, active: Offset) -> Self {
        Self { closed, active, index: Index::default() }
    }

    /// The oldest record that can still be read, or the next one's offset where there is none.
    pub(crate) fn first_offset(&self) -> Offset {
        self.closed.front().map_or(self.active, |closed| closed.base)
    }

    /// Notes a frame that was read in the segment that begins at `base`.
    pub(crate) fn note(&mut self, base: Offset, carries: Offset, position: u64) {
        if base == self.active {
            self.index.note(carries, position);
        } else if let Ok(at) = self.closed.binary_search_by_key(&base, |closed| closed.base)
            && let Some(closed) = self.closed.get_mut(at)
        {
            closed.index.note(carries, position);
        }
    }

    /// Notes the frames of one write to the active segment.
    pub(crate) fn written(&mut self, frames: &[u8], position: u64) {
        self.index.note_all(frames, position);
    }

    /// The active segment is written anew.
    pub(crate) fn restart(&mut self) {
        self.index = Index::default();
    }

    /// The active segment is full, with so many bytes; `base` begins the next.
    pub(crate) fn turn(&mut self, bytes: u64, base: Offset) {
        let index = std::mem::take(&mut self.index);
        self.closed.push_back(Closed { base: self.active, bytes, index });
        self.active = base;
    }

    /// Base of the segment that holds the record at `offset`, and the last known place before it; `None` where it was
    /// released.
    pub(crate) fn find(&self, offset: Offset) -> Option<(Offset, Option<(Offset, u64)>)> {
        if offset >= self.active {
            return Some((self.active, self.index.before(offset)));
        }
        let after = self.closed.partition_point(|closed| closed.base <= offset);
        let closed = after.checked_sub(1).and_then(|at| self.closed.get(at))?;
        Some((closed.base, closed.index.before(offset)))
    }
}
