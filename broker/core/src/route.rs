//! From a publish to the lanes of those who subscribed.

use std::{cell::Cell, sync::Arc};

use jiff::Timestamp;
use smallvec::SmallVec;
use wardline_journal::{Delivery, DeliveryStep, Log, Offset, Origin, Record};
use wardline_wire::{QoS, topic::Shared};

use crate::{
    broker::{Broker, Event, Outstanding},
    connection::ConnectionId,
    lane::{Outgoing, Queued},
    session::{SessionId, Subscription},
    stored::Stored,
};

/// Who stands behind a filter in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Session(SessionId),
    Group(Box<str>),
}

#[derive(Debug)]
pub(crate) enum Entry {
    One(Subscription),
    /// A shared subscription: each publish goes to one member, in turn.
    Shared(Group),
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    members: Vec<(SessionId, Subscription)>,
    turn: Cell<usize>,
}

/// A session that a publish reaches, with all its matching subscriptions merged.
#[derive(Debug)]
pub(crate) struct Hit {
    session: SessionId,
    qos: QoS,
    retain_as_published: bool,
    ids: SmallVec<[u32; 1]>,
}

impl<L: Log> Broker<L> {
    /// Subscribes; says whether the subscription is new.
    pub(crate) fn add_subscription(
        &mut self,
        id: SessionId,
        filter: &str,
        subscription: Subscription,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(id.index as usize) else { return false };
        let new = session.subscriptions.insert(filter.into(), subscription).is_none();
        self.subscriptions += usize::from(new);
        if let Some(Ok(shared)) = Shared::parse(filter) {
            let target = Target::Group(shared.group.into());
            if self.tree.value_mut(shared.filter, &target).is_none() {
                self.tree.insert(shared.filter, target.clone(), Entry::Shared(Group::default()));
            }
            if let Some(Entry::Shared(group)) = self.tree.value_mut(shared.filter, &target) {
                group.members.retain(|(member, _)| *member != id);
                group.members.push((id, subscription));
            }
        } else {
            self.tree.insert(filter, Target::Session(id), Entry::One(subscription));
        }
        new
    }

    /// Unsubscribes; says whether there was something to end.
    pub(crate) fn remove_subscription(&mut self, id: SessionId, filter: &str) -> bool {
        let existed = self
            .sessions
            .get_mut(id.index as usize)
            .is_some_and(|session| session.subscriptions.remove(filter).is_some());
        if existed {
            self.remove_subscriber(id, filter);
        }
        existed
    }

    /// Takes a session out of the tree.
    pub(crate) fn remove_subscriber(&mut self, id: SessionId, filter: &str) {
        self.subscriptions -= 1;
        let Some(Ok(shared)) = Shared::parse(filter) else {
            self.tree.remove(filter, &Target::Session(id));
            return;
        };
        let target = Target::Group(shared.group.into());
        if let Some(Entry::Shared(group)) = self.tree.value_mut(shared.filter, &target) {
            group.members.retain(|(member, _)| *member != id);
            if group.members.is_empty() {
                self.tree.remove(shared.filter, &target);
            }
        }
    }

    /// Puts a publish into the lanes of all that subscribed to it.
    pub(crate) fn route(&mut self, stored: &Arc<Stored>, publisher: Option<SessionId>, now: Timestamp) {
        self.routed += 1;
        let number = self.routed;
        let mut hits = std::mem::take(&mut self.hits);
        let Self { tree, sessions, .. } = self;
        tree.matches(&stored.publish.topic, |target, entry| {
            let (id, subscription) = match (target, entry) {
                (Target::Session(id), Entry::One(subscription)) => (*id, subscription),
                (_, Entry::Shared(group)) => {
                    let online = |id: SessionId| {
                        sessions.get(id.index as usize).is_some_and(|s| s.connection.is_some())
                    };
                    match group.next(online) {
                        Some((id, subscription)) => (id, subscription),
                        None => return,
                    }
                }
                (Target::Group(_), Entry::One(_)) => return,
            };
            if subscription.options.no_local && publisher == Some(id) {
                return; // [MQTT-3.8.3-3]
            }
            let Some(session) = sessions.get_mut(id.index as usize) else { return };
            let granted = subscription.options.qos.min(stored.publish.qos);
            // A shared subscription's copy is its own; other matches of a session are merged [MQTT-3.3.4-2].
            let shared = matches!(entry, Entry::Shared(_));
            if !shared && session.routed.0 == number {
                let hit: &mut Hit = &mut hits[session.routed.1];
                hit.qos = hit.qos.max(granted);
                hit.retain_as_published |= subscription.options.retain_as_published;
                hit.ids.extend(subscription.id);
                return;
            }
            if !shared {
                session.routed = (number, hits.len());
            }
            hits.push(Hit {
                session: id,
                qos: granted,
                retain_as_published: subscription.options.retain_as_published,
                ids: subscription.id.into_iter().collect(),
            });
        });

        // While the journal is read, what became of an alert stands in the records that follow it.
        let alert = stored.alert().filter(|_| !self.recovering).map(Arc::<str>::from);
        let mut pagers = 0;
        for hit in hits.drain(..) {
            let outgoing = Outgoing {
                stored: Arc::clone(stored),
                qos: hit.qos,
                retain: hit.retain_as_published && stored.publish.retain,
                subscription_ids: hit.ids,
            };
            let reached = self.queue(hit.session, outgoing);
            if let (Some(alert), Some(connection)) = (&alert, reached.filter(|_| hit.qos != QoS::AtMostOnce))
            {
                pagers += 1;
                self.receipt(stored, alert, DeliveryStep::Sent, Some(connection), now);
            }
        }
        self.hits = hits;
        if let (Some(alert), Some(offset)) = (&alert, stored.offset) {
            if pagers == 0 {
                self.receipt(stored, alert, DeliveryStep::Unreachable, None, now);
            } else {
                self.outstanding.insert(offset, Outstanding { pagers, confirmed: false });
            }
        }
    }

    /// Puts a publish into a session's lanes. Gives the connection that will carry it now, if there is one.
    fn queue(&mut self, id: SessionId, outgoing: Outgoing) -> Option<ConnectionId> {
        let (qos0_max, reliable_max) = (self.limits.queued_qos0_max, self.limits.queued_messages_max);
        let session = self.sessions.get_mut(id.index as usize)?;
        let connection = session.connection;
        if connection.is_none() && (outgoing.qos == QoS::AtMostOnce || session.expiry == 0) {
            return None;
        }
        match session.lanes.push(outgoing, qos0_max, reliable_max) {
            Queued::Kept => {}
            Queued::ShedOldest => self.counters.shed += 1,
            Queued::Full => self.counters.overflowed += 1,
        }
        self.wake(connection?);
        connection
    }

    /// Answers a new subscription with what is retained [MQTT-3.3.1-9].
    pub(crate) fn queue_retained(&mut self, id: SessionId, filter: &str, subscription: Subscription) {
        if filter.starts_with("$share/") {
            return; // [MQTT 5, 4.8.2]
        }
        for stored in self.retained.matching(filter) {
            let outgoing = Outgoing {
                qos: subscription.options.qos.min(stored.publish.qos),
                retain: true,
                subscription_ids: subscription.id.into_iter().collect(),
                stored,
            };
            self.queue(id, outgoing);
        }
    }

    /// A subscriber has acknowledged a publish: it is not owed any more.
    pub(crate) fn confirmed(&mut self, id: ConnectionId, stored: &Arc<Stored>, now: Timestamp) {
        let Some(connection) = self.connection(id) else { return };
        let client = Arc::clone(&connection.client);
        let durable = self.session(connection.session).is_some_and(|session| session.expiry > 0);
        let Some(offset) = stored.offset else { return };
        if durable {
            self.log.mark(&wardline_journal::Mark::Confirmed { client: &client, publish: offset });
        }
        if let Some(alert) = stored.alert().map(Arc::<str>::from) {
            if let Some(outstanding) = self.outstanding.get_mut(&offset) {
                outstanding.confirmed = true;
                outstanding.pagers = outstanding.pagers.saturating_sub(1);
                if outstanding.pagers == 0 {
                    self.outstanding.remove(&offset);
                }
            }
            self.receipt(stored, &alert, DeliveryStep::Confirmed, Some(id), now);
        }
    }

    /// A pager's connection is gone: what it had not confirmed has not reached its person.
    pub(crate) fn alerts_lost(&mut self, id: SessionId, now: Timestamp) {
        let Some(session) = self.session(id) else { return };
        let in_flight =
            session.in_flight.iter().filter(|flight| !flight.received).map(|flight| &flight.outgoing);
        let lost: Vec<(Arc<Stored>, Arc<str>)> = session
            .lanes
            .alerts()
            .chain(in_flight)
            .filter_map(|waiting| Some((Arc::clone(&waiting.stored), waiting.stored.alert()?.into())))
            .collect();
        for (stored, alert) in lost {
            self.pager_lost(&stored, &alert, now);
        }
    }

    /// A client can never be sent this alert: as if its pager were away.
    pub(crate) fn alert_abandoned(&mut self, stored: &Arc<Stored>, now: Timestamp) {
        if let Some(alert) = stored.alert().map(Arc::<str>::from) {
            self.pager_lost(stored, &alert, now);
        }
    }

    /// One pager less may confirm the alert; when none is left and none has, nobody was reached.
    fn pager_lost(&mut self, stored: &Arc<Stored>, alert: &Arc<str>, now: Timestamp) {
        let Some(offset) = stored.offset else { return };
        let Some(outstanding) = self.outstanding.get_mut(&offset) else { return };
        outstanding.pagers = outstanding.pagers.saturating_sub(1);
        if outstanding.pagers == 0 {
            let confirmed = outstanding.confirmed;
            self.outstanding.remove(&offset);
            if !confirmed {
                self.receipt(stored, alert, DeliveryStep::Unreachable, None, now);
            }
        }
    }

    fn receipt(
        &mut self,
        stored: &Arc<Stored>,
        alert: &Arc<str>,
        step: DeliveryStep,
        connection: Option<ConnectionId>,
        now: Timestamp,
    ) {
        let (client, principal, peer): (Arc<str>, Arc<str>, Arc<str>) = match connection
            .and_then(|id| self.connection(id))
        {
            Some(found) => (Arc::clone(&found.client), Arc::clone(&found.principal), Arc::clone(&found.peer)),
            None => (Arc::from(""), Arc::from(""), Arc::from("")),
        };
        self.log.append(&Record::Delivery(Delivery {
            at: now,
            step,
            origin: Origin { client: &client, principal: &principal, peer: &peer },
            publish: stored.offset.unwrap_or(Offset(0)),
            alert,
            topic: &stored.publish.topic,
        }));
        let topic = Arc::from(&*stored.publish.topic);
        self.events.push(Event::Receipt { topic, alert: Arc::clone(alert), step, principal });
    }
}

impl Group {
    /// The next member in turn, one that is connected before one that is not.
    fn next(&self, online: impl Fn(SessionId) -> bool) -> Option<(SessionId, &Subscription)> {
        let count = self.members.len();
        let start = self.turn.get();
        let at = (0..count).map(|step| (start + step) % count).find(|&at| online(self.members[at].0));
        let at = at.or_else(|| (count > 0).then(|| start % count))?;
        self.turn.set(at + 1);
        let (id, subscription) = &self.members[at];
        Some((*id, subscription))
    }
}
