//! Promises of the journal, each by its name.

mod codec;
mod crash;
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared with the simulation, which uses more of it"
)]
#[path = "../../../../tests/disk/src/lib.rs"]
mod disk;
mod failure;
mod fetch;
mod follow;
mod keys;
mod quarantine;
mod recovery;
mod sealed;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use self::disk::SimulatedDisk;
use crate::*;

/// Longer than any disk here needs; a test that reaches it has failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// Stuff for one entry of any kind.
#[derive(Clone, Debug)]
struct Sample {
    kind: u8,
    text: [String; 6],
    bytes: [Vec<u8>; 2],
    microsecond: i64,
    number: u64,
}

impl Sample {
    fn body(&self) -> Body<'_> {
        let [client, principal, peer, topic, reason, detail] = self.text.each_ref().map(String::as_str);
        let origin = Origin { client, principal, peer };
        let at = Timestamp::from_microsecond(self.microsecond).unwrap();
        let [small, _, ..] = self.number.to_le_bytes();
        match self.kind % 9 {
            0 => Body::Record(Record::Publish(Publish {
                received_at: at,
                origin,
                topic,
                qos: small % 3,
                retain: small % 2 == 0,
                packet_id: self.number as u16,
                properties: &self.bytes[0],
                payload: &self.bytes[1],
                outcome: if small % 2 == 0 { Outcome::Accepted } else { Outcome::Denied },
                reason,
            })),
            1 => Body::Record(Record::Access(Access {
                at,
                event: if small % 2 == 0 { AccessEvent::Connect } else { AccessEvent::SessionEnd },
                origin,
                detail,
                reason,
                state: &self.bytes[0],
            })),
            2 => Body::Record(Record::Delivery(Delivery {
                at,
                step: if small % 2 == 0 { DeliveryStep::Sent } else { DeliveryStep::Unreachable },
                origin,
                publish: Offset(self.number),
                alert: detail,
                topic,
            })),
            3 => Body::Mark(Mark::Confirmed { client, publish: Offset(self.number) }),
            4 => Body::Mark(Mark::Released { client, packet_id: self.number as u16 }),
            5 => {
                Body::Mark(Mark::Sent { client, publish: Offset(self.number), packet_id: self.number as u16 })
            }
            6 => Body::Mark(Mark::Received { client, packet_id: self.number as u16 }),
            7 => Body::Mark(Mark::Drawn {
                client,
                subscription: topic,
                publish: Offset(self.number),
                packet_id: self.number as u16,
                qos: small % 3,
            }),
            8 => Body::Mark(Mark::Will { client, will: &self.bytes[0] }),
            9 => Body::Mark(Mark::Snapshot { number: self.number }),
            _ => Body::Mark(Mark::Completed { client, packet_id: self.number as u16 }),
        }
    }
}

prop_compose! {
    fn sample()(
        kind in 0u8..11,
        text in prop::array::uniform6(".{0,20}"),
        bytes in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..300)),
        microsecond in 0i64..4_000_000_000_000_000,
        number in any::<u64>(),
    ) -> Sample {
        Sample { kind, text, bytes, microsecond, number }
    }
}

/// A publish that is recognized by its payload.
fn publish(payload: &[u8]) -> Record<'_> {
    Record::Publish(Publish {
        received_at: Timestamp::UNIX_EPOCH,
        origin: Origin { client: "monitor", principal: "device:mon-12", peer: "10.0.0.7:5121" },
        topic: "telemetry/icu-3/b12/mon-12/hr",
        qos: 1,
        retain: false,
        packet_id: 7,
        properties: b"",
        payload,
        outcome: Outcome::Accepted,
        reason: "",
    })
}

fn encoded(body: &Body<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match body {
        Body::Record(record) => encode(record, &mut bytes).unwrap(),
        Body::Mark(mark) => encode_mark(mark, &mut bytes).unwrap(),
    }
    bytes
}

fn append(journal: &mut Journal, body: &Body<'_>) {
    match body {
        Body::Record(record) => drop(journal.append(record)),
        Body::Mark(mark) => journal.mark(mark),
    }
}

/// Small segments, so that a few records fill several.
fn options(directory: &Path) -> JournalOptions {
    JournalOptions { segment_bytes: SEGMENT_BYTES_MIN, ..JournalOptions::new(directory, 1) }
}

fn open(options: JournalOptions) -> (Journal, Recovery) {
    Journal::open(options, |_| {}).unwrap()
}

/// Waits until everything appended so far is durable.
fn settle(journal: &Journal) {
    let (next, entries) = (journal.next_offset(), journal.entries());
    if next > Offset(0) {
        journal.wait_durable(Offset(next.0 - 1), DEADLINE);
    }
    let deadline = std::time::Instant::now() + DEADLINE;
    while journal.durable_entries() < entries {
        assert!(std::time::Instant::now() < deadline, "not durable: {:?}", journal.failure());
        std::thread::yield_now();
    }
}

/// An entry as read: a record's offset, and its encoding.
type Found = (Option<Offset>, Vec<u8>);

/// Everything a reader has.
fn drain(reader: &mut Reader) -> Result<Vec<Found>, ReadError> {
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        entries.push(match entry {
            Entry::Record(offset, record) => (Some(offset), encoded(&Body::Record(record))),
            Entry::Mark(mark) => (None, encoded(&Body::Mark(mark))),
        });
    }
    Ok(entries)
}

/// The segments of a directory, oldest first.
fn segments(directory: &Path) -> Result<Vec<(Offset, PathBuf)>, ReadError> {
    segment::list(&storage::Disk, directory)
}

fn read_all(directory: &Path) -> Vec<Found> {
    let first = segments(directory).unwrap()[0].0;
    drain(&mut Reader::open(directory, first).unwrap()).unwrap()
}

/// As [`read_all`], of a journal on another disk.
fn read_all_on(disk: &SimulatedDisk, directory: &Path) -> Vec<Found> {
    drain(&mut Reader::open_on(Arc::new(disk.clone()), directory, Offset(0)).unwrap()).unwrap()
}

/// What the reader of a journal must give after `bodies` were appended from offset 0.
fn expected<'a>(bodies: impl IntoIterator<Item = Body<'a>>) -> Vec<Found> {
    let mut next = 0;
    bodies
        .into_iter()
        .map(|body| {
            let offset = matches!(body, Body::Record(_)).then_some(Offset(next));
            next += u64::from(offset.is_some());
            (offset, encoded(&body))
        })
        .collect()
}

/// Copies the segments of a live journal: what `kill -9` leaves at this instant.
fn copy_segments(from: &Path, to: &Path) {
    for (_, path) in segments(from).unwrap() {
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
