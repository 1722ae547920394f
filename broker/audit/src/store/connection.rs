//! One connection to either database, with the few differences between their SQL in one place.
//!
//! Values pass as [`Value`]s. A cell that cannot be read, because somebody wrote a wrong type or broken text
//! into a file, becomes [`Value::Unreadable`]: reading a damaged record must report it, not stop at it.

use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::sqlite::File;
use super::{Access, Source, Store, StoreError, Target};

/// A value in a statement or a cell of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// SQL NULL.
    Null,
    /// Integer or truth value.
    Int(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A cell that does not hold what its column should, and what is wrong.
    Unreadable(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The type of a result's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// [`Value::Int`]
    Int,
    /// [`Value::Text`]
    Text,
    /// [`Value::Bytes`]
    Bytes,
}

/// A row of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cells(pub(crate) Vec<Value>);

impl Cells {
    /// The integer in column `index`.
    pub(crate) fn int(&self, index: usize) -> Result<i64, String> {
        match self.0.get(index) {
            Some(Value::Int(value)) => Ok(*value),
            other => Err(unexpected(other, "an integer")),
        }
    }

    /// The text in column `index`.
    pub(crate) fn text(&self, index: usize) -> Result<&str, String> {
        match self.0.get(index) {
            Some(Value::Text(value)) => Ok(value),
            other => Err(unexpected(other, "text")),
        }
    }

    /// The bytes in column `index`.
    pub(crate) fn bytes(&self, index: usize) -> Result<&[u8], String> {
        match self.0.get(index) {
            Some(Value::Bytes(value)) => Ok(value),
            other => Err(unexpected(other, "bytes")),
        }
    }

    /// The bytes in column `index`, or `None` for NULL.
    pub(crate) fn bytes_or_null(&self, index: usize) -> Result<Option<&[u8]>, String> {
        match self.0.get(index) {
            Some(Value::Null) => Ok(None),
            _ => self.bytes(index).map(Some),
        }
    }
}

fn unexpected(value: Option<&Value>, expected: &str) -> String {
    match value {
        Some(Value::Unreadable(why)) => why.clone(),
        Some(Value::Null) => format!("NULL instead of {expected}"),
        _ => format!("not {expected}"),
    }
}

/// A connection to a store.
pub(crate) struct Connection {
    pub(super) raw: Raw,
    name: String,
}

pub(super) enum Raw {
    Sqlite(File),
    Postgres(Box<PgConnection>),
}

impl Connection {
    pub(super) async fn open(store: &Store, access: Access) -> Result<Self, StoreError> {
        let raw = match &store.target {
            Target::Sqlite(path) => File::open(path, access).await.map(Raw::Sqlite),
            Target::Postgres(options) => {
                let connection = PgConnection::connect_with(options).await;
                connection.map(Box::new).map(Raw::Postgres).map_err(Source::from)
            }
        };
        let failed = |source| database_error(&store.name, "connecting", source);
        Ok(Self { raw: raw.map_err(failed)?, name: store.name.clone() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.raw, Raw::Postgres(_))
    }

    /// An expression for the instant in parameter `n`, given as text.
    pub(crate) fn instant(&self, n: usize) -> String {
        if self.is_postgres() { format!("${n}::timestamptz") } else { format!("${n}") }
    }

    /// An expression that reads an instant as UTC text with microseconds.
    pub(crate) fn instant_text(&self, column: &str) -> String {
        if self.is_postgres() {
            format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        } else {
            column.to_owned()
        }
    }

    /// An expression that reads a whole number as 64 bits.
    pub(crate) fn integer(&self, column: &str) -> String {
        if self.is_postgres() { format!("{column}::bigint") } else { column.to_owned() }
    }

    /// An expression that reads a truth value as 0 or 1.
    pub(crate) fn truth(&self, column: &str) -> String {
        if self.is_postgres() { format!("{column}::integer::bigint") } else { column.to_owned() }
    }

    /// NULL in a column of bytes.
    pub(crate) fn no_bytes(&self) -> &'static str {
        if self.is_postgres() { "NULL::bytea" } else { "NULL" }
    }

    /// From here to the end of the connection's use, everything read is as of now, and rows in order come straight
    /// from their indexes: PostgreSQL would rather sort the whole record on its disk first.
    pub(crate) async fn snapshot(&mut self) -> Result<(), StoreError> {
        let sql = if self.is_postgres() {
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_sort = off"
        } else {
            "BEGIN"
        };
        self.script(sql, "beginning to read").await
    }

    /// Runs statements without parameters.
    pub(crate) async fn script(&mut self, sql: &'static str, doing: &'static str) -> Result<(), StoreError> {
        let done = match &mut self.raw {
            Raw::Sqlite(file) => file.script(sql).await,
            Raw::Postgres(raw) => {
                sqlx::raw_sql(sql).execute(raw.as_mut()).await.map(drop).map_err(Source::from)
            }
        };
        done.map_err(|source| database_error(&self.name, doing, source))
    }

    /// Runs one statement and returns the number of rows it touched.
    pub(crate) async fn execute(
        &mut self,
        sql: &str,
        values: &[Value],
        doing: &'static str,
    ) -> Result<u64, StoreError> {
        let done = match &mut self.raw {
            Raw::Sqlite(file) => file.execute(sql, values).await,
            Raw::Postgres(raw) => {
                let query = bound(sqlx::query(AssertSqlSafe(sql.to_owned())), values);
                query.execute(raw.as_mut()).await.map(|done| done.rows_affected()).map_err(Source::from)
            }
        };
        done.map_err(|source| database_error(&self.name, doing, source))
    }

    /// The rows of a result, as they come.
    pub(crate) fn fetch<'c>(
        &'c mut self,
        sql: &str,
        values: &'c [Value],
        kinds: &'c [Kind],
        doing: &'static str,
    ) -> BoxStream<'c, Result<Cells, StoreError>> {
        let name = &self.name;
        let cells = match &mut self.raw {
            Raw::Sqlite(file) => file.fetch(sql, values, kinds),
            Raw::Postgres(raw) => {
                let rows = bound(sqlx::query(AssertSqlSafe(sql.to_owned())), values).fetch(raw.as_mut());
                rows.map_ok(|row| cells(&row, kinds)).map_err(Source::from).boxed()
            }
        };
        cells.map_err(move |source| database_error(name, doing, source)).boxed()
    }

    /// The first row of a result.
    pub(crate) async fn fetch_one(
        &mut self,
        sql: &str,
        values: &[Value],
        kinds: &[Kind],
        doing: &'static str,
    ) -> Result<Option<Cells>, StoreError> {
        self.fetch(sql, values, kinds, doing).try_next().await
    }

    /// All rows of a result that is known to be short.
    pub(crate) async fn fetch_all(
        &mut self,
        sql: &str,
        values: &[Value],
        kinds: &[Kind],
        doing: &'static str,
    ) -> Result<Vec<Cells>, StoreError> {
        self.fetch(sql, values, kinds, doing).try_collect().await
    }
}

pub(super) fn database_error(store: &str, doing: &'static str, source: impl Into<Source>) -> StoreError {
    StoreError::Database { store: store.to_owned(), doing, source: source.into() }
}

fn bound<'q>(query: Query<'q, Postgres, PgArguments>, values: &[Value]) -> Query<'q, Postgres, PgArguments> {
    values.iter().fold(query, |query, value| match value {
        Value::Int(value) => query.bind(*value),
        Value::Text(value) => query.bind(value.clone()),
        Value::Bytes(value) => query.bind(value.clone()),
        Value::Null | Value::Unreadable(_) => query.bind(None::<String>),
    })
}

fn cells(row: &PgRow, kinds: &[Kind]) -> Cells {
    let cell = |(index, kind): (usize, &Kind)| {
        let value = match kind {
            Kind::Int => row.try_get::<Option<i64>, _>(index).map(|value| value.map(Value::Int)),
            Kind::Text => row.try_get::<Option<String>, _>(index).map(|value| value.map(Value::Text)),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(index).map(|value| value.map(Value::Bytes)),
        };
        match value {
            Ok(value) => value.unwrap_or(Value::Null),
            Err(error) => Value::Unreadable(error.to_string()),
        }
    };
    Cells(kinds.iter().enumerate().map(cell).collect())
}
