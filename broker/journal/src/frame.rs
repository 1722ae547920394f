//! Frames: how bodies lie in a segment.
//!
//! ```text
//! 0  u32  length    of everything after the checksum; 0 where nothing was written yet
//! 4  u32  checksum  CRC-32C over the length and everything after the checksum
//! 8  u64  offset    a record's own; for anything else the offset that the next record will get
//! 16 ...  body      first byte is the kind: below 16 a record, below 32 a mark, 32 a batch
//! ...  16 tag      in a sealed segment only
//! ```
//!
//! A batch frame stands before the frames of each write and says how far the segment had been synced before that
//! write. It carries the segment's salt, which no payload can know, so recovery can find it behind a damaged frame
//! and tell a write that a crash cut short from damage to what was already durable.
//!
//! In a sealed segment everything behind the kind is encrypted, but for a batch frame's content, and all of the frame is
//! authenticated. The checksum is that of the sealed frame: what does not hold it was not written whole, and what
//! holds it but does not open was changed by somebody.

use crate::codec::RECORD_BYTES_MAX;
use crate::keys::Refused;
use crate::record::Offset;
use crate::seal::{SegmentKey, TAG_BYTES};

/// Length, checksum and offset.
pub(crate) const HEADER_BYTES: usize = 16;
const CHECKSUM: std::ops::Range<usize> = 4..8;
/// Kinds below are records and take an offset.
const RECORD_KINDS_END: u8 = 16;
/// The kind of a batch frame's body.
const BATCH: u8 = 32;
/// Salt, position and synced position, after the kind.
const BATCH_BODY_BYTES: usize = 1 + 8 + 8 + 8;
/// A whole batch frame.
pub(crate) const BATCH_FRAME_BYTES: usize = HEADER_BYTES + BATCH_BODY_BYTES;
/// Where a batch frame holds the salt.
pub(crate) const BATCH_SALT_AT: usize = HEADER_BYTES + 1;

/// The bytes that length counts beside the body: the offset.
const LENGTH_EXTRA_BYTES: usize = 8;
const LENGTH_MIN: usize = LENGTH_EXTRA_BYTES + 1;
const LENGTH_MAX: usize = LENGTH_EXTRA_BYTES + RECORD_BYTES_MAX + TAG_BYTES;
const _: () = assert!(LENGTH_MAX <= u32::MAX as usize, "a frame's length must fit its field");

/// What a batch frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The segment's.
    pub(crate) salt: u64,
    /// Where the batch frame itself begins in the segment, in bytes.
    pub(crate) position: u64,
    /// The segment's bytes before this position were synced before the batch was written.
    pub(crate) synced: u64,
}

/// One frame that has passed its checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) offset: Offset,
    pub(crate) body: &'a [u8],
}

impl Frame<'_> {
    /// Whether it takes the offset it carries.
    pub(crate) fn is_record(&self) -> bool {
        self.body.first().is_some_and(|kind| *kind < RECORD_KINDS_END)
    }

    /// The batch frame's content, where it is one.
    pub(crate) fn batch(&self) -> Option<Batch> {
        let (kind, rest) = self.body.split_first()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (position, rest) = rest.split_first_chunk()?;
        let synced = rest.try_into().ok()?;
        (*kind == BATCH).then_some(Batch {
            salt: u64::from_le_bytes(*salt),
            position: u64::from_le_bytes(*position),
            synced: u64::from_le_bytes(synced),
        })
    }
}

/// Appends a frame to `out` whose body `encode` appends. On an error `out` is unchanged.
pub(crate) fn push<E>(
    out: &mut Vec<u8>,
    offset: Offset,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    if let Err(error) = encode(out) {
        out.truncate(start);
        return Err(error);
    }
    complete(&mut out[start..], offset);
    Ok(())
}

/// The bytes of a batch frame; `next` is the offset that the next record gets.
pub(crate) fn batch(next: Offset, batch: &Batch) -> [u8; BATCH_FRAME_BYTES] {
    let mut frame = [0; BATCH_FRAME_BYTES];
    frame[HEADER_BYTES] = BATCH;
    for (place, value) in
        frame[BATCH_SALT_AT..].chunks_exact_mut(8).zip([batch.salt, batch.position, batch.synced])
    {
        place.copy_from_slice(&value.to_le_bytes());
    }
    complete(&mut frame, next);
    frame
}

/// The size of the frame that `bytes` begin with, from its header alone.
///
/// `None` where the length is not one that this version writes.
pub(crate) fn frame_bytes(header: &[u8; HEADER_BYTES]) -> Option<usize> {
    let [a, b, c, d, ..] = *header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    (LENGTH_MIN..=LENGTH_MAX).contains(&length).then_some(length + 8)
}

/// Reads the frame that is all of `bytes`; `None` where its checksum does not hold.
pub(crate) fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (stored, covered) = rest.split_first_chunk::<4>()?;
    let (offset, body) = covered.split_first_chunk::<8>()?;
    let intact = u32::from_le_bytes(*length) as usize == covered.len()
        && u32::from_le_bytes(*stored) == checksum(*length, covered);
    intact.then(|| Frame { offset: Offset(u64::from_le_bytes(*offset)), body })
}

/// As [`parse`] for a frame that has already passed it.
pub(crate) fn parse_trusted(bytes: &[u8]) -> Option<Frame<'_>> {
    let (offset, body) = bytes.get(8..)?.split_first_chunk::<8>()?;
    Some(Frame { offset: Offset(u64::from_le_bytes(*offset)), body })
}

/// The frame that `bytes` begin with, which this process has written, and its size.
pub(crate) fn first(bytes: &[u8]) -> Option<(usize, Frame<'_>)> {
    let size = frame_bytes(bytes.first_chunk()?)?;
    Some((size, parse_trusted(bytes.get(..size)?)?))
}

/// Appends to `out` the sealed form of each of the plain `frames`; the first of them is to lie at `position`.
pub(crate) fn seal_all(
    mut frames: &[u8],
    mut position: u64,
    key: &SegmentKey,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    while let Some((bytes, _)) = first(frames) {
        let (frame, rest) = frames.split_at(bytes);
        let start = out.len();
        out.extend_from_slice(frame);
        out.extend_from_slice(&[0; TAG_BYTES]);
        seal(&mut out[start..], position, key)?;
        position += (out.len() - start) as u64;
        frames = rest;
    }
    Ok(())
}

/// Seals a plain frame that is followed by room for its tag.
fn seal(frame: &mut [u8], position: u64, key: &SegmentKey) -> Result<(), Refused> {
    // The encoders keep bodies below RECORD_BYTES_MAX, so that the length fits.
    let length = u32::try_from(frame.len() - CHECKSUM.end).unwrap_or(u32::MAX);
    frame[..CHECKSUM.start].copy_from_slice(&length.to_le_bytes());
    frame[CHECKSUM].fill(0);
    let (clear, sealed) = frame.split_at_mut(clear_bytes(frame));
    let (content, tag) = sealed.split_at_mut(sealed.len() - TAG_BYTES);
    tag.copy_from_slice(&key.seal(position, clear, content)?);
    set_checksum(frame);
    Ok(())
}

/// Opens the frame that is all of `bytes` and has passed its checksum, in place: with its tag cut off it is then fit for
/// [`parse_trusted`]. Whether it is what was sealed at `position`.
pub(crate) fn open(bytes: &mut [u8], position: u64, key: &SegmentKey) -> bool {
    if bytes.len() < HEADER_BYTES + 1 + TAG_BYTES {
        return false;
    }
    bytes[CHECKSUM].fill(0);
    let (clear, sealed) = bytes.split_at_mut(clear_bytes(bytes));
    key.open(position, clear, sealed)
}

/// How much of a sealed frame is not encrypted: up to its kind, and all of a batch frame, which recovery has to find. The
/// checksum, which is computed last, counts as zero there.
fn clear_bytes(sealed: &[u8]) -> usize {
    match sealed[HEADER_BYTES] {
        BATCH => sealed.len() - TAG_BYTES,
        _ => HEADER_BYTES + 1,
    }
}

/// Fills in the header of a frame whose body is in place.
fn complete(frame: &mut [u8], offset: Offset) {
    // The encoders keep bodies below RECORD_BYTES_MAX, so that the length fits.
    let length = u32::try_from(frame.len() - 8).unwrap_or(u32::MAX).to_le_bytes();
    frame[8..HEADER_BYTES].copy_from_slice(&offset.0.to_le_bytes());
    frame[..4].copy_from_slice(&length);
    set_checksum(frame);
}

fn set_checksum(frame: &mut [u8]) {
    // In the checksum's place the length is next to all else that it covers: one pass.
    frame.copy_within(..CHECKSUM.start, CHECKSUM.start);
    let checksum = crc32c::crc32c(&frame[CHECKSUM.start..]);
    frame[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// With the length, so that a length turned to zero or to another frame's is caught for certain.
fn checksum(length: [u8; 4], covered: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), covered)
}
