//! Segment files: their names, their headers, and which there are.

use std::path::{Path, PathBuf};

use crate::error::{Damage, Flaw, ReadError};
use crate::keys::{KeyId, KeyRing};
use crate::lost::Lost;
use crate::record::Offset;
use crate::seal::{SALT_BYTES, SealedWith, SegmentKey};
use crate::storage::{self, ReadFile, Storage};

/// The newest layout of segment files; a file of a newer one is refused, never guessed at.
pub const FORMAT_VERSION: u32 = SEALED_VERSION;

/// Frames as they are.
const PLAIN_VERSION: u32 = 1;
/// Encrypted frames, and which key opens them.
const SEALED_VERSION: u32 = 2;

/// Where the first frame begins.
pub(crate) const HEADER_BYTES: usize = 64;
/// The next segment while it has no offset yet, preallocated.
pub(crate) const SPARE_FILE: &str = "next.spare";

const MAGIC: [u8; 8] = *b"WARDJRNL";
const KEY_AT: usize = 40;
const KEY_SALT_AT: usize = 44;
const CHECKSUM_AT: usize = KEY_SALT_AT + SALT_BYTES;
const SUFFIX: &str = ".seg";
/// Enough for every `u64`, so that names sort as numbers do.
const NAME_DIGITS: usize = 20;

/// What a segment says about itself.
///
/// ```text
/// 0  8 bytes  "WARDJRNL"
/// 8  u32      format version: 1, or 2 where it is sealed
/// 12 u16      node
/// 14 2 bytes  0
/// 16 u64      base: the offset of the first record
/// 24 u64      salt: random, in every batch frame of the segment
/// 32 u64      previous_bytes: where the segment before ends; 0 for the first of all
/// 40 u32      key: the identifier of the one it is sealed with; 0 in version 1
/// 44 16 bytes key salt: random; 0 in version 1
/// 60 u32      CRC-32C of the 60 bytes before
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) node: u16,
    pub(crate) base: Offset,
    pub(crate) salt: u64,
    pub(crate) previous_bytes: u64,
    /// `None` where frames lie as they are.
    pub(crate) sealed: Option<SealedWith>,
    /// The segment stands for records that are lost, and has no frames.
    pub(crate) lost: Option<Lost>,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        let version = if self.sealed.is_some() { SEALED_VERSION } else { PLAIN_VERSION };
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.node.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous_bytes.to_le_bytes());
        if let Some(sealed) = &self.sealed {
            bytes[KEY_AT..KEY_SALT_AT].copy_from_slice(&sealed.key.0.to_le_bytes());
            bytes[KEY_SALT_AT..CHECKSUM_AT].copy_from_slice(&sealed.salt);
        }
        if let Some(lost) = &self.lost {
            lost.put(&mut bytes);
        }
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of `file`, which the directory calls `base`.
    pub(crate) fn read(file: &dyn ReadFile, path: &Path, base: Offset) -> Result<Self, ReadError> {
        let mut bytes = [0; HEADER_BYTES];
        let damaged = |flaw| Err(Damage { file: path.to_owned(), position: 0, flaw }.into());
        let read = storage::read_full(file, &mut bytes, 0)
            .map_err(|source| ReadError::Io { file: path.to_owned(), source })?;
        if read < bytes.len() {
            return damaged(Flaw::Truncated);
        }
        let lost = Lost::read(&bytes);
        if bytes[..8] != MAGIC && lost.is_none() {
            return damaged(Flaw::Magic);
        }
        if crc32c::crc32c(&bytes[..CHECKSUM_AT]) != u32_at(&bytes, CHECKSUM_AT) {
            return damaged(Flaw::Checksum);
        }
        let version = u32_at(&bytes, 8);
        let sealed = match version {
            PLAIN_VERSION => None,
            SEALED_VERSION => {
                let mut salt = [0; SALT_BYTES];
                salt.copy_from_slice(&bytes[KEY_SALT_AT..CHECKSUM_AT]);
                Some(SealedWith { key: KeyId(u32_at(&bytes, KEY_AT)), salt })
            }
            _ => return Err(ReadError::Version { file: path.to_owned(), found: version }),
        };
        let header = Self {
            node: u16::from_le_bytes([bytes[12], bytes[13]]),
            base: Offset(u64_at(&bytes, 16)),
            salt: u64_at(&bytes, 24),
            previous_bytes: u64_at(&bytes, 32),
            sealed,
            lost,
        };
        if header.base != base {
            return damaged(Flaw::Name(header.base));
        }
        // The key is made of what was understood; a byte that nobody looks at would not be part of it.
        if header.sealed.is_some() && header.encode() != bytes {
            return damaged(Flaw::Sealed);
        }
        Ok(header)
    }

    /// The key of the segment at `path`, where it is sealed; everything else in the header is part of it.
    pub(crate) fn key(&self, keys: Option<&KeyRing>, path: &Path) -> Result<Option<SegmentKey>, ReadError> {
        let Some(sealed) = &self.sealed else { return Ok(None) };
        let key = keys.and_then(|keys| keys.find(sealed.key)).ok_or_else(|| ReadError::Key {
            file: path.to_owned(),
            key: sealed.key,
            key_file: keys.map(|keys| keys.file().to_owned()),
        })?;
        let derived = SegmentKey::derive(key, sealed, &self.encode()[..KEY_SALT_AT]);
        derived.map(Some).map_err(|source| ReadError::Refused { file: path.to_owned(), source })
    }
}

/// The file name of the segment whose first record has offset `base`.
pub(crate) fn file_name(base: Offset) -> String {
    format!("{:0NAME_DIGITS$}{SUFFIX}", base.0)
}

/// The directory's segments by ascending base; other files are not looked at.
pub(crate) fn list(storage: &dyn Storage, directory: &Path) -> Result<Vec<(Offset, PathBuf)>, ReadError> {
    let names =
        storage.list(directory).map_err(|source| ReadError::Io { file: directory.to_owned(), source })?;
    let mut segments: Vec<_> = names
        .iter()
        .filter_map(|name| Some((name.to_str().and_then(parse_name)?, directory.join(name))))
        .collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Opens a segment for reading and checks its header.
pub(crate) fn open(
    storage: &dyn Storage,
    base: Offset,
    path: &Path,
) -> Result<(Box<dyn ReadFile>, Header), ReadError> {
    let file = storage.read(path).map_err(|source| ReadError::Io { file: path.to_owned(), source })?;
    let header = Header::read(&*file, path, base)?;
    Ok((file, header))
}

fn parse_name(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(SUFFIX)?;
    let well_formed = digits.len() == NAME_DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    well_formed.then(|| digits.parse().ok().map(Offset))?
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
