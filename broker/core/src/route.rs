//! From a publish to the lanes of those who subscribed.

use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;
use wardline_journal::{Delivery, DeliveryStep, Log, Mark, Offset, Record};
use wardline_wire::{PacketId, QoS, topic::Shared};

use crate::{
    broker::{Broker, Event, Outstanding},
    connection::ConnectionId,
    lane::{Outgoing, SubscriptionIds},
    routes::Route,
    session::{SessionId, Subscription},
    shared::GroupId,
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
    /// A shared subscription: each publish goes to one member.
    Shared(GroupId),
}

impl<L: Log> Broker<L> {
    /// Subscribes, in place of what the session had under this filter [MQTT-3.8.4-3]; says whether the subscription is new.
    pub(crate) fn add_subscription(
        &mut self,
        id: SessionId,
        filter: &str,
        subscription: Subscription,
    ) -> bool {
        let for_alerts = self.limits.is_for_alerts(filter);
        let Some(session) = self.session_mut(id) else { return false };
        let new = session.subscriptions.insert(filter.into(), subscription).is_none();
        session.alert_subscriptions += usize::from(new && for_alerts);
        self.subscriptions += usize::from(new);
        if let Some(Ok(shared)) = Shared::parse(filter) {
            self.shared_subscriptions += usize::from(new);
            self.join(id, &shared, subscription);
        } else {
            self.tree.insert(filter, Target::Session(id), Entry::One(subscription));
        }
        new
    }

    /// Unsubscribes what has this very filter [MQTT-3.10.4-1] [MQTT-3.10.4-2]; says whether there was something to end.
    pub(crate) fn remove_subscription(&mut self, id: SessionId, filter: &str) -> bool {
        let for_alerts = self.limits.is_for_alerts(filter);
        let Some(session) = self.session_mut(id) else { return false };
        let existed = session.subscriptions.remove(filter).is_some();
        session.alert_subscriptions -= usize::from(existed && for_alerts);
        if existed {
            self.remove_subscriber(id, filter);
        }
        existed
    }

    /// Takes a session out of the tree.
    pub(crate) fn remove_subscriber(&mut self, id: SessionId, filter: &str) {
        self.subscriptions -= 1;
        if let Some(Ok(shared)) = Shared::parse(filter) {
            self.shared_subscriptions -= 1;
            self.leave(id, &shared);
        } else {
            self.tree.remove(filter, &Target::Session(id));
        }
    }

    /// Puts a publish into the lanes of all that subscribed to it [MQTT-3.3.2-3] [MQTT-4.5.0-1], in the order in which
    /// publishes came [MQTT-4.6.0-5] [MQTT-4.6.0-6].
    pub(crate) fn route(&mut self, stored: &Arc<Stored>, route: &Route, now: Timestamp) {
        // While the journal is read, what became of an alert stands in the records that follow it.
        let alert = stored.alert().filter(|_| !self.recovering).zip(stored.offset);
        let mut reached: SmallVec<[ConnectionId; 8]> = SmallVec::new();
        for hit in &route.hits {
            let outgoing = hit.outgoing(stored, route.lane);
            let acknowledged = outgoing.qos != QoS::AtMostOnce;
            let connection = self.queue(hit.session, outgoing);
            if alert.is_some() && acknowledged {
                reached.extend(connection);
            }
        }
        for &group in &route.groups {
            reached.extend(self.route_shared(group, &Outgoing::published(stored, route.lane)));
        }
        let Some((alert, offset)) = alert else { return };
        let (alert, topic) = (Arc::<str>::from(alert), Arc::<str>::from(&*stored.publish.topic));
        for &pager in &reached {
            self.receipt(offset, &topic, &alert, DeliveryStep::Sent, Some(pager), now);
        }
        if reached.is_empty() {
            self.receipt(offset, &topic, &alert, DeliveryStep::Unreachable, None, now);
        } else {
            let pagers = reached.iter().filter_map(|&pager| Some(self.connection(pager)?.session)).collect();
            self.outstanding.insert(offset, Outstanding { alert, topic, pagers, confirmed: false });
        }
    }

    /// Puts a publish into a session's lanes. Gives the connection that will carry it now, if there is one.
    pub(crate) fn queue(&mut self, id: SessionId, outgoing: Outgoing) -> Option<ConnectionId> {
        let session = id.of_mut(&mut self.sessions)?;
        let connection = session.connection;
        // Who is away is owed QoS 1 and 2 [MQTT3-3.1.2-5].
        if connection.is_none() && (outgoing.qos == QoS::AtMostOnce || session.expiry == 0) {
            return None;
        }
        let dropped = session.lanes.push(outgoing, connection.is_some(), &self.limits);
        self.counters.shed += dropped.shed;
        self.counters.overflowed += dropped.overflowed;
        self.overflow.add(dropped.overflowed, &session.client);
        self.wake(connection?);
        connection
    }

    /// Answers a new subscription with what is retained [MQTT-3.3.1-9].
    pub(crate) fn queue_retained(
        &mut self,
        id: SessionId,
        filter: &str,
        subscription: Subscription,
        now: Timestamp,
    ) {
        if Shared::parse(filter).is_some() {
            return; // [MQTT 5, 4.8.2]
        }
        let subscription_ids: SubscriptionIds = subscription.id.into_iter().collect();
        for stored in self.retained.matching(filter) {
            // Whether what has expired is still kept depends on when room was last looked for, which the journal does not tell.
            if stored.is_expired(now) {
                continue;
            }
            if let Some(offset) = stored.offset.filter(|offset| *offset < self.horizon) {
                self.carried.insert(offset, Arc::clone(&stored));
            }
            let outgoing = Outgoing {
                qos: subscription.options.qos.min(stored.publish.qos),
                retain: true, // [MQTT3-3.3.1-8]
                subscription_ids: subscription_ids.clone(),
                ..Outgoing::published(&stored, self.limits.lane(&stored.publish.topic))
            };
            self.queue(id, outgoing);
        }
    }

    /// A publish is not owed to this subscriber any more.
    pub(crate) fn settled(&mut self, id: ConnectionId, packet_id: PacketId, outgoing: &Outgoing) {
        let session = self.session_of(id).filter(|session| session.is_recorded(outgoing));
        let client = session.map(|session| Arc::clone(&session.client));
        let (Some(client), Some(publish)) = (client, outgoing.offset()) else { return };
        let (client, packet_id) = (&*client, packet_id.0.get());
        self.log.mark(&match (outgoing.share, outgoing.qos) {
            (None, _) => Mark::Confirmed { client, publish },
            (Some(_), QoS::ExactlyOnce) => Mark::Received { client, packet_id },
            (Some(_), _) => Mark::Completed { client, packet_id },
        });
    }

    /// A subscriber has acknowledged a publish.
    pub(crate) fn confirmed(
        &mut self,
        id: ConnectionId,
        packet_id: PacketId,
        outgoing: &Outgoing,
        now: Timestamp,
    ) {
        self.settled(id, packet_id, outgoing);
        let Some((stored, offset)) = outgoing.stored().zip(outgoing.offset()) else { return };
        let Some(alert) = stored.alert().map(Arc::<str>::from) else { return };
        let session = self.connection(id).map(|connection| connection.session);
        if let Some(outstanding) = self.outstanding.get_mut(&offset) {
            outstanding.confirmed = true;
            if let Some(at) = outstanding.pagers.iter().position(|pager| Some(*pager) == session) {
                outstanding.pagers.swap_remove(at);
            }
            if outstanding.pagers.is_empty() {
                self.outstanding.remove(&offset);
            }
        }
        let topic = Arc::from(&*stored.publish.topic);
        self.receipt(offset, &topic, &alert, DeliveryStep::Confirmed, Some(id), now);
    }

    /// A pager's connection is gone: what it had not confirmed has not reached its person.
    pub(crate) fn alerts_lost(&mut self, id: SessionId, now: Timestamp) {
        let Some(session) = self.session(id) else { return };
        let in_flight = session.in_flight.iter().filter_map(|flight| flight.outgoing.offset());
        let owed = in_flight.chain(session.lanes.alerts());
        let lost: Vec<Offset> = owed.filter(|offset| self.outstanding.contains_key(offset)).collect();
        for offset in lost {
            self.pager_lost(offset, id, now);
        }
    }

    /// A client can never be sent this publish: if it is an alert, as if its pager were away.
    pub(crate) fn alert_abandoned(&mut self, id: ConnectionId, outgoing: &Outgoing, now: Timestamp) {
        let session = self.connection(id).map(|connection| connection.session);
        if let (Some(offset), Some(session)) = (outgoing.offset(), session) {
            self.pager_lost(offset, session, now);
        }
    }

    /// A pager will not confirm the alert; when none is left and none has, nobody was reached.
    fn pager_lost(&mut self, offset: Offset, session: SessionId, now: Timestamp) {
        let Some(outstanding) = self.outstanding.get_mut(&offset) else { return };
        let Some(at) = outstanding.pagers.iter().position(|pager| *pager == session) else { return };
        outstanding.pagers.swap_remove(at);
        if outstanding.pagers.is_empty()
            && let Some(Outstanding { alert, topic, confirmed: false, .. }) = self.outstanding.remove(&offset)
        {
            self.receipt(offset, &topic, &alert, DeliveryStep::Unreachable, None, now);
        }
    }

    fn receipt(
        &mut self,
        publish: Offset,
        topic: &Arc<str>,
        alert: &Arc<str>,
        step: DeliveryStep,
        connection: Option<ConnectionId>,
        now: Timestamp,
    ) {
        let source = connection.and_then(|id| Some(Arc::clone(&self.connection(id)?.source)));
        let source = source.unwrap_or_default();
        self.log.append(&Record::Delivery(Delivery {
            at: now,
            step,
            origin: source.origin(),
            publish,
            alert,
            topic,
        }));
        let (topic, alert, principal) = (Arc::clone(topic), Arc::clone(alert), Arc::clone(&source.principal));
        self.events.push(Event::Receipt { topic, alert, step, principal });
    }
}
