//! What the broker keeps, the audit tables and the journal, looked at with other eyes than its own.

use std::fs;
use std::path::Path;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::wardline;

/// Rows of a SQLite audit store: the text of each row's columns.
///
/// # Panics
/// If the SQL fails.
pub fn sqlite(file: &Path, sql: &'static str) -> Vec<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let pool = SqlitePool::connect_with(options).await.expect("the store can be opened");
        let rows = sqlx::query(sql).fetch_all(&pool).await.expect("the SQL is right");
        let text = |row: &sqlx::sqlite::SqliteRow, column| {
            row.try_get_unchecked::<String, _>(column).unwrap_or_default()
        };
        let rows = rows.iter().map(|row| (0..row.len()).map(|column| text(row, column)).collect()).collect();
        pool.close().await;
        rows
    })
}

/// Bytes of the journal's segments below a data directory, without what is preallocated.
///
/// # Panics
/// If they cannot be read.
pub fn journal_bytes(data: &Path) -> u64 {
    let mut bytes = 0;
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("the data directory can be read") {
            let path = entry.expect("the data directory can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "seg") {
                let content = fs::read(path).expect("a segment can be read");
                bytes += content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            }
        }
    }
    bytes
}

/// Demands that `wardline audit verify` finds the record at `store` complete and unchanged.
///
/// # Panics
/// With its findings, if it does not.
pub fn verify(store: &str) {
    if let Some(findings) = findings(store) {
        panic!("the record does not verify: {findings}");
    }
}

/// What `wardline audit verify` says of the record at `store`, unless it finds it complete and unchanged.
///
/// # Panics
/// If it cannot be run.
pub fn findings(store: &str) -> Option<String> {
    let output =
        wardline().args(["audit", "verify", "--store", store]).output().expect("wardline can be run");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| said.into_owned())
}
