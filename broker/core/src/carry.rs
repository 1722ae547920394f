//! Publishes that are owed for longer than the journal is to be kept for them.
//!
//! One pager that is away must not hold back the journal of a whole ward. What somebody is owed from before a given place is
//! *carried* where it is little: kept in memory and in every snapshot until it is settled. Where it is too much it holds the
//! journal back, until room runs short; then the oldest telemetry goes, as it does in a full queue.
//!
//! A retained message that was released with its segment is carried too once a session is owed it.

use std::{collections::HashMap, sync::Arc};

use wardline_journal::{Log, Offset};

use crate::{broker::Broker, stored::Stored};

/// What a carried publish takes beside its topic, payload and properties, in bytes: about.
const OVERHEAD_BYTES: usize = 256;

impl<L: Log> Broker<L> {
    /// Offsets, ascending, of all that is owed from below `until` and is not carried yet. Read them and hand them to
    /// [`Broker::snapshot`]. `None`: with what is carried already it would take more than `bytes_max` of memory.
    pub fn to_carry(&self, until: Offset, bytes_max: usize) -> Option<Vec<Offset>> {
        let sessions = self.sessions.iter().map(|(_, session)| session);
        let in_flight = sessions.clone().flat_map(|session| &session.in_flight).filter_map(|flight| {
            let offset = flight.outgoing.offset().filter(|offset| *offset < until)?;
            Some((offset, flight.outgoing.bytes))
        });
        let waiting = sessions.flat_map(|session| session.lanes.below(until));
        let mut owed = HashMap::new();
        let mut bytes = 0;
        for (offset, size) in in_flight.chain(waiting).chain(self.groups.below(until)) {
            if owed.insert(offset, size).is_none() {
                bytes += size as usize + OVERHEAD_BYTES;
            }
            if bytes > bytes_max {
                return None;
            }
        }
        let not_yet = |offset: &Offset| *offset >= self.horizon && !self.carried.contains_key(offset);
        let mut wanted: Vec<Offset> = owed.into_keys().filter(not_yet).collect();
        wanted.sort_unstable();
        Some(wanted)
    }

    /// Lets go of all telemetry that waits and was published below `until`, whoever it is for; says how much.
    pub fn shed_below(&mut self, until: Offset) -> u64 {
        let sessions: u64 =
            self.sessions.iter_mut().map(|(_, session)| session.lanes.shed_below(until)).sum();
        let gone = sessions + self.groups.shed_below(until);
        self.counters.overflowed += gone;
        gone
    }

    /// Carries these from now on.
    pub(crate) fn carry(&mut self, publishes: Vec<Arc<Stored>>) {
        let with_offset = publishes.into_iter().filter_map(|stored| Some((stored.offset?, stored)));
        self.carried.extend(with_offset);
    }
}
