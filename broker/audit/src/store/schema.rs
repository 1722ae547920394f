//! Making and checking the tables.

use super::StoreError;
use super::connection::{Connection, Kind};

/// The schema version that this program writes.
pub const SCHEMA_VERSION: i64 = 1;

const POSTGRES: &str = include_str!("../../sql/postgres.sql");
const SQLITE: &str = include_str!("../../sql/sqlite.sql");

/// PostgreSQL advisory lock: two brokers that start together on an empty database.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7749231)";

/// Creates what is missing.
pub(crate) async fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    if check(connection).await.is_ok() {
        return Ok(());
    }
    let doing = "creating the audit tables";
    connection.script(if connection.is_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" }, doing).await?;
    if connection.is_postgres() {
        connection.script(LOCK, doing).await?;
    }
    match check(connection).await {
        Ok(()) => {}
        Err(StoreError::NoSchema { .. }) => {
            connection.script(if connection.is_postgres() { POSTGRES } else { SQLITE }, doing).await?;
        }
        Err(other) => return Err(other),
    }
    connection.script("COMMIT", doing).await
}

/// Whether the tables are there in a version that this program knows.
pub(crate) async fn check(connection: &mut Connection) -> Result<(), StoreError> {
    let doing = "looking for the audit tables";
    let there = if connection.is_postgres() {
        "SELECT count(*) FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = \
         c.relnamespace WHERE n.nspname = 'audit' AND c.relname = 'schema_version'"
    } else {
        "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'"
    };
    let missing = |store: &str| StoreError::NoSchema { store: store.to_owned() };
    let count = connection.fetch_one(there, &[], &[Kind::Int], doing).await?;
    if count.and_then(|cells| cells.int(0).ok()) != Some(1) {
        return Err(missing(connection.name()));
    }
    let max = if connection.is_postgres() { "max(version)::bigint" } else { "max(version)" };
    let sql = format!("SELECT {max} FROM schema_version");
    let version = connection.fetch_one(&sql, &[], &[Kind::Int], doing).await?;
    match version.and_then(|cells| cells.int(0).ok()) {
        None => Err(missing(connection.name())),
        Some(found) if found > SCHEMA_VERSION => {
            Err(StoreError::NewerSchema { store: connection.name().to_owned(), found })
        }
        Some(_) => Ok(()),
    }
}
