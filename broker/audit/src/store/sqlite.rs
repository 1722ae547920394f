//! A SQLite file, as a connection that is used from tasks: its calls block, so each runs on a thread for such.

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use futures_util::stream::{self, BoxStream, StreamExt};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Error, OpenFlags, Row, ToSql, params_from_iter};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::connection::{Cells, Kind, Value};
use super::{Access, Source};

/// How long to wait for another writer of the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows read ahead of who takes them.
const ROWS_AHEAD_MAX: usize = 50;

/// The file that a record is in. One call at a time: another waits for it.
#[derive(Clone)]
pub(super) struct File(Arc<Opened>);

struct Opened {
    path: PathBuf,
    /// Which file that was.
    identity: Identity,
    connection: Mutex<Connection>,
}

/// Device and inode.
type Identity = (u64, u64);

/// The file is not where it was: what is written to it will be found by nobody.
#[derive(Debug, thiserror::Error)]
#[error(
    "the file was removed, renamed or replaced while the broker had it open; put it back: without it the \
     broker can make the record anew only at a start, and only while the journal still has all of it"
)]
pub(super) struct Gone;

impl File {
    /// Opens the file at `path`; for writing, makes it if it is missing.
    pub(super) async fn open(path: &Path, access: Access) -> Result<Self, Source> {
        let path = path.to_owned();
        let open = move || -> Result<_, Source> {
            let connection = Mutex::new(connect(&path, access)?);
            Ok(Opened { identity: identity(&path)?, path, connection })
        };
        Ok(Self(Arc::new(spawn_blocking(open).await??)))
    }

    /// # Errors
    /// Where the path leads is not the file that is open.
    pub(super) fn is_in_place(&self) -> Result<(), Gone> {
        let in_place = identity(&self.0.path).is_ok_and(|now| now == self.0.identity);
        if in_place { Ok(()) } else { Err(Gone) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.connection.lock()
    }

    /// Runs statements without parameters.
    pub(super) async fn script(&self, sql: &'static str) -> Result<(), Source> {
        self.call(move |connection| connection.execute_batch(sql)).await
    }

    /// Runs one statement and returns the number of rows it touched.
    pub(super) async fn execute(&self, sql: &str, values: &[Value]) -> Result<u64, Source> {
        let (sql, values) = (sql.to_owned(), values.to_vec());
        self.call(move |connection| Ok(connection.execute(&sql, params_from_iter(values))? as u64)).await
    }

    /// The rows of a result, as they come.
    pub(super) fn fetch(
        &self,
        sql: &str,
        values: &[Value],
        kinds: &[Kind],
    ) -> BoxStream<'static, Result<Cells, Source>> {
        let (sql, values, kinds) = (sql.to_owned(), values.to_vec(), kinds.to_vec());
        let (sender, mut receiver) = mpsc::channel(ROWS_AHEAD_MAX);
        let file = self.clone();
        spawn_blocking(move || {
            // Who has read enough has dropped the receiver.
            let take = |row| sender.blocking_send(Ok(row)).is_ok();
            if let Err(error) = read(&file.lock(), &sql, &values, &kinds, take) {
                let _ = sender.blocking_send(Err(error.into()));
            }
        });
        stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Source> {
        let file = self.clone();
        Ok(spawn_blocking(move || call(&file.lock())).await??)
    }
}

fn connect(path: &Path, access: Access) -> Result<Connection, Error> {
    let access_flag = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Access::Create => {
            make_private(path);
            OpenFlags::SQLITE_OPEN_READ_WRITE
        }
    };
    let connection = Connection::open_with_flags(path, access_flag | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if access != Access::Read {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit that was answered is on the disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    Ok(connection)
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Makes a missing file readable by its owner only: there are patients in it. SQLite gives its side files the
/// same rights. A failure is left to the connection that follows, which can say more.
fn make_private(file: &Path) {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    drop(made);
}

/// Gives the rows of a result to `take` until it returns false.
fn read(
    connection: &Connection,
    sql: &str,
    values: &[Value],
    kinds: &[Kind],
    take: impl Fn(Cells) -> bool,
) -> Result<(), Error> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        if !take(cells(row, kinds)) {
            break;
        }
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, Error> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Null | Self::Unreadable(_) => ValueRef::Null,
        }))
    }
}

fn cells(row: &Row<'_>, kinds: &[Kind]) -> Cells {
    let cell = |(index, kind): (usize, &Kind)| match (kind, row.get_ref(index)) {
        (_, Ok(ValueRef::Null)) => Value::Null,
        (Kind::Int, Ok(ValueRef::Integer(value))) => Value::Int(value),
        (Kind::Text, Ok(ValueRef::Text(text))) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(error) => Value::Unreadable(error.to_string()),
        },
        (Kind::Bytes, Ok(ValueRef::Blob(bytes))) => Value::Bytes(bytes.to_vec()),
        (kind, Ok(found)) => Value::Unreadable(format!("{} where {kind:?} belongs", found.data_type())),
        (_, Err(error)) => Value::Unreadable(error.to_string()),
    };
    Cells(kinds.iter().enumerate().map(cell).collect())
}
