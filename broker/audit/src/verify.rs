//! Proves a node's record, or finds where it was changed: one pass over the rows in constant memory.
//!
//! Every row is hashed anew from its columns, the hashes are built into the tree again, and the tree is
//! compared with every signed head. What this shows: the rows are what the holder of the key signed, none
//! changed, missing or added. What it cannot: that the end was not cut off together with all heads after it.
//! For that, bring a checkpoint that was kept elsewhere.

use std::fmt;
use std::ops::Range;

use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use wardline_journal::Offset;

use crate::checkpoint::SignedCheckpoint;
use crate::heads::{self, StoredBatch, StoredCheckpoint, StoredHead};
use crate::key::{KeyError, PublicKey, origin};
use crate::rows::{self, StoredRow, Table};
use crate::store::connection::{Connection, Kind, Value};
use crate::store::writer::instant_text;
use crate::store::{Store, StoreError};
use crate::tree::{CompactRange, Hash};

/// Findings kept in a report; beyond it they are only counted, so that a ruined record does not fill the
/// memory.
pub const FINDINGS_MAX: usize = 1_000;

/// What to hold the record against.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// Public keys that are trusted to have signed it.
    pub keys: Vec<PublicKey>,
    /// Checkpoints that were kept elsewhere: the record must still contain what they signed.
    pub witnessed: Vec<SignedCheckpoint>,
    /// Only rows in this range of `seq`, extended to whole batches; left out: all.
    pub range: Option<Range<u64>>,
}

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Rows that are not there.
    Missing {
        /// Their `seq`.
        seqs: Range<u64>,
    },
    /// A second row for one `seq`.
    Duplicate {
        /// Which.
        seq: i64,
        /// In which table the second one is.
        table: Table,
    },
    /// A row where none was ever written.
    Added {
        /// Which.
        seq: i64,
        /// In which table.
        table: Table,
    },
    /// A row that is not what was written.
    Changed {
        /// Which.
        seq: i64,
        /// In which table.
        table: Table,
        /// What does not agree.
        why: String,
    },
    /// A batch row that contradicts the rows or itself.
    Batch {
        /// Where its rows end.
        end: u64,
        /// What is wrong.
        why: String,
    },
    /// A checkpoint that contradicts the rows or itself.
    Checkpoint {
        /// Its size.
        size: u64,
        /// What is wrong.
        why: String,
    },
    /// Rows that say of themselves that their records were lost before they reached the store.
    Lost {
        /// Their `seq`.
        seqs: Range<u64>,
    },
    /// The cursor contradicts the rows.
    Cursor {
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { seqs } if seqs.end - seqs.start == 1 => write!(f, "missing row {}", seqs.start),
            Self::Missing { seqs } => write!(f, "missing rows {} to {}", seqs.start, seqs.end - 1),
            Self::Duplicate { seq, table } => write!(f, "second row {seq}, in {table}"),
            Self::Added { seq, table } => {
                write!(f, "added row {seq} in {table}: it was never written by the broker")
            }
            Self::Changed { seq, table, why } => write!(f, "changed row {seq} in {table}: {why}"),
            Self::Batch { end, why } => write!(f, "batch that ends at {end}: {why}"),
            Self::Checkpoint { size, why } => write!(f, "checkpoint {size}: {why}"),
            Self::Lost { seqs } => write!(
                f,
                "lost records {} to {}: the journal was damaged before they were audited, and they are in its quarantine",
                seqs.start,
                seqs.end - 1
            ),
            Self::Cursor { why } => write!(f, "cursor: {why}"),
        }
    }
}

/// The outcome of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose record.
    pub node: u16,
    /// Rows that were read.
    pub rows: u64,
    /// Publishes of which only the payload's digest is there: so configured, or erased since. The digest proves what it was,
    /// not that it was meant to be gone.
    pub payloads_absent: u64,
    /// Batches whose root and signature were checked.
    pub batches: u64,
    /// Checkpoints that were checked.
    pub checkpoints: u64,
    /// Root over everything that was read; of the whole record when the range was left out.
    pub root: Hash,
    /// The first [`FINDINGS_MAX`] findings, in order.
    pub findings: Vec<Finding>,
    /// How many there were.
    pub findings_count: u64,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings_count == 0
    }
}

/// The nodes that have anything in the store.
pub async fn nodes(store: &Store) -> Result<Vec<u16>, StoreError> {
    let mut connection = store.reader().await?;
    let sql = format!(
        "SELECT {} FROM (SELECT node FROM cursor UNION SELECT node FROM batches UNION SELECT node FROM \
         checkpoints UNION SELECT node FROM publishes UNION SELECT node FROM access UNION SELECT node FROM \
         delivery_steps) AS nodes ORDER BY 1",
        connection.integer("node")
    );
    let nodes = connection.fetch_all(&sql, &[], &[Kind::Int], "listing the nodes").await?;
    let number = |node: i64| u16::try_from(node).map_err(|_| format!("{node} is no node"));
    nodes
        .iter()
        .map(|cells| cells.int(0).and_then(number))
        .collect::<Result<_, _>>()
        .map_err(|what| StoreError::Inconsistent { store: store.name().to_owned(), what })
}

/// The offset behind the last record of `node` that the store has; 0 where it was never written to.
pub async fn recorded(store: &Store, node: u16) -> Result<Offset, StoreError> {
    // A broker that never came to its store has no file there either.
    if store.file().is_some_and(|file| !file.exists()) {
        return Ok(Offset(0));
    }
    let mut connection = match store.reader().await {
        Ok(connection) => connection,
        Err(StoreError::NoSchema { .. }) => return Ok(Offset(0)),
        Err(error) => return Err(error),
    };
    let values = [Value::Int(i64::from(node))];
    let sql = "SELECT next_seq FROM cursor WHERE node = $1";
    let cells = connection.fetch_one(sql, &values, &[Kind::Int], "reading the cursor").await?;
    let next = cells.and_then(|cells| cells.int(0).ok()).unwrap_or_default();
    Ok(Offset(u64::try_from(next).unwrap_or_default()))
}

/// The public keys that the store itself names for `node`. Whoever can rewrite the record can rewrite them
/// too: to exclude that, bring keys that were kept elsewhere.
pub async fn stored_keys(store: &Store, node: u16) -> Result<Vec<PublicKey>, StoreError> {
    let mut connection = store.reader().await?;
    let values = [Value::Int(i64::from(node))];
    let sql = "SELECT key FROM keys WHERE node = $1 ORDER BY since";
    let keys = connection.fetch_all(sql, &values, &[Kind::Text], "reading the keys").await?;
    let parse = |text: &str| text.parse().map_err(|error: KeyError| error.to_string());
    keys.iter()
        .map(|cells| cells.text(0).and_then(parse))
        .collect::<Result<_, _>>()
        .map_err(|what| StoreError::Inconsistent { store: store.name().to_owned(), what })
}

/// Verifies the record of `node`. Findings are in the report; an error means that the store could not be
/// read.
pub async fn verify(store: &Store, node: u16, expectations: &Expectations) -> Result<Report, StoreError> {
    // Two connections: the rows come as of one moment, the heads are only compared up to that moment.
    let mut reader = store.reader().await?;
    reader.snapshot().await?;
    let mut report = Report {
        node,
        rows: 0,
        payloads_absent: 0,
        batches: 0,
        checkpoints: 0,
        root: CompactRange::empty().root(),
        findings: Vec::new(),
        findings_count: 0,
    };
    let next = cursor(&mut reader, node, &mut report).await?;
    let start = match expectations.range.as_ref().map_or(0, |range| range.start) {
        0 => CompactRange::empty(),
        from => trusted_start(&mut reader, node, from, expectations, &mut report).await?,
    };
    let end = match &expectations.range {
        None => next,
        Some(range) => signed_end(&mut reader, node, range.end.min(next)).await?.unwrap_or(next),
    };
    let mut heads_reader = store.reader().await?;
    let whole = expectations.range.is_none();
    let above = if whole { i64::MIN } else { start.size().cast_signed() };
    let head_values = [Value::Int(i64::from(node)), Value::Int(above)];
    let heads = heads::stream(&mut heads_reader, node, &head_values);
    let mut pass = Pass {
        node,
        expectations,
        report,
        batch_end: start.size(),
        range: start,
        is_broken: false,
        last_seq: None,
        heads: heads.peekable(),
        end,
        scratch: Vec::new(),
    };
    let first = if whole { i64::MIN } else { pass.range.size().cast_signed() };
    let last = if whole { i64::MAX } else { end.cast_signed() };
    let values = rows::stream_values(i64::from(node), first..last);
    let mut rows = rows::stream(&mut reader, &values);
    while let Some(row) = rows.try_next().await? {
        pass.row(&row).await?;
    }
    pass.finish(next).await
}

/// The offset after the last row, as the cursor says.
async fn cursor(reader: &mut Connection, node: u16, report: &mut Report) -> Result<u64, StoreError> {
    let sql = "SELECT next_seq FROM cursor WHERE node = $1";
    let values = [Value::Int(i64::from(node))];
    let cells = reader.fetch_one(sql, &values, &[Kind::Int], "reading the cursor").await?;
    let next = cells.map_or(Err("it is missing".to_owned()), |cells| cells.int(0));
    let next = next.and_then(|next| u64::try_from(next).map_err(|_| format!("{next} is impossible")));
    Ok(next.unwrap_or_else(|why| {
        report.add(Finding::Cursor { why });
        0
    }))
}

/// The tree before `from`, taken from a batch that a trusted key signed.
async fn trusted_start(
    reader: &mut Connection,
    node: u16,
    from: u64,
    expectations: &Expectations,
    report: &mut Report,
) -> Result<CompactRange, StoreError> {
    match heads::batch_ending_at_most(reader, node, from).await? {
        Some(StoredHead::Batch(batch)) => match contradiction(&batch, &expectations.keys) {
            None => return Ok(batch.range),
            Some(why) => report.add(Finding::Batch { end: batch.range.size(), why }),
        },
        Some(StoredHead::Unreadable { size, why }) => report.add(Finding::Batch { end: size, why }),
        Some(StoredHead::Checkpoint(_)) | None => {}
    }
    Ok(CompactRange::empty())
}

/// Where the batch with the row before `to` ends: rows are only proved by a root that covers them.
async fn signed_end(reader: &mut Connection, node: u16, to: u64) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT min(tree_size) FROM batches WHERE node = $1 AND tree_size >= $2";
    let values = [Value::Int(i64::from(node)), Value::Int(to.cast_signed())];
    let cells = reader.fetch_one(sql, &values, &[Kind::Int], "reading a batch").await?;
    Ok(cells.and_then(|cells| cells.int(0).ok()).map(i64::cast_unsigned))
}

/// What is wrong with a batch by itself.
fn contradiction(batch: &StoredBatch, keys: &[PublicKey]) -> Option<String> {
    if batch.range.root() != batch.head.checkpoint.root {
        Some("its range does not give its root".to_owned())
    } else if !batch.head.is_signed_by(keys) {
        Some("no trusted key signed its root".to_owned())
    } else {
        None
    }
}

impl Report {
    /// A record that is lost; one finding for all in a row.
    fn lost(&mut self, seq: u64) {
        match self.findings.last_mut() {
            Some(Finding::Lost { seqs }) if seqs.end == seq => seqs.end += 1,
            _ => self.add(Finding::Lost { seqs: seq..seq + 1 }),
        }
    }

    fn add(&mut self, finding: Finding) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// The pass over the rows.
struct Pass<'a> {
    node: u16,
    expectations: &'a Expectations,
    report: Report,
    /// The tree so far.
    range: CompactRange,
    /// A leaf since the last batch was unusable, so roots cannot be compared until the next batch gives a
    /// trusted range.
    is_broken: bool,
    /// `seq` of the row before.
    last_seq: Option<i64>,
    /// Where the batch before ended.
    batch_end: u64,
    heads: futures_util::stream::Peekable<BoxStream<'a, Result<StoredHead, StoreError>>>,
    /// Where the rows should end.
    end: u64,
    scratch: Vec<u8>,
}

impl Pass<'_> {
    async fn row(&mut self, row: &StoredRow) -> Result<(), StoreError> {
        self.report.rows += 1;
        self.report.payloads_absent += u64::from(row.lacks_payload());
        let (seq, table) = (row.seq, row.table);
        let is_duplicate = self.last_seq == Some(seq);
        self.last_seq = Some(seq);
        if is_duplicate {
            self.report.add(Finding::Duplicate { seq, table });
            return Ok(());
        }
        let place = u64::try_from(seq).ok().filter(|place| *place < self.end && *place >= self.range.size());
        let Some(place) = place else {
            self.report.add(Finding::Added { seq, table });
            return Ok(());
        };
        self.skip_to(place).await?;
        if row.is_lost() {
            self.report.lost(place);
        }
        let digest = row.checked_digest(self.node, &mut self.scratch);
        let leaf = digest.or_else(|why| {
            self.report.add(Finding::Changed { seq, table, why });
            row.stored_digest()
        });
        match leaf {
            // Where a column was changed its stored digest goes into the tree: if that is still the one that
            // was signed, only this row is wrong; if it was changed too, the batch's root tells.
            Ok(leaf) => self.range.push(leaf),
            Err(_) => self.push_unknown(),
        }
        self.compare_heads().await
    }

    /// Passes over rows that are missing before `place`, batch by batch.
    async fn skip_to(&mut self, place: u64) -> Result<(), StoreError> {
        let from = self.range.size();
        if from == place {
            return Ok(());
        }
        self.report.add(Finding::Missing { seqs: from..place });
        while self.range.size() < place {
            // A missing leaf is unknown, so nothing can be computed before the next trusted range: go there
            // at once.
            let next = match std::pin::Pin::new(&mut self.heads).peek().await {
                Some(Ok(head)) => head.size().clamp(self.range.size() + 1, place),
                Some(Err(_)) | None => place,
            };
            self.is_broken = true;
            self.range = unknown_range(next);
            self.compare_heads().await?;
        }
        Ok(())
    }

    fn push_unknown(&mut self) {
        self.is_broken = true;
        self.range.push([0; 32]);
    }

    /// Compares the heads whose tree is complete by now.
    async fn compare_heads(&mut self) -> Result<(), StoreError> {
        let size = self.range.size();
        while let Some(head) = std::pin::Pin::new(&mut self.heads)
            .next_if(|head| head.as_ref().map_or(true, |head| head.size() <= size))
            .await
        {
            match head? {
                StoredHead::Batch(batch) => self.batch(batch),
                StoredHead::Checkpoint(checkpoint) => self.checkpoint(&checkpoint),
                StoredHead::Unreadable { size, why } => self.report.add(Finding::Batch { end: size, why }),
            }
        }
        for witnessed in &self.expectations.witnessed {
            if witnessed.checkpoint.size == size && size > 0 {
                let root = self.known_root();
                self.witness(witnessed, root);
            }
        }
        Ok(())
    }

    fn known_root(&self) -> Option<Hash> {
        (!self.is_broken).then(|| self.range.root())
    }

    fn batch(&mut self, batch: StoredBatch) {
        self.report.batches += 1;
        let end = batch.range.size();
        let mut wrong = |why: String| self.report.add(Finding::Batch { end, why });
        if batch.first != self.batch_end {
            wrong(format!("it begins at {}, the batch before ended at {}", batch.first, self.batch_end));
        } else if batch.first.checked_add(batch.count) != Some(end) {
            wrong(format!("{} rows from {} do not end there", batch.count, batch.first));
        }
        self.batch_end = end;
        let contradiction = contradiction(&batch, &self.expectations.keys);
        let is_trusted = contradiction.is_none();
        if let Some(why) = contradiction {
            self.report.add(Finding::Batch { end, why });
        }
        if end != self.range.size() {
            return;
        }
        if self.known_root().is_some_and(|root| root != batch.head.checkpoint.root) {
            self.report.add(Finding::Batch { end, why: "its rows do not give its root".to_owned() });
        }
        // From a trusted batch on, the tree is known again, whatever was wrong before.
        if is_trusted {
            self.range = batch.range;
            self.is_broken = false;
        }
    }

    fn checkpoint(&mut self, stored: &StoredCheckpoint) {
        self.report.checkpoints += 1;
        let why = match self.signed_checkpoint(stored) {
            Err(why) => why,
            Ok(_) if stored.size != self.range.size() => "it is not over whole batches".to_owned(),
            Ok(signed) if self.known_root().is_some_and(|root| root != signed.checkpoint.root) => {
                "the rows do not give its root".to_owned()
            }
            Ok(_) => return,
        };
        self.report.add(Finding::Checkpoint { size: stored.size, why });
    }

    /// The note of a checkpoint, or what is wrong with it by itself.
    fn signed_checkpoint(&self, stored: &StoredCheckpoint) -> Result<SignedCheckpoint, String> {
        let signed = SignedCheckpoint::parse(&stored.note).map_err(|error| error.to_string())?;
        let checkpoint = &signed.checkpoint;
        let agrees = checkpoint.origin == origin(self.node)
            && checkpoint.size == stored.size
            && checkpoint.root == stored.root
            && instant_text(checkpoint.at) == stored.at;
        if !agrees {
            Err("its columns do not agree with its note".to_owned())
        } else if !signed.is_signed_by(&self.expectations.keys) {
            Err("no trusted key signed it".to_owned())
        } else {
            Ok(signed)
        }
    }

    /// A head over rows that were not there yet when the pass began: at least this node must have signed it.
    fn later(&mut self, head: &StoredHead) {
        let size = head.size();
        let finding = match head {
            StoredHead::Batch(batch) => {
                contradiction(batch, &self.expectations.keys).map(|why| Finding::Batch { end: size, why })
            }
            StoredHead::Checkpoint(stored) => {
                self.signed_checkpoint(stored).err().map(|why| Finding::Checkpoint { size, why })
            }
            StoredHead::Unreadable { why, .. } => Some(Finding::Batch { end: size, why: why.clone() }),
        };
        if let Some(finding) = finding {
            self.report.add(finding);
        }
    }

    fn witness(&mut self, signed: &SignedCheckpoint, root: Option<Hash>) {
        let why = if signed.checkpoint.origin != origin(self.node) {
            return;
        } else if !signed.is_signed_by(&self.expectations.keys) {
            "the checkpoint kept elsewhere is not signed by a trusted key"
        } else if root.is_some_and(|root| root != signed.checkpoint.root) {
            "the record is not the one that the checkpoint kept elsewhere was signed for"
        } else {
            return;
        };
        self.report.add(Finding::Checkpoint { size: signed.checkpoint.size, why: why.to_owned() });
    }

    async fn finish(mut self, next: u64) -> Result<Report, StoreError> {
        self.skip_to(self.end.max(self.range.size())).await?;
        if self.expectations.range.is_none() {
            while let Some(head) = self.heads.next().await {
                self.later(&head?);
            }
            if self.batch_end != next {
                let why = format!("it is at {next}, the batches end at {}", self.batch_end);
                self.report.add(Finding::Cursor { why });
            }
            for witnessed in &self.expectations.witnessed {
                if witnessed.checkpoint.size > next && witnessed.checkpoint.origin == origin(self.node) {
                    let why = format!("the record was cut off: it has {next} rows, this checkpoint saw more");
                    self.report.add(Finding::Checkpoint { size: witnessed.checkpoint.size, why });
                }
            }
        }
        self.report.root = self.range.root();
        Ok(self.report)
    }
}

/// A range of the right size whose nodes are not known.
fn unknown_range(size: u64) -> CompactRange {
    let bytes = vec![0; 32 * size.count_ones() as usize];
    CompactRange::from_bytes(size, &bytes).unwrap_or_default()
}
