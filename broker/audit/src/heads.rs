//! Signed heads as they are read back: the batches and checkpoints of a node, in order of tree size.

use futures_util::stream::{BoxStream, StreamExt};

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::key::origin;
use crate::store::StoreError;
use crate::store::connection::{Cells, Connection, Kind, Value};
use crate::tree::{CompactRange, Hash};

/// A row of `batches` or `checkpoints`, not yet believed.
#[derive(Clone, Debug)]
pub(crate) enum StoredHead {
    /// Of a batch.
    Batch(StoredBatch),
    /// Of a checkpoint.
    Checkpoint(StoredCheckpoint),
    /// Something that cannot be one: where, and why.
    Unreadable { size: u64, why: String },
}

/// A row of `batches`.
#[derive(Clone, Debug)]
pub(crate) struct StoredBatch {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) head: SignedCheckpoint,
    pub(crate) range: CompactRange,
}

/// A row of `checkpoints`.
#[derive(Clone, Debug)]
pub(crate) struct StoredCheckpoint {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) at: String,
    pub(crate) note: String,
}

impl StoredHead {
    /// Size of the tree under it.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.head.checkpoint.size,
            Self::Checkpoint(checkpoint) => checkpoint.size,
            Self::Unreadable { size, .. } => *size,
        }
    }
}

const KINDS: [Kind; 10] = [
    Kind::Int,   // 0: batch, 1: checkpoint
    Kind::Int,   // size
    Kind::Int,   // first_seq
    Kind::Int,   // count
    Kind::Bytes, // root
    Kind::Text,  // at
    Kind::Bytes, // range
    Kind::Bytes, // key_id
    Kind::Bytes, // signature
    Kind::Text,  // note
];

/// The heads of `node` over more than `above` rows. `values` are the node and `above`.
pub(crate) fn stream<'c>(
    connection: &'c mut Connection,
    node: u16,
    values: &'c [Value],
) -> BoxStream<'c, Result<StoredHead, StoreError>> {
    let at = connection.instant_text("at");
    let (zero, one, count) = (connection.integer("0"), connection.integer("1"), connection.integer("count"));
    let none = connection.no_bytes();
    let sql = format!(
        "SELECT {zero} AS kind, tree_size AS size, first_seq, {count} AS rows, root, {at} AS instant, range, \
         key_id, signature, '' AS note FROM batches WHERE node = $1 AND tree_size > $2 UNION ALL SELECT \
         {one}, size, {zero}, {zero}, root, {at}, {none}, {none}, {none}, note FROM checkpoints WHERE node = \
         $1 AND size > $2 ORDER BY size, kind"
    );
    connection
        .fetch(&sql, values, &KINDS, "reading the heads")
        .map(move |cells| Ok(read(node, &cells?)))
        .boxed()
}

/// The batch that ends the tree of the largest size up to `at_most`: where a computation of the tree can
/// begin.
pub(crate) async fn batch_ending_at_most(
    connection: &mut Connection,
    node: u16,
    at_most: u64,
) -> Result<Option<StoredHead>, StoreError> {
    let at = connection.instant_text("at");
    let (zero, count) = (connection.integer("0"), connection.integer("count"));
    let sql = format!(
        "SELECT {zero}, tree_size, first_seq, {count}, root, {at}, range, key_id, signature, '' FROM batches \
         WHERE node = $1 AND tree_size <= $2 ORDER BY tree_size DESC LIMIT 1"
    );
    let values = [Value::Int(i64::from(node)), Value::Int(at_most.cast_signed())];
    let cells = connection.fetch_one(&sql, &values, &KINDS, "reading a batch").await?;
    Ok(cells.map(|cells| read(node, &cells)))
}

fn read(node: u16, cells: &Cells) -> StoredHead {
    let Some(size) = cells.int(1).ok().and_then(|size| u64::try_from(size).ok()) else {
        return StoredHead::Unreadable { size: 0, why: "its size is impossible".to_owned() };
    };
    let read =
        if cells.int(0) == Ok(0) { read_batch(node, size, cells) } else { read_checkpoint(size, cells) };
    read.unwrap_or_else(|why| StoredHead::Unreadable { size, why })
}

fn read_batch(node: u16, size: u64, cells: &Cells) -> Result<StoredHead, String> {
    let wrong = |what: &str| format!("the batch that ends at {size} has an impossible {what}");
    let root = cells.bytes(4)?.try_into().map_err(|_| wrong("root"))?;
    let at = cells.text(5)?.parse().map_err(|_| wrong("time"))?;
    let range = CompactRange::from_bytes(size, cells.bytes(6)?).ok_or_else(|| wrong("range"))?;
    let key_id = cells.bytes(7)?.try_into().map_err(|_| wrong("key_id"))?;
    let signature = cells.bytes(8)?.try_into().map_err(|_| wrong("signature"))?;
    let checkpoint = Checkpoint { origin: origin(node), size, root, at };
    let head = SignedCheckpoint { checkpoint, key_id, signature };
    let (first, count) = (cells.int(2)?.cast_unsigned(), cells.int(3)?.cast_unsigned());
    Ok(StoredHead::Batch(StoredBatch { first, count, head, range }))
}

fn read_checkpoint(size: u64, cells: &Cells) -> Result<StoredHead, String> {
    let root = cells.bytes(4)?.try_into().map_err(|_| format!("checkpoint {size} has an impossible root"))?;
    let (at, note) = (cells.text(5)?.to_owned(), cells.text(9)?.to_owned());
    Ok(StoredHead::Checkpoint(StoredCheckpoint { size, root, at, note }))
}
