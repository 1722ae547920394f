//! Records and marks as bytes.
//!
//! Little-endian; strings and byte strings carry their length as `u32`; no padding; one value has exactly one
//! encoding, and [`decode`] refuses any other. The first byte is the kind. A kind's layout never changes: a record
//! that needs another layout gets another kind, so that old files stay readable.

use jiff::Timestamp;

use crate::record::{
    Access, AccessEvent, Delivery, DeliveryStep, Mark, Offset, Origin, Outcome, Publish, Record,
};

/// The largest encoded record, in bytes: an MQTT packet of 256 MiB, the most the protocol allows, and 16 MiB for
/// what the broker adds to it.
pub const RECORD_BYTES_MAX: usize = (256 + 16) << 20;

/// First byte of [`canonical`]; a changed layout gets another number.
pub const CANONICAL_VERSION: u8 = 1;

const PUBLISH: u8 = 1;
const ACCESS: u8 = 2;
const DELIVERY: u8 = 3;
const CONFIRMED: u8 = 16;
const RELEASED: u8 = 17;
const SENT: u8 = 18;
const COMPLETED: u8 = 19;
const DRAWN: u8 = 20;
const RECEIVED: u8 = 21;
const SNAPSHOT: u8 = 22;
const WILL: u8 = 23;
const RETURNED: u8 = 24;

/// What [`decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Takes the offset of its frame.
    Record(Record<'a>),
    /// Takes none.
    Mark(Mark<'a>),
}

/// A record or mark that no segment can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a record of {bytes} bytes exceeds the journal's maximum of {RECORD_BYTES_MAX}; lower the listener's max_packet"
)]
pub struct RecordTooLarge {
    /// Its encoded size.
    pub bytes: usize,
}

/// Bytes that [`encode`] and [`encode_mark`] never write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field goes past the end.
    #[error("field `{0}` is cut short")]
    Short(&'static str),
    /// A string that is not UTF-8.
    #[error("field `{0}` is not UTF-8")]
    Utf8(&'static str),
    /// A number outside the field's range.
    #[error("field `{0}` has the impossible value {1}")]
    Value(&'static str, i64),
    /// A kind that this version does not know.
    #[error("record kind {0} is unknown; it may come from a newer version of Wardline")]
    Kind(u8),
    /// Bytes after the last field.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

/// Appends the encoding of `record` to `out`; instants are kept to the microsecond. On an error `out` is unchanged.
pub fn encode(record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), RecordTooLarge> {
    reserve(record_bytes(record), out)?;
    put_record(record, out, put_bytes);
    Ok(())
}

/// Appends the encoding of `mark` to `out`. On an error `out` is unchanged.
pub fn encode_mark(mark: &Mark<'_>, out: &mut Vec<u8>) -> Result<(), RecordTooLarge> {
    let (kind, client, publish, packet_id) = match *mark {
        Mark::Confirmed { client, publish } => (CONFIRMED, client, Some(publish), None),
        Mark::Released { client, packet_id } => (RELEASED, client, None, Some(packet_id)),
        Mark::Sent { client, publish, packet_id } => (SENT, client, Some(publish), Some(packet_id)),
        Mark::Completed { client, packet_id } => (COMPLETED, client, None, Some(packet_id)),
        Mark::Received { client, packet_id } => (RECEIVED, client, None, Some(packet_id)),
        Mark::Returned { client, packet_id } => (RETURNED, client, None, Some(packet_id)),
        Mark::Drawn { client, subscription, publish, packet_id, qos } => {
            reserve(1 + 4 + client.len() + 4 + subscription.len() + 8 + 2 + 1, out)?;
            out.push(DRAWN);
            put_bytes(client.as_bytes(), out);
            put_bytes(subscription.as_bytes(), out);
            out.extend_from_slice(&publish.0.to_le_bytes());
            out.extend_from_slice(&packet_id.to_le_bytes());
            out.push(qos);
            return Ok(());
        }
        Mark::Will { client, will } => {
            reserve(1 + 4 + client.len() + 4 + will.len(), out)?;
            out.push(WILL);
            put_bytes(client.as_bytes(), out);
            put_bytes(will, out);
            return Ok(());
        }
        Mark::Snapshot { number } => {
            reserve(1 + 8, out)?;
            out.push(SNAPSHOT);
            out.extend_from_slice(&number.to_le_bytes());
            return Ok(());
        }
    };
    reserve(1 + 4 + client.len() + 8 + 2, out)?;
    out.push(kind);
    put_bytes(client.as_bytes(), out);
    if let Some(publish) = publish {
        out.extend_from_slice(&publish.0.to_le_bytes());
    }
    if let Some(packet_id) = packet_id {
        out.extend_from_slice(&packet_id.to_le_bytes());
    }
    Ok(())
}

/// Reads one encoded record or mark, all of `bytes`, without copying.
pub fn decode(bytes: &[u8]) -> Result<Body<'_>, DecodeError> {
    let mut fields = Fields(bytes);
    let body = match fields.u8("kind")? {
        PUBLISH => Body::Record(Record::Publish(Publish {
            received_at: fields.time("received_at")?,
            origin: fields.origin()?,
            topic: fields.str("topic")?,
            qos: fields.one_of("qos", &[0, 1, 2])?,
            retain: fields.one_of("retain", &[false, true])?,
            packet_id: fields.u16("packet_id")?,
            properties: fields.bytes("properties")?,
            payload: fields.bytes("payload")?,
            outcome: fields.one_of("outcome", &[Outcome::Accepted, Outcome::Denied])?,
            reason: fields.str("reason")?,
        })),
        ACCESS => Body::Record(Record::Access(Access {
            at: fields.time("at")?,
            event: fields.one_of("event", &ACCESS_EVENTS)?,
            origin: fields.origin()?,
            detail: fields.str("detail")?,
            reason: fields.str("reason")?,
            state: fields.bytes("state")?,
        })),
        DELIVERY => Body::Record(Record::Delivery(Delivery {
            at: fields.time("at")?,
            step: fields.one_of("step", &DELIVERY_STEPS)?,
            origin: fields.origin()?,
            publish: Offset(fields.u64("publish")?),
            alert: fields.str("alert")?,
            topic: fields.str("topic")?,
        })),
        CONFIRMED => Body::Mark(Mark::Confirmed {
            client: fields.str("client")?,
            publish: Offset(fields.u64("publish")?),
        }),
        RELEASED => {
            Body::Mark(Mark::Released { client: fields.str("client")?, packet_id: fields.u16("packet_id")? })
        }
        SENT => Body::Mark(Mark::Sent {
            client: fields.str("client")?,
            publish: Offset(fields.u64("publish")?),
            packet_id: fields.u16("packet_id")?,
        }),
        COMPLETED => {
            Body::Mark(Mark::Completed { client: fields.str("client")?, packet_id: fields.u16("packet_id")? })
        }
        DRAWN => Body::Mark(Mark::Drawn {
            client: fields.str("client")?,
            subscription: fields.str("subscription")?,
            publish: Offset(fields.u64("publish")?),
            packet_id: fields.u16("packet_id")?,
            qos: fields.one_of("qos", &[0, 1, 2])?,
        }),
        RECEIVED => {
            Body::Mark(Mark::Received { client: fields.str("client")?, packet_id: fields.u16("packet_id")? })
        }
        WILL => Body::Mark(Mark::Will { client: fields.str("client")?, will: fields.bytes("will")? }),
        RETURNED => {
            Body::Mark(Mark::Returned { client: fields.str("client")?, packet_id: fields.u16("packet_id")? })
        }
        SNAPSHOT => Body::Mark(Mark::Snapshot { number: fields.u64("number")? }),
        kind => return Err(DecodeError::Kind(kind)),
    };
    match fields.0.len() {
        0 => Ok(body),
        trailing => Err(DecodeError::Trailing(trailing)),
    }
}

/// Appends the audit leaf's bytes of a record: version, node, offset and every field of it, but a publish's payload
/// is represented by its length and SHA-256, which the caller brings. Other records do not use `payload_hash`.
///
/// Layout: version `u8`, node `u16`, offset `u64`, then as [`encode`], with length `u64` and 32 bytes of hash in
/// the payload's place.
pub fn canonical(node: u16, offset: Offset, record: &Record<'_>, payload_hash: &[u8; 32], out: &mut Vec<u8>) {
    let payload_bytes = match record {
        Record::Publish(publish) => publish.payload.len() as u64,
        Record::Access(_) | Record::Delivery(_) => 0,
    };
    canonical_digested(node, offset, record, payload_bytes, payload_hash, out);
}

/// As [`canonical`], for a publish whose payload is no longer at hand: its `payload` is not looked at, and its
/// length is `payload_bytes`.
pub fn canonical_digested(
    node: u16,
    offset: Offset,
    record: &Record<'_>,
    payload_bytes: u64,
    payload_hash: &[u8; 32],
    out: &mut Vec<u8>,
) {
    out.push(CANONICAL_VERSION);
    out.extend_from_slice(&node.to_le_bytes());
    out.extend_from_slice(&offset.0.to_le_bytes());
    put_record(record, out, |_, out| {
        out.extend_from_slice(&payload_bytes.to_le_bytes());
        out.extend_from_slice(payload_hash);
    });
}

const ACCESS_EVENTS: [AccessEvent; 9] = [
    AccessEvent::Connect,
    AccessEvent::Refuse,
    AccessEvent::Disconnect,
    AccessEvent::Subscribe,
    AccessEvent::Unsubscribe,
    AccessEvent::Reauthenticate,
    AccessEvent::Reload,
    AccessEvent::SessionEnd,
    AccessEvent::Lost,
];

const DELIVERY_STEPS: [DeliveryStep; 3] =
    [DeliveryStep::Sent, DeliveryStep::Confirmed, DeliveryStep::Unreachable];

fn reserve(bytes: usize, out: &mut Vec<u8>) -> Result<(), RecordTooLarge> {
    if bytes > RECORD_BYTES_MAX {
        return Err(RecordTooLarge { bytes });
    }
    out.reserve(bytes);
    Ok(())
}

/// At least the size of the encoding, at most a few bytes more.
fn record_bytes(record: &Record<'_>) -> usize {
    /// Kind, instant, numbers and the lengths of up to seven strings.
    const FIXED_BYTES_MAX: usize = 1 + 8 + 12 + 8 * 4;
    let (origin, rest) = match record {
        Record::Publish(p) => {
            (&p.origin, [p.topic.len(), p.properties.len(), p.payload.len(), p.reason.len()])
        }
        Record::Access(a) => (&a.origin, [a.detail.len(), a.reason.len(), a.state.len(), 0]),
        Record::Delivery(d) => (&d.origin, [d.alert.len(), d.topic.len(), 0, 0]),
    };
    [FIXED_BYTES_MAX, origin.client.len(), origin.principal.len(), origin.peer.len()]
        .into_iter()
        .chain(rest)
        .fold(0, usize::saturating_add)
}

fn put_record(record: &Record<'_>, out: &mut Vec<u8>, put_payload: impl FnOnce(&[u8], &mut Vec<u8>)) {
    match record {
        Record::Publish(publish) => {
            out.push(PUBLISH);
            put_time(publish.received_at, out);
            put_origin(&publish.origin, out);
            put_bytes(publish.topic.as_bytes(), out);
            out.extend_from_slice(&[publish.qos, u8::from(publish.retain)]);
            out.extend_from_slice(&publish.packet_id.to_le_bytes());
            put_bytes(publish.properties, out);
            put_payload(publish.payload, out);
            out.push(publish.outcome as u8);
            put_bytes(publish.reason.as_bytes(), out);
        }
        Record::Access(access) => {
            out.push(ACCESS);
            put_time(access.at, out);
            out.push(access.event as u8);
            put_origin(&access.origin, out);
            put_bytes(access.detail.as_bytes(), out);
            put_bytes(access.reason.as_bytes(), out);
            put_bytes(access.state, out);
        }
        Record::Delivery(delivery) => {
            out.push(DELIVERY);
            put_time(delivery.at, out);
            out.push(delivery.step as u8);
            put_origin(&delivery.origin, out);
            out.extend_from_slice(&delivery.publish.0.to_le_bytes());
            put_bytes(delivery.alert.as_bytes(), out);
            put_bytes(delivery.topic.as_bytes(), out);
        }
    }
}

fn put_origin(origin: &Origin<'_>, out: &mut Vec<u8>) {
    for text in [origin.client, origin.principal, origin.peer] {
        put_bytes(text.as_bytes(), out);
    }
}

fn put_time(time: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&time.as_microsecond().to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // Saturation is out of reach: nothing near it passes RECORD_BYTES_MAX into the journal.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The bytes not yet read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short(field))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.take::<1>(field).map(|[byte]| byte)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.take(field).map(u16::from_le_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.take(field).map(u64::from_le_bytes)
    }

    fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.take(field).map(u32::from_le_bytes)? as usize;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Short(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn str(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        str::from_utf8(self.bytes(field)?).map_err(|_| DecodeError::Utf8(field))
    }

    fn time(&mut self, field: &'static str) -> Result<Timestamp, DecodeError> {
        let microseconds = self.take(field).map(i64::from_le_bytes)?;
        Timestamp::from_microsecond(microseconds).map_err(|_| DecodeError::Value(field, microseconds))
    }

    fn origin(&mut self) -> Result<Origin<'a>, DecodeError> {
        Ok(Origin { client: self.str("client")?, principal: self.str("principal")?, peer: self.str("peer")? })
    }

    /// One byte that numbers a value of `values`.
    fn one_of<T: Copy>(&mut self, field: &'static str, values: &[T]) -> Result<T, DecodeError> {
        let number = self.u8(field)?;
        values.get(usize::from(number)).copied().ok_or(DecodeError::Value(field, i64::from(number)))
    }
}
