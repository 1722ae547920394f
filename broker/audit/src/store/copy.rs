//! Rows into PostgreSQL by `COPY … FROM STDIN (FORMAT binary)`, the cheapest way in: one pass over the batch,
//! no parsing on either side. The format is the one of the COPY page of PostgreSQL's manual.

use jiff::Timestamp;
use sqlx::postgres::PgConnection;
use wardline_journal::Record;

use crate::background::PIECE_ROWS;
use crate::batch::{Batch, Row};
use crate::names::Named;
use crate::payload::PayloadKept;

const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// 2000-01-01, from which PostgreSQL counts, in microseconds of Unix time.
const EPOCH_US: i64 = 946_684_800_000_000;
/// What a row needs beside its text and bytes, roughly.
const ROW_BYTES: usize = 256;

const PUBLISHES: &str = "COPY audit.publishes (node, seq, received_at, client_id, principal, peer, topic, \
                         qos, retain, packet_id, properties, payload, payload_bytes, payload_digest, \
                         outcome, reason, digest) FROM STDIN (FORMAT binary)";
const ACCESS: &str = "COPY audit.access (node, seq, at, event, client_id, principal, peer, detail, reason, \
                      state, digest) FROM STDIN (FORMAT binary)";
const DELIVERY_STEPS: &str = "COPY audit.delivery_steps (node, seq, at, step, client_id, principal, peer, \
                              publish_seq, alert, topic, digest) FROM STDIN (FORMAT binary)";

/// Adds the rows of `batch` within the current transaction.
pub(super) async fn insert(
    connection: &mut PgConnection,
    node: u16,
    batch: &Batch,
) -> Result<(), sqlx::Error> {
    let mut publishes = Table::new(PUBLISHES, 17, batch.size_bytes() + batch.len() * ROW_BYTES);
    let mut access = Table::new(ACCESS, 11, 0);
    let mut deliveries = Table::new(DELIVERY_STEPS, 11, 0);
    for (row, number) in batch.rows().zip(1_usize..) {
        match row.record {
            Record::Publish(_) => publishes.put(node, &row),
            Record::Access(_) => access.put(node, &row),
            Record::Delivery(_) => deliveries.put(node, &row),
        }
        if number.is_multiple_of(PIECE_ROWS) {
            // The connections of this thread, a pager's among them, do not wait for a batch.
            tokio::task::yield_now().await;
        }
    }
    for table in [publishes, access, deliveries] {
        table.send(connection).await?;
    }
    Ok(())
}

struct Table {
    statement: &'static str,
    columns: i16,
    bytes: Vec<u8>,
}

impl Table {
    fn new(statement: &'static str, columns: i16, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + HEADER.len() + TRAILER.len());
        bytes.extend(HEADER);
        Self { statement, columns, bytes }
    }

    fn put(&mut self, node: u16, row: &Row<'_>) {
        self.bytes.extend(self.columns.to_be_bytes());
        self.field(&i32::from(node).to_be_bytes());
        self.number(row.seq.0);
        match row.record {
            Record::Publish(publish) => {
                self.instant(publish.received_at);
                let origin = publish.origin;
                self.texts([origin.client, origin.principal, origin.peer, publish.topic]);
                self.field(&i16::from(publish.qos).to_be_bytes());
                self.field(&[u8::from(publish.retain)]);
                self.field(&i32::from(publish.packet_id).to_be_bytes());
                self.field(publish.properties);
                match row.kept {
                    PayloadKept::Full => self.field(publish.payload),
                    PayloadKept::Digest => self.bytes.extend(NULL),
                }
                self.number(row.payload.bytes);
                self.field(&row.payload.digest);
                self.texts([publish.outcome.name(), publish.reason]);
            }
            Record::Access(access) => {
                self.instant(access.at);
                let origin = access.origin;
                self.texts([access.event.name(), origin.client, origin.principal, origin.peer]);
                self.texts([access.detail, access.reason]);
                self.field(access.state);
            }
            Record::Delivery(delivery) => {
                self.instant(delivery.at);
                let origin = delivery.origin;
                self.texts([delivery.step.name(), origin.client, origin.principal, origin.peer]);
                self.number(delivery.publish.0);
                self.texts([delivery.alert, delivery.topic]);
            }
        }
        self.field(&row.digest);
    }

    fn field(&mut self, bytes: &[u8]) {
        // A journal record is far below 2 GiB, and PostgreSQL refuses a row above 1 GiB.
        self.bytes.extend((bytes.len() as u32).to_be_bytes());
        self.bytes.extend(bytes);
    }

    fn texts<const N: usize>(&mut self, texts: [&str; N]) {
        texts.iter().for_each(|text| self.field(text.as_bytes()));
    }

    fn number(&mut self, number: u64) {
        self.field(&number.to_be_bytes());
    }

    fn instant(&mut self, at: Timestamp) {
        self.field(&(at.as_microsecond() - EPOCH_US).to_be_bytes());
    }

    async fn send(mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.bytes.len() == HEADER.len() {
            return Ok(());
        }
        self.bytes.extend(TRAILER);
        let mut copy = connection.copy_in_raw(self.statement).await?;
        copy.send(self.bytes).await?;
        copy.finish().await.map(drop)
    }
}
