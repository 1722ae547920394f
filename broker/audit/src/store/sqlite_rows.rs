//! Rows into SQLite: several per statement, because each statement is a trip to the thread that owns the
//! file.

use sqlx::AssertSqlSafe;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use wardline_journal::Record;

use super::writer::instant_text;
use crate::batch::{Batch, Row};
use crate::names::Named;
use crate::payload::PayloadKept;

/// Rows per statement, largest first: few different statements, so that all stay prepared.
const CHUNKS: [usize; 3] = [128, 8, 1];

const PUBLISHES: Table = Table {
    name: "publishes",
    columns: "node, seq, received_at, client_id, principal, peer, topic, qos, retain, packet_id, properties, \
              payload, payload_bytes, payload_digest, outcome, reason, digest",
    placeholders: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
};
const ACCESS: Table = Table {
    name: "access",
    columns: "node, seq, at, event, client_id, principal, peer, detail, reason, state, digest",
    placeholders: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
};
const DELIVERY_STEPS: Table = Table {
    name: "delivery_steps",
    columns: "node, seq, at, step, client_id, principal, peer, publish_seq, alert, topic, digest",
    placeholders: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
};

/// Adds the rows of `batch` within the current transaction.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    node: u16,
    batch: &Batch,
) -> Result<(), sqlx::Error> {
    let (mut publishes, mut access, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
    for row in batch.rows() {
        match row.record {
            Record::Publish(_) => publishes.push(row),
            Record::Access(_) => access.push(row),
            Record::Delivery(_) => deliveries.push(row),
        }
    }
    PUBLISHES.insert(connection, node, &publishes).await?;
    ACCESS.insert(connection, node, &access).await?;
    DELIVERY_STEPS.insert(connection, node, &deliveries).await
}

struct Table {
    name: &'static str,
    columns: &'static str,
    placeholders: &'static str,
}

impl Table {
    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        node: u16,
        mut rows: &[Row<'_>],
    ) -> Result<(), sqlx::Error> {
        for size in CHUNKS {
            let values = vec![self.placeholders; size].join(", ");
            let sql = format!("INSERT INTO {} ({}) VALUES {values}", self.name, self.columns);
            while let Some((chunk, rest)) = rows.split_at_checked(size) {
                let query = sqlx::query(AssertSqlSafe(sql.clone()));
                let query = chunk.iter().fold(query, |query, row| bind(query, node, row));
                query.execute(&mut *connection).await?;
                rows = rest;
            }
        }
        Ok(())
    }
}

type Insert<'q> = Query<'q, Sqlite, SqliteArguments>;

fn bind<'q>(query: Insert<'q>, node: u16, row: &Row<'_>) -> Insert<'q> {
    let query = query.bind(i64::from(node)).bind(row.seq.0.cast_signed());
    let query = match row.record {
        Record::Publish(publish) => {
            let payload = (row.kept == PayloadKept::Full).then(|| publish.payload.to_vec());
            let query = query.bind(instant_text(publish.received_at));
            texts(
                query,
                [publish.origin.client, publish.origin.principal, publish.origin.peer, publish.topic],
            )
            .bind(i64::from(publish.qos))
            .bind(i64::from(publish.retain))
            .bind(i64::from(publish.packet_id))
            .bind(publish.properties.to_vec())
            .bind(payload)
            .bind(row.payload.bytes.cast_signed())
            .bind(row.payload.digest.to_vec())
            .bind(publish.outcome.name())
            .bind(publish.reason.to_owned())
        }
        Record::Access(access) => {
            let query = query.bind(instant_text(access.at)).bind(access.event.name());
            texts(query, [access.origin.client, access.origin.principal, access.origin.peer])
                .bind(access.detail.to_owned())
                .bind(access.reason.to_owned())
                .bind(access.state.to_vec())
        }
        Record::Delivery(delivery) => {
            let query = query.bind(instant_text(delivery.at)).bind(delivery.step.name());
            texts(query, [delivery.origin.client, delivery.origin.principal, delivery.origin.peer])
                .bind(delivery.publish.0.cast_signed())
                .bind(delivery.alert.to_owned())
                .bind(delivery.topic.to_owned())
        }
    };
    query.bind(row.digest.to_vec())
}

fn texts<'q, const N: usize>(query: Insert<'q>, texts: [&str; N]) -> Insert<'q> {
    texts.iter().fold(query, |query, text| query.bind((*text).to_owned()))
}
