//! A queue whose beginning is at hand and whose rest waits in the journal.

use std::{collections::VecDeque, sync::Arc};

use wardline_journal::Offset;
use wardline_wire::QoS;

use crate::{
    lane::{Content, Outgoing},
    ledger::{Ledger, Saved},
    limits::{Limits, QueueFull},
    stored::Stored,
};

/// Publishes in order: a head with their contents, as far as [`Limits::head_messages_max`] and [`Limits::head_bytes_max`]
/// allow, then a [`Ledger`]. What comes new goes to the end of the ledger while there is anything in it.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    head: VecDeque<Outgoing>,
    head_bytes: usize,
    ledger: Ledger,
    /// Of QoS 0, in head and ledger.
    qos0: usize,
    /// Of shared subscriptions, in head and ledger.
    shared: usize,
    /// How many have ever come.
    given: u64,
}

/// What a backlog may hold, and what goes beyond it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) full: QueueFull,
}

impl Quota {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self { messages: limits.queued_messages_max, bytes: limits.queued_bytes_max, full: limits.queue_full }
    }
}

/// What stands at the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    Nothing,
    /// A publish of this quality, at hand.
    Here(QoS),
    /// One that has to be fetched first.
    Journal,
}

impl Backlog {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.ledger.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many have ever come.
    pub(crate) fn given(&self) -> u64 {
        self.given
    }

    /// How many of them are here no more.
    pub(crate) fn taken(&self) -> u64 {
        self.given.saturating_sub(self.len() as u64)
    }

    /// As [`Outgoing::bytes`].
    pub(crate) fn bytes(&self) -> usize {
        self.head_bytes + self.ledger.bytes()
    }

    /// As [`Backlog::push`] within `quota`; says how many publishes went for it.
    pub(crate) fn offer(&mut self, outgoing: Outgoing, soon: bool, quota: &Quota, limits: &Limits) -> u64 {
        let bytes = outgoing.bytes as usize;
        if bytes > quota.bytes {
            return 1; // Nothing else need go for what finds no room in any case.
        }
        let mut gone = 0;
        while self.len() >= quota.messages || self.bytes().saturating_add(bytes) > quota.bytes {
            gone += 1;
            let oldest = match quota.full {
                QueueFull::DropOldest => self.pop(),
                QueueFull::DropNewest => None,
            };
            if oldest.is_none() {
                return gone;
            }
        }
        self.push(outgoing, soon, limits);
        gone
    }

    /// Puts a publish behind all others. Its content stays at hand if somebody will need it soon, `soon`, and there is room.
    pub(crate) fn push(&mut self, outgoing: Outgoing, soon: bool, limits: &Limits) {
        self.count(&outgoing, true);
        self.given += 1;
        let stays = soon
            && self.ledger.is_empty()
            && outgoing.stored().is_some()
            && self.room(limits).takes(outgoing.bytes);
        match outgoing.offset() {
            Some(offset) if !stays => self.ledger.push(offset, &outgoing),
            // What is not in the journal can only be kept here; only QoS 0 is not.
            _ => {
                self.head_bytes += outgoing.bytes as usize;
                self.head.push_back(outgoing);
            }
        }
    }

    pub(crate) fn front(&self) -> Front {
        match self.head.front() {
            Some(outgoing) => Front::Here(outgoing.qos),
            None if self.ledger.is_empty() => Front::Nothing,
            None => Front::Journal,
        }
    }

    /// The publish at the front, if it is at hand.
    pub(crate) fn here(&self) -> Option<&Outgoing> {
        self.head.front()
    }

    /// The publish at the front, perhaps without its content.
    pub(crate) fn peek(&self) -> Option<Outgoing> {
        self.head.front().cloned().or_else(|| self.ledger.front())
    }

    /// Takes the publish at the front, perhaps without its content.
    pub(crate) fn pop(&mut self) -> Option<Outgoing> {
        let outgoing = match self.head.pop_front() {
            Some(outgoing) => {
                self.head_bytes -= outgoing.bytes as usize;
                outgoing
            }
            None => self.ledger.pop()?,
        };
        self.count(&outgoing, false);
        Some(outgoing)
    }

    /// Puts one back before all others.
    pub(crate) fn push_front(&mut self, outgoing: Outgoing) {
        self.count(&outgoing, true);
        self.head_bytes += outgoing.bytes as usize;
        self.head.push_front(outgoing);
    }

    /// Takes out the first at `offset`; used when the journal says what became of it.
    pub(crate) fn remove(&mut self, offset: Offset) -> Option<Outgoing> {
        let outgoing = match self.head.iter().position(|waiting| waiting.offset() == Some(offset)) {
            Some(at) => {
                let outgoing = self.head.remove(at)?;
                self.head_bytes -= outgoing.bytes as usize;
                outgoing
            }
            None => self.ledger.remove(offset)?,
        };
        self.count(&outgoing, false);
        Some(outgoing)
    }

    /// Whether the front is at `offset`.
    pub(crate) fn begins_with(&self, offset: Offset) -> bool {
        match self.head.front() {
            Some(outgoing) => outgoing.offset() == Some(offset),
            None => self.ledger.front().is_some_and(|outgoing| outgoing.offset() == Some(offset)),
        }
    }

    /// Lets go of the contents: nobody needs them soon.
    pub(crate) fn park(&mut self) {
        let mut earlier = Ledger::default();
        self.head.retain(|outgoing| match outgoing.offset() {
            Some(offset) => {
                earlier.push(offset, outgoing);
                self.head_bytes -= outgoing.bytes as usize;
                false
            }
            None => true,
        });
        self.ledger.prepend(earlier);
    }

    /// Puts `back`, in the order of their offsets, where it belongs in a queue that is in this order too.
    pub(crate) fn put_back(&mut self, mut back: Vec<Outgoing>) {
        let Some(last) = back.iter().filter_map(Outgoing::offset).max() else { return };
        self.park();
        while self.ledger.front().is_some_and(|front| front.offset() < Some(last)) {
            back.extend(self.pop());
        }
        back.sort_by_key(Outgoing::offset);
        let mut earlier = Ledger::default();
        for outgoing in &back {
            if let Some(offset) = outgoing.offset() {
                self.count(outgoing, true);
                earlier.push(offset, outgoing);
            }
        }
        self.ledger.prepend(earlier);
    }

    /// QoS 0 is not owed to somebody who is away.
    pub(crate) fn forget_qos0(&mut self) {
        if self.qos0 > 0 {
            self.take_out(|outgoing| outgoing.qos == QoS::AtMostOnce);
        }
    }

    /// Takes out what belongs to shared subscriptions.
    pub(crate) fn take_shared(&mut self) -> Vec<Outgoing> {
        if self.shared == 0 { Vec::new() } else { self.take_out(|outgoing| outgoing.share.is_some()) }
    }

    fn take_out(&mut self, wanted: impl Fn(&Outgoing) -> bool) -> Vec<Outgoing> {
        let mut taken = Vec::new();
        let before = std::mem::take(self);
        self.given = before.given;
        for outgoing in before.head {
            if wanted(&outgoing) {
                taken.push(outgoing);
            } else {
                self.count(&outgoing, true);
                self.head_bytes += outgoing.bytes as usize;
                self.head.push_back(outgoing);
            }
        }
        for outgoing in before.ledger.iter() {
            match outgoing.offset() {
                Some(offset) if !wanted(&outgoing) => {
                    self.count(&outgoing, true);
                    self.ledger.push(offset, &outgoing);
                }
                _ => taken.push(outgoing),
            }
        }
        taken
    }

    /// The offsets of all, from the front on.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = Offset> {
        let head = self.head.iter().filter_map(Outgoing::offset);
        head.chain(self.ledger.iter().filter_map(|outgoing| outgoing.offset()))
    }

    /// Appends the offsets with which the head is to be filled, once half of it is used up: whole records below `readable`.
    /// True: something is lacking and cannot be read yet.
    pub(crate) fn wanted(&self, readable: Offset, limits: &Limits, into: &mut Vec<Offset>) -> bool {
        let half =
            self.head.len() <= limits.head_messages_max / 2 && self.head_bytes <= limits.head_bytes_max / 2;
        if self.ledger.is_empty() || !half {
            return false;
        }
        let mut room = self.room(limits);
        for outgoing in self.ledger.iter() {
            let Some(offset) = outgoing.offset().filter(|offset| *offset < readable) else { return true };
            if !room.takes(outgoing.bytes) {
                break;
            }
            room.take(outgoing.bytes);
            into.push(offset);
        }
        false
    }

    /// Moves publishes from the ledger to the head as long as `find` has their contents; whether there was one.
    pub(crate) fn refill(&mut self, find: impl Fn(Offset) -> Option<Arc<Stored>>) -> bool {
        let before = self.head.len();
        while let Some(stored) = self.ledger.front().and_then(|front| find(front.offset()?)) {
            let Some(mut outgoing) = self.ledger.pop() else { break };
            outgoing.content = Content::Here(stored);
            self.head_bytes += outgoing.bytes as usize;
            self.head.push_back(outgoing);
        }
        self.head.len() > before
    }

    /// All that waits and the journal has, for a snapshot.
    pub(crate) fn saved(&self) -> Vec<Saved<'_>> {
        let mut head = Ledger::default();
        for outgoing in &self.head {
            if let Some(offset) = outgoing.offset() {
                head.push(offset, outgoing);
            }
        }
        head.saved().map(Saved::detached).chain(self.ledger.saved()).collect()
    }

    /// What was saved.
    pub(crate) fn restore(saved: Vec<Saved<'_>>) -> Self {
        let mut backlog = Self { ledger: Ledger::restore(saved), ..Self::default() };
        let (mut qos0, mut shared) = (0, 0);
        for outgoing in backlog.ledger.iter() {
            qos0 += usize::from(outgoing.qos == QoS::AtMostOnce);
            shared += usize::from(outgoing.share.is_some());
        }
        (backlog.qos0, backlog.shared, backlog.given) = (qos0, shared, backlog.len() as u64);
        backlog
    }

    /// Offset and bytes of what was published below `until`, in order.
    pub(crate) fn below(&self, until: Offset) -> impl Iterator<Item = (Offset, u32)> {
        let head = self.head.iter().filter_map(|outgoing| Some((outgoing.offset()?, outgoing.bytes)));
        head.filter(move |(offset, _)| *offset < until).chain(self.ledger.below(until))
    }

    /// Lets go of the oldest as long as they were published below `until`; says how many.
    pub(crate) fn shed_below(&mut self, until: Offset) -> u64 {
        let before = self.len();
        while self.peek().and_then(|front| front.offset()).is_some_and(|offset| offset < until) {
            self.pop();
        }
        (before - self.len()) as u64
    }

    /// As [`Ledger::low_offsets`].
    pub(crate) fn low_offsets(&self, horizon: Offset) -> impl Iterator<Item = Offset> {
        self.head.iter().filter_map(Outgoing::offset).chain(self.ledger.low_offsets(horizon))
    }

    fn room(&self, limits: &Limits) -> Room {
        Room {
            first: self.head.is_empty(),
            messages: limits.head_messages_max.saturating_sub(self.head.len()),
            bytes: limits.head_bytes_max.saturating_sub(self.head_bytes),
        }
    }

    fn count(&mut self, outgoing: &Outgoing, more: bool) {
        let apply = |counter: &mut usize, holds: bool| match (holds, more) {
            (true, true) => *counter += 1,
            (true, false) => *counter -= 1,
            (false, _) => {}
        };
        apply(&mut self.qos0, outgoing.qos == QoS::AtMostOnce);
        apply(&mut self.shared, outgoing.share.is_some());
    }
}

/// What may be had at hand besides what there is.
pub(crate) struct Room {
    /// There is nothing: one of any size may.
    first: bool,
    messages: usize,
    bytes: usize,
}

impl Room {
    /// Where there is nothing.
    pub(crate) fn whole(limits: &Limits) -> Self {
        Self { first: true, messages: limits.head_messages_max, bytes: limits.head_bytes_max }
    }

    pub(crate) fn takes(&self, bytes: u32) -> bool {
        self.first || (self.messages > 0 && bytes as usize <= self.bytes)
    }

    pub(crate) fn take(&mut self, bytes: u32) {
        self.first = false;
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as usize);
    }
}
