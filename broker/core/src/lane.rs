//! What a session is owed, in two lanes: alerts before telemetry, order kept within each.
//!
//! What is owed reliably waits in a [`Backlog`], mostly in the journal. QoS 0 telemetry, which nobody has to get, waits in
//! memory beside it, and goes in its place among the rest unless that is not ready.

use std::{collections::VecDeque, ops::Deref, sync::Arc};

use smallvec::SmallVec;
use wardline_journal::Offset;
use wardline_wire::QoS;

use crate::{
    backlog::{Backlog, Front, Quota},
    ledger::Saved,
    limits::Limits,
    shared::GroupId,
    stored::{Lane, Stored},
};

/// Where a publish is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Here(Arc<Stored>),
    /// Not at hand, but in the journal.
    Journal(Offset),
}

/// How a shared subscription has what one of its members was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) group: GroupId,
    /// As published.
    pub(crate) qos: QoS,
    /// As published.
    pub(crate) retain: bool,
}

/// Identifiers of the subscriptions that a publish came by; most have none. Copies share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionIds(Option<Arc<[u32]>>);

impl FromIterator<u32> for SubscriptionIds {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        let ids: SmallVec<[u32; 4]> = ids.into_iter().collect();
        Self((!ids.is_empty()).then(|| Arc::from(&*ids)))
    }
}

impl Deref for SubscriptionIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// A publish on its way to one subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) content: Content,
    pub(crate) lane: Lane,
    /// The lower of what was published and what was granted.
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) subscription_ids: SubscriptionIds,
    /// The shared subscription that it comes from and goes back to if this subscriber is lost; QoS 1 and 2 only.
    pub(crate) share: Option<Share>,
    /// What it counts for against quotas: [`Stored::bytes`].
    pub(crate) bytes: u32,
}

impl Outgoing {
    /// A publish as it came, for nobody in particular.
    pub(crate) fn published(stored: &Arc<Stored>, lane: Lane) -> Self {
        Self {
            content: Content::Here(Arc::clone(stored)),
            lane,
            qos: stored.publish.qos,
            retain: stored.publish.retain,
            subscription_ids: SubscriptionIds::default(),
            share: None,
            bytes: stored.bytes,
        }
    }

    /// Its place in the journal; `None` for what is not recorded.
    pub(crate) fn offset(&self) -> Option<Offset> {
        match &self.content {
            Content::Here(stored) => stored.offset,
            Content::Journal(offset) => Some(*offset),
        }
    }

    /// The publish, if it is at hand.
    pub(crate) fn stored(&self) -> Option<&Arc<Stored>> {
        match &self.content {
            Content::Here(stored) => Some(stored),
            Content::Journal(_) => None,
        }
    }

    /// Lets go of the content, which the journal has.
    pub(crate) fn let_go(&mut self) {
        if let Some(offset) = self.offset() {
            self.content = Content::Journal(offset);
        }
    }
}

/// What did not find room in the lanes, or had to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// QoS 0 telemetry.
    pub(crate) shed: u64,
    /// QoS 1 and 2 telemetry.
    pub(crate) overflowed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    alerts: Backlog,
    telemetry: Backlog,
    /// QoS 0 telemetry, each with what [`Backlog::given`] said of `telemetry` when it came.
    qos0: VecDeque<(u64, Outgoing)>,
    qos0_bytes: usize,
}

impl Lanes {
    /// Puts a publish behind all others of its lane, its content at hand if the client is `connected`.
    pub(crate) fn push(&mut self, outgoing: Outgoing, connected: bool, limits: &Limits) -> Dropped {
        let fleeting = outgoing.qos == QoS::AtMostOnce && outgoing.stored().is_some();
        match outgoing.lane {
            Lane::Telemetry if fleeting => self.push_qos0(outgoing, limits),
            Lane::Telemetry => {
                let overflowed = self.telemetry.offer(outgoing, connected, &Quota::of(limits), limits);
                Dropped { overflowed, ..Dropped::default() }
            }
            Lane::Alert => {
                self.alerts.push(outgoing, connected, limits);
                Dropped::default()
            }
        }
    }

    fn push_qos0(&mut self, outgoing: Outgoing, limits: &Limits) -> Dropped {
        let mut shed = 0;
        let bytes = outgoing.bytes as usize;
        while self.qos0.len() >= limits.queued_qos0_max
            || self.qos0_bytes + bytes > limits.queued_qos0_bytes_max
        {
            if self.pop_qos0().is_none() {
                break;
            }
            shed += 1;
        }
        self.qos0_bytes += bytes;
        self.qos0.push_back((self.telemetry.given(), outgoing));
        Dropped { shed, ..Dropped::default() }
    }

    /// Puts back in front what could not be sent after all.
    pub(crate) fn push_front(&mut self, outgoing: Outgoing) {
        match outgoing.lane {
            Lane::Alert => self.alerts.push_front(outgoing),
            Lane::Telemetry => self.telemetry.push_front(outgoing),
        }
    }

    /// Takes what is to be sent next, if it is at hand. `has_room`: whether one more of QoS 1 or 2 may be in flight.
    pub(crate) fn pop(&mut self, has_room: impl Fn(Lane) -> bool) -> Option<Outgoing> {
        if self.alerts.is_empty() && self.telemetry.is_empty() {
            return self.pop_qos0();
        }
        let may_go = |front: Front, lane: Lane| match front {
            Front::Here(qos) => qos == QoS::AtMostOnce || has_room(lane),
            Front::Journal | Front::Nothing => false,
        };
        if may_go(self.alerts.front(), Lane::Alert) {
            return self.alerts.pop();
        }
        if self.alerts.front() == Front::Journal && has_room(Lane::Alert) {
            return None; // No telemetry passes an alert that is being fetched.
        }
        let reliable = may_go(self.telemetry.front(), Lane::Telemetry);
        let taken = self.telemetry.taken();
        match self.qos0.front() {
            Some((before, _)) if !reliable || *before <= taken => self.pop_qos0(),
            _ if reliable => self.telemetry.pop(),
            _ => None,
        }
    }

    /// Takes the next alert if it is at hand and of QoS 1 or 2.
    pub(crate) fn pop_alert(&mut self) -> Option<Outgoing> {
        match self.alerts.front() {
            Front::Here(QoS::AtLeastOnce | QoS::ExactlyOnce) => self.alerts.pop(),
            Front::Here(QoS::AtMostOnce) | Front::Journal | Front::Nothing => None,
        }
    }

    /// Takes the next telemetry if it is at hand, the session's own, of QoS 1 or 2, and nothing is to go before it.
    pub(crate) fn pop_own(&mut self) -> Option<Outgoing> {
        let taken = self.telemetry.taken();
        let passes = !self.alerts.is_empty() || self.qos0.front().is_some_and(|(before, _)| *before <= taken);
        let own = |next: &Outgoing| next.qos != QoS::AtMostOnce && next.share.is_none();
        if passes || !self.telemetry.here().is_some_and(own) { None } else { self.telemetry.pop() }
    }

    fn pop_qos0(&mut self) -> Option<Outgoing> {
        let (_, outgoing) = self.qos0.pop_front()?;
        self.qos0_bytes -= outgoing.bytes as usize;
        Some(outgoing)
    }

    /// QoS 0 is not owed to somebody who is away.
    pub(crate) fn forget_qos0(&mut self) {
        self.qos0 = VecDeque::new();
        self.qos0_bytes = 0;
        self.alerts.forget_qos0();
        self.telemetry.forget_qos0();
    }

    /// Lets go of all contents: the client is away.
    pub(crate) fn park(&mut self) {
        self.alerts.park();
        self.telemetry.park();
    }

    /// Takes out the first that was published at `offset`; used when the journal says what became of it, nearly always at the
    /// front of its lane.
    pub(crate) fn remove(&mut self, offset: Offset) -> Option<Outgoing> {
        if self.telemetry.begins_with(offset) {
            return self.telemetry.pop();
        }
        self.alerts.remove(offset).or_else(|| self.telemetry.remove(offset))
    }

    /// Takes out what belongs to shared subscriptions.
    pub(crate) fn take_shared(&mut self) -> Vec<Outgoing> {
        let mut taken = self.alerts.take_shared();
        taken.append(&mut self.telemetry.take_shared());
        taken
    }

    /// Offsets of the alert lane.
    pub(crate) fn alerts(&self) -> impl Iterator<Item = Offset> {
        self.alerts.offsets()
    }

    /// Appends the offsets of what is to be fetched. True: something is lacking and cannot be read yet.
    pub(crate) fn wanted(&self, readable: Offset, limits: &Limits, into: &mut Vec<Offset>) -> bool {
        let alerts = self.alerts.wanted(readable, limits, into);
        self.telemetry.wanted(readable, limits, into) || alerts
    }

    /// Takes what was fetched; whether there was something for it.
    pub(crate) fn refill(&mut self, find: impl Fn(Offset) -> Option<Arc<Stored>>) -> bool {
        let alerts = self.alerts.refill(&find);
        self.telemetry.refill(&find) || alerts
    }

    /// Both lanes, for a snapshot. QoS 0 telemetry is nobody's due.
    pub(crate) fn saved(&self) -> [Vec<Saved<'_>>; 2] {
        [self.alerts.saved(), self.telemetry.saved()]
    }

    /// What was saved.
    pub(crate) fn restore([alerts, telemetry]: [Vec<Saved<'_>>; 2]) -> Self {
        let (alerts, telemetry) = (Backlog::restore(alerts), Backlog::restore(telemetry));
        Self { alerts, telemetry, ..Self::default() }
    }

    /// As [`Backlog::below`].
    pub(crate) fn below(&self, until: Offset) -> impl Iterator<Item = (Offset, u32)> {
        self.alerts.below(until).chain(self.telemetry.below(until))
    }

    /// As [`Backlog::shed_below`]; alerts are never shed.
    pub(crate) fn shed_below(&mut self, until: Offset) -> u64 {
        self.telemetry.shed_below(until)
    }

    /// As [`Backlog::low_offsets`].
    pub(crate) fn low_offsets(&self, horizon: Offset) -> impl Iterator<Item = Offset> {
        self.alerts.low_offsets(horizon).chain(self.telemetry.low_offsets(horizon))
    }

    pub(crate) fn len(&self) -> usize {
        self.alerts.len() + self.telemetry.len() + self.qos0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.telemetry.is_empty() && self.qos0.is_empty()
    }

    /// QoS 1 and 2 telemetry: how many publishes, and their bytes as [`Outgoing::bytes`].
    pub(crate) fn telemetry_waiting(&self) -> (usize, usize) {
        (self.telemetry.len(), self.telemetry.bytes())
    }

    /// How many of them are alerts.
    pub(crate) fn alerts_len(&self) -> usize {
        self.alerts.len()
    }

    /// Whether one more finds room within the quota of bytes; the first always does.
    pub(crate) fn takes(&self, outgoing: &Outgoing, limits: &Limits) -> bool {
        let bytes = self.telemetry.bytes().saturating_add(outgoing.bytes as usize);
        outgoing.lane == Lane::Alert || self.telemetry.is_empty() || bytes <= limits.queued_bytes_max
    }

    /// As [`Outgoing::bytes`], of all that waits.
    pub(crate) fn bytes(&self) -> usize {
        self.alerts.bytes() + self.telemetry.bytes() + self.qos0_bytes
    }
}
