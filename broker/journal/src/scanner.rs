//! Reads frames one after another from a segment file.

use std::io;

use crate::error::Flaw;
use crate::frame::{self, Frame};
use crate::seal::{SegmentKey, TAG_BYTES};
use crate::segment;
use crate::storage::{self, ReadFile};

/// What is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// A place in a segment, and the bytes around it.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Box<dyn ReadFile>,
    /// Of a sealed segment.
    key: Option<SegmentKey>,
    /// Bytes of the file, the first of them at `position`, from `start`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the current frame begins, or the next one while there is none.
    position: u64,
    /// Size of the current frame; 0 while there is none.
    current_bytes: usize,
}

/// What an attempt to advance met.
#[derive(Debug)]
pub(crate) enum Step {
    /// A sound frame: see [`Scanner::frame`].
    Frame,
    /// Zeros, or the limit.
    End,
    /// No frame that was ever written whole.
    Bad(Flaw),
}

impl Scanner {
    /// Starts after the segment's header.
    pub(crate) fn new(file: Box<dyn ReadFile>, key: Option<SegmentKey>) -> Self {
        let position = segment::HEADER_BYTES as u64;
        Self { file, key, buffer: Vec::new(), start: 0, end: 0, position, current_bytes: 0 }
    }

    /// Goes to a place at which a frame is known to begin.
    pub(crate) fn seek(&mut self, position: u64) {
        // The current frame may have been opened in the buffer, and would not open again.
        let skipped =
            position.checked_sub(self.next_position()).and_then(|bytes| usize::try_from(bytes).ok());
        let skipped = skipped.and_then(|bytes| bytes.checked_add(self.current_bytes));
        match skipped.filter(|bytes| *bytes <= self.end - self.start) {
            Some(bytes) => self.start += bytes,
            None => (self.start, self.end) = (0, 0),
        }
        self.position = position;
        self.current_bytes = 0;
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn file(&self) -> &dyn ReadFile {
        &*self.file
    }

    pub(crate) fn key(&self) -> Option<&SegmentKey> {
        self.key.as_ref()
    }

    /// Where the frame after the current one begins.
    pub(crate) fn next_position(&self) -> u64 {
        self.position + self.current_bytes as u64
    }

    /// Goes to the next frame before `limit`, a file position. At the end, or at a bad frame, it stays before it and
    /// looks anew at the next call.
    pub(crate) fn advance(&mut self, limit: u64) -> io::Result<Step> {
        self.position = self.next_position();
        self.start += self.current_bytes;
        self.current_bytes = 0;
        let step = self.look(limit)?;
        if !matches!(step, Step::Frame) {
            // What was read may be written to meanwhile.
            (self.start, self.end) = (0, 0);
        }
        Ok(step)
    }

    /// The frame last advanced to.
    pub(crate) fn frame(&self) -> Option<Frame<'_>> {
        let tag_bytes = if self.key.is_some() { TAG_BYTES } else { 0 };
        frame::parse_trusted(self.ahead().get(..self.current_bytes.checked_sub(tag_bytes)?)?)
    }

    fn look(&mut self, limit: u64) -> io::Result<Step> {
        if !self.fill(frame::HEADER_BYTES, limit)? {
            let unused = self.ahead().iter().all(|byte| *byte == 0);
            return Ok(if unused { Step::End } else { Step::Bad(Flaw::Truncated) });
        }
        let Some(header) = self.ahead().first_chunk() else { return Ok(Step::End) };
        if header.starts_with(&[0; 4]) {
            return Ok(Step::End);
        }
        let Some(bytes) = frame::frame_bytes(header) else { return Ok(Step::Bad(Flaw::Length)) };
        if !self.fill(bytes, limit)? {
            return Ok(Step::Bad(Flaw::Truncated));
        }
        if self.ahead().get(..bytes).and_then(frame::parse).is_none() {
            return Ok(Step::Bad(Flaw::Checksum));
        }
        if let Some(key) = &self.key {
            let sealed = self.buffer.get_mut(self.start..self.start + bytes).unwrap_or_default();
            if !frame::open(sealed, self.position, key) {
                return Ok(Step::Bad(Flaw::Sealed));
            }
        }
        self.current_bytes = bytes;
        Ok(Step::Frame)
    }

    /// The bytes read and not yet passed.
    fn ahead(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether `bytes` bytes from the position are in the buffer; reads them where the file has them before `limit`.
    fn fill(&mut self, bytes: usize, limit: u64) -> io::Result<bool> {
        let mut have = self.end - self.start;
        if have >= bytes {
            return Ok(true);
        }
        let file_end = self.file.size()?.min(limit);
        let readable = file_end.saturating_sub(self.position);
        // Also keeps a damaged length from asking for memory that the file cannot fill.
        let wanted = readable.min(bytes.max(READ_BYTES) as u64) as usize;
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, have);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        if let Some(rest) = self.buffer.get_mut(have..wanted) {
            have += storage::read_full(&*self.file, rest, self.position + have as u64)?;
        }
        self.end = have;
        Ok(have >= bytes)
    }
}
