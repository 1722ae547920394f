//! Segment files: their names, their headers, and which there are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Damage, Flaw, ReadError};
use crate::record::Offset;

/// Layout of segment files; a file of another version is refused, never guessed at.
pub const FORMAT_VERSION: u32 = 1;

/// Where the first frame begins.
pub(crate) const HEADER_BYTES: usize = 64;
/// The next segment while it has no offset yet, preallocated.
pub(crate) const SPARE_FILE: &str = "next.spare";

const MAGIC: [u8; 8] = *b"WARDJRNL";
const CHECKSUM_AT: usize = 60;
const SUFFIX: &str = ".seg";
/// Enough for every `u64`, so that names sort as numbers do.
const NAME_DIGITS: usize = 20;

/// What a segment says about itself.
///
/// ```text
/// 0  8 bytes  "WARDJRNL"
/// 8  u32      format version
/// 12 u16      node
/// 14 2 bytes  0
/// 16 u64      base: the offset of the first record
/// 24 u64      salt: random, in every batch frame of the segment
/// 32 u64      previous_bytes: where the segment before ends; 0 for the first of all
/// 40 20 bytes 0
/// 60 u32      CRC-32C of the 60 bytes before
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) node: u16,
    pub(crate) base: Offset,
    pub(crate) salt: u64,
    pub(crate) previous_bytes: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.node.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous_bytes.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of `file`, which the directory calls `base`.
    pub(crate) fn read(file: &File, path: &Path, base: Offset) -> Result<Self, ReadError> {
        let mut bytes = [0; HEADER_BYTES];
        let damaged = |flaw| Err(Damage { file: path.to_owned(), position: 0, flaw }.into());
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return damaged(Flaw::Truncated),
            Err(source) => return Err(ReadError::Io { file: path.to_owned(), source }),
        }
        if bytes[..8] != MAGIC {
            return damaged(Flaw::Magic);
        }
        if crc32c::crc32c(&bytes[..CHECKSUM_AT]) != u32_at(&bytes, CHECKSUM_AT) {
            return damaged(Flaw::Checksum);
        }
        let version = u32_at(&bytes, 8);
        if version != FORMAT_VERSION {
            return Err(ReadError::Version { file: path.to_owned(), found: version });
        }
        let header = Self {
            node: u16::from_le_bytes([bytes[12], bytes[13]]),
            base: Offset(u64_at(&bytes, 16)),
            salt: u64_at(&bytes, 24),
            previous_bytes: u64_at(&bytes, 32),
        };
        if header.base != base {
            return damaged(Flaw::Order { expected: base, found: header.base });
        }
        Ok(header)
    }
}

/// The file name of the segment whose first record has offset `base`.
pub(crate) fn file_name(base: Offset) -> String {
    format!("{:0NAME_DIGITS$}{SUFFIX}", base.0)
}

/// The directory's segments by ascending base; other files are not looked at.
pub(crate) fn list(directory: &Path) -> Result<Vec<(Offset, PathBuf)>, ReadError> {
    let failed = |source| ReadError::Io { file: directory.to_owned(), source };
    let mut segments = Vec::new();
    for file in std::fs::read_dir(directory).map_err(failed)? {
        let file = file.map_err(failed)?;
        if let Some(base) = file.file_name().to_str().and_then(parse_name) {
            segments.push((base, file.path()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Opens a segment for reading and checks its header.
pub(crate) fn open(base: Offset, path: &Path) -> Result<(File, Header), ReadError> {
    let file = File::open(path).map_err(|source| ReadError::Io { file: path.to_owned(), source })?;
    let header = Header::read(&file, path, base)?;
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
