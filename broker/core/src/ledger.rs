//! Publishes that wait in the journal: for each only what this subscriber's copy needs to be made again, in about four bytes.
//!
//! Entries stand encoded in chunks, one after another; each chunk can be read by itself, so that entries are put before all
//! others by putting a chunk before all others. Offsets mostly ascend, and are written as the distance from the one before.

use std::{borrow::Cow, collections::VecDeque};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use wardline_journal::Offset;
use wardline_wire::QoS;

use crate::{
    lane::{Content, Outgoing, Share},
    shared::GroupId,
    stored::Lane,
};

/// Encoded entries of one chunk, in bytes: small enough to be rewritten at once, large enough that what a chunk needs
/// beside them does not count.
const CHUNK_BYTES: usize = 4_096;

/// The first byte of an entry: QoS in the lowest two bits, and these.
const RETAIN: u8 = 1 << 2;
const ALERT: u8 = 1 << 3;
const SHARED: u8 = 1 << 4;
const IDENTIFIED: u8 = 1 << 5;

/// A queue of publishes without their contents, first in first out.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    chunks: VecDeque<Chunk>,
    len: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    encoded: Vec<u8>,
    /// Where in `encoded` the front entry begins.
    front_at: usize,
    /// What the front entry's distance is counted from.
    front_from: u64,
    /// The same for an entry to be added.
    back_from: u64,
    /// All offsets that it ever held lie between these.
    low: u64,
    high: u64,
    /// They ascend, as is usual.
    ascends: bool,
}

impl Ledger {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the publishes themselves, as [`Outgoing::bytes`].
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts `outgoing`, which the journal has at `offset`, behind all others.
    pub(crate) fn push(&mut self, offset: Offset, outgoing: &Outgoing) {
        let from = self.chunks.back().map_or(offset.0, |chunk| chunk.back_from);
        let mut encoded = encode(from, offset, outgoing);
        if self.chunks.back().is_none_or(|chunk| chunk.encoded.len() + encoded.len() > CHUNK_BYTES) {
            encoded = encode(offset.0, offset, outgoing);
            self.chunks.push_back(Chunk::new(offset));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.encoded.extend_from_slice(&encoded);
            chunk.back_from = offset.0;
            chunk.ascends &= offset.0 >= chunk.high;
            chunk.low = chunk.low.min(offset.0);
            chunk.high = chunk.high.max(offset.0);
            self.len += 1;
            self.bytes += outgoing.bytes as usize;
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Outgoing> {
        let chunk = self.chunks.front_mut()?;
        let mut entries = chunk.entries();
        let outgoing = entries.next()?;
        let (front_at, front_from) = (entries.at, entries.from);
        if front_at == chunk.encoded.len() {
            self.chunks.pop_front();
        } else {
            (chunk.front_at, chunk.front_from) = (front_at, front_from);
        }
        self.len -= 1;
        self.bytes -= outgoing.bytes as usize;
        Some(outgoing)
    }

    /// From the front on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Outgoing> {
        self.chunks.iter().flat_map(Chunk::entries)
    }

    pub(crate) fn front(&self) -> Option<Outgoing> {
        self.chunks.front()?.entries().next()
    }

    /// Takes out the first entry at `offset`. Costs nothing at the front, else the rewriting of one chunk.
    pub(crate) fn remove(&mut self, offset: Offset) -> Option<Outgoing> {
        if self.front()?.offset() == Some(offset) {
            return self.pop();
        }
        let may_hold = |chunk: &Chunk| (chunk.low..=chunk.high).contains(&offset.0);
        for at in 0..self.chunks.len() {
            let chunk = self.chunks.get(at).filter(|chunk| may_hold(chunk));
            let mut removed = None;
            let mut rest = Self::default();
            for entry in chunk.into_iter().flat_map(Chunk::entries) {
                match entry.content {
                    Content::Journal(found) if removed.is_none() && found == offset => removed = Some(entry),
                    Content::Journal(found) => rest.push(found, &entry),
                    Content::Here(_) => {}
                }
            }
            if let Some(removed) = removed {
                self.chunks.remove(at);
                // Rewritten it may, with another distance to begin with, take a byte more than a chunk holds: then it is two.
                for chunk in rest.chunks.into_iter().rev() {
                    self.chunks.insert(at, chunk);
                }
                self.len -= 1;
                self.bytes -= removed.bytes as usize;
                return Some(removed);
            }
        }
        None
    }

    /// Puts all of `earlier` before its own.
    pub(crate) fn prepend(&mut self, mut earlier: Self) {
        earlier.chunks.append(&mut self.chunks);
        self.chunks = earlier.chunks;
        self.len += earlier.len;
        self.bytes += earlier.bytes;
    }
}

/// A chunk in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved<'a> {
    #[serde(borrow)]
    encoded: Cow<'a, [u8]>,
    front_from: u64,
    back_from: u64,
    low: u64,
    high: u64,
}

impl Saved<'_> {
    /// The same without what it was borrowed from.
    pub(crate) fn detached<'b>(self) -> Saved<'b> {
        let Self { encoded, front_from, back_from, low, high } = self;
        Saved { encoded: Cow::Owned(encoded.into_owned()), front_from, back_from, low, high }
    }
}

impl Ledger {
    /// All that it holds, from the front on.
    pub(crate) fn saved(&self) -> impl Iterator<Item = Saved<'_>> {
        self.chunks.iter().map(|chunk| Saved {
            encoded: Cow::Borrowed(chunk.encoded.get(chunk.front_at..).unwrap_or_default()),
            front_from: chunk.front_from,
            back_from: chunk.back_from,
            low: chunk.low,
            high: chunk.high,
        })
    }

    /// What was saved.
    pub(crate) fn restore<'a>(saved: impl IntoIterator<Item = Saved<'a>>) -> Self {
        let mut ledger = Self::default();
        for Saved { encoded, front_from, back_from, low, high } in saved {
            let encoded = encoded.into_owned();
            let mut chunk = Chunk { encoded, front_at: 0, front_from, back_from, low, high, ascends: true };
            let (mut last, mut ascends) = (None, true);
            for outgoing in chunk.entries() {
                ledger.len += 1;
                ledger.bytes += outgoing.bytes as usize;
                ascends &= outgoing.offset() >= last;
                last = outgoing.offset();
            }
            chunk.ascends = ascends;
            ledger.chunks.push_back(chunk);
        }
        ledger
    }

    /// Offset and bytes of what was published below `until`, from the front on.
    pub(crate) fn below(&self, until: Offset) -> impl Iterator<Item = (Offset, u32)> {
        let entries = self.chunks.iter().filter(move |chunk| chunk.low < until.0).flat_map(Chunk::entries);
        let places = entries.filter_map(|outgoing| Some((outgoing.offset()?, outgoing.bytes)));
        places.filter(move |(offset, _)| *offset < until)
    }

    /// The offsets below `horizon`, and of the others at least the lowest of all.
    pub(crate) fn low_offsets(&self, horizon: Offset) -> impl Iterator<Item = Offset> {
        self.chunks.iter().flat_map(move |chunk| {
            let all = chunk.low < horizon.0 || !chunk.ascends;
            let count = if all { usize::MAX } else { 1 };
            chunk.entries().filter_map(|outgoing| outgoing.offset()).take(count)
        })
    }
}

impl Chunk {
    fn new(first: Offset) -> Self {
        let Offset(first) = first;
        Self {
            encoded: Vec::new(),
            front_at: 0,
            front_from: first,
            back_from: first,
            low: first,
            high: first,
            ascends: true,
        }
    }

    fn entries(&self) -> Entries<'_> {
        Entries { encoded: &self.encoded, at: self.front_at, from: self.front_from }
    }
}

struct Entries<'a> {
    encoded: &'a [u8],
    at: usize,
    from: u64,
}

impl Iterator for Entries<'_> {
    type Item = Outgoing;

    fn next(&mut self) -> Option<Outgoing> {
        let flags = *self.encoded.get(self.at)?;
        self.at += 1;
        let distance = self.number()?;
        self.from = self.from.wrapping_add((distance >> 1) ^ (distance & 1).wrapping_neg());
        let bytes = self.number()? as u32;
        let share = match flags & SHARED {
            0 => None,
            _ => {
                let published = self.number()? as u8;
                let group = GroupId { index: self.number()? as u32, generation: self.number()? as u32 };
                Some(Share { group, qos: qos(published), retain: published & RETAIN != 0 })
            }
        };
        let ids = if flags & IDENTIFIED == 0 { 0 } else { self.number()? };
        let subscription_ids = (0..ids).map_while(|_| self.number().map(|id| id as u32)).collect();
        Some(Outgoing {
            content: Content::Journal(Offset(self.from)),
            lane: if flags & ALERT == 0 { Lane::Telemetry } else { Lane::Alert },
            qos: qos(flags),
            retain: flags & RETAIN != 0,
            subscription_ids,
            share,
            bytes,
        })
    }
}

impl Entries<'_> {
    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = *self.encoded.get(self.at)?;
            self.at += 1;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some(number)
    }
}

/// From the lowest two bits.
fn qos(flags: u8) -> QoS {
    match flags & 3 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// An entry whose distance is counted from `from`.
fn encode(from: u64, offset: Offset, outgoing: &Outgoing) -> SmallVec<[u8; 32]> {
    let mut out = SmallVec::new();
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(
        outgoing.qos as u8
            | flag(outgoing.retain, RETAIN)
            | flag(outgoing.lane == Lane::Alert, ALERT)
            | flag(outgoing.share.is_some(), SHARED)
            | flag(!outgoing.subscription_ids.is_empty(), IDENTIFIED),
    );
    let mut put = |mut number: u64| {
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    };
    // Zigzag: small distances either way are small numbers.
    let distance = offset.0.wrapping_sub(from) as i64;
    put(((distance << 1) ^ (distance >> 63)) as u64);
    put(outgoing.bytes.into());
    if let Some(Share { group, qos, retain }) = outgoing.share {
        put((qos as u8 | flag(retain, RETAIN)).into());
        put(group.index.into());
        put(group.generation.into());
    }
    if !outgoing.subscription_ids.is_empty() {
        put(outgoing.subscription_ids.len() as u64);
        outgoing.subscription_ids.iter().for_each(|id| put((*id).into()));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(Outgoing),
        Pop,
        /// The offset of the entry at this share of the queue, or one that is not there.
        Remove(prop::sample::Index),
        RemoveMissing(u64),
        Prepend(Vec<Outgoing>),
    }

    fn offset() -> impl Strategy<Value = u64> {
        // Many that follow one another, some from far away.
        prop_oneof![4 => 1_000_000u64..1_000_050, 1 => any::<u64>()]
    }

    fn outgoing() -> impl Strategy<Value = Outgoing> {
        let share = prop::option::weighted(0.2, (any::<u32>(), any::<u32>(), 0..3u8, any::<bool>()));
        let ids = prop::collection::vec(1u32..300, 0..3);
        (offset(), 0..3u8, any::<bool>(), any::<bool>(), ids, share, any::<u32>()).prop_map(
            |(offset, number, retain, alert, ids, share, bytes)| Outgoing {
                content: Content::Journal(Offset(offset)),
                lane: if alert { Lane::Alert } else { Lane::Telemetry },
                qos: qos(number),
                retain,
                subscription_ids: ids.into_iter().collect(),
                share: share.map(|(index, generation, number, retain)| Share {
                    group: GroupId { index, generation },
                    qos: qos(number),
                    retain,
                }),
                bytes,
            },
        )
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => outgoing().prop_map(Step::Push),
            2 => Just(Step::Pop),
            2 => any::<prop::sample::Index>().prop_map(Step::Remove),
            1 => offset().prop_map(Step::RemoveMissing),
            1 => prop::collection::vec(outgoing(), 0..40).prop_map(Step::Prepend),
        ]
    }

    /// What is equal in it is equal for the subscriber.
    fn facts(outgoing: &Outgoing) -> impl PartialEq + std::fmt::Debug + use<> {
        let Outgoing { lane, qos, retain, subscription_ids, share, bytes, .. } = outgoing.clone();
        (outgoing.offset(), lane, qos, retain, subscription_ids, share, bytes)
    }

    fn push(ledger: &mut Ledger, outgoing: &Outgoing) {
        ledger.push(outgoing.offset().unwrap(), outgoing);
    }

    fn remove(oracle: &mut VecDeque<Outgoing>, offset: Offset) -> Option<Outgoing> {
        let at = oracle.iter().position(|entry| entry.offset() == Some(offset))?;
        oracle.remove(at)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        /// Enough entries for several chunks, any of which may be taken from.
        #[test]
        fn a_ledger_is_a_queue(
            first in prop::collection::vec(outgoing(), 0..1_500),
            steps in prop::collection::vec(step(), 0..60),
            horizon in offset().prop_map(Offset),
        ) {
            let (mut ledger, mut oracle) = (Ledger::default(), VecDeque::new());
            for outgoing in first {
                push(&mut ledger, &outgoing);
                oracle.push_back(outgoing);
            }
            for step in steps {
                match step {
                    Step::Push(outgoing) => {
                        push(&mut ledger, &outgoing);
                        oracle.push_back(outgoing);
                    }
                    Step::Pop => {
                        prop_assert_eq!(ledger.pop().as_ref().map(facts), oracle.pop_front().as_ref().map(facts));
                    }
                    Step::Remove(index) if !oracle.is_empty() => {
                        let offset = oracle[index.index(oracle.len())].offset().unwrap();
                        let removed = remove(&mut oracle, offset);
                        prop_assert_eq!(ledger.remove(offset).as_ref().map(facts), removed.as_ref().map(facts));
                    }
                    Step::Remove(_) => {}
                    Step::RemoveMissing(offset) => {
                        let removed = remove(&mut oracle, Offset(offset));
                        prop_assert_eq!(
                            ledger.remove(Offset(offset)).as_ref().map(facts),
                            removed.as_ref().map(facts)
                        );
                    }
                    Step::Prepend(earlier) => {
                        let mut before = Ledger::default();
                        earlier.iter().for_each(|outgoing| push(&mut before, outgoing));
                        ledger.prepend(before);
                        earlier.into_iter().rev().for_each(|outgoing| oracle.push_front(outgoing));
                    }
                }
                prop_assert_eq!(ledger.len(), oracle.len());
                let bytes: usize = oracle.iter().map(|outgoing| outgoing.bytes as usize).sum();
                prop_assert_eq!(ledger.bytes(), bytes);
                prop_assert_eq!(ledger.front().as_ref().map(facts), oracle.front().map(facts));
            }
            prop_assert!(ledger.iter().map(|entry| facts(&entry)).eq(oracle.iter().map(facts)));
            let restored = Ledger::restore(ledger.saved());
            prop_assert!(restored.iter().map(|entry| facts(&entry)).eq(oracle.iter().map(facts)));
            for ledger in [&ledger, &restored] {
                let low: Vec<Offset> = ledger.low_offsets(horizon).collect();
                let offsets = || oracle.iter().filter_map(Outgoing::offset);
                prop_assert_eq!(low.iter().min().copied(), offsets().min());
                prop_assert!(offsets().filter(|offset| *offset < horizon).all(|offset| low.contains(&offset)));
                let below: Vec<Offset> = ledger.below(horizon).map(|(offset, _)| offset).collect();
                prop_assert!(below.into_iter().eq(offsets().filter(|offset| *offset < horizon)));
            }
        }
    }

    #[test]
    fn a_million_publishes_take_four_bytes_each() {
        let mut ledger = Ledger::default();
        for offset in 0..1_000_000 {
            let outgoing = Outgoing {
                content: Content::Journal(Offset(offset)),
                lane: Lane::Telemetry,
                qos: QoS::AtLeastOnce,
                retain: false,
                subscription_ids: crate::lane::SubscriptionIds::default(),
                share: None,
                bytes: 200,
            };
            push(&mut ledger, &outgoing);
        }
        let encoded: usize = ledger.chunks.iter().map(|chunk| chunk.encoded.capacity()).sum();
        assert!(encoded <= 4_200_000, "{encoded} bytes");
        // Each from the front: in no time, or this test would not end.
        for offset in 0..1_000_000 {
            assert!(ledger.remove(Offset(offset)).is_some());
        }
        assert!(ledger.is_empty() && ledger.chunks.is_empty());
    }
}
