//! Encryption at rest: AES-256-GCM under a key of its own for each segment and each other file.
//!
//! A segment's key is derived from a key of the key file, the segment's random salt and the rest of its header, so a
//! frame opens in its own segment only, and only below the header it was written with. The nonce is the frame's
//! position. A position is written once under one key: what a crash cut off is never written over, as every opening
//! begins a new segment. `docs/journal.md` argues it whole.

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use crate::keys::{Key, KeyId, KeyRing, Refused};

/// What authenticates a sealed piece, behind it, in bytes.
pub(crate) const TAG_BYTES: usize = 16;
/// Random, in each sealed file, in bytes: even the files of a lifetime never meet the same one twice.
pub(crate) const SALT_BYTES: usize = 16;

const SEGMENT_PURPOSE: &[u8] = b"wardline journal segment";
const FILE_PURPOSE: &[u8] = b"wardline journal file";
/// What stands before a sealed file's content: the key's identifier and the salt.
const FILE_HEADER_BYTES: usize = size_of::<u32>() + SALT_BYTES;

/// Which key seals a file, and what makes it that file's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealedWith {
    pub(crate) key: KeyId,
    pub(crate) salt: [u8; SALT_BYTES],
}

impl SealedWith {
    /// The newest key, with a fresh salt.
    pub(crate) fn newest(keys: &KeyRing) -> Result<Self, Refused> {
        let mut salt = [0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt)?;
        Ok(Self { key: keys.newest().ok_or(Refused)?.id, salt })
    }
}

/// Seals and opens the pieces of one segment.
#[derive(Debug)]
pub(crate) struct SegmentKey(LessSafeKey);

impl SegmentKey {
    /// The key of the segment that was `sealed` so; `header` is all else that its header says.
    pub(crate) fn derive(key: &Key, sealed: &SealedWith, header: &[u8]) -> Result<Self, Refused> {
        key.derive(&sealed.salt, &[SEGMENT_PURPOSE, header]).map(Self)
    }

    /// Encrypts `content`, which belongs at `position` of the segment behind `clear`; the result authenticates both.
    /// Nothing else may ever be sealed at this position.
    pub(crate) fn seal(
        &self,
        position: u64,
        clear: &[u8],
        content: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Refused> {
        let tag = self.0.seal_in_place_separate_tag(nonce(position), Aad::from(clear), content)?;
        tag.as_ref().try_into().map_err(|_| Refused)
    }

    /// Decrypts `sealed`, content and tag; whether both it and `clear` are what was sealed at `position`. Where they
    /// are not, `sealed` holds nothing of use afterwards.
    pub(crate) fn open(&self, position: u64, clear: &[u8], sealed: &mut [u8]) -> bool {
        self.0.open_in_place(nonce(position), Aad::from(clear), sealed).is_ok()
    }
}

/// Why an encrypted file does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Not what was encrypted, or another file in its place.
    #[error("it is not what was encrypted")]
    Changed,
    /// Encrypted with a key that is not at hand.
    #[error("it is encrypted with key {0}, which is not in the `key_file` of [journal]")]
    Key(KeyId),
    /// The cryptographic library failed.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Seals a whole file with the newest key. It opens with the same `context` only, which says what file it is.
///
/// Layout: key identifier `u32`, 16 bytes of salt, the encrypted bytes, 16 bytes of tag.
pub(crate) fn seal_file(keys: &KeyRing, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, Refused> {
    let with = SealedWith::newest(keys)?;
    let key = file_key(keys.newest().ok_or(Refused)?, &with, context)?;
    let mut sealed = Vec::with_capacity(FILE_HEADER_BYTES + plain.len() + TAG_BYTES);
    sealed.extend_from_slice(&with.key.0.to_le_bytes());
    sealed.extend_from_slice(&with.salt);
    sealed.extend_from_slice(plain);
    let content = sealed.get_mut(FILE_HEADER_BYTES..).unwrap_or_default();
    // The key is used this once.
    let tag = key.seal_in_place_separate_tag(nonce(0), Aad::empty(), content)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Opens what [`seal_file`] made for the same `context`.
pub(crate) fn open_file(
    keys: Option<&KeyRing>,
    context: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, UnsealError> {
    let (id, rest) = sealed.split_first_chunk().ok_or(UnsealError::Changed)?;
    let (salt, content) = rest.split_first_chunk().ok_or(UnsealError::Changed)?;
    let with = SealedWith { key: KeyId(u32::from_le_bytes(*id)), salt: *salt };
    let key = keys.and_then(|keys| keys.find(with.key)).ok_or(UnsealError::Key(with.key))?;
    let key = file_key(key, &with, context)?;
    let mut plain = content.to_vec();
    let opened = key.open_in_place(nonce(0), Aad::empty(), &mut plain);
    let bytes = opened.map_err(|_| UnsealError::Changed)?.len();
    plain.truncate(bytes);
    Ok(plain)
}

fn file_key(key: &Key, with: &SealedWith, context: &[u8]) -> Result<LessSafeKey, Refused> {
    key.derive(&with.salt, &[FILE_PURPOSE, context])
}

fn nonce(position: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..size_of::<u64>()].copy_from_slice(&position.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}
