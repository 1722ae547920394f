//! Consecutive records on their way into the store: the rows, their digests, and the tree after them.
//!
//! Text and bytes of all rows share two buffers, so a batch of thousands costs a handful of allocations.

use std::ops::Range;

use wardline_journal::{Access, Delivery, Offset, Origin, Publish, Record, canonical_digested};

use crate::payload::{PayloadKept, PayloadPolicy};
use crate::tree::{CompactRange, Hash, LEAF, sha256};

/// One row as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// Offset of the record, the column `seq`.
    pub(crate) seq: Offset,
    /// What happened; the payload of a publish is empty when it is not kept.
    pub(crate) record: Record<'a>,
    /// The payload as it was; of nothing for other records.
    pub(crate) payload: PayloadFacts,
    /// Whether the payload itself is stored.
    pub(crate) kept: PayloadKept,
    /// The leaf hash, the column `digest`.
    pub(crate) digest: Hash,
}

/// What is always known of a payload, kept or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PayloadFacts {
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// Its SHA-256.
    pub(crate) digest: Hash,
}

impl PayloadFacts {
    /// Of `payload`.
    pub(crate) fn of(payload: &[u8]) -> Self {
        Self { bytes: payload.len() as u64, digest: sha256(payload) }
    }
}

/// The digest of `record` at (`node`, `seq`): the hash of its leaf in the tree. `scratch` holds [`LEAF`] and the
/// canonical bytes afterwards.
pub(crate) fn row_digest(
    node: u16,
    seq: Offset,
    record: &Record<'_>,
    payload: &PayloadFacts,
    scratch: &mut Vec<u8>,
) -> Hash {
    scratch.clear();
    scratch.push(LEAF);
    canonical_digested(node, seq, record, payload.bytes, &payload.digest, scratch);
    sha256(scratch)
}

/// Rows at consecutive offsets, and the tree that includes them.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    first: Offset,
    rows: Vec<Packed>,
    text: String,
    bytes: Vec<u8>,
    range: CompactRange,
}

/// A [`Row`] whose text and bytes lie in the batch's buffers.
#[derive(Clone, Debug)]
struct Packed {
    /// With every slice empty.
    record: Record<'static>,
    text: [Range<usize>; 5],
    bytes: [Range<usize>; 2],
    payload: PayloadFacts,
    kept: PayloadKept,
    digest: Hash,
}

impl Batch {
    /// A batch that continues the tree `range`, whose size is the first offset.
    pub(crate) fn new(range: CompactRange) -> Self {
        let first = Offset(range.size());
        Self { first, rows: Vec::new(), text: String::new(), bytes: Vec::new(), range }
    }

    /// An empty batch after this one.
    pub(crate) fn following(&self) -> Self {
        Self::new(self.range.clone())
    }

    /// Adds the record at [`Self::end`].
    pub(crate) fn push(
        &mut self,
        node: u16,
        record: &Record<'_>,
        policy: &PayloadPolicy,
        scratch: &mut Vec<u8>,
    ) {
        let (text, bytes, empty, kept) = take_apart(record, policy);
        let text = text.map(|part| self.put_text(part));
        let bytes = bytes.map(|part| {
            let start = self.bytes.len();
            self.bytes.extend(part);
            start..self.bytes.len()
        });
        let payload = PayloadFacts::of(payload_of(record));
        let packed = Packed { record: empty, text, bytes, payload, kept, digest: [0; 32] };
        let seq = self.end();
        // The digest is taken over what the row will show, not over what was handed in: see `put_text`.
        let digest = row_digest(node, seq, &self.unpack(&packed), &payload, scratch);
        self.range.push(digest);
        self.rows.push(Packed { digest, ..packed });
    }

    /// PostgreSQL has no U+0000 in text. MQTT forbids it too, so it can only come from a hostile peer's
    /// refused packet; there U+FFFD stands for it, rather than that one such record holds up the audit.
    fn put_text(&mut self, part: &str) -> Range<usize> {
        let start = self.text.len();
        if part.contains('\0') {
            self.text.push_str(&part.replace('\0', "\u{FFFD}"));
        } else {
            self.text.push_str(part);
        }
        start..self.text.len()
    }

    /// Offset of the first row.
    pub(crate) fn first(&self) -> Offset {
        self.first
    }

    /// Offset after the last row: the size of the tree.
    pub(crate) fn end(&self) -> Offset {
        Offset(self.first.0 + self.rows.len() as u64)
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of text, properties, state and payload held.
    pub(crate) fn size_bytes(&self) -> usize {
        self.text.len() + self.bytes.len()
    }

    /// The tree that includes the batch.
    pub(crate) fn range(&self) -> &CompactRange {
        &self.range
    }

    /// The rows in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (self.first.0..).zip(&self.rows).map(|(seq, packed)| Row {
            seq: Offset(seq),
            record: self.unpack(packed),
            payload: packed.payload,
            kept: packed.kept,
            digest: packed.digest,
        })
    }

    fn unpack(&self, packed: &Packed) -> Record<'_> {
        let text = |index: usize| {
            packed.text.get(index).and_then(|range| self.text.get(range.clone())).unwrap_or_default()
        };
        let bytes = |index: usize| {
            packed.bytes.get(index).and_then(|range| self.bytes.get(range.clone())).unwrap_or_default()
        };
        let origin = Origin { client: text(0), principal: text(1), peer: text(2) };
        match packed.record {
            Record::Publish(publish) => Record::Publish(Publish {
                origin,
                topic: text(3),
                reason: text(4),
                properties: bytes(0),
                payload: bytes(1),
                ..publish
            }),
            Record::Access(access) => {
                Record::Access(Access { origin, detail: text(3), reason: text(4), state: bytes(0), ..access })
            }
            Record::Delivery(delivery) => {
                Record::Delivery(Delivery { origin, topic: text(3), alert: text(4), ..delivery })
            }
        }
    }
}

type Parts<'a> = ([&'a str; 5], [&'a [u8]; 2], Record<'static>, PayloadKept);

fn take_apart<'a>(record: &Record<'a>, policy: &PayloadPolicy) -> Parts<'a> {
    let (origin, fourth, fifth) = match record {
        Record::Publish(publish) => (publish.origin, publish.topic, publish.reason),
        Record::Access(access) => (access.origin, access.detail, access.reason),
        Record::Delivery(delivery) => (delivery.origin, delivery.topic, delivery.alert),
    };
    let nobody = Origin { client: "", principal: "", peer: "" };
    let (bytes, empty, kept): ([&[u8]; 2], _, _) = match *record {
        Record::Publish(publish) => {
            let kept = policy.kept(publish.topic);
            let payload = if kept == PayloadKept::Full { publish.payload } else { &[] };
            let Publish { received_at, qos, retain, packet_id, outcome, properties, .. } = publish;
            let empty = Publish {
                received_at,
                origin: nobody,
                topic: "",
                qos,
                retain,
                packet_id,
                properties: &[],
                payload: &[],
                outcome,
                reason: "",
            };
            ([properties, payload], Record::Publish(empty), kept)
        }
        Record::Access(Access { at, event, state, .. }) => {
            let empty = Access { at, event, origin: nobody, detail: "", reason: "", state: &[] };
            ([state, &[]], Record::Access(empty), PayloadKept::Full)
        }
        Record::Delivery(Delivery { at, step, publish, .. }) => {
            let empty = Delivery { at, step, origin: nobody, publish, alert: "", topic: "" };
            ([&[], &[]], Record::Delivery(empty), PayloadKept::Full)
        }
    };
    ([origin.client, origin.principal, origin.peer, fourth, fifth], bytes, empty, kept)
}

fn payload_of<'a>(record: &Record<'a>) -> &'a [u8] {
    match record {
        Record::Publish(publish) => publish.payload,
        Record::Access(_) | Record::Delivery(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wardline_journal::{AccessEvent, DeliveryStep, Outcome};

    use super::*;

    const ORIGIN: Origin<'static> =
        Origin { client: "mon-12", principal: "device:mon-12", peer: "10.0.0.1:9" };

    fn publish(topic: &'static str) -> Record<'static> {
        Record::Publish(Publish {
            received_at: Timestamp::UNIX_EPOCH,
            origin: ORIGIN,
            topic,
            qos: 1,
            retain: true,
            packet_id: 7,
            properties: &[1, 2],
            payload: b"97",
            outcome: Outcome::Denied,
            reason: "not authorized",
        })
    }

    fn pushed(records: &[Record<'_>], policy: &PayloadPolicy) -> Batch {
        let mut batch = Batch::new(CompactRange::empty());
        for record in records {
            batch.push(1, record, policy, &mut Vec::new());
        }
        batch
    }

    #[test]
    fn rows_come_out_as_records_went_in() {
        let access = Record::Access(Access {
            at: Timestamp::UNIX_EPOCH,
            event: AccessEvent::Refuse,
            origin: Origin::default(),
            detail: "ward",
            reason: "no certificate",
            state: &[9],
        });
        let delivery = Record::Delivery(Delivery {
            at: Timestamp::UNIX_EPOCH,
            step: DeliveryStep::Confirmed,
            origin: ORIGIN,
            publish: Offset(3),
            alert: "n1-3",
            topic: "alerts/x",
        });
        let records = [publish("telemetry/a"), access, delivery];
        let batch = pushed(&records, &PayloadPolicy::default());
        assert_eq!(batch.rows().map(|row| row.record).collect::<Vec<_>>(), records);
        assert_eq!(batch.rows().map(|row| row.seq.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(batch.following().first(), Offset(3));
    }

    #[test]
    fn the_digest_is_the_same_whether_the_payload_is_kept_or_not() {
        let full = pushed(&[publish("a")], &PayloadPolicy::default());
        let digest = PayloadPolicy { default: PayloadKept::Digest, overrides: Vec::new() };
        let digest = pushed(&[publish("a")], &digest);
        assert_eq!(full.range().root(), digest.range().root());
        assert!(digest.size_bytes() < full.size_bytes());
    }

    #[test]
    fn a_nul_in_text_is_shown_and_signed_as_replacement_character() {
        let batch = pushed(&[publish("a\0b")], &PayloadPolicy::default());
        let shown = pushed(&[publish("a\u{FFFD}b")], &PayloadPolicy::default());
        assert_eq!(batch.range().root(), shown.range().root());
        assert!(batch.rows().all(|row| matches!(row.record, Record::Publish(p) if p.topic == "a\u{FFFD}b")));
    }
}
