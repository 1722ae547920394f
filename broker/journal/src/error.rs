//! What can go wrong with a journal: whose fault, where, and how to mend it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::codec::{DecodeError, RecordTooLarge};
use crate::keys::{KeyId, Refused};
use crate::options::{QUOTA_SEGMENTS_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::record::Offset;
use crate::segment::FORMAT_VERSION;

/// A segment that does not hold what was written to it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is damaged at byte {position}: {flaw}; nothing was changed. {mend}",
    file.display(),
    mend = self.mend()
)]
pub struct Damage {
    /// The segment.
    pub file: PathBuf,
    /// Where in it, in bytes from its beginning.
    pub position: u64,
    /// What is wrong there.
    pub flaw: Flaw,
}

impl Damage {
    /// What to do about it, in words.
    fn mend(&self) -> &'static str {
        match self.flaw {
            Flaw::Name(_) => {
                "Give the file its own name back, or, where another has it, move this one out of the directory"
            }
            // A whole segment, of records that the one before it has, too.
            Flaw::Order { expected, found } if self.position == 0 && found < expected => {
                "This file or the one before it is a copy, or comes from another journal: find out which does not belong \
                 there, and move it out of the directory"
            }
            Flaw::Magic => {
                "If somebody has put the file there, move it out of the directory. Otherwise check the disk; then restore \
                 the directory from a backup, or take out what is damaged with `wardline journal quarantine`"
            }
            _ => {
                "Check the disk; then restore the directory from a backup, or take out what is damaged with `wardline \
                 journal quarantine`"
            }
        }
    }
}

/// What is wrong at a place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A frame whose content is not what was written.
    #[error("{0}")]
    Body(#[from] DecodeError),
    /// Header or frame differ from what was written.
    #[error("the checksum does not hold")]
    Checksum,
    /// The written part ends before it should.
    #[error("it ends here but should reach byte {0}")]
    EndsEarly(u64),
    /// A frame length that is never written.
    #[error("the frame's length is impossible")]
    Length,
    /// The written part ends before a record that was written.
    #[error("it ends here but should hold record {0}")]
    Missing(Offset),
    /// Not a segment of a journal.
    #[error("it does not begin as a journal segment")]
    Magic,
    /// A sound segment whose records begin elsewhere than its name says.
    #[error("it is the segment that begins at offset {0}, under another name")]
    Name(Offset),
    /// Records are missing, or there twice.
    #[error("offset {expected} should follow, but {found} does")]
    Order {
        /// What should be here.
        expected: Offset,
        /// What is.
        found: Offset,
    },
    /// A segment that was put there by somebody without the key.
    #[error("it is not encrypted, although what comes before it is")]
    Plain,
    /// A whole frame that is not what was sealed there.
    #[error("it is whole, but not what was encrypted here: somebody has changed or moved it, or the header")]
    Sealed,
    /// The file ends within a header or frame.
    #[error("the file ends in the middle of a frame")]
    Truncated,
    /// Something follows what should be the end.
    #[error("what should be unused holds data that was durable once")]
    Unreachable,
}

/// Why a journal could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No room.
    #[error("cannot {doing} {}: the disk is full; free space on it, or move the journal to a larger one", file.display())]
    DiskFull {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", file.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the journal {} is in use by {}; stop that process, or give this node a data directory of its own",
        directory.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The journal.
        directory: PathBuf,
        /// Who, where the lock file says so.
        pid: Option<u32>,
    },
    /// The journal of another node.
    #[error(
        "{} belongs to node {found}, but this is node {expected}; correct `node.id` or the data directory, or, where only \
         this file is another node's, move it out of the directory",
        file.display()
    )]
    Node {
        /// The segment that says so.
        file: PathBuf,
        /// Its node.
        found: u16,
        /// This node.
        expected: u16,
    },
    /// No permission to write.
    #[error(
        "cannot {doing} {}: {source}; the broker's user needs to write there, and the file system must not be read-only",
        file.display()
    )]
    NotWritable {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The quota leaves no room for segments.
    #[error(
        "a quota of {0} bytes is too small; give the journal at least {least} bytes",
        least = QUOTA_SEGMENTS_MIN * SEGMENT_BYTES_MIN
    )]
    Quota(u64),
    /// What is there cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A segment size out of range.
    #[error("segments of {0} bytes are not possible; choose from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}")]
    SegmentBytes(u64),
}

impl OpenError {
    /// Sorts an answer of the operating system by what mends it.
    pub(crate) fn io(doing: &'static str, file: impl Into<PathBuf>, source: io::Error) -> Self {
        let file = file.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { doing, file },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { doing, file, source }
            }
            _ => Self::Io { doing, file, source },
        }
    }
}

/// Why the journal could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What was written is not there.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The operating system refused.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Sealed with a key that is not at hand.
    #[error(
        "{} is encrypted with key {key}, {}",
        file.display(),
        key_file.as_ref().map_or_else(
            || "and no key is given; name the key file in `key_file` of [journal]".to_owned(),
            |key_file| format!(
                "which {} does not hold; put that key back, behind the newest",
                key_file.display()
            ),
        )
    )]
    Key {
        /// The segment.
        file: PathBuf,
        /// Its key.
        key: KeyId,
        /// Where the key was looked for.
        key_file: Option<PathBuf>,
    },
    /// The cryptographic library failed.
    #[error("cannot decrypt {}: {source}", file.display())]
    Refused {
        /// The segment.
        file: PathBuf,
        /// Its answer.
        source: Refused,
    },
    /// Released before it was read.
    #[error("the journal begins at offset {first}; {from} has been released")]
    Released {
        /// What was asked for.
        from: Offset,
        /// The oldest there is.
        first: Offset,
    },
    /// A reader that has failed before.
    #[error("this reader has failed before; read on with a new one")]
    Spent,
    /// Asked for before it was written.
    #[error("record {offset} is not written yet; those below {written} are")]
    Unwritten {
        /// What was asked for.
        offset: Offset,
        /// The first that is not written.
        written: Offset,
    },
    /// Another version's file.
    #[error("{} has format version {found}, and this program reads those up to {FORMAT_VERSION}; use the version that wrote it", file.display())]
    Version {
        /// The segment.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// Why an open journal accepts nothing more. It stays so until the journal is opened anew: what a failed sync left
/// on the disk is unknown, and asking again would answer for pages that were already dropped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The directory is not the one that was opened, or is not locked any more.
    #[error(
        "the journal {} was removed or replaced while it was in use, or the file `lock` in it was; no further publish is \
         acknowledged. Bring the directory back unless it is there, then restart",
        directory.display()
    )]
    Gone {
        /// Where it was.
        directory: PathBuf,
    },
    /// A record that no segment can hold; the caller should have refused it.
    #[error(transparent)]
    RecordTooLarge(#[from] RecordTooLarge),
    /// The disk failed.
    #[error("cannot {doing} {}: {error}; no further publish is acknowledged. Mend or free the disk, then restart", file.display())]
    Storage {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// The operating system's answer, with its number.
        error: Arc<io::Error>,
    },
    /// The writer thread panicked, in the progress callback or by a fault of this crate.
    #[error("the journal's writer thread has ended unexpectedly; restart, and report it")]
    WriterEnded,
}

impl Failure {
    pub(crate) fn storage(doing: &'static str, file: impl Into<PathBuf>, error: io::Error) -> Self {
        Self::Storage { doing, file: file.into(), error: Arc::new(error) }
    }
}

/// Why old segments could not be deleted; they are tried again at the next release.
#[derive(Debug, thiserror::Error)]
#[error("cannot delete the released segment {}: {source}", file.display())]
pub struct ReleaseError {
    /// The segment.
    pub file: PathBuf,
    /// The operating system's answer.
    pub source: io::Error,
}
