//! What the audit store has of the run.

use wardline_test_postgres::Postgres;

use crate::{Site, record};

const SQLITE_ROWS: &str = "SELECT topic, CAST(count(*) AS TEXT), outcome, CAST(payload AS TEXT) FROM publishes \
     WHERE topic LIKE 'crash/%' OR topic LIKE 'alerts/%' OR topic LIKE 'telemetry/%' GROUP BY topic, outcome, payload";
const POSTGRES_ROWS: &str = "SELECT topic, count(*), outcome, convert_from(payload, 'UTF8') FROM audit.publishes \
     WHERE topic LIKE 'crash/%' OR topic LIKE 'alerts/%' OR topic LIKE 'telemetry/%' GROUP BY topic, outcome, payload";

/// The publishes of clients and of the alert plugin.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) publishes: Vec<Row>,
    /// What `wardline audit verify` said, unless it found the record complete and unchanged.
    pub(super) findings: Option<String>,
}

/// Equal rows.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) topic: String,
    pub(super) count: u64,
    pub(super) is_accepted: bool,
    pub(super) payload: String,
}

impl Record {
    /// Reads the store of a broker that has ended.
    pub(super) fn read(site: &Site, postgres: Option<&Postgres>) -> Self {
        let (store, rows) = match postgres {
            None => {
                let rows = record::sqlite(&site.audit_db(), SQLITE_ROWS);
                (format!("sqlite:{}", site.audit_db().display()), rows)
            }
            Some(postgres) => {
                let columns = |line: &str| line.splitn(4, '|').map(str::to_owned).collect();
                (postgres.url(), postgres.query(POSTGRES_ROWS).lines().map(columns).collect())
            }
        };
        let row = |columns: Vec<String>| {
            let [topic, count, outcome, payload]: [String; 4] = columns.try_into().expect("four columns");
            let count = count.parse().expect("a count");
            Row { topic, count, is_accepted: outcome == "accepted", payload }
        };
        Self { publishes: rows.into_iter().map(row).collect(), findings: record::findings(&store) }
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.publishes.iter().map(|row| usize::try_from(row.count).unwrap_or(usize::MAX)).sum()
    }
}
