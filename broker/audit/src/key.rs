//! The key that signs the record, and its public half: Ed25519 keys in the text forms of C2SP signed notes.
//!
//! `audit.key` holds `PRIVATE+KEY+NAME+ID+BASE64`, readable by its owner only; `audit.pub` beside it holds
//! `NAME+ID+BASE64`, to be handed to whoever verifies. The name is the record's origin, so a key cannot sign
//! for another node by mistake.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::tree::sha256;

/// File name of the signing key in the data directory.
pub const KEY_FILE: &str = "audit.key";
/// File name of the public key beside it.
pub const PUBLIC_KEY_FILE: &str = "audit.pub";

/// C2SP signature type of Ed25519.
const ALGORITHM: u8 = 1;
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("audit key {path}: {source}; the broker needs to read and write this directory")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a key in the expected form.
    #[error("{what} is not {expected}; restore it from a backup, or name the right file")]
    Malformed {
        /// File or text.
        what: String,
        /// The form.
        expected: &'static str,
    },
    /// The key belongs to another origin.
    #[error(
        "the audit key is for {found}, this node's record is {expected}; use this node's own data directory"
    )]
    OtherOrigin {
        /// Name in the key.
        found: String,
        /// Name asked for.
        expected: String,
    },
    /// The cryptographic library refused.
    #[error("the audit key could not be made or used by the cryptographic library")]
    Crypto,
}

/// The name of a node's record, and of the key that signs it.
pub fn origin(node: u16) -> String {
    format!("wardline/audit/{node}")
}

/// Signs tree heads of one node.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads `audit.key` in `directory`, or makes it on first use; writes `audit.pub` beside it.
    pub fn open_or_create(directory: &Path, node: u16) -> Result<Self, KeyError> {
        let path = directory.join(KEY_FILE);
        let failed = |path: &Path, source| KeyError::File { path: path.to_owned(), source };
        let key = match fs::read_to_string(&path) {
            Ok(text) => Self::parse(text.trim_end(), &path.display().to_string())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate(node)?;
                write_once(&path, 0o600, &key.private_text()?).map_err(|source| failed(&path, source))?;
                key
            }
            Err(source) => return Err(failed(&path, source)),
        };
        if key.public.name != origin(node) {
            return Err(KeyError::OtherOrigin { found: key.public.name, expected: origin(node) });
        }
        let public_path = directory.join(PUBLIC_KEY_FILE);
        if !public_path.exists() {
            write_once(&public_path, 0o644, &key.public.to_string())
                .map_err(|source| failed(&public_path, source))?;
        }
        Ok(key)
    }

    /// A new random key for `node`, kept nowhere.
    pub fn generate(node: u16) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Crypto)?;
        Self::named(origin(node), pair)
    }

    fn named(name: String, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Crypto)?;
        Ok(Self { pair, public: PublicKey { name, bytes } })
    }

    fn parse(text: &str, what: &str) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed {
            what: what.to_owned(),
            expected: "a signed-note key: PRIVATE+KEY+NAME+ID+BASE64",
        };
        let (name, id, bytes) =
            text.strip_prefix(PRIVATE_PREFIX).and_then(split_key).ok_or_else(malformed)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&bytes).map_err(|_| malformed())?;
        let key = Self::named(name.to_owned(), pair)?;
        if key.public.id() != id {
            return Err(malformed());
        }
        Ok(key)
    }

    fn private_text(&self) -> Result<String, KeyError> {
        let seed = self.pair.seed().map_err(|_| KeyError::Crypto)?;
        let seed = seed.as_be_bytes().map_err(|_| KeyError::Crypto)?;
        Ok(format!("{PRIVATE_PREFIX}{}", key_text(&self.public.name, self.public.id(), seed.as_ref())))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `text`.
    pub fn sign(&self, text: &str) -> Result<Signature, KeyError> {
        let signature = self.pair.try_sign(text.as_bytes()).map_err(|_| KeyError::Crypto)?;
        signature.as_ref().try_into().map_err(|_| KeyError::Crypto)
    }
}

/// Checks what a [`SigningKey`] signed. Its text form is the `vkey` of C2SP signed notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    bytes: [u8; 32],
}

impl PublicKey {
    /// Reads `audit.pub` or a file like it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text =
            fs::read_to_string(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
        text.trim_end().parse()
    }

    /// The origin it signs for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key identifier of C2SP signed notes: the first four bytes of `SHA-256(name || 0x0A || 0x01 ||
    /// key)`.
    pub fn id(&self) -> [u8; 4] {
        let mut named = self.name.clone().into_bytes();
        named.extend([b'\n', ALGORITHM]);
        named.extend(self.bytes);
        let [a, b, c, d, ..] = sha256(&named);
        [a, b, c, d]
    }

    /// Whether `signature` is this key's over `text`.
    pub fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.bytes).verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, self.id(), &self.bytes))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed {
            what: format!("`{text}`"),
            expected: "an audit public key: NAME+ID+BASE64",
        };
        let (name, id, bytes) = split_key(text).ok_or_else(malformed)?;
        let key = Self { name: name.to_owned(), bytes };
        if key.id() == id { Ok(key) } else { Err(malformed()) }
    }
}

fn key_text(name: &str, id: [u8; 4], bytes: &[u8]) -> String {
    let mut tagged = vec![ALGORITHM];
    tagged.extend(bytes);
    format!("{name}+{:08x}+{}", u32::from_be_bytes(id), BASE64.encode(tagged))
}

fn split_key(text: &str) -> Option<(&str, [u8; 4], [u8; 32])> {
    let (name, rest) = text.split_once('+')?;
    let (id, bytes) = rest.split_once('+')?;
    let id = u32::from_str_radix(id, 16).ok()?.to_be_bytes();
    let bytes = BASE64.decode(bytes).ok()?;
    let (&algorithm, bytes) = bytes.split_first()?;
    (algorithm == ALGORITHM && !name.is_empty()).then_some((name, id, bytes.try_into().ok()?))
}

/// Writes a whole file or none: a key cut short by a crash would lock the node out of its own record.
fn write_once(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let made = SigningKey::open_or_create(directory.path(), 7).unwrap();
        let read = SigningKey::open_or_create(directory.path(), 7).unwrap();
        assert_eq!(made.public(), read.public());
        let mode = fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let public = PublicKey::read(&directory.path().join(PUBLIC_KEY_FILE)).unwrap();
        let signature = read.sign("text").unwrap();
        assert!(public.verifies("text", &signature));
        assert!(!public.verifies("another text", &signature));
    }

    #[test]
    fn a_key_does_not_serve_another_node() {
        let directory = tempfile::tempdir().unwrap();
        SigningKey::open_or_create(directory.path(), 7).unwrap();
        let refused = SigningKey::open_or_create(directory.path(), 8);
        assert!(matches!(refused, Err(KeyError::OtherOrigin { .. })), "{refused:?}");
    }

    #[test]
    fn a_damaged_key_is_refused_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        SigningKey::open_or_create(directory.path(), 7).unwrap();
        let path = directory.path().join(KEY_FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();
        assert!(matches!(SigningKey::open_or_create(directory.path(), 7), Err(KeyError::Malformed { .. })));
    }

    /// The example key of the signed-note specification, as Go's sumdb/note prints it.
    #[test]
    fn a_foreign_vkey_is_understood() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key: PublicKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
    }
}
