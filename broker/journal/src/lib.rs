//! The append-only log that every publish goes through: memory first, disk a group commit later.
//!
//! What it is: records in the order in which they happened, in preallocated segment files, each frame with its own
//! checksum; one writer thread that syncs them and says how far they are durable; readers that follow; recovery
//! after a crash. The files are described byte by byte in `docs/journal.md`.
//!
//! What it is not: a database or a queue. It never looks into a payload, knows no session, and
//! keeps nothing about who has read it. It can encrypt what it writes ([`KeyRing`]), and proves nothing to anybody:
//! that is the audit record's part.
//!
//! Invariants
//! - offsets are dense from 0, for ever; a mark never takes one; what was lost to damage and cut out on purpose keeps
//!   its offset, and is read as a record that says so;
//! - what is reported durable has been through `fdatasync` (as far as [`Commit`] asks for it), and is there after a
//!   crash at any instant;
//! - a [`Reader`] returns nothing that a crash could take back, unless [`Commit::Off`] says that nothing is synced;
//! - after a failed write or sync nothing more is reported durable: the journal is poisoned until it is opened anew;
//! - only the end of the last segment may be torn, and only where nothing was promised durable; damage anywhere
//!   else is an error that names file and byte, never skipped;
//! - appending does no I/O and holds its lock for the encoding of one record.

// Tests share a disk with the simulation, which knows this crate by its name.
#[cfg(test)]
extern crate self as wardline_journal;

mod codec;
mod error;
mod fetch;
mod frame;
mod index;
mod journal;
mod keys;
mod lock;
mod lost;
mod options;
mod quarantine;
mod reader;
pub mod record;
mod recovery;
mod room;
mod scanner;
mod seal;
mod segment;
mod shared;
mod snapshots;
pub mod storage;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use codec::{
    Body, CANONICAL_VERSION, DecodeError, RECORD_BYTES_MAX, RecordTooLarge, canonical, canonical_digested,
    decode, encode, encode_mark,
};
pub use error::{Damage, Failure, Flaw, OpenError, ReadError, ReleaseError};
pub use journal::Journal;
pub use keys::{KeyError, KeyId, KeyRing, Refused};
pub use lock::in_use_by;
pub use options::{
    Commit, CommitParseError, JournalOptions, QUOTA_BYTES_DEFAULT, QUOTA_SEGMENTS_MIN, SEGMENT_BYTES_DEFAULT,
    SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
pub use quarantine::{Cut, Known, quarantine};
pub use reader::Reader;
pub use record::{
    Access, AccessEvent, Delivery, DeliveryStep, Entry, Log, Mark, Offset, Origin, Outcome, Publish, Record,
};
pub use recovery::{Recovery, Torn};
pub use room::{ADVISORY_ROOM_PERCENT, NEAR_ROOM_PERCENT, Pressure, RESERVED_ROOM_PERCENT, Space};
pub use seal::UnsealError;
pub use segment::FORMAT_VERSION;
pub use shared::{BACKLOG_BYTES_MAX, Progress};
pub use snapshots::{SNAPSHOTS_KEPT, Snapshot, SnapshotFileError, Snapshots};
pub use writer::Stepper;
