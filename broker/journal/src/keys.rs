//! The file of keys that a journal is sealed with: which there are, which is the newest, and how one is added.
//!
//! Text. A line holds one key: 32 random bytes in base64; what follows a `#` is for people, and empty lines are passed
//! over. The newest key stands first and seals everything new; the others still open what was sealed with them. A key
//! is named by an identifier that is computed from it, so that a wrong key can never be taken for the right one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;

/// Size of a key, in bytes.
const KEY_BYTES: usize = 32;
/// Keys of one file. One is added at each rotation, and an old one can go once no file is sealed with it.
const KEYS_MAX: usize = 64;
/// Size of a key file, in bytes: ample for [`KEYS_MAX`] keys with a comment each.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// What a key's identifier is derived from it for.
const ID_PURPOSE: &[u8] = b"wardline journal key id";
/// Permission bits that let everybody read, write or search.
const OTHERS: u32 = 0o007;

/// Names a key without telling it: four bytes that HKDF derives from it. Written as eight hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub(crate) u32);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The keys of one file, the newest first; there is at least one.
#[derive(Clone)]
pub struct KeyRing {
    file: Arc<Path>,
    keys: Arc<[Key]>,
}

/// One key, and its name.
pub(crate) struct Key {
    pub(crate) id: KeyId,
    secret: [u8; KEY_BYTES],
}

/// Why the keys could not be read, or a new one not be made. It never shows a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key in it.
    #[error("{path} holds no key; `wardline journal key --out {path}` makes one", path = file.display())]
    Empty {
        /// The key file.
        file: PathBuf,
    },
    /// Everybody may read it.
    #[error("every user of this machine can get at the keys in {path}; mend it with: chmod o= {path}", path = file.display())]
    Exposed {
        /// The key file.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} the key file {}: {source}", file.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The key file.
        file: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// A line that is no key.
    #[error(
        "{}, line {line}, is no key: one is {KEY_BYTES} random bytes in base64, {} characters; \
         `wardline journal key` makes one",
        file.display(), KEY_BYTES.div_ceil(3) * 4
    )]
    Malformed {
        /// The key file.
        file: PathBuf,
        /// From 1.
        line: usize,
    },
    /// The cryptographic library has no random numbers, or refuses a key.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// More than a key file.
    #[error("{} is no key file: it has more than {FILE_BYTES_MAX} bytes or {KEYS_MAX} keys", file.display())]
    TooLarge {
        /// The key file.
        file: PathBuf,
    },
    /// A key that is there already.
    #[error("{}, line {line}, is key {id} again; take one of the two out", file.display())]
    Twice {
        /// The key file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// The key.
        id: KeyId,
    },
}

/// The cryptographic library did not do what it always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library refused; report it")]
pub struct Refused;

impl From<aws_lc_rs::error::Unspecified> for Refused {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

impl KeyRing {
    /// Reads a key file.
    ///
    /// # Errors
    /// A file that cannot be read or that every user can read; a line that is no key; no key at all.
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Io { doing: "read", file: file.to_owned(), source };
        let metadata = fs::metadata(file).map_err(failed)?;
        if metadata.permissions().mode() & OTHERS != 0 {
            return Err(KeyError::Exposed { file: file.to_owned() });
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(KeyError::TooLarge { file: file.to_owned() });
        }
        Self::parse(&fs::read_to_string(file).map_err(failed)?, file)
    }

    /// Makes a new random key and puts it in front of those that the file has; makes the file where there is none,
    /// readable to its owner only. The whole file is replaced at once; owner and permissions of one stay as they are.
    /// `now` goes into the comment beside the key.
    ///
    /// # Errors
    /// As [`KeyRing::read`] for the keys that are there; a directory that cannot be written to.
    pub fn add(file: &Path, now: Timestamp) -> Result<KeyId, KeyError> {
        let failed = |source| KeyError::Io { doing: "write", file: file.to_owned(), source };
        let old = match fs::read_to_string(file) {
            Ok(text) => {
                Self::read(file)?;
                Some((text, fs::metadata(file).map_err(failed)?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(KeyError::Io { doing: "read", file: file.to_owned(), source }),
        };
        let mut secret = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(Refused::from)?;
        let key = Key::new(secret)?;
        let date = now.strftime("%Y-%m-%d");
        let text = old.as_ref().map_or("", |(text, _)| text);
        let text = format!("{} # {} {date}\n{text}", BASE64.encode(key.secret), key.id);
        Self::parse(&text, file)?;
        replace(file, &text, old.as_ref().map(|(_, metadata)| metadata)).map_err(failed)?;
        Ok(key.id)
    }

    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self, KeyError> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let secret = BASE64.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
            let malformed = || KeyError::Malformed { file: file.to_owned(), line: index + 1 };
            let key = Key::new(secret.ok_or_else(malformed)?)?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(KeyError::Twice { file: file.to_owned(), line: index + 1, id: key.id });
            }
            if keys.len() == KEYS_MAX {
                return Err(KeyError::TooLarge { file: file.to_owned() });
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyError::Empty { file: file.to_owned() });
        }
        Ok(Self { file: file.into(), keys: keys.into() })
    }

    /// Where the keys were read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Their names, the newest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|key| key.id)
    }

    /// The key that seals what is new.
    pub(crate) fn newest(&self) -> Option<&Key> {
        self.keys.first()
    }

    pub(crate) fn find(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<KeyId> = self.ids().collect();
        f.debug_struct("KeyRing").field("file", &self.file).field("ids", &ids).finish_non_exhaustive()
    }
}

impl Key {
    fn new(secret: [u8; KEY_BYTES]) -> Result<Self, Refused> {
        let mut id = [0; size_of::<u32>()];
        let length = Length(id.len());
        Salt::new(HKDF_SHA256, &[]).extract(&secret).expand(&[ID_PURPOSE], length)?.fill(&mut id)?;
        Ok(Self { id: KeyId(u32::from_be_bytes(id)), secret })
    }

    /// A key for one use, told from all others by `salt` and `purpose` together (HKDF-SHA-256, RFC 5869).
    pub(crate) fn derive(&self, salt: &[u8], purpose: &[&[u8]]) -> Result<LessSafeKey, Refused> {
        let mut key = [0; KEY_BYTES];
        let length = Length(key.len());
        Salt::new(HKDF_SHA256, salt).extract(&self.secret).expand(purpose, length)?.fill(&mut key)?;
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key)?))
    }
}

/// How many bytes HKDF is to give.
struct Length(usize);

impl aws_lc_rs::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Puts a whole file in the place of the old one: keys cut short by a crash would lock the node out of its journal.
fn replace(file: &Path, text: &str, old: Option<&fs::Metadata>) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let unfinished = PathBuf::from(name);
    match fs::remove_file(&unfinished) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    new.write_all(text.as_bytes())?;
    if let Some(old) = old {
        // Whoever rotates keys may be another user than the broker, which has to read them afterwards.
        std::os::unix::fs::fchown(&new, Some(old.uid()), Some(old.gid()))?;
        new.set_permissions(old.permissions())?;
    }
    new.sync_all()?;
    fs::rename(&unfinished, file)?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
