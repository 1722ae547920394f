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
    let mut count = Count(0);
    put_record(record, Payload::Whole, &mut count);
    put_record(record, Payload::Whole, &mut journal_room(count, out)?);
    Ok(())
}

/// Appends the encoding of `mark` to `out`. On an error `out` is unchanged.
pub fn encode_mark(mark: &Mark<'_>, out: &mut Vec<u8>) -> Result<(), RecordTooLarge> {
    let mut count = Count(0);
    put_mark(mark, &mut count);
    put_mark(mark, &mut journal_room(count, out)?);
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
    let payload = Payload::Digested(payload_bytes, payload_hash);
    let mut count = Count(0);
    put_leaf(node, offset, record, payload, &mut count);
    put_leaf(node, offset, record, payload, &mut room(count, out));
}

fn put_leaf(node: u16, offset: Offset, record: &Record<'_>, payload: Payload<'_>, out: &mut impl Sink) {
    out.put(&[CANONICAL_VERSION]);
    out.put(&node.to_le_bytes());
    out.put(&offset.0.to_le_bytes());
    put_record(record, payload, out);
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

/// As [`room`], if a segment can hold so much.
fn journal_room(count: Count, out: &mut Vec<u8>) -> Result<Room<'_>, RecordTooLarge> {
    match count.0 {
        bytes if bytes > RECORD_BYTES_MAX => Err(RecordTooLarge { bytes }),
        _ => Ok(room(count, out)),
    }
}

/// Appends the room that was counted to `out`.
fn room(count: Count, out: &mut Vec<u8>) -> Room<'_> {
    let start = out.len();
    out.resize(start + count.0, 0);
    Room(&mut out[start..])
}

/// How a publish's payload is written.
#[derive(Clone, Copy)]
enum Payload<'a> {
    Whole,
    /// Its length and its SHA-256.
    Digested(u64, &'a [u8; 32]),
}

fn put_record(record: &Record<'_>, payload: Payload<'_>, out: &mut impl Sink) {
    match record {
        Record::Publish(publish) => {
            out.put(&[PUBLISH]);
            put_time(publish.received_at, out);
            put_origin(&publish.origin, out);
            put_bytes(publish.topic.as_bytes(), out);
            out.put(&[publish.qos, u8::from(publish.retain)]);
            out.put(&publish.packet_id.to_le_bytes());
            put_bytes(publish.properties, out);
            match payload {
                Payload::Whole => put_bytes(publish.payload, out),
                Payload::Digested(bytes, hash) => {
                    out.put(&bytes.to_le_bytes());
                    out.put(hash);
                }
            }
            out.put(&[publish.outcome as u8]);
            put_bytes(publish.reason.as_bytes(), out);
        }
        Record::Access(access) => {
            out.put(&[ACCESS]);
            put_time(access.at, out);
            out.put(&[access.event as u8]);
            put_origin(&access.origin, out);
            put_bytes(access.detail.as_bytes(), out);
            put_bytes(access.reason.as_bytes(), out);
            put_bytes(access.state, out);
        }
        Record::Delivery(delivery) => {
            out.put(&[DELIVERY]);
            put_time(delivery.at, out);
            out.put(&[delivery.step as u8]);
            put_origin(&delivery.origin, out);
            out.put(&delivery.publish.0.to_le_bytes());
            put_bytes(delivery.alert.as_bytes(), out);
            put_bytes(delivery.topic.as_bytes(), out);
        }
    }
}

fn put_mark(mark: &Mark<'_>, out: &mut impl Sink) {
    let (kind, client, publish, packet_id) = match *mark {
        Mark::Confirmed { client, publish } => (CONFIRMED, client, Some(publish), None),
        Mark::Released { client, packet_id } => (RELEASED, client, None, Some(packet_id)),
        Mark::Sent { client, publish, packet_id } => (SENT, client, Some(publish), Some(packet_id)),
        Mark::Completed { client, packet_id } => (COMPLETED, client, None, Some(packet_id)),
        Mark::Received { client, packet_id } => (RECEIVED, client, None, Some(packet_id)),
        Mark::Returned { client, packet_id } => (RETURNED, client, None, Some(packet_id)),
        Mark::Drawn { client, subscription, publish, packet_id, qos } => {
            out.put(&[DRAWN]);
            put_bytes(client.as_bytes(), out);
            put_bytes(subscription.as_bytes(), out);
            out.put(&publish.0.to_le_bytes());
            out.put(&packet_id.to_le_bytes());
            return out.put(&[qos]);
        }
        Mark::Will { client, will } => {
            out.put(&[WILL]);
            put_bytes(client.as_bytes(), out);
            return put_bytes(will, out);
        }
        Mark::Snapshot { number } => {
            out.put(&[SNAPSHOT]);
            return out.put(&number.to_le_bytes());
        }
    };
    out.put(&[kind]);
    put_bytes(client.as_bytes(), out);
    if let Some(publish) = publish {
        out.put(&publish.0.to_le_bytes());
    }
    if let Some(packet_id) = packet_id {
        out.put(&packet_id.to_le_bytes());
    }
}

fn put_origin(origin: &Origin<'_>, out: &mut impl Sink) {
    for text in [origin.client, origin.principal, origin.peer] {
        put_bytes(text.as_bytes(), out);
    }
}

fn put_time(time: Timestamp, out: &mut impl Sink) {
    out.put(&time.as_microsecond().to_le_bytes());
}

#[inline]
fn put_bytes(bytes: &[u8], out: &mut impl Sink) {
    // Saturation is out of reach: nothing near it passes RECORD_BYTES_MAX into the journal.
    out.put(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.put(bytes);
}

/// Where a layout is written: counted first, then into the room that was counted, so that the two cannot disagree.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

/// Counts and keeps nothing.
struct Count(usize);

impl Sink for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// Room that is filled from the front.
struct Room<'a>(&'a mut [u8]);

impl Sink for Room<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let place = self.0.split_off_mut(..bytes.len());
        debug_assert!(place.is_some(), "what is written is what was counted");
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }
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
