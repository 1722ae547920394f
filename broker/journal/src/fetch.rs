//! Reads single records back while the journal is open.

use std::path::Path;

use parking_lot::Mutex;

use crate::codec::{self, Body};
use crate::error::{Flaw, ReadError};
use crate::index::Segments;
use crate::keys::KeyRing;
use crate::reader::Segment;
use crate::record::{Offset, Record};
use crate::scanner::Step;
use crate::segment;
use crate::storage::Storage;

/// As [`crate::Journal::fetch`]. All records below `written` are in the files.
pub(crate) fn fetch(
    storage: &dyn Storage,
    keys: Option<&KeyRing>,
    directory: &Path,
    segments: &Mutex<Segments>,
    written: Offset,
    offsets: &[Offset],
    mut each: impl FnMut(Offset, Record<'_>),
) -> Result<(), ReadError> {
    let mut open: Option<Segment> = None;
    for &offset in offsets {
        if offset >= written {
            return Err(ReadError::Unwritten { offset, written });
        }
        let found = {
            let segments = segments.lock();
            segments.find(offset).ok_or(ReadError::Released { from: offset, first: segments.first_offset() })
        };
        let (base, place) = found?;
        let mut at = match open.take().filter(|at| at.header.base == base) {
            Some(at) => at,
            None => Segment::open(storage, keys, base, directory.join(segment::file_name(base)))?,
        };
        let (carries, position) = place.unwrap_or((base, segment::HEADER_BYTES as u64));
        // Read on where the record lies ahead and no known place is nearer.
        if at.expected > offset || at.scanner.next_position() < position {
            at.seek(carries, position);
        }
        each(offset, read(&mut at, offset)?);
        open = Some(at);
    }
    Ok(())
}

/// Reads on to the record at `offset`.
fn read(at: &mut Segment, offset: Offset) -> Result<Record<'_>, ReadError> {
    // What is read ahead of the record may be written to meanwhile, but it is written whole before anybody asks for it.
    while at.expected <= offset {
        match at.advance(u64::MAX)? {
            Step::Frame => {}
            Step::End => return Err(at.damaged(at.scanner.next_position(), Flaw::Missing(offset))),
            Step::Bad(flaw) => return Err(at.damaged(at.scanner.next_position(), flaw)),
        }
    }
    let position = at.scanner.position();
    let flaw = match at.frame().map(|frame| codec::decode(frame.body)) {
        Some(Ok(Body::Record(record))) => return Ok(record),
        Some(Err(error)) => Flaw::Body(error),
        Some(Ok(Body::Mark(_))) | None => Flaw::Missing(offset),
    };
    Err(at.damaged(position, flaw))
}
