//! Snapshots beside the segments: each the state that follows from everything before one place of the journal.
//!
//! What is in them is their writer's own. A snapshot has its name only once all of it is durable; the two newest are kept,
//! so that a damaged one costs time and nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::keys::{KeyRing, Refused};
use crate::options::JournalOptions;
use crate::record::Offset;
use crate::seal::{self, UnsealError};
use crate::storage::{self, Disk, Storage};

/// The newest layout of snapshot files.
const FORMAT_VERSION: u32 = SEALED_VERSION;
const PLAIN_VERSION: u32 = 1;
/// The state is encrypted.
const SEALED_VERSION: u32 = 2;
const MAGIC: [u8; 8] = *b"WARDSNAP";
const HEADER_BYTES: usize = 48;
const CHECKSUM_AT: usize = 44;
/// What an encrypted state is bound to: everything that says which snapshot it is.
const IDENTITY_BYTES: usize = 32;
const SUFFIX: &str = ".snap";
const PART_FILE: &str = "next.snap.part";
/// Enough for every `u64`, so that names sort as numbers do.
const NAME_DIGITS: usize = 20;
/// So many snapshots are to be kept, so that a damaged one costs time only.
pub const SNAPSHOTS_KEPT: usize = 2;

/// The snapshots of one journal.
#[derive(Clone)]
pub struct Snapshots {
    directory: PathBuf,
    node: u16,
    storage: Arc<dyn Storage>,
    keys: Option<KeyRing>,
}

/// A snapshot that was read back.
///
/// ```text
/// 0  8 bytes  "WARDSNAP"
/// 8  u32      format version: 1, or 2 where the state is encrypted
/// 12 u16      node
/// 14 2 bytes  0
/// 16 u64      number, as in the name
/// 24 u64      offset of the first record that is not in it
/// 32 u64      length of the state as it lies in the file
/// 40 u32      CRC-32C of that
/// 44 u32      CRC-32C of the 44 bytes before
/// 48          the state; in version 2 the key's identifier `u32`, 16 bytes of salt, the encrypted state, 16 bytes of tag
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Counted from 1; that of the [`crate::Mark::Snapshot`] at which it was taken.
    pub number: u64,
    /// The next record's offset at that moment. Behind it the mark is met before any record.
    pub offset: Offset,
    /// What its writer put in.
    pub state: Vec<u8>,
}

/// Why a snapshot is of no use. The one before it may be.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
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
    /// It cannot be decrypted.
    #[error("cannot decrypt the snapshot {}: {source}", file.display())]
    Sealed {
        /// Which.
        file: PathBuf,
        /// Why.
        source: UnsealError,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It is not what was written.
    #[error("the snapshot {} is damaged: {what}", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// How it shows.
        what: &'static str,
    },
    /// Another version's file.
    #[error("the snapshot {} has format version {found}, and this program reads those up to {FORMAT_VERSION}", file.display())]
    Version {
        /// Which.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl Snapshots {
    /// Those beside the journal that `options` name, which need not be open.
    pub fn beside(options: &JournalOptions) -> Self {
        Self::new(options.directory.clone(), options.node, Arc::new(Disk), options.keys.clone())
    }

    pub(crate) fn new(
        directory: PathBuf,
        node: u16,
        storage: Arc<dyn Storage>,
        keys: Option<KeyRing>,
    ) -> Self {
        Self { directory, node, storage, keys }
    }

    /// The numbers of those there are, newest first.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn list(&self) -> Result<Vec<u64>, SnapshotFileError> {
        let failed = |source| SnapshotFileError::Io { doing: "read", file: self.directory.clone(), source };
        let mut numbers = Vec::new();
        for name in self.storage.list(&self.directory).map_err(failed)? {
            numbers.extend(name.to_str().and_then(parse_name));
        }
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// Reads one back, checked.
    ///
    /// # Errors
    /// Damage, another version's file, and what the operating system says.
    pub fn read(&self, number: u64) -> Result<Snapshot, SnapshotFileError> {
        let file = self.path(number);
        let mut bytes = self
            .storage
            .read(&file)
            .and_then(|file| storage::read_whole(&*file))
            .map_err(|source| SnapshotFileError::Io { doing: "read", file: file.clone(), source })?;
        match self.check(number, &bytes, &file) {
            Ok((version, offset)) => {
                let mut state = bytes.split_off(HEADER_BYTES);
                if version == SEALED_VERSION {
                    let opened = seal::open_file(self.keys.as_ref(), &bytes[..IDENTITY_BYTES], &state);
                    state = opened.map_err(|source| SnapshotFileError::Sealed { file, source })?;
                }
                Ok(Snapshot { number, offset, state })
            }
            Err(error) => Err(error),
        }
    }

    /// Its version and offset.
    fn check(&self, number: u64, bytes: &[u8], file: &Path) -> Result<(u32, Offset), SnapshotFileError> {
        let damaged = |what| SnapshotFileError::Damaged { file: file.to_owned(), what };
        let Some((header, state)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(damaged("it is too short"));
        };
        let u32_at = |at: usize| header[at..at + 4].iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte));
        let u64_at = |at: usize| header[at..at + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        if header[..8] != MAGIC {
            return Err(damaged("it does not begin like one"));
        }
        if crc32c::crc32c(&header[..CHECKSUM_AT]) != u32_at(CHECKSUM_AT) {
            return Err(damaged("the checksum of its head"));
        }
        let version = u32_at(8);
        if !matches!(version, PLAIN_VERSION | SEALED_VERSION) {
            return Err(SnapshotFileError::Version { file: file.to_owned(), found: version });
        }
        if [header[12], header[13]] != self.node.to_le_bytes() {
            return Err(damaged("it is of another node"));
        }
        if u64_at(16) != number {
            return Err(damaged("it has another's name"));
        }
        if u64_at(32) != state.len() as u64 || u32_at(40) != crc32c::crc32c(state) {
            return Err(damaged("the checksum of the state"));
        }
        Ok((version, Offset(u64_at(24))))
    }

    /// Writes a snapshot, durable when this returns. The mark of its number, and with it everything before, must be durable
    /// already. Blocking.
    ///
    /// # Errors
    /// What the operating system says. Where the snapshot is there all the same, only its name may not be durable.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), SnapshotFileError> {
        let part = self.directory.join(PART_FILE);
        let io = |doing, file: &Path| {
            let file = file.to_owned();
            move |source| SnapshotFileError::Io { doing, file, source }
        };
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        let version = if self.keys.is_some() { SEALED_VERSION } else { PLAIN_VERSION };
        header[8..12].copy_from_slice(&version.to_le_bytes());
        header[12..14].copy_from_slice(&self.node.to_le_bytes());
        header[16..24].copy_from_slice(&snapshot.number.to_le_bytes());
        header[24..32].copy_from_slice(&snapshot.offset.0.to_le_bytes());
        let keys = self.keys.as_ref();
        let sealed = keys.map(|keys| seal::seal_file(keys, &header[..IDENTITY_BYTES], &snapshot.state));
        let sealed = sealed.transpose()?;
        let state = sealed.as_ref().unwrap_or(&snapshot.state);
        header[32..40].copy_from_slice(&(state.len() as u64).to_le_bytes());
        header[40..44].copy_from_slice(&crc32c::crc32c(state).to_le_bytes());
        let checksum = crc32c::crc32c(&header[..CHECKSUM_AT]);
        header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        let written = self.storage.create(&part).and_then(|file| {
            file.write_all_at(&header, 0)?;
            file.write_all_at(state, HEADER_BYTES as u64)?;
            file.sync()
        });
        if let Err(source) = written {
            // Its room is needed elsewhere.
            let _ = self.storage.remove(&part);
            return Err(io("write", &part)(source));
        }
        let file = self.path(snapshot.number);
        self.storage.rename(&part, &file).map_err(io("name", &file))?;
        self.storage.sync_directory(&self.directory).map_err(io("sync", &self.directory))
    }

    /// Removes all but those of these numbers: a damaged one must not pass for one that is kept.
    ///
    /// # Errors
    /// What the operating system says; the next call tries again.
    pub fn prune(&self, kept: &[u64]) -> Result<(), SnapshotFileError> {
        for number in self.list()?.into_iter().filter(|number| !kept.contains(number)) {
            let file = self.path(number);
            match self.storage.remove(&file) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(SnapshotFileError::Io { doing: "remove", file, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:0NAME_DIGITS$}{SUFFIX}"))
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Snapshots").field(&self.directory).finish()
    }
}

fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let well_formed = digits.len() == NAME_DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    well_formed.then(|| digits.parse().ok())?
}
