//! The journal as its follower has seen it, as the audit store does: what was seen once must never be different.

use std::collections::BTreeMap;

use wardline_journal::{Entry, Outcome, Reader, Record, encode};
use wardline_wire::decode_properties;

use crate::{
    Violation, ensure,
    model::{self, Model, Number},
};

/// Every record so far, by its offset.
#[derive(Debug, Default)]
pub(crate) struct History {
    records: Vec<Vec<u8>>,
    /// The last that was accepted, where its content is not empty.
    pub(crate) retained: BTreeMap<String, Number>,
}

impl History {
    /// What the follower reads next.
    pub(crate) fn next(&self) -> u64 {
        self.records.len() as u64
    }

    /// Takes at most so many entries of a reader; whether there were as many.
    pub(crate) fn follow(
        &mut self,
        reader: &mut Reader,
        entries_max: usize,
        model: &mut Model,
    ) -> Result<bool, Violation> {
        for _ in 0..entries_max {
            let unreadable = |error| Violation(format!("the journal cannot be read on: {error}"));
            match reader.next().map_err(unreadable)? {
                Some(Entry::Record(offset, record)) => self.take(offset.0, &record, model)?,
                Some(Entry::Mark(_)) => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn take(&mut self, offset: u64, record: &Record<'_>, model: &mut Model) -> Result<(), Violation> {
        let mut bytes = Vec::new();
        encode(record, &mut bytes).map_err(|error| Violation(error.to_string()))?;
        if let Some(seen) = self.records.get(offset as usize) {
            ensure!(*seen == bytes, "record {offset} was different when it was read before");
            return Ok(());
        }
        ensure!(offset == self.next(), "record {offset} comes where {} should", self.next());
        self.records.push(bytes);
        let Record::Publish(publish) = record else { return Ok(()) };
        let properties =
            decode_properties(publish.properties).map_err(|error| Violation(error.to_string()))?;
        let number = model::number(publish.payload, &properties)?;
        let accepted = publish.outcome == Outcome::Accepted;
        model.recorded(number, publish.topic, publish.qos, accepted)?;
        if accepted && publish.retain {
            let topic = publish.topic.to_owned();
            if publish.payload.is_empty() {
                self.retained.remove(&topic);
            } else {
                self.retained.insert(topic, number);
            }
        }
        Ok(())
    }
}
