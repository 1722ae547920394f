//! Proof that one row is in the record, for somebody who sees no other row and has no access to the store.
//!
//! The file is a C2SP `tlog-proof`; its extra data are the row's canonical bytes. The proof is given under
//! the first checkpoint after the row, so that making it reads a second's worth of rows, however large the
//! record is.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::stream::TryStreamExt;
use wardline_journal::Offset;

use crate::checkpoint::SignedCheckpoint;
use crate::heads::{self, StoredHead};
use crate::key::{PublicKey, origin};
use crate::rows;
use crate::store::connection::{Kind, Value};
use crate::store::{Store, StoreError};
use crate::tree::{CompactRange, Hash, LEAF, inclusion_path, leaf_hash, root_from_path};

const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// A path in a tree of 2⁶³ leaves.
const PATH_MAX: usize = 63;

/// An inclusion proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The row's canonical bytes: the entry of the tree.
    pub entry: Vec<u8>,
    /// The row's `seq`.
    pub index: u64,
    /// Siblings from the leaf to the root.
    pub path: Vec<Hash>,
    /// The signed head that the path leads to.
    pub checkpoint: SignedCheckpoint,
}

/// Why there is no proof, or why it proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// No such row, or no checkpoint after it yet.
    #[error("row {seq} of node {node} {why}")]
    NotProvable {
        /// Whose record.
        node: u16,
        /// Which row.
        seq: Offset,
        /// What is in the way.
        why: String,
    },
    /// Not a proof file.
    #[error("not a proof: {0}")]
    Malformed(&'static str),
    /// The proof does not hold.
    #[error("the proof does not hold: {0}")]
    Refuted(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Proves the row `seq` of `node`.
pub async fn prove(store: &Store, node: u16, seq: Offset) -> Result<Proof, ProofError> {
    let refuse = |why: String| ProofError::NotProvable { node, seq, why };
    let mut connection = store.reader().await?;
    let values = [Value::Int(i64::from(node)), Value::Int(seq.0.cast_signed())];
    let sql = "SELECT note FROM checkpoints WHERE node = $1 AND size > $2 ORDER BY size LIMIT 1";
    let note = connection.fetch_one(sql, &values, &[Kind::Text], "reading a checkpoint").await?;
    let note = note.ok_or_else(|| refuse("is not under a checkpoint yet, or does not exist".to_owned()))?;
    let note = note.text(0).map_err(refuse)?;
    let checkpoint =
        SignedCheckpoint::parse(note).map_err(|error| refuse(format!("has a checkpoint that is {error}")))?;
    let mut before = match heads::batch_ending_at_most(&mut connection, node, seq.0).await? {
        Some(StoredHead::Batch(batch)) => batch.range,
        Some(StoredHead::Checkpoint(_) | StoredHead::Unreadable { .. }) | None => CompactRange::empty(),
    };
    let range = before.size().cast_signed()..checkpoint.checkpoint.size.cast_signed();
    let values = rows::stream_values(i64::from(node), range);
    let mut rows = rows::stream(&mut connection, &values);
    let (mut entry, mut scratch, mut after) = (None, Vec::new(), Vec::new());
    let mut expected = before.size();
    while let Some(row) = rows.try_next().await? {
        let damaged = |why| refuse(format!("cannot be proved, row {} is damaged: {why}", row.seq));
        if row.seq.cast_unsigned() != expected {
            return Err(refuse(format!("cannot be proved, row {expected} is missing")));
        }
        expected += 1;
        let digest = row.checked_digest(node, &mut scratch).map_err(damaged)?;
        if entry.is_some() {
            after.push(digest);
        } else if row.seq.cast_unsigned() == seq.0 {
            entry = scratch.strip_prefix(&[LEAF]).map(<[u8]>::to_vec);
        } else {
            before.push(digest);
        }
    }
    let entry = entry.ok_or_else(|| refuse("does not exist".to_owned()))?;
    let path = inclusion_path(&before, &after);
    let proof = Proof { entry, index: seq.0, path, checkpoint };
    proof
        .check_path()
        .map_err(|_| refuse("cannot be proved, the rows do not give the checkpoint's root".to_owned()))?;
    Ok(proof)
}

impl Proof {
    /// Whether the entry is in the record of `key`'s node. Needs nothing but the key.
    pub fn check(&self, key: &PublicKey) -> Result<(), ProofError> {
        self.check_path()?;
        if self.checkpoint.is_signed_by(std::slice::from_ref(key)) {
            Ok(())
        } else {
            Err(ProofError::Refuted("the checkpoint is not signed by this key"))
        }
    }

    fn check_path(&self) -> Result<(), ProofError> {
        let checkpoint = &self.checkpoint.checkpoint;
        // The canonical bytes name their place; a proof for another place is another row's.
        let place = self.entry.get(1..11).and_then(|place| place.split_first_chunk::<2>());
        let Some((node, seq)) = place else { return Err(ProofError::Refuted("the entry is too short")) };
        let is_own =
            origin(u16::from_le_bytes(*node)) == checkpoint.origin && seq == self.index.to_le_bytes();
        if !is_own {
            return Err(ProofError::Refuted("the entry is of another row"));
        }
        match root_from_path(self.index, checkpoint.size, leaf_hash(&self.entry), &self.path) {
            Some(root) if root == checkpoint.root => Ok(()),
            _ => Err(ProofError::Refuted("the path does not lead to the checkpoint's root")),
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC}\nextra {}\nindex {}", BASE64.encode(&self.entry), self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", BASE64.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint.note())
    }
}

impl FromStr for Proof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        use ProofError::Malformed;
        let (head, note) =
            text.split_once("\n\n").ok_or(Malformed("there is no empty line before the checkpoint"))?;
        let mut lines = head.lines();
        if lines.next() != Some(MAGIC) {
            return Err(Malformed("it does not begin with c2sp.org/tlog-proof@v1"));
        }
        let entry = lines
            .next()
            .and_then(|line| line.strip_prefix("extra "))
            .and_then(|text| BASE64.decode(text).ok());
        let entry = entry.ok_or(Malformed("the row, `extra` and base64, is missing"))?;
        let index =
            lines.next().and_then(|line| line.strip_prefix("index ")).and_then(|text| text.parse().ok());
        let index = index.ok_or(Malformed("`index` and a number is missing"))?;
        let hash = |line: &str| BASE64.decode(line).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let path: Option<Vec<Hash>> = lines.take(PATH_MAX + 1).map(hash).collect();
        let path = path
            .filter(|path| path.len() <= PATH_MAX)
            .ok_or(Malformed("the path is not hashes in base64"))?;
        let checkpoint =
            SignedCheckpoint::parse(note).map_err(|_| Malformed("the checkpoint is not a signed note"))?;
        Ok(Self { entry, index, path, checkpoint })
    }
}
