//! Signed tree heads in the forms of C2SP: a checkpoint is the text, a signed note carries it with its
//! signature.
//!
//! ```text
//! wardline/audit/1                                   origin
//! 48213                                              records under it
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=       root
//! at 2026-11-21T08:00:00.125000Z                     when it was signed, by the broker's clock
//!
//! — wardline/audit/1 fSNNTA6kQ…                      key identifier and Ed25519 signature
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;

use crate::key::{KeyError, PublicKey, Signature, SigningKey, origin};
use crate::tree::Hash;

/// A tree head: what the record was when it had `size` records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The record's name, see [`origin`].
    pub origin: String,
    /// Number of records; the last of them has offset `size - 1`.
    pub size: u64,
    /// Merkle tree hash over them.
    pub root: Hash,
    /// When it was signed, to the microsecond.
    pub at: Timestamp,
}

/// Text that is not a checkpoint in a signed note.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signed checkpoint: {0}")]
pub struct MalformedNote(pub &'static str);

impl Checkpoint {
    /// The head of a node's record.
    pub fn new(node: u16, size: u64, root: Hash, at: Timestamp) -> Self {
        Self { origin: origin(node), size, root, at }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\nat {:.6}\n", self.origin, self.size, BASE64.encode(self.root), self.at)
    }

    /// Signs it.
    pub fn sign(self, key: &SigningKey) -> Result<SignedCheckpoint, KeyError> {
        let signature = key.sign(&self.text())?;
        Ok(SignedCheckpoint { key_id: key.public().id(), checkpoint: self, signature })
    }

    fn parse(text: &str) -> Result<Self, MalformedNote> {
        let mut lines = text.lines();
        let mut line = |what| lines.next().ok_or(MalformedNote(what));
        let origin = line("the origin is missing")?.to_owned();
        let size = line("the tree size is missing")?.parse();
        let size = size.map_err(|_| MalformedNote("the tree size is not a number"))?;
        let root = BASE64.decode(line("the root is missing")?).ok().and_then(|root| root.try_into().ok());
        let root = root.ok_or(MalformedNote("the root is not 32 bytes in base64"))?;
        let at = line("the time is missing")?.strip_prefix("at ").and_then(|at| at.parse().ok());
        let at = at.ok_or(MalformedNote("the time is not `at` and a timestamp"))?;
        let parsed = Self { origin, size, root, at };
        // What was signed is the text itself: anything that would be written differently was not written
        // here.
        if parsed.text() == text {
            Ok(parsed)
        } else {
            Err(MalformedNote("the text is not in its exact form"))
        }
    }
}

/// A checkpoint with this node's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// Which key signed it.
    pub key_id: [u8; 4],
    /// Over [`Checkpoint::text`].
    pub signature: Signature,
}

impl SignedCheckpoint {
    /// The signed note.
    pub fn note(&self) -> String {
        let mut signed = self.key_id.to_vec();
        signed.extend(self.signature);
        format!("{}\n— {} {}\n", self.checkpoint.text(), self.checkpoint.origin, BASE64.encode(signed))
    }

    /// Reads a signed note; signatures under other names, a witness's for example, are passed over.
    pub fn parse(note: &str) -> Result<Self, MalformedNote> {
        let (text, signatures) =
            note.split_once("\n\n").ok_or(MalformedNote("there is no empty line before the signatures"))?;
        let checkpoint = Checkpoint::parse(&format!("{text}\n"))?;
        let own = format!("— {} ", checkpoint.origin);
        let signed = signatures.lines().find_map(|line| line.strip_prefix(own.as_str()));
        let signed = signed.ok_or(MalformedNote("the origin's own signature is missing"))?;
        let signed = BASE64.decode(signed).ok().and_then(|bytes| <[u8; 68]>::try_from(bytes).ok());
        let signed = signed.ok_or(MalformedNote("the signature is not 68 bytes in base64"))?;
        let (key_id, signature) = signed.split_first_chunk::<4>().ok_or(MalformedNote("empty signature"))?;
        let signature = signature.try_into().map_err(|_| MalformedNote("the signature is too short"))?;
        Ok(Self { checkpoint, key_id: *key_id, signature })
    }

    /// Whether one of `keys` signed it, for this origin.
    pub fn is_signed_by(&self, keys: &[PublicKey]) -> bool {
        let text = self.checkpoint.text();
        keys.iter().any(|key| {
            key.name() == self.checkpoint.origin
                && key.id() == self.key_id
                && key.verifies(&text, &self.signature)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(key: &SigningKey) -> SignedCheckpoint {
        let at = "2026-11-21T08:00:00.125Z".parse().unwrap();
        Checkpoint::new(1, 48_213, [7; 32], at).sign(key).unwrap()
    }

    #[test]
    fn a_note_is_read_as_written_and_any_edit_is_found() {
        let key = SigningKey::generate(1).unwrap();
        let keys = [key.public().clone()];
        let note = signed(&key).note();
        let read = SignedCheckpoint::parse(&note).unwrap();
        assert_eq!(read, signed(&key));
        assert!(read.is_signed_by(&keys));
        for (from, to) in
            [("48213", "48214"), ("08:00", "09:00"), ("audit/1\n4", "audit/2\n4"), ("BwcH", "CwcH")]
        {
            let edited = note.replacen(from, to, 1);
            assert_ne!(edited, note);
            let found = SignedCheckpoint::parse(&edited).is_ok_and(|note| note.is_signed_by(&keys));
            assert!(!found, "{from} to {to} went unnoticed");
        }
    }

    #[test]
    fn another_key_is_not_trusted() {
        let note = signed(&SigningKey::generate(1).unwrap());
        assert!(!note.is_signed_by(&[SigningKey::generate(1).unwrap().public().clone()]));
        assert!(!note.is_signed_by(&[]));
    }

    #[test]
    fn a_witness_may_add_a_line() {
        let key = SigningKey::generate(1).unwrap();
        let note = signed(&key).note() + "— witness.example AAAAAA==\n";
        assert_eq!(SignedCheckpoint::parse(&note), Ok(signed(&key)));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in ["", "\n\n", "a\nb\n\n", "wardline/audit/1\n1\nAA==\n\n— wardline/audit/1 AA==\n"] {
            assert!(SignedCheckpoint::parse(text).is_err(), "{text:?}");
        }
    }
}
