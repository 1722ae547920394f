//! What the audit tables hold, read with other eyes than the broker's own.

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

/// Demands that `wardline audit verify` finds the record at `store` complete and unchanged.
///
/// # Panics
/// With its findings, if it does not.
pub fn verify(store: &str) {
    let output =
        wardline().args(["audit", "verify", "--store", store]).output().expect("wardline can be run");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the record does not verify: {said}");
}
