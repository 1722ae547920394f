//! Publishes that are owed for longer than the journal is to be kept for them.
//!
//! One pager that is away must not hold back the journal of a whole ward. What somebody is owed from before a given place is
//! *carried* where it is little: kept in memory and in every snapshot until it is settled. Alerts and what is in flight are
//! carried before telemetry. Telemetry that is too much to be carried holds the journal back until its room runs short;
//! then the oldest goes, as it does in a full queue.
//!
//! A retained message that was released with its segment is carried too once a session is owed it.

use std::{collections::BTreeMap, sync::Arc};

use wardline_journal::{Log, Offset};

use crate::{broker::Broker, lane::Outgoing, stored::Stored};

/// What may be carried, in bytes of topics, payloads and properties.
pub const CARRIED_BYTES_MAX: usize = 16 << 20;

impl<L: Log> Broker<L> {
    /// Offsets, ascending, of all that is owed from below `until` and is not carried yet; empty if it is too much to be
    /// carried. Read them and hand them to [`Broker::snapshot`]. `shed`: telemetry that is too much goes; how much of it did.
    pub fn to_carry(&mut self, until: Offset, shed: bool) -> (Vec<Offset>, u64) {
        let nothing = (Vec::new(), 0);
        let Some(mut wanted) = self.owed_below(until, true, BTreeMap::new()) else { return nothing };
        let mut gone = 0;
        match self.owed_below(until, false, wanted.clone()) {
            Some(all) => wanted = all,
            None if shed => gone = self.shed_below(until),
            None => return nothing,
        }
        (wanted.into_keys().collect(), gone)
    }

    /// Adds what is owed from below `until` to `wanted`: either all that is never shed or all the rest; `None`: it is too much.
    fn owed_below(
        &self,
        until: Offset,
        never_shed: bool,
        mut wanted: BTreeMap<Offset, u32>,
    ) -> Option<BTreeMap<Offset, u32>> {
        let carried: usize = self.carried.values().map(|stored| stored.bytes() as usize).sum();
        let mut bytes = carried + wanted.values().map(|bytes| *bytes as usize).sum::<usize>();
        let mut add = |outgoing: &Outgoing| {
            let below = outgoing.offset().filter(|offset| *offset < until && *offset >= self.horizon);
            if let Some(offset) = below.filter(|offset| !self.carried.contains_key(offset))
                && wanted.insert(offset, outgoing.bytes).is_none()
            {
                bytes += outgoing.bytes as usize;
            }
            bytes <= CARRIED_BYTES_MAX
        };
        let sessions = self.sessions.iter().map(|(_, session)| session);
        let fits = if never_shed {
            sessions.clone().flat_map(|session| &session.in_flight).all(|flight| add(&flight.outgoing))
                && sessions
                    .flat_map(|session| session.lanes.alerts_below(until))
                    .all(|outgoing| add(&outgoing))
                && self.groups.alerts_below(until).all(|outgoing| add(&outgoing))
        } else {
            sessions.flat_map(|session| session.lanes.telemetry_below(until)).all(|outgoing| add(&outgoing))
                && self.groups.telemetry_below(until).all(|outgoing| add(&outgoing))
        };
        fits.then_some(wanted)
    }

    fn shed_below(&mut self, until: Offset) -> u64 {
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
