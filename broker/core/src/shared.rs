//! Shared subscriptions [4.8.2]: each publish goes to one member of the group.
//!
//! It goes to the next member in turn that is connected and has room in its window. While there is none it waits with the
//! group, and the first member that has room draws it: one that has stopped reading, or is away, holds nothing up. What a
//! member leaves behind unsent goes back to the group, and when its session ends so does what it had not acknowledged.
//!
//! The journal says who was sent what ([`wardline_journal::Mark::Drawn`]), so that the turn itself need not be remembered.
//!
//! Invariants
//! - a publish that waits is in no member's lanes;
//! - what waits in a lane is in the order of the journal, and no telemetry is handed over while an alert waits that the same
//!   member could take;
//! - while something waits, every connected member is either full or about to draw.

use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;
use wardline_journal::{Log, Mark, Offset};
use wardline_wire::{QoS, topic::Shared};

use crate::{
    backlog::{Backlog, Quota},
    broker::Broker,
    connection::{Connection, ConnectionId},
    lane::{Outgoing, Share, SubscriptionIds},
    ledger::Saved,
    limits::Limits,
    route::{Entry, Target},
    session::{Session, SessionId, Subscription},
    stored::Lane,
};

/// Names a group; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// All groups that have members.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    slab: Slab<Group>,
    generation: u32,
}

#[derive(Debug)]
struct Group {
    generation: u32,
    /// As its members subscribed, for the journal.
    subscription: Arc<str>,
    members: Vec<Member>,
    /// Whose turn it is.
    turn: usize,
    /// QoS 1 and 2 publishes, as they were published, that no member had room for: alerts before telemetry, as with a session.
    alerts: Backlog,
    telemetry: Backlog,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    session: SessionId,
    subscription: Subscription,
}

impl Member {
    /// A member's own copy. Only what is acknowledged can come back to the group.
    fn outgoing(&self, group: GroupId, published: Outgoing) -> Outgoing {
        let qos = self.subscription.options.qos.min(published.qos); // [MQTT-4.8.2-3]
        let share = Share { group, qos: published.qos, retain: published.retain };
        Outgoing {
            qos,
            retain: self.subscription.options.retain_as_published && published.retain,
            subscription_ids: self.subscription.id.into_iter().collect(),
            share: (qos != QoS::AtMostOnce).then_some(share),
            ..published
        }
    }
}

impl Group {
    /// The next member in turn that `suits`.
    fn next(&mut self, suits: impl Fn(SessionId) -> bool) -> Option<Member> {
        let count = self.members.len();
        let at =
            (0..count).map(|step| (self.turn + step) % count).find(|&at| suits(self.members[at].session))?;
        self.turn = at + 1;
        Some(self.members[at])
    }

    fn waiting(&self, lane: Lane) -> &Backlog {
        match lane {
            Lane::Alert => &self.alerts,
            Lane::Telemetry => &self.telemetry,
        }
    }

    fn waiting_mut(&mut self, lane: Lane) -> &mut Backlog {
        match lane {
            Lane::Alert => &mut self.alerts,
            Lane::Telemetry => &mut self.telemetry,
        }
    }

    /// Takes out what waits and was published at `offset`, nearly always at the front.
    fn remove(&mut self, offset: Offset) -> Option<Outgoing> {
        if self.telemetry.begins_with(offset) {
            return self.telemetry.pop();
        }
        self.alerts.remove(offset).or_else(|| self.telemetry.remove(offset))
    }

    fn member(&self, session: SessionId) -> Option<Member> {
        self.members.iter().find(|member| member.session == session).copied()
    }

    /// Whether a publish can wait here: somebody takes it at QoS 1 or 2.
    fn keeps(&self, published: &Outgoing) -> bool {
        published.qos != QoS::AtMostOnce
            && self.members.iter().any(|member| member.subscription.options.qos != QoS::AtMostOnce)
    }
}

impl Groups {
    fn get(&self, id: GroupId) -> Option<&Group> {
        self.slab.get(id.index as usize).filter(|group| group.generation == id.generation)
    }

    fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.slab.get_mut(id.index as usize).filter(|group| group.generation == id.generation)
    }

    fn insert(&mut self, shared: &Shared<'_>) -> GroupId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let (alerts, telemetry) = (Backlog::default(), Backlog::default());
        let subscription = format!("$share/{}/{}", shared.group, shared.filter).into();
        let group = Group { generation, subscription, members: Vec::new(), turn: 0, alerts, telemetry };
        GroupId { index: self.slab.insert(group) as u32, generation }
    }

    /// Records that the group's publish goes to this member.
    pub(crate) fn mark_drawn(
        &self,
        log: &mut impl Log,
        client: &str,
        id: GroupId,
        outgoing: &Outgoing,
        packet_id: u16,
    ) {
        if let (Some(group), Some(publish)) = (self.get(id), outgoing.offset()) {
            let (subscription, qos) = (&*group.subscription, outgoing.qos as u8);
            log.mark(&Mark::Drawn { client, subscription, publish, packet_id, qos });
        }
    }

    /// For each group the publishes that wait with it, and their bytes.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (usize, usize)> {
        self.slab.iter().map(|(_, Group { alerts, telemetry, .. })| {
            (alerts.len() + telemetry.len(), alerts.bytes() + telemetry.bytes())
        })
    }

    /// As [`crate::lane::Lanes::telemetry_waiting`], of each group with its subscription.
    pub(crate) fn telemetry_waiting(&self) -> impl Iterator<Item = (&Arc<str>, (usize, usize))> {
        self.slab.iter().map(|(_, Group { subscription, telemetry, .. })| {
            (subscription, (telemetry.len(), telemetry.bytes()))
        })
    }

    /// Each group with its subscription and what waits with it, alerts first, for a snapshot.
    pub(crate) fn saved(&self) -> impl Iterator<Item = (GroupId, &str, [Vec<Saved<'_>>; 2])> {
        self.slab.iter().map(|(index, group)| {
            let id = GroupId { index: index as u32, generation: group.generation };
            (id, &*group.subscription, [group.alerts.saved(), group.telemetry.saved()])
        })
    }

    /// As [`Backlog::below`].
    pub(crate) fn below(&self, until: Offset) -> impl Iterator<Item = (Offset, u32)> {
        self.slab
            .iter()
            .flat_map(move |(_, group)| group.alerts.below(until).chain(group.telemetry.below(until)))
    }

    /// As [`Backlog::shed_below`]; alerts are never shed.
    pub(crate) fn shed_below(&mut self, until: Offset) -> u64 {
        self.slab.iter_mut().map(|(_, group)| group.telemetry.shed_below(until)).sum()
    }

    /// As [`Backlog::low_offsets`], each with its shared subscription.
    pub(crate) fn low_offsets(&self, horizon: Offset) -> impl Iterator<Item = (&Arc<str>, Offset)> {
        self.slab.iter().flat_map(move |(_, group)| {
            let offsets = group.alerts.low_offsets(horizon).chain(group.telemetry.low_offsets(horizon));
            offsets.map(move |offset| (&group.subscription, offset))
        })
    }

    /// Takes the publish at `offset` out of the first of `groups` in which it waits, as the copy of its member `session`.
    pub(crate) fn take(
        &mut self,
        groups: &[GroupId],
        session: SessionId,
        offset: Offset,
    ) -> Option<Outgoing> {
        groups.iter().find_map(|&id| {
            let group = self.get_mut(id)?;
            let member = group.member(session)?;
            Some(member.outgoing(id, group.remove(offset)?))
        })
    }
}

impl Session {
    /// Whether what a group has would leave for the client at once, and find room until it does.
    fn has_room(&self, connection: &Connection, published: &Outgoing, limits: &Limits) -> bool {
        let window = match published.lane {
            Lane::Alert => self.window(connection, Lane::Alert),
            Lane::Telemetry => self.window(connection, Lane::Telemetry).min(limits.queued_messages_max),
        };
        !connection.closing && self.owed() < window && self.lanes.takes(published, limits)
    }

    /// The same for a client that is taking what it is sent: an alert passes the telemetry that still waits for it.
    fn may_draw(&self, connection: &Connection, published: &Outgoing, limits: &Limits) -> bool {
        match published.lane {
            Lane::Alert => {
                !connection.closing
                    && self.lanes.alerts_len() + self.in_flight.len() < self.window(connection, Lane::Alert)
            }
            Lane::Telemetry => self.has_room(connection, published, limits),
        }
    }

    /// Takes out what goes back to its groups when the session ends: what was not sent, and at QoS 1 what was not
    /// acknowledged. A QoS 2 publish that was sent is completed by this session or by nobody [MQTT-4.8.2-4]
    /// [MQTT-4.8.2-5].
    pub(crate) fn take_shared(&mut self) -> Vec<Outgoing> {
        let mut taken = self.lanes.take_shared();
        let sent = self.sent;
        for (at, flight) in std::mem::take(&mut self.in_flight).into_iter().enumerate() {
            let untouched = at >= sent && !flight.repeated;
            if flight.outgoing.qos == QoS::AtLeastOnce || untouched {
                taken.push(flight.outgoing);
            }
        }
        taken.retain(|outgoing| outgoing.share.is_some());
        taken
    }
}

impl<L: Log> Broker<L> {
    pub(crate) fn join(&mut self, session: SessionId, shared: &Shared<'_>, subscription: Subscription) {
        let target = Target::Group(shared.group.into());
        let id = match self.tree.value(shared.filter, &target) {
            Some(Entry::Shared(id)) => *id,
            _ => {
                let id = self.groups.insert(shared);
                self.tree.insert(shared.filter, target, Entry::Shared(id));
                id
            }
        };
        let Some(group) = self.groups.get_mut(id) else { return };
        match group.members.iter_mut().find(|member| member.session == session) {
            Some(member) => member.subscription = subscription,
            None => group.members.push(Member { session, subscription }),
        }
        if let Some(session) = self.session_mut(session)
            && !session.groups.contains(&id)
        {
            session.groups.push(id);
        }
    }

    /// Takes all groups from a snapshot, each with its subscription and what waits with it; false if a name is none. Their
    /// members come with their subscriptions.
    pub(crate) fn restore_groups(&mut self, saved: Vec<(GroupId, &str, [Vec<Saved<'_>>; 2])>) -> bool {
        let mut groups = Vec::with_capacity(saved.len());
        for (id, subscription, [alerts, telemetry]) in saved {
            let Some(Ok(shared)) = Shared::parse(subscription) else { return false };
            self.tree.insert(shared.filter, Target::Group(shared.group.into()), Entry::Shared(id));
            self.groups.generation = self.groups.generation.max(id.generation);
            let group = Group {
                generation: id.generation,
                subscription: subscription.into(),
                members: Vec::new(),
                turn: 0,
                alerts: Backlog::restore(alerts),
                telemetry: Backlog::restore(telemetry),
            };
            groups.push((id.index as usize, group));
        }
        // What waits with them names them: they keep their places.
        self.groups.slab = groups.into_iter().collect();
        true
    }

    /// Ends a membership. What was sent is completed by the session [MQTT-3.10.4-3]; the rest is the group's again.
    pub(crate) fn leave(&mut self, session_id: SessionId, shared: &Shared<'_>) {
        let target = Target::Group(shared.group.into());
        let Some(Entry::Shared(id)) = self.tree.value(shared.filter, &target) else { return };
        let id = *id;
        let Some(group) = self.groups.get_mut(id) else { return };
        group.members.retain(|member| member.session != session_id);
        if group.members.is_empty() {
            self.groups.slab.remove(id.index as usize);
            self.tree.remove(shared.filter, &target);
        }
        let Some(session) = self.session_mut(session_id) else { return };
        session.groups.retain(|group| *group != id);
        let unsent = session.lanes.take_shared();
        // Those of other groups come back with the next draw.
        self.give_back(unsent);
        if let Some(connection) = self.session(session_id).and_then(|session| session.connection) {
            self.wake(connection);
        }
    }

    /// Puts a publish before one member. Gives the connection that will carry it now, if it is to be acknowledged.
    pub(crate) fn route_shared(&mut self, id: GroupId, published: &Outgoing) -> Option<ConnectionId> {
        let quota = self.waiting_quota(id);
        let Self { groups, sessions, connections, recovering, limits, .. } = self;
        let group = groups.get_mut(id)?;
        let keeps = group.keeps(published);
        let connection = |member: SessionId| {
            let session = member.of(sessions)?;
            Some((session, connections.get(session.connection?.slot())?))
        };
        let has_room = |member| {
            connection(member)
                .is_some_and(|(session, connection)| session.has_room(connection, published, limits))
        };
        let waits = !group.alerts.is_empty() || !group.waiting(published.lane).is_empty();
        let chosen = if *recovering || waits { None } else { group.next(has_room) };
        // What need not be acknowledged goes to somebody who is there, and is shed by the rules of its queue.
        let chosen =
            chosen.or_else(|| (!keeps).then(|| group.next(|member| connection(member).is_some())).flatten());
        if let Some(member) = chosen {
            return self.hand(id, member, published.clone(), keeps);
        }
        if !keeps {
            return None;
        }
        let present: SmallVec<[ConnectionId; 8]> = group
            .members
            .iter()
            .filter_map(|member| connection(member.session).and_then(|(session, _)| session.connection))
            .collect();
        let soon = !present.is_empty();
        match published.lane {
            Lane::Alert => {
                group.alerts.push(published.clone(), soon, limits);
                // Who has only telemetry to wait for may draw it.
                present.into_iter().for_each(|connection| self.wake(connection));
            }
            Lane::Telemetry => {
                let overflowed = group.telemetry.offer(published.clone(), soon, &quota, limits);
                self.counters.overflowed += overflowed;
                self.overflow.add(overflowed, &group.subscription);
            }
        }
        None
    }

    /// What may wait with a group. While the journal is read there is room also for what members already had.
    fn waiting_quota(&self, id: GroupId) -> Quota {
        let quota = Quota::of(&self.limits);
        if !self.recovering {
            return quota;
        }
        let members = self.groups.get(id).map_or(0, |group| group.members.len());
        let messages = quota.messages.saturating_add(members * usize::from(u16::MAX));
        Quota { messages, bytes: usize::MAX, ..quota }
    }

    /// A connected client has room: gives it what waits in this lane of one of its groups. Says whether there was something.
    pub(crate) fn draw(&mut self, id: ConnectionId, lane: Lane) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        let session_id = connection.session;
        let Some(session) = self.session(session_id) else { return false };
        let found = session.groups.iter().enumerate().find_map(|(at, &group_id)| {
            let group = self.groups.get(group_id)?;
            let next = group.waiting(lane).peek()?;
            session.may_draw(connection, &next, &self.limits).then_some((at, group_id))
        });
        let Some((at, group_id)) = found else { return false };
        let Some(session) = self.session_mut(session_id) else { return false };
        // Another group first, next time.
        session.groups.rotate_left(at + 1);
        let Some(group) = self.groups.get_mut(group_id) else { return false };
        let (Some(member), Some(published)) = (group.member(session_id), group.waiting_mut(lane).pop())
        else {
            return false;
        };
        self.hand(group_id, member, published, true);
        true
    }

    fn hand(&mut self, id: GroupId, member: Member, published: Outgoing, kept: bool) -> Option<ConnectionId> {
        let outgoing = member.outgoing(id, published);
        let acknowledged = outgoing.qos != QoS::AtMostOnce;
        if kept
            && !acknowledged
            && let Some(session) = self.session(member.session)
        {
            // Nobody will acknowledge it, and it is the group's no more.
            let client = Arc::clone(&session.client);
            self.groups.mark_drawn(&mut self.log, &client, id, &outgoing, 0);
        }
        self.queue(member.session, outgoing).filter(|_| acknowledged)
    }

    /// The same, read from the journal: what the member was handed.
    pub(crate) fn recover_drawn(
        &mut self,
        session: SessionId,
        subscription: &str,
        publish: Offset,
        qos: QoS,
    ) -> Option<Outgoing> {
        let shared = Shared::parse(subscription)?.ok()?;
        let Entry::Shared(id) = self.tree.value(shared.filter, &Target::Group(shared.group.into()))? else {
            return None;
        };
        let id = *id;
        let group = self.groups.get_mut(id)?;
        let mut member = group.member(session)?;
        // At the quality of that time, whatever the member has subscribed since.
        member.subscription.options.qos = qos;
        Some(member.outgoing(id, group.remove(publish)?))
    }

    /// Takes back what members leave, to be drawn by others. Of a group that is no more nobody wants it.
    pub(crate) fn give_back(&mut self, left: Vec<Outgoing>) {
        let mut returned: SmallVec<[(GroupId, Lane, Vec<Outgoing>); 2]> = SmallVec::new();
        for outgoing in left {
            let Some(Share { group, qos, retain }) = outgoing.share else { continue };
            let subscription_ids = SubscriptionIds::default();
            let published = Outgoing { qos, retain, subscription_ids, share: None, ..outgoing };
            let lane = published.lane;
            match returned.iter_mut().find(|(id, of, _)| (*id, *of) == (group, lane)) {
                Some((.., publishes)) => publishes.push(published),
                None => returned.push((group, lane, vec![published])),
            }
        }
        for (id, lane, publishes) in returned {
            let Some(group) = self.groups.get_mut(id) else { continue };
            group.waiting_mut(lane).put_back(publishes);
            let members: SmallVec<[SessionId; 8]> =
                group.members.iter().map(|member| member.session).collect();
            for member in members {
                if let Some(connection) = self.session(member).and_then(|session| session.connection) {
                    self.wake(connection);
                }
            }
        }
    }
}
