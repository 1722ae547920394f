//! Rows as they are read back: all three tables in one stream, ordered by `seq`, and turned into records
//! again.

use std::fmt;
use std::ops::Range;

use futures_util::stream::{BoxStream, StreamExt};
use wardline_journal::{
    Access, AccessEvent, Delivery, DeliveryStep, Offset, Origin, Outcome, Publish, Record,
};

use crate::batch::{PayloadFacts, row_digest};
use crate::names::Named;
use crate::store::StoreError;
use crate::store::connection::{Cells, Connection, Kind, Value};
use crate::tree::{Hash, sha256};

/// The tables that rows are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Publishes.
    Publishes,
    /// Connections and subscriptions.
    Access,
    /// Behind the view `deliveries`.
    DeliverySteps,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publishes => "publishes",
            Self::Access => "access",
            Self::DeliverySteps => "delivery_steps",
        })
    }
}

/// A row of any of the tables, not yet believed.
#[derive(Clone, Debug)]
pub(crate) struct StoredRow {
    pub(crate) table: Table,
    pub(crate) seq: i64,
    cells: Cells,
}

const KINDS: [Kind; 17] = [
    Kind::Int,   // table
    Kind::Int,   // seq
    Kind::Text,  // at
    Kind::Text,  // client
    Kind::Text,  // principal
    Kind::Text,  // peer
    Kind::Text,  // outcome, event, step
    Kind::Text,  // topic, detail, topic
    Kind::Text,  // reason, reason, alert
    Kind::Int,   // qos
    Kind::Int,   // retain
    Kind::Int,   // packet_id, -, publish_seq
    Kind::Bytes, // properties, state, -
    Kind::Int,   // payload_bytes
    Kind::Bytes, // payload
    Kind::Bytes, // payload_digest
    Kind::Bytes, // digest
];

/// All rows of `node` with `seq` in `range`, in order of `seq`; of rows with the same `seq` all. `values` is
/// [`stream_values`] of the same range.
pub(crate) fn stream<'c>(
    connection: &'c mut Connection,
    values: &'c [Value],
) -> BoxStream<'c, Result<StoredRow, StoreError>> {
    let sql = union(connection);
    connection
        .fetch(&sql, values, &KINDS, "reading the rows")
        .map(|cells| {
            cells.map(|cells| StoredRow {
                table: match cells.int(0) {
                    Ok(0) => Table::Publishes,
                    Ok(1) => Table::Access,
                    _ => Table::DeliverySteps,
                },
                seq: cells.int(1).unwrap_or(-1),
                cells,
            })
        })
        .boxed()
}

/// What [`stream`] needs for `range` of `node`.
pub(crate) fn stream_values(node: i64, range: Range<i64>) -> [Value; 3] {
    [Value::Int(node), Value::Int(range.start), Value::Int(range.end)]
}

fn union(connection: &Connection) -> String {
    let zero = connection.integer("0");
    let none = connection.no_bytes();
    let place = "WHERE node = $1 AND seq >= $2 AND seq < $3";
    let publishes = format!(
        "SELECT {zero} AS kind, seq, {at} AS at, client_id, principal, peer, outcome AS word, topic AS \
         place, reason AS why, {qos} AS qos, {retain} AS retain, {packet} AS number, properties AS attached, \
         payload_bytes, payload, payload_digest, digest FROM publishes {place}",
        at = connection.instant_text("received_at"),
        qos = connection.integer("qos"),
        retain = connection.truth("retain"),
        packet = connection.integer("packet_id"),
    );
    let at = connection.instant_text("at");
    let one = connection.integer("1");
    let two = connection.integer("2");
    let access = format!(
        "SELECT {one}, seq, {at}, client_id, principal, peer, event, detail, reason, {zero}, {zero}, {zero}, \
         state, {zero}, {none}, {none}, digest FROM access {place}"
    );
    let deliveries = format!(
        "SELECT {two}, seq, {at}, client_id, principal, peer, step, topic, alert, {zero}, {zero}, \
         publish_seq, {none}, {zero}, {none}, {none}, digest FROM delivery_steps {place}"
    );
    format!("{publishes} UNION ALL {access} UNION ALL {deliveries} ORDER BY seq")
}

impl StoredRow {
    /// The record and what is known of its payload. An error says which column is impossible.
    pub(crate) fn record(&self) -> Result<(Record<'_>, PayloadFacts), String> {
        let cells = &self.cells;
        let at = text(cells, 2, "time")?.parse().map_err(|_| "the time cannot be read".to_owned())?;
        let origin = Origin {
            client: text(cells, 3, "client_id")?,
            principal: text(cells, 4, "principal")?,
            peer: text(cells, 5, "peer")?,
        };
        let word = text(cells, 6, "outcome, event or step")?;
        let (place, why) = (text(cells, 7, "topic or detail")?, text(cells, 8, "reason or alert")?);
        Ok(match self.table {
            Table::Publishes => {
                let payload = column(cells.bytes_or_null(14), "payload")?;
                let digest = column(cells.bytes(15), "payload_digest")?;
                let facts = PayloadFacts {
                    bytes: number(cells, 13, "payload_bytes")?,
                    digest: digest.try_into().map_err(|_| "payload_digest is not 32 bytes".to_owned())?,
                };
                let publish = Publish {
                    received_at: at,
                    origin,
                    topic: place,
                    qos: number(cells, 9, "qos")?,
                    retain: number::<u8>(cells, 10, "retain")? != 0,
                    packet_id: number(cells, 11, "packet_id")?,
                    properties: column(cells.bytes(12), "properties")?,
                    payload: payload.unwrap_or_default(),
                    outcome: Outcome::from_name(word)
                        .ok_or_else(|| format!("no outcome is called `{word}`"))?,
                    reason: why,
                };
                (Record::Publish(publish), facts)
            }
            Table::Access => {
                let event =
                    AccessEvent::from_name(word).ok_or_else(|| format!("no event is called `{word}`"))?;
                let state = column(cells.bytes(12), "state")?;
                let access = Access { at, event, origin, detail: place, reason: why, state };
                (Record::Access(access), PayloadFacts::of(&[]))
            }
            Table::DeliverySteps => {
                let step =
                    DeliveryStep::from_name(word).ok_or_else(|| format!("no step is called `{word}`"))?;
                let publish = Offset(number(cells, 11, "publish_seq")?);
                let delivery = Delivery { at, step, origin, publish, alert: why, topic: place };
                (Record::Delivery(delivery), PayloadFacts::of(&[]))
            }
        })
    }

    /// Whether it stands for a record that was lost before it could be audited.
    pub(crate) fn is_lost(&self) -> bool {
        self.table == Table::Access && self.cells.text(6) == Ok(AccessEvent::Lost.name())
    }

    /// Whether it is a publish whose payload is not there, only its digest.
    pub(crate) fn lacks_payload(&self) -> bool {
        let bytes = self.cells.int(13).unwrap_or_default();
        self.table == Table::Publishes && bytes > 0 && matches!(self.cells.bytes_or_null(14), Ok(None))
    }

    /// Computes the row's digest anew from its columns and compares everything that can be compared. The
    /// digest, or what is wrong with the row. `scratch` is as [`row_digest`] leaves it.
    pub(crate) fn checked_digest(&self, node: u16, scratch: &mut Vec<u8>) -> Result<Hash, String> {
        let (record, payload) = self.record()?;
        if let (Record::Publish(publish), Ok(Some(_))) = (&record, self.cells.bytes_or_null(14)) {
            if sha256(publish.payload) != payload.digest {
                return Err("the payload is not the one of payload_digest".to_owned());
            }
            if publish.payload.len() as u64 != payload.bytes {
                return Err("the payload is not as long as payload_bytes".to_owned());
            }
        }
        let digest = row_digest(node, Offset(self.seq.cast_unsigned()), &record, &payload, scratch);
        if self.stored_digest()? != digest {
            return Err("a column was changed: the row no longer gives its digest".to_owned());
        }
        Ok(digest)
    }

    /// The column `digest`.
    pub(crate) fn stored_digest(&self) -> Result<Hash, String> {
        let digest = column(self.cells.bytes(16), "digest")?;
        digest.try_into().map_err(|_| "digest is not 32 bytes".to_owned())
    }
}

fn column<T>(cell: Result<T, String>, name: &str) -> Result<T, String> {
    cell.map_err(|why| format!("column {name}: {why}"))
}

fn text<'a>(cells: &'a Cells, index: usize, name: &str) -> Result<&'a str, String> {
    column(cells.text(index), name)
}

fn number<T: TryFrom<i64>>(cells: &Cells, index: usize, name: &str) -> Result<T, String> {
    let number = column(cells.int(index), name)?;
    T::try_from(number).map_err(|_| format!("column {name}: {number} is impossible"))
}
