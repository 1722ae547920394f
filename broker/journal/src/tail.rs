//! What lies behind the last sound frame of the last segment: nothing, a write that a crash cut short, or damage.

use std::io;

use crate::frame::{self, BATCH_FRAME_BYTES, BATCH_SALT_AT};
use crate::seal::{SegmentKey, TAG_BYTES};
use crate::storage::{ReadFile, read_full};

const READ_BYTES: usize = 1 << 20;
static ZEROS: [u8; READ_BYTES] = [0; READ_BYTES];

/// What was found behind a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Zeros.
    Unused,
    /// A write that never became durable, so many bytes of it.
    Torn(u64),
    /// A later batch says that the position had been durable: something has changed it since.
    Damaged,
}

/// Judges the bytes of a segment from `position` to its end; `key` is that of a sealed one.
pub(crate) fn judge(
    file: &dyn ReadFile,
    key: Option<&SegmentKey>,
    salt: u64,
    position: u64,
) -> io::Result<Tail> {
    let salt = salt.to_le_bytes();
    let mut window = vec![0; READ_BYTES];
    let mut at = position;
    let mut used_end = position;
    // A salt across two reads is seen whole in the second: reads overlap by one byte less than it has.
    let overlap = salt.len() as u64 - 1;
    loop {
        let read = read_full(file, &mut window, at)?;
        let bytes = window.get(..read).unwrap_or_default();
        // A whole preallocated segment is compared at every start; a comparison of slices is the quickest.
        let is_unused = ZEROS.get(..read) == Some(bytes);
        let last = if is_unused { None } else { bytes.iter().rposition(|byte| *byte != 0) };
        if let Some(last) = last {
            used_end = used_end.max(at + last as u64 + 1);
            for found in occurrences(bytes, salt) {
                if vouches(file, key, salt, at + found as u64, position)? {
                    return Ok(Tail::Damaged);
                }
            }
        }
        if read < READ_BYTES {
            break;
        }
        at += read as u64 - overlap;
    }
    Ok(if used_end == position { Tail::Unused } else { Tail::Torn(used_end - position) })
}

/// Whether the salt at `salt_at` is that of a batch frame, written after `position` was synced with what followed it.
fn vouches(
    file: &dyn ReadFile,
    key: Option<&SegmentKey>,
    salt: [u8; 8],
    salt_at: u64,
    position: u64,
) -> io::Result<bool> {
    let Some(begin) = salt_at.checked_sub(BATCH_SALT_AT as u64).filter(|begin| *begin >= position) else {
        return Ok(false);
    };
    let mut bytes = [0; BATCH_FRAME_BYTES + TAG_BYTES];
    let stored = if key.is_some() { &mut bytes[..] } else { &mut bytes[..BATCH_FRAME_BYTES] };
    if read_full(file, stored, begin)? < stored.len() || frame::parse(stored).is_none() {
        return Ok(false);
    }
    if key.is_some_and(|key| !frame::open(stored, begin, key)) {
        return Ok(false);
    }
    let batch = frame::parse_trusted(&bytes[..BATCH_FRAME_BYTES]).and_then(|frame| frame.batch());
    Ok(batch.is_some_and(|batch| {
        batch.salt == u64::from_le_bytes(salt) && batch.position == begin && batch.synced > position
    }))
}

fn occurrences(bytes: &[u8], salt: [u8; 8]) -> impl Iterator<Item = usize> {
    bytes.windows(salt.len()).enumerate().filter(move |(_, window)| *window == salt).map(|(at, _)| at)
}
