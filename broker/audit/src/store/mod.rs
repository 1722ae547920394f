//! Where the record is kept: PostgreSQL in production, a SQLite file embedded. Both have the same tables and
//! words.
//!
//! A [`Store`] is only an address. A [`writer::Writer`] is the one connection that adds rows, a
//! [`connection::Connection`] for reading never changes anything.

pub(crate) mod connection;
mod copy;
mod insert;
mod schema;
mod sqlite;
pub(crate) mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use connection::Connection;
pub use schema::SCHEMA_VERSION;

/// What a database said, whichever it is.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not an address of a store.
    #[error("`{url}` is not an audit store: {why}; write sqlite:FILE or postgres://USER@HOST/DATABASE")]
    Address {
        /// As written, without a password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The database cannot be reached, or refused a statement.
    #[error("audit store {store}: {doing}: {source}")]
    Database {
        /// Which store.
        store: String,
        /// What was tried.
        doing: &'static str,
        /// What the database said.
        source: Source,
    },
    /// There is no record in it.
    #[error(
        "audit store {store} has no audit tables; is it the right one? The broker makes them when it starts"
    )]
    NoSchema {
        /// Which store.
        store: String,
    },
    /// A newer Wardline wrote it.
    #[error(
        "audit store {store} has schema version {found}, this program knows up to {SCHEMA_VERSION}; use a \
         newer Wardline"
    )]
    NewerSchema {
        /// Which store.
        store: String,
        /// Its version.
        found: i64,
    },
    /// Another process has become the writer of this node's record, or the cursor was tampered with.
    #[error(
        "audit store {store}: node {node} has another writer (epoch {found}, ours is {epoch}); two brokers \
         must not share a node id"
    )]
    Fenced {
        /// Which store.
        store: String,
        /// Whose record.
        node: u16,
        /// The epoch of this writer.
        epoch: i64,
        /// The epoch in the store.
        found: i64,
    },
    /// What the store holds contradicts itself.
    #[error(
        "audit store {store}: {what}; run `wardline audit verify`, and restore the store from a backup if it \
         was damaged"
    )]
    Inconsistent {
        /// Which store.
        store: String,
        /// The contradiction.
        what: String,
    },
}

impl StoreError {
    /// Whether trying again can help: the database may come back, be granted a right, or be given room.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Database { .. } | Self::NoSchema { .. })
    }
}

/// The address of an audit store. `Debug` shows no credentials.
#[derive(Clone)]
pub struct Store {
    target: Target,
    name: String,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.name).finish()
    }
}

#[derive(Clone)]
enum Target {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only reading; a missing SQLite file is an error.
    Read,
    /// Reading and adding; a missing SQLite file is an error.
    Write,
    /// As `Write`; a missing SQLite file is made.
    Create,
}

impl Store {
    /// Understands `sqlite:FILE`, `postgres://…` and `postgresql://…`. No I/O.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let refuse = |why: String| StoreError::Address { url: without_password(url), why };
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url).map_err(|error| refuse(error.to_string()))?;
            let database = options.get_database().unwrap_or_else(|| options.get_username());
            let name = format!("postgres://{}:{}/{database}", options.get_host(), options.get_port());
            // Whatever the server's default: a commit that was answered is on its disk.
            let options = options
                .application_name("wardline-audit")
                .options([("search_path", "audit"), ("synchronous_commit", "on")]);
            return Ok(Self { target: Target::Postgres(Box::new(options)), name });
        }
        let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"));
        match path {
            None => Err(refuse("the scheme is unknown".to_owned())),
            Some("" | ":memory:") => Err(refuse("a record needs a file".to_owned())),
            Some(path) => Ok(Self::sqlite(Path::new(path))),
        }
    }

    /// The SQLite file at `path`.
    pub fn sqlite(path: &Path) -> Self {
        Self { target: Target::Sqlite(path.to_owned()), name: format!("sqlite:{}", path.display()) }
    }

    /// [`Self::parse`] and [`Self::prepare`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let store = Self::parse(url)?;
        store.prepare().await?;
        Ok(store)
    }

    /// Creates the tables, or brings them to this program's version; refuses newer ones. Needs no rights to
    /// define tables when they are there already.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        let mut connection = self.connect(Access::Create).await?;
        schema::prepare(&mut connection).await
    }

    /// The address without credentials.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SQLite file, where it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.target {
            Target::Sqlite(path) => Some(path.clone()),
            Target::Postgres(_) => None,
        }
    }

    pub(crate) async fn connect(&self, access: Access) -> Result<Connection, StoreError> {
        Connection::open(self, access).await
    }

    /// A connection for reading a record that must be there.
    pub(crate) async fn reader(&self) -> Result<Connection, StoreError> {
        let mut connection = self.connect(Access::Read).await?;
        schema::check(&mut connection).await?;
        Ok(connection)
    }
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_and_passwords_not_shown() {
        let store = Store::parse("postgres://me:secret@db:5433/wards").unwrap();
        assert_eq!(store.name(), "postgres://db:5433/wards");
        assert_eq!(format!("{store:?}"), r#"Store("postgres://db:5433/wards")"#);
        assert_eq!(Store::parse("sqlite:a/b.db").unwrap().file(), Some(PathBuf::from("a/b.db")));
        for url in ["mysql://me:secret@db/x", "sqlite:", "sqlite::memory:", "audit.db"] {
            let error = Store::parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("sqlite:FILE"), "{error}");
        }
    }
}
