//! Whom a topic reaches, remembered: a device publishes on the same few topics for ever.

use std::{hash::BuildHasher, mem::size_of, sync::Arc};

use bytestring::ByteString;
use foldhash::fast::RandomState;
use smallvec::SmallVec;
use wardline_wire::QoS;

use crate::{
    lane::{Outgoing, SubscriptionIds},
    limits::Limits,
    route::{Entry, Target},
    session::{SessionId, Subscription},
    shared::GroupId,
    stored::{Lane, Stored},
    tree::Tree,
};

/// Topics whose routes are remembered. Each has one place, which the last that came for it takes.
const PLACES: usize = 65_536;
/// Bytes of all that is remembered, about.
const BYTES_MAX: usize = 16 << 20;

/// Where the publishes on one topic go.
#[derive(Debug)]
pub(crate) struct Route {
    /// Shared by the publishes on it.
    pub(crate) topic: ByteString,
    /// Of the tree, when it was found.
    edition: u64,
    pub(crate) lane: Lane,
    /// Sessions, ascending, each once.
    pub(crate) hits: Box<[Hit]>,
    pub(crate) groups: Box<[GroupId]>,
    /// Sessions, ascending, with a subscription that does not take their own publishes [MQTT-3.8.3-3].
    no_local: Box<[SessionId]>,
}

/// A session that a topic reaches, with all its matching subscriptions merged [MQTT-3.3.4-2] [MQTT-3.3.4-4].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) session: SessionId,
    qos: QoS,
    retain_as_published: bool,
    ids: SubscriptionIds,
}

impl Hit {
    fn merged(matches: &[(SessionId, &Subscription)]) -> Option<Self> {
        let (session, _) = *matches.first()?;
        let subscriptions = matches.iter().map(|(_, subscription)| subscription);
        Some(Self {
            session,
            qos: subscriptions.clone().map(|subscription| subscription.options.qos).max()?,
            retain_as_published: subscriptions
                .clone()
                .any(|subscription| subscription.options.retain_as_published),
            ids: subscriptions.filter_map(|subscription| subscription.id).collect(),
        })
    }

    /// The session's copy of a publish.
    pub(crate) fn outgoing(&self, stored: &Arc<Stored>, lane: Lane) -> Outgoing {
        Outgoing {
            qos: self.qos.min(stored.publish.qos), // [MQTT-3.8.4-8]
            retain: self.retain_as_published && stored.publish.retain, // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            subscription_ids: self.ids.clone(),
            ..Outgoing::published(stored, lane)
        }
    }
}

impl Route {
    /// Looks up where publishes on `topic` go: those of the session `publisher`, or of anybody whom no subscription leaves out.
    fn find(topic: &str, publisher: Option<SessionId>, tree: &Tree<Target, Entry>, limits: &Limits) -> Self {
        let mut matches: SmallVec<[(SessionId, &Subscription); 8]> = SmallVec::new();
        let mut groups: SmallVec<[GroupId; 4]> = SmallVec::new();
        let mut no_local: SmallVec<[SessionId; 4]> = SmallVec::new();
        tree.matches(topic, |target, entry| match (target, entry) {
            (Target::Session(id), Entry::One(subscription)) => {
                let own = subscription.options.no_local && publisher == Some(*id);
                if subscription.options.no_local {
                    no_local.push(*id);
                }
                if !own {
                    matches.push((*id, subscription));
                }
            }
            // A shared subscription's copy is its own [MQTT-3.3.4-5].
            (_, Entry::Shared(group)) => groups.push(*group),
            (Target::Group(_), Entry::One(_)) => {}
        });
        matches.sort_unstable_by_key(|(session, subscription)| (*session, subscription.id));
        no_local.sort_unstable();
        Self {
            topic: topic.into(),
            edition: tree.edition(),
            lane: limits.lane(topic),
            hits: matches.chunk_by(|(one, _), (next, _)| one == next).filter_map(Hit::merged).collect(),
            groups: groups.into_iter().collect(),
            no_local: no_local.into_iter().collect(),
        }
    }

    fn bytes(&self) -> usize {
        let ids: usize = self.hits.iter().map(|hit| hit.ids.len()).sum();
        size_of::<Self>()
            + self.topic.len()
            + size_of_val(&*self.hits)
            + ids * size_of::<u32>()
            + size_of_val(&*self.groups)
            + size_of_val(&*self.no_local)
    }
}

/// Routes that were found, as long as nobody subscribes or unsubscribes. What it costs is bounded, whatever topics come.
#[derive(Debug)]
pub(crate) struct Routes {
    hasher: RandomState,
    places: Vec<Option<Arc<Route>>>,
    bytes: usize,
    /// Which place was given up last to make room.
    hand: usize,
    places_max: usize,
    bytes_max: usize,
}

impl Default for Routes {
    fn default() -> Self {
        Self::new(PLACES, BYTES_MAX)
    }
}

impl Routes {
    fn new(places_max: usize, bytes_max: usize) -> Self {
        let hasher = RandomState::default();
        Self { hasher, places: Vec::new(), bytes: 0, hand: 0, places_max, bytes_max }
    }

    /// The route of a publish of `publisher`, if it is a session's, on `topic`.
    pub(crate) fn of(
        &mut self,
        topic: &str,
        publisher: Option<SessionId>,
        tree: &Tree<Target, Entry>,
        limits: &Limits,
    ) -> Arc<Route> {
        let route = self.of_others(topic, tree, limits);
        match publisher {
            Some(id) if route.no_local.binary_search(&id).is_ok() => {
                Arc::new(Route::find(topic, publisher, tree, limits))
            }
            _ => route,
        }
    }

    fn of_others(&mut self, topic: &str, tree: &Tree<Target, Entry>, limits: &Limits) -> Arc<Route> {
        let at = self.hasher.hash_one(topic) as usize % self.places_max;
        if let Some(Some(known)) = self.places.get(at)
            && known.edition == tree.edition()
            && known.topic == *topic
        {
            return Arc::clone(known);
        }
        let route = Arc::new(Route::find(topic, None, tree, limits));
        self.remember(at, &route);
        route
    }

    fn remember(&mut self, at: usize, route: &Arc<Route>) {
        let bytes = route.bytes();
        if bytes > self.bytes_max {
            return;
        }
        if self.places.is_empty() {
            self.places.resize(self.places_max, None);
        }
        self.forget(at);
        // One after the other, as many as make room: nobody waits until all are gone.
        while self.bytes + bytes > self.bytes_max {
            self.hand = (self.hand + 1) % self.places_max;
            self.forget(self.hand);
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = Some(Arc::clone(route));
            self.bytes += bytes;
        }
    }

    fn forget(&mut self, at: usize) {
        let before = self.places.get_mut(at).and_then(Option::take);
        self.bytes -= before.map_or(0, |before| before.bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wardline_wire::{SubscribeOptions, topic};

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe { session: u32, filter: &'static str, subscription: Subscription },
        Share { group: u32, filter: &'static str },
        Unsubscribe { session: u32, filter: &'static str },
        Unshare { group: u32, filter: &'static str },
        Publish { topic: &'static str, publisher: Option<u32> },
    }

    const FILTERS: [&str; 8] = ["#", "a/#", "a/+", "a/b", "+/b", "a/b/c", "$s/#", "alerts/+"];
    const TOPICS: [&str; 7] = ["a", "a/b", "a/c", "a/b/c", "b/b", "$s/a", "alerts/a"];

    fn step() -> impl Strategy<Value = Step> {
        let (session, filter) = (0..5u32, prop::sample::select(&FILTERS[..]));
        let qos = prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let options = (qos, prop::bool::weighted(0.2), any::<bool>(), prop::option::of(1..9u32));
        let subscription = options.prop_map(|(qos, no_local, retain_as_published, id)| Subscription {
            options: SubscribeOptions { qos, no_local, retain_as_published, ..SubscribeOptions::default() },
            id,
        });
        let topic = prop::sample::select(&TOPICS[..]);
        prop_oneof![
            2 => (session.clone(), filter.clone(), subscription)
                .prop_map(|(session, filter, subscription)| Step::Subscribe { session, filter, subscription }),
            1 => (session.clone(), filter.clone())
                .prop_map(|(session, filter)| Step::Unsubscribe { session, filter }),
            1 => (session.clone(), filter.clone()).prop_map(|(group, filter)| Step::Share { group, filter }),
            1 => (session.clone(), filter).prop_map(|(group, filter)| Step::Unshare { group, filter }),
            8 => (topic, prop::option::of(session))
                .prop_map(|(topic, publisher)| Step::Publish { topic, publisher }),
        ]
    }

    fn id(session: u32) -> SessionId {
        SessionId { index: session, generation: 1 }
    }

    fn group(group: u32) -> (Target, GroupId) {
        (Target::Group(format!("g{group}").into()), GroupId { index: group, generation: 1 })
    }

    /// What is remembered of a topic, and what a linear search through all subscriptions says of it.
    type Found = (Vec<(u32, QoS, bool, Vec<u32>)>, Vec<u32>);

    fn found(route: &Route) -> Found {
        let hit = |hit: &Hit| {
            (hit.session.index, hit.qos, hit.retain_as_published, hit.ids.iter().copied().collect())
        };
        let mut groups: Vec<u32> = route.groups.iter().map(|group| group.index).collect();
        groups.sort_unstable();
        (route.hits.iter().map(hit).collect(), groups)
    }

    fn expected(
        subscriptions: &[(u32, &str, Subscription)],
        shared: &[(u32, &str)],
        name: &str,
        publisher: Option<u32>,
    ) -> Found {
        let mut hits = Vec::new();
        for session in 0..5 {
            let of_session = subscriptions.iter().filter(|(of, filter, subscription)| {
                let own = subscription.options.no_local && publisher == Some(session);
                *of == session && topic::matches(filter, name) && !own
            });
            let matching: Vec<Subscription> = of_session.map(|(_, _, subscription)| *subscription).collect();
            let Some(qos) = matching.iter().map(|subscription| subscription.options.qos).max() else {
                continue;
            };
            let as_published = matching.iter().any(|subscription| subscription.options.retain_as_published);
            let mut ids: Vec<u32> = matching.iter().filter_map(|subscription| subscription.id).collect();
            ids.sort_unstable();
            hits.push((session, qos, as_published, ids));
        }
        let matching = shared.iter().filter(|(_, filter)| topic::matches(filter, name));
        let mut groups: Vec<u32> = matching.map(|(group, _)| *group).collect();
        groups.sort_unstable();
        (hits, groups)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// With so few places and bytes that topics drive each other out, and with room for all.
        #[test]
        fn what_is_remembered_is_what_would_be_found(
            steps in prop::collection::vec(step(), 0..120),
            places in prop::sample::select(vec![1usize, 3, 64]),
            bytes_max in prop::sample::select(vec![0usize, 400, 1 << 20]),
        ) {
            let limits = Limits::default();
            let mut routes = Routes::new(places, bytes_max);
            let mut tree: Tree<Target, Entry> = Tree::default();
            let (mut subscriptions, mut shared) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Subscribe { session, filter, subscription } => {
                        tree.insert(filter, Target::Session(id(session)), Entry::One(subscription));
                        subscriptions.retain(|(of, at, _)| (*of, *at) != (session, filter));
                        subscriptions.push((session, filter, subscription));
                    }
                    Step::Unsubscribe { session, filter } => {
                        tree.remove(filter, &Target::Session(id(session)));
                        subscriptions.retain(|(of, at, _)| (*of, *at) != (session, filter));
                    }
                    Step::Share { group: number, filter } => {
                        let (target, id) = group(number);
                        tree.insert(filter, target, Entry::Shared(id));
                        shared.retain(|at| *at != (number, filter));
                        shared.push((number, filter));
                    }
                    Step::Unshare { group: number, filter } => {
                        tree.remove(filter, &group(number).0);
                        shared.retain(|at| *at != (number, filter));
                    }
                    Step::Publish { topic, publisher } => {
                        let route = routes.of(topic, publisher.map(id), &tree, &limits);
                        let expected = expected(&subscriptions, &shared, topic, publisher);
                        prop_assert_eq!(found(&route), expected, "{}", topic);
                        prop_assert_eq!(route.lane, limits.lane(topic));
                        prop_assert!(routes.bytes <= bytes_max);
                        let kept: usize = routes.places.iter().flatten().map(|route| route.bytes()).sum();
                        prop_assert_eq!(routes.bytes, kept);
                    }
                }
            }
        }
    }

    #[test]
    fn ever_new_topics_take_no_more_than_their_bound() {
        let (limits, tree) = (Limits::default(), Tree::default());
        let mut routes = Routes::new(64, 64 << 10);
        for number in 0..10_000 {
            let topic = format!("{}/{number}", "x".repeat(number % 4_000));
            assert!(routes.of(&topic, None, &tree, &limits).hits.is_empty());
            assert!(routes.bytes <= 64 << 10 && routes.places.len() <= 64);
        }
        let again = routes.of("x", None, &tree, &limits);
        assert!(Arc::ptr_eq(&again, &routes.of("x", None, &tree, &limits)), "a topic is remembered");
    }
}
