//! A record on its way to the disk and to the audit store.

use jiff::Timestamp;
use wardline_journal::{Log, Offset, Origin, Outcome, Publish, Record, canonical};

use super::{disk::Recorder, wire::TOPIC};
use crate::operation::Operation;

/// As of any reading: SHA-256 has its own cost, and is not counted.
const PAYLOAD_HASH: [u8; 32] = [7; 32];

fn record() -> Record<'static> {
    Record::Publish(Publish {
        received_at: Timestamp::UNIX_EPOCH,
        origin: Origin { client: "mon-12", principal: "device:mon-12", peer: "10.20.3.117:51234" },
        topic: TOPIC,
        qos: 1,
        retain: false,
        packet_id: 0,
        properties: &[],
        payload: &[b'7'; 64],
        outcome: Outcome::Accepted,
        reason: "",
    })
}

struct Append {
    recorder: Recorder,
}

/// A publish into the journal's memory side.
pub(super) fn append() -> Box<dyn Operation> {
    Box::new(Append { recorder: Recorder::new() })
}

impl Operation for Append {
    fn run(&mut self) -> usize {
        let Offset(before) = self.recorder.journal.append(&record());
        before as usize + 1
    }

    fn restore(&mut self) {
        self.recorder.write_when_due();
    }
}

struct Canonical {
    bytes: Vec<u8>,
}

/// The bytes of a publish's leaf in the audit tree.
pub(super) fn leaf() -> Box<dyn Operation> {
    Box::new(Canonical { bytes: Vec::new() })
}

impl Operation for Canonical {
    fn run(&mut self) -> usize {
        canonical(1, Offset(48_213), &record(), &PAYLOAD_HASH, &mut self.bytes);
        self.bytes.len()
    }

    fn restore(&mut self) {
        assert!(self.bytes.len() > TOPIC.len(), "the record was not encoded");
        self.bytes.clear();
    }
}
