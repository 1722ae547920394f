//! What a journal is opened with.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

use crate::error::OpenError;
use crate::keys::KeyRing;

/// Size of a segment unless configured, in bytes: two seconds of 100,000 publishes a second, so that rolling over
/// costs nothing and release follows the readers closely.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Smallest segment, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// Largest segment, in bytes. A larger single record still gets a segment of its own.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Segments that a quota must hold; larger ones are made smaller to fit. Only whole segments can be released, so
/// with fewer the quota would stay exhausted by the one being written.
pub const QUOTA_SEGMENTS_MIN: u64 = 8;
/// Quota unless configured, in bytes.
pub const QUOTA_BYTES_DEFAULT: u64 = 20 << 30;

/// How to open a journal.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Where its segments are; made where it does not exist. One process at a time.
    pub directory: PathBuf,
    /// This node; a journal of another one is refused.
    pub node: u16,
    /// Size of a segment in bytes, from [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`]; at most an eighth of the
    /// quota is used.
    pub segment_bytes: u64,
    /// When an acknowledgement may leave.
    pub commit: Commit,
    /// The bytes the journal should stay within; see [`crate::Pressure`]. Preallocation may take two segments more.
    pub quota_bytes: u64,
    /// Encrypts what is written from now on; needed as long as anything encrypted is there.
    pub keys: Option<KeyRing>,
}

impl JournalOptions {
    /// The defaults: 64 MiB segments, [`Commit::Always`], 20 GiB, not encrypted.
    pub fn new(directory: impl Into<PathBuf>, node: u16) -> Self {
        Self {
            directory: directory.into(),
            node,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            commit: Commit::Always,
            quota_bytes: QUOTA_BYTES_DEFAULT,
            keys: None,
        }
    }

    /// The segment size to use, with the quota considered.
    pub(crate) fn checked_segment_bytes(&self) -> Result<u64, OpenError> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(OpenError::SegmentBytes(self.segment_bytes));
        }
        let share = self.quota_bytes / QUOTA_SEGMENTS_MIN;
        if share < SEGMENT_BYTES_MIN {
            return Err(OpenError::Quota(self.quota_bytes));
        }
        Ok(self.segment_bytes.min(share))
    }
}

/// When a record counts as durable, so that its acknowledgement may leave. Written `always`, `interval:5ms`, `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Commit {
    /// After `fdatasync`, one for all that waited. Survives power loss.
    #[default]
    Always,
    /// After `write`; synced at the latest this much later. Survives the process, and power loss but for so long.
    Interval(Duration),
    /// After `write`; synced only when a segment is full and at the end. Survives the process, not power loss.
    Off,
}

/// A commit mode that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a commit mode; write `always`, `off`, or `interval:` and a time above zero, as `interval:5ms`"
)]
pub struct CommitParseError(String);

impl FromStr for Commit {
    type Err = CommitParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always" => Ok(Self::Always),
            "off" => Ok(Self::Off),
            _ => text
                .strip_prefix("interval:")
                .and_then(|interval| interval.parse::<SignedDuration>().ok())
                .and_then(|interval| Duration::try_from(interval).ok())
                .filter(|interval| !interval.is_zero())
                .map(Self::Interval)
                .ok_or_else(|| CommitParseError(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(interval) => write!(f, "interval:{interval:?}"),
            Self::Off => f.write_str("off"),
        }
    }
}
