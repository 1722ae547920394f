//! What the broker keeps, the audit tables and the journal, looked at with other eyes than its own.

use std::fs;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::wardline;

/// Rows of a SQLite audit store: the text of each row's columns.
///
/// # Panics
/// If the SQL fails.
pub fn sqlite(file: &Path, sql: &'static str) -> Vec<Vec<String>> {
    let file = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let file = file.expect("the store can be opened");
    let mut statement = file.prepare(sql).expect("the SQL is right");
    let columns = statement.column_count();
    let mut rows = statement.query([]).expect("the SQL is right");
    let mut all = Vec::new();
    while let Some(row) = rows.next().expect("the store can be read") {
        all.push((0..columns).map(|column| text(row.get_ref(column))).collect());
    }
    all
}

fn text(cell: Result<ValueRef<'_>, rusqlite::Error>) -> String {
    match cell.expect("there is such a column") {
        ValueRef::Null => String::new(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => value.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
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
