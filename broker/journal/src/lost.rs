//! Segments that stand for lost records: what damage has taken was cut out on purpose, and its offsets are not used again.
//!
//! ```text
//! 0  8 bytes  "WARDLOST"
//! 8  u32      format version: 1
//! 12 u16      node
//! 14 2 bytes  0
//! 16 u64      base: the offset of the first lost record
//! 24 u64      until: the first offset behind them
//! 32 u64      previous_bytes: where the segment before ends; 0 for the first of all
//! 40 i64      when they were cut out, in microseconds since 1970-01-01T00:00:00Z
//! 48 12 bytes 0
//! 60 u32      CRC-32C of the 60 bytes before
//! ```
//!
//! The header is all there is. Each of the records is read as an access record that says that it is lost, so that
//! whoever counts on dense offsets meets every one, and none passes for what it was.

use jiff::Timestamp;

use crate::codec;
use crate::record::{Access, AccessEvent, Offset, Origin, Record};
use crate::segment::HEADER_BYTES;

const MAGIC: [u8; 8] = *b"WARDLOST";
const UNTIL_AT: usize = 24;
const AT_AT: usize = 40;
/// What each of the records says.
const REASON: &str = "lost to damage of the journal, which was quarantined";

/// Lost records, from the base of their segment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The first offset behind them.
    pub(crate) until: Offset,
    /// When they were cut out.
    pub(crate) at: Timestamp,
}

impl Lost {
    /// Puts what is its own into a segment's header.
    pub(crate) fn put(&self, header: &mut [u8; HEADER_BYTES]) {
        header[..MAGIC.len()].copy_from_slice(&MAGIC);
        header[UNTIL_AT..UNTIL_AT + 8].copy_from_slice(&self.until.0.to_le_bytes());
        header[AT_AT..AT_AT + 8].copy_from_slice(&self.at.as_microsecond().to_le_bytes());
    }

    /// What a segment's header says; `None` where it is that of another kind.
    pub(crate) fn read(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let until = header.get(UNTIL_AT..)?.first_chunk()?;
        let at = header.get(AT_AT..)?.first_chunk()?;
        let at = Timestamp::from_microsecond(i64::from_le_bytes(*at)).ok()?;
        header.starts_with(&MAGIC).then_some(Self { until: Offset(u64::from_le_bytes(*until)), at })
    }

    /// The encoded record that is read in the place of each.
    pub(crate) fn body(&self) -> Vec<u8> {
        let (event, origin) = (AccessEvent::Lost, Origin::default());
        let record = Access { at: self.at, event, origin, detail: "", reason: REASON, state: &[] };
        let mut body = Vec::new();
        // A record of this size is never too large; were it, its readers would say that it cannot be read.
        let _ = codec::encode(&Record::Access(record), &mut body);
        body
    }
}
