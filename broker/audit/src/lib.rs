//! Projects the journal into SQL, and proves it.
//!
//! What it is: a task that tails the journal into PostgreSQL or a SQLite file, one row for each record; a
//! Merkle tree (RFC 6962) over the rows whose heads this node signs; and the readers that query the rows,
//! verify them against the signed heads, and prove a single one to an outsider. Tables and guarantees are
//! described in `docs/audit.md`.
//!
//! What it is not: the durable record itself. That is the journal; a row may come later, never differently.
//!
//! Invariants
//! - every journal offset is exactly one row in exactly one of `publishes`, `access` and `delivery_steps`,
//!   and is its `seq`: a deleted row is a missing number;
//! - rows, the batch's signed head and the cursor move in one transaction: after a crash of either side, at
//!   any instant, no row is lost and none comes twice;
//! - one writer per node: a claim shuts out the one before;
//! - a row's `digest` is the leaf of the tree, and covers all its columns, the payload through its SHA-256;
//! - nothing is ever updated or deleted, except that the cursor moves forward;
//! - a store that is away loses nothing and stops nothing here: the journal keeps the records.

mod background;
mod batch;
mod checkpoint;
mod heads;
mod key;
mod names;
mod payload;
mod projector;
mod prove;
mod query;
mod rows;
mod source;
mod store;
mod tree;
mod verify;

pub use checkpoint::{Checkpoint, MalformedNote, SignedCheckpoint};
pub use key::{KEY_FILE, KeyError, PUBLIC_KEY_FILE, PublicKey, Signature, SigningKey, origin};
pub use payload::{PayloadKept, PayloadPolicy};
pub use projector::{Options, Progress, ProjectorError, run};
pub use prove::{Proof, ProofError, prove};
pub use query::{Cell, Filter, Query, QueryError, Relation, hex, to_json, to_text};
pub use rows::Table;
pub use source::{JournalSource, Source, SourceError};
pub use store::{SCHEMA_VERSION, Store, StoreError};
pub use tree::Hash;
pub use verify::{Expectations, FINDINGS_MAX, Finding, Report, nodes, recorded, stored_keys, verify};
