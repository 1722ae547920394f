//! What a session is owed, in two queues: alerts before telemetry, order kept within each.

use std::{collections::VecDeque, sync::Arc};

use smallvec::SmallVec;
use wardline_journal::Offset;
use wardline_wire::QoS;

use crate::stored::{Lane, Stored};

/// A publish on its way to one subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) stored: Arc<Stored>,
    /// The lower of what was published and what was granted.
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) subscription_ids: SmallVec<[u32; 1]>,
}

/// What became of a publish that was offered to the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// It waits.
    Kept,
    /// It waits, and the oldest QoS 0 telemetry went for it.
    ShedOldest,
    /// The session has as much QoS 1 and 2 telemetry waiting as it may.
    Full,
}

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    alerts: VecDeque<Outgoing>,
    telemetry: VecDeque<Outgoing>,
    telemetry_qos0: usize,
}

impl Lanes {
    pub(crate) fn push(&mut self, outgoing: Outgoing, qos0_max: usize, reliable_max: usize) -> Queued {
        if outgoing.stored.lane == Lane::Alert {
            self.alerts.push_back(outgoing);
            return Queued::Kept;
        }
        if outgoing.qos != QoS::AtMostOnce {
            if self.telemetry.len() - self.telemetry_qos0 >= reliable_max {
                return Queued::Full;
            }
            self.telemetry.push_back(outgoing);
            return Queued::Kept;
        }
        let shed = self.telemetry_qos0 >= qos0_max;
        if shed && let Some(oldest) = self.telemetry.iter().position(|waiting| waiting.qos == QoS::AtMostOnce)
        {
            self.telemetry.remove(oldest);
        } else {
            self.telemetry_qos0 += 1;
        }
        self.telemetry.push_back(outgoing);
        if shed { Queued::ShedOldest } else { Queued::Kept }
    }

    /// Puts back in front what was in flight on a connection that is gone.
    pub(crate) fn push_front(&mut self, outgoing: Outgoing) {
        if outgoing.stored.lane == Lane::Alert {
            self.alerts.push_front(outgoing);
        } else {
            self.telemetry_qos0 += usize::from(outgoing.qos == QoS::AtMostOnce);
            self.telemetry.push_front(outgoing);
        }
    }

    pub(crate) fn front(&self, lane: Lane) -> Option<&Outgoing> {
        match lane {
            Lane::Alert => self.alerts.front(),
            Lane::Telemetry => self.telemetry.front(),
        }
    }

    pub(crate) fn pop(&mut self, lane: Lane) -> Option<Outgoing> {
        match lane {
            Lane::Alert => self.alerts.pop_front(),
            Lane::Telemetry => {
                let outgoing = self.telemetry.pop_front()?;
                self.telemetry_qos0 -= usize::from(outgoing.qos == QoS::AtMostOnce);
                Some(outgoing)
            }
        }
    }

    /// QoS 0 is not owed to somebody who is away.
    pub(crate) fn forget_qos0(&mut self) {
        self.alerts.retain(|waiting| waiting.qos != QoS::AtMostOnce);
        self.telemetry.retain(|waiting| waiting.qos != QoS::AtMostOnce);
        self.telemetry_qos0 = 0;
    }

    /// Takes out the first that was published at `offset`; used when the journal says it was confirmed.
    pub(crate) fn remove(&mut self, offset: Offset) -> Option<Outgoing> {
        let at = |waiting: &Outgoing| waiting.stored.offset == Some(offset);
        if let Some(position) = self.alerts.iter().position(at) {
            return self.alerts.remove(position);
        }
        let position = self.telemetry.iter().position(at)?;
        let outgoing = self.telemetry.remove(position)?;
        self.telemetry_qos0 -= usize::from(outgoing.qos == QoS::AtMostOnce);
        Some(outgoing)
    }

    pub(crate) fn alerts(&self) -> impl Iterator<Item = &Outgoing> {
        self.alerts.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.alerts.len() + self.telemetry.len()
    }
}
