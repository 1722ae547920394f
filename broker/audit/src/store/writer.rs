//! The one connection that adds rows to a node's record: exactly once, by a cursor that moves in the same
//! transaction.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::connection::{Connection, Kind, Raw, Value, database_error};
use super::sqlite::File;
use super::{Access, Source, Store, StoreError, copy, schema};
use crate::background::Worker;
use crate::batch::Batch;
use crate::checkpoint::SignedCheckpoint;
use crate::heads::{self, StoredHead};
use crate::key::PublicKey;
use crate::tree::CompactRange;

const ADDING: &str = "adding rows";

/// An instant as it stands in text columns: UTC, microseconds, sorts as it happened.
pub(crate) fn instant_text(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// A statement and what is bound to its parameters, which are numbered in the order in which they come.
pub(super) struct Statement {
    pub(super) sql: Cow<'static, str>,
    pub(super) values: Vec<Value>,
}

/// Adds batches to the record of one node.
pub(crate) struct Writer {
    connection: Connection,
    node: u16,
    epoch: i64,
    /// Where a SQLite file is written to; started with the first batch.
    worker: Option<Worker>,
}

/// Where a record stands.
pub(crate) struct Position {
    /// The tree over the rows in the store; its size is the next offset.
    pub(crate) range: CompactRange,
    /// Size of the newest checkpoint.
    pub(crate) checkpointed: u64,
}

impl Writer {
    /// Makes the tables if need be, becomes the writer of `node`'s record, and shuts out the one before.
    pub(crate) async fn claim(
        store: &Store,
        node: u16,
        key: &PublicKey,
        now: Timestamp,
    ) -> Result<(Self, Position), StoreError> {
        let mut connection = store.connect(Access::Create).await?;
        schema::prepare(&mut connection).await?;
        let doing = "becoming the writer";
        connection.script(begin(&connection), doing).await?;
        let sql = "INSERT INTO cursor (node, next_seq, writer_epoch) VALUES ($1, 0, 1) ON CONFLICT (node) DO \
                   UPDATE SET writer_epoch = cursor.writer_epoch + 1 RETURNING next_seq, writer_epoch";
        let cursor = connection.fetch_one(sql, &[node_value(node)], &[Kind::Int, Kind::Int], doing).await?;
        let contradiction = |what: String| StoreError::Inconsistent { store: store.name().to_owned(), what };
        let cursor = cursor.ok_or_else(|| contradiction("the cursor cannot be read".to_owned()))?;
        let (next, epoch) =
            cursor.int(0).and_then(|next| Ok((next, cursor.int(1)?))).map_err(contradiction)?;
        let sql = format!(
            "INSERT INTO keys (node, key, since) VALUES ($1, $2, {}) ON CONFLICT DO NOTHING",
            connection.instant(3)
        );
        let values = [node_value(node), Value::Text(key.to_string()), Value::Text(instant_text(now))];
        connection.execute(&sql, &values, doing).await?;
        let head = heads::batch_ending_at_most(&mut connection, node, i64::MAX.cast_unsigned()).await?;
        let range = check_head(head, next, key).map_err(contradiction)?;
        let sql = "SELECT coalesce(max(size), 0) FROM checkpoints WHERE node = $1";
        let size = connection.fetch_one(sql, &[node_value(node)], &[Kind::Int], doing).await?;
        let checkpointed = size.and_then(|cells| cells.int(0).ok()).unwrap_or_default().cast_unsigned();
        connection.script("COMMIT", doing).await?;
        Ok((Self { connection, node, epoch, worker: None }, Position { range, checkpointed }))
    }

    /// The same writer on a new connection, after the old one was lost.
    pub(crate) async fn reconnect(store: &Store, node: u16, epoch: i64) -> Result<Self, StoreError> {
        let connection = store.connect(Access::Write).await?;
        Ok(Self { connection, node, epoch, worker: None })
    }

    /// Which claim this writer works under.
    pub(crate) fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Adds `batch` with its signed head, and with a checkpoint where asked, in one transaction. When an
    /// earlier attempt had been committed although its answer was lost, that is success and nothing is added
    /// twice. After an error the writer is spent.
    pub(crate) async fn commit(
        &mut self,
        batch: &Arc<Batch>,
        head: &SignedCheckpoint,
        with_checkpoint: bool,
    ) -> Result<(), StoreError> {
        let advance = self.advance(batch);
        let mut heads = vec![self.head_of(batch, head)];
        if with_checkpoint {
            heads.push(self.checkpoint_of(head));
        }
        let is_ours = match &self.connection.raw {
            Raw::Postgres(_) => self.add_by_copy(batch, &advance, &heads).await?,
            Raw::Sqlite(file) => self.add_to_file(file.clone(), batch, advance, heads).await?,
        };
        if is_ours { Ok(()) } else { self.explain_fence(batch).await }
    }

    /// Publishes a signed head as a checkpoint. One of the same size is there already: nothing to do.
    pub(crate) async fn checkpoint(&mut self, head: &SignedCheckpoint) -> Result<(), StoreError> {
        let statement = self.checkpoint_of(head);
        self.execute(&statement, "adding a checkpoint").await.map(drop)
    }

    /// False where the cursor is not where this writer had left it; then nothing is changed.
    async fn add_by_copy(
        &mut self,
        batch: &Batch,
        advance: &Statement,
        heads: &[Statement],
    ) -> Result<bool, StoreError> {
        self.connection.script(begin(&self.connection), ADDING).await?;
        if self.execute(advance, ADDING).await? != 1 {
            self.connection.script("ROLLBACK", ADDING).await?;
            return Ok(false);
        }
        if let Raw::Postgres(raw) = &mut self.connection.raw {
            let copied = copy::insert(raw, self.node, batch).await;
            copied.map_err(|source| database_error(self.connection.name(), ADDING, source))?;
        }
        for head in heads {
            self.execute(head, ADDING).await?;
        }
        self.connection.script("COMMIT", ADDING).await?;
        Ok(true)
    }

    /// As [`Self::add_by_copy`].
    async fn add_to_file(
        &mut self,
        file: File,
        batch: &Arc<Batch>,
        advance: Statement,
        heads: Vec<Statement>,
    ) -> Result<bool, StoreError> {
        let name = self.connection.name().to_owned();
        let failed = |source: Source| database_error(&name, ADDING, source);
        let (batch, node) = (Arc::clone(batch), self.node);
        let worker = match &mut self.worker {
            Some(worker) => worker,
            none => none.insert(Worker::start("audit-writer").map_err(|no_thread| failed(no_thread.into()))?),
        };
        let adding = worker.call(move || file.add(node, &batch, &advance, &heads));
        let added = adding.await.map_err(|lost| failed(lost.into()))?;
        added.map_err(failed)
    }

    async fn execute(&mut self, statement: &Statement, doing: &'static str) -> Result<u64, StoreError> {
        self.connection.execute(&statement.sql, &statement.values, doing).await
    }

    /// Moves the cursor over `batch`: touches one row, or none where it is not this writer's to move.
    fn advance(&self, batch: &Batch) -> Statement {
        let sql = "UPDATE cursor SET next_seq = $1 WHERE node = $2 AND next_seq = $3 AND writer_epoch = $4";
        let (first, end) = (batch.first().0.cast_signed(), batch.end().0.cast_signed());
        let values = vec![Value::Int(end), node_value(self.node), Value::Int(first), Value::Int(self.epoch)];
        Statement { sql: sql.into(), values }
    }

    fn head_of(&self, batch: &Batch, head: &SignedCheckpoint) -> Statement {
        let sql = format!(
            "INSERT INTO batches (node, first_seq, count, tree_size, at, root, range, key_id, signature) \
             VALUES ($1, $2, $3, $4, {}, $6, $7, $8, $9)",
            self.connection.instant(5)
        );
        let (first, end) = (batch.first().0.cast_signed(), batch.end().0.cast_signed());
        let values = vec![
            node_value(self.node),
            Value::Int(first),
            Value::Int(end - first),
            Value::Int(end),
            Value::Text(instant_text(head.checkpoint.at)),
            Value::Bytes(head.checkpoint.root.to_vec()),
            Value::Bytes(batch.range().to_bytes()),
            Value::Bytes(head.key_id.to_vec()),
            Value::Bytes(head.signature.to_vec()),
        ];
        Statement { sql: sql.into(), values }
    }

    fn checkpoint_of(&self, head: &SignedCheckpoint) -> Statement {
        let sql = format!(
            "INSERT INTO checkpoints (node, size, root, at, note) VALUES ($1, $2, $3, {}, $5) ON CONFLICT DO \
             NOTHING",
            self.connection.instant(4)
        );
        let values = vec![
            node_value(self.node),
            Value::Int(head.checkpoint.size.cast_signed()),
            Value::Bytes(head.checkpoint.root.to_vec()),
            Value::Text(instant_text(head.checkpoint.at)),
            Value::Text(head.note()),
        ];
        Statement { sql: sql.into(), values }
    }

    /// The cursor was not where this writer had left it: because its own lost commit succeeded, or because of
    /// another.
    async fn explain_fence(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let sql = "SELECT next_seq, writer_epoch FROM cursor WHERE node = $1";
        let kinds = [Kind::Int, Kind::Int];
        let cursor =
            self.connection.fetch_one(sql, &[node_value(self.node)], &kinds, "reading the cursor").await?;
        let (next, found) =
            cursor.map_or((-1, -1), |cells| (cells.int(0).unwrap_or(-1), cells.int(1).unwrap_or(-1)));
        let store = self.connection.name().to_owned();
        if found != self.epoch {
            Err(StoreError::Fenced { store, node: self.node, epoch: self.epoch, found })
        } else if next == batch.end().0.cast_signed() {
            Ok(())
        } else {
            let what = format!("the cursor is at {next}, this writer had left it at {}", batch.first());
            Err(StoreError::Inconsistent { store, what })
        }
    }
}

fn begin(connection: &Connection) -> &'static str {
    if connection.is_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" }
}

fn node_value(node: u16) -> Value {
    Value::Int(i64::from(node))
}

/// What is built on is signed anew with every batch, so it must be what this node had signed.
fn check_head(head: Option<StoredHead>, next: i64, key: &PublicKey) -> Result<CompactRange, String> {
    let batch = match head {
        Some(StoredHead::Batch(batch)) => batch,
        Some(StoredHead::Unreadable { why, .. }) => return Err(why),
        Some(StoredHead::Checkpoint(_)) | None if next == 0 => return Ok(CompactRange::empty()),
        Some(StoredHead::Checkpoint(_)) | None => {
            return Err(format!("the cursor is at {next} without batches"));
        }
    };
    if batch.range.size().cast_signed() != next {
        return Err(format!("the cursor is at {next}, the batches end at {}", batch.range.size()));
    }
    if batch.range.root() != batch.head.checkpoint.root {
        return Err("the newest batch's range does not give its root".to_owned());
    }
    if batch.head.key_id != key.id() {
        tracing::warn!(%key, "the record so far was signed with another key; keep its public key to verify \
                              it");
    } else if !batch.head.is_signed_by(std::slice::from_ref(key)) {
        return Err("the newest batch is not signed by this node".to_owned());
    }
    Ok(batch.range)
}
