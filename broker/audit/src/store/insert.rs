//! Rows into a SQLite file: many to a statement, with values bound where they lie.

use std::fmt::Write as _;

use jiff::Timestamp;
use rusqlite::{CachedStatement, Error, ToSql, Transaction, TransactionBehavior};
use wardline_journal::Record;

use super::Source;
use super::sqlite::File;
use super::writer::{Statement, instant_text};
use crate::background::{PIECE_ROWS, give_way};
use crate::batch::{Batch, Row};
use crate::names::Named;
use crate::payload::PayloadKept;

/// Rows per statement, largest first: to open and close a statement costs SQLite a third of what a row does. Few
/// different ones, so that all stay prepared.
const CHUNKS: [usize; 3] = [PIECE_ROWS, 8, 1];

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

impl File {
    /// In one transaction: `advance`, which has to touch one row, the rows of `batch`, and `heads`. False, and
    /// nothing is changed, where it touched none. Blocks.
    ///
    /// # Errors
    /// What SQLite says, or that the file is [`Gone`](super::sqlite::Gone), whatever was written to it.
    pub(super) fn add(
        &self,
        node: u16,
        batch: &Batch,
        advance: &Statement,
        heads: &[Statement],
    ) -> Result<bool, Source> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if execute(&transaction, advance)? != 1 {
            return Ok(false);
        }
        insert(&transaction, node, batch)?;
        for head in heads {
            execute(&transaction, head)?;
        }
        transaction.commit()?;
        self.is_in_place()?;
        Ok(true)
    }
}

fn execute(transaction: &Transaction<'_>, statement: &Statement) -> Result<usize, Error> {
    let values = rusqlite::params_from_iter(&statement.values);
    transaction.prepare_cached(&statement.sql)?.execute(values)
}

fn insert(transaction: &Transaction<'_>, node: u16, batch: &Batch) -> Result<(), Error> {
    let (mut publishes, mut access, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
    for row in batch.rows() {
        match row.record {
            Record::Publish(_) => publishes.push(row),
            Record::Access(_) => access.push(row),
            Record::Delivery(_) => deliveries.push(row),
        }
    }
    PUBLISHES.insert(transaction, node, &publishes)?;
    ACCESS.insert(transaction, node, &access)?;
    DELIVERY_STEPS.insert(transaction, node, &deliveries)
}

struct Table {
    name: &'static str,
    columns: &'static str,
    placeholders: &'static str,
}

impl Table {
    fn insert(&self, transaction: &Transaction<'_>, node: u16, mut rows: &[Row<'_>]) -> Result<(), Error> {
        let mut instants = Instants::default();
        for size in CHUNKS {
            if rows.len() < size {
                continue;
            }
            let values = vec![self.placeholders; size].join(", ");
            let sql = format!("INSERT INTO {} ({}) VALUES {values}", self.name, self.columns);
            let mut statement = transaction.prepare_cached(&sql)?;
            while let Some((chunk, rest)) = rows.split_at_checked(size) {
                let mut binding = Binding { statement: &mut statement, bound: 0 };
                for row in chunk {
                    binding.row(node, row, &mut instants)?;
                }
                statement.raw_execute()?;
                rows = rest;
                give_way();
            }
        }
        Ok(())
    }
}

/// Binds one value after another.
struct Binding<'a, 'c> {
    statement: &'a mut CachedStatement<'c>,
    bound: usize,
}

impl Binding<'_, '_> {
    fn value(&mut self, value: impl ToSql) -> Result<(), Error> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }

    fn texts<const N: usize>(&mut self, texts: [&str; N]) -> Result<(), Error> {
        texts.into_iter().try_for_each(|text| self.value(text))
    }

    fn row(&mut self, node: u16, row: &Row<'_>, instants: &mut Instants) -> Result<(), Error> {
        self.value(node)?;
        self.value(row.seq.0.cast_signed())?;
        match row.record {
            Record::Publish(publish) => {
                let origin = publish.origin;
                self.texts([instants.text(publish.received_at), origin.client, origin.principal])?;
                self.texts([origin.peer, publish.topic])?;
                self.value(publish.qos)?;
                self.value(publish.retain)?;
                self.value(publish.packet_id)?;
                self.value(publish.properties)?;
                self.value((row.kept == PayloadKept::Full).then_some(publish.payload))?;
                self.value(row.payload.bytes.cast_signed())?;
                self.value(&row.payload.digest[..])?;
                self.texts([publish.outcome.name(), publish.reason])?;
            }
            Record::Access(access) => {
                let origin = access.origin;
                self.texts([instants.text(access.at), access.event.name()])?;
                self.texts([origin.client, origin.principal, origin.peer, access.detail, access.reason])?;
                self.value(access.state)?;
            }
            Record::Delivery(delivery) => {
                let origin = delivery.origin;
                self.texts([instants.text(delivery.at), delivery.step.name()])?;
                self.texts([origin.client, origin.principal, origin.peer])?;
                self.value(delivery.publish.0.cast_signed())?;
                self.texts([delivery.alert, delivery.topic])?;
            }
        }
        self.value(&row.digest[..])
    }
}

/// Writes instants as [`instant_text`] does; those of the same second differ in their last digits only.
#[derive(Default)]
struct Instants {
    second: Option<i64>,
    text: String,
}

impl Instants {
    fn text(&mut self, at: Timestamp) -> &str {
        const FRACTION: &str = "000000Z";
        let us = at.as_microsecond();
        let second = us.div_euclid(1_000_000);
        if self.second == Some(second) {
            self.text.truncate(self.text.len() - FRACTION.len());
            // Writing to a String does not fail.
            let _ = write!(self.text, "{:06}Z", us.rem_euclid(1_000_000));
        } else {
            self.text = instant_text(at);
            self.second = Some(second);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn instants_of_one_second_and_of_others_are_written_alike(
            seconds in proptest::collection::vec(-3_i64..3, 1..20),
            us in proptest::collection::vec(0_i64..1_000_000, 20),
            start in prop::sample::select(vec![0, 1_795_248_000, -62_135_596_800, 253_402_207_100]),
        ) {
            let mut instants = Instants::default();
            for (second, us) in seconds.iter().zip(us) {
                let at = Timestamp::from_microsecond((start + second) * 1_000_000 + us).unwrap();
                prop_assert_eq!(instants.text(at), instant_text(at));
            }
        }
    }
}
