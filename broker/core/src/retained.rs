//! The retained message of each topic.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use wardline_wire::topic;

use crate::stored::Stored;

/// No session's: it stays when the session of its publisher ends [MQTT3-3.1.2-7].
#[derive(Debug, Default)]
pub(crate) struct Retained {
    /// Ordered, so that a filter's literal beginning bounds the search.
    by_topic: BTreeMap<Box<str>, Arc<Stored>>,
    /// Of the payloads.
    bytes: usize,
}

impl Retained {
    /// Keeps `stored`, or forgets the topic's message if the payload is empty [MQTT-3.3.1-6] [MQTT-3.3.1-7].
    pub(crate) fn keep(&mut self, stored: &Arc<Stored>) {
        let name: &str = &stored.publish.topic;
        let before = if stored.publish.payload.is_empty() {
            self.by_topic.remove(name)
        } else {
            self.bytes += stored.publish.payload.len();
            self.by_topic.insert(name.into(), Arc::clone(stored))
        };
        self.bytes -= before.map_or(0, |before| before.publish.payload.len());
    }

    /// All that `filter` matches, in topic order.
    pub(crate) fn matching(&self, filter: &str) -> Vec<Arc<Stored>> {
        if !filter.contains(['+', '#']) {
            return self.by_topic.get(filter).cloned().into_iter().collect();
        }
        let wildcard = filter.find(['+', '#']).unwrap_or(filter.len());
        // `a/#` also matches `a`, which sorts before `a/`.
        let literal = filter[..wildcard].trim_end_matches('/');
        self.by_topic
            .range::<str, _>((Bound::Included(literal), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(literal))
            .filter(|(name, _)| topic::matches(filter, name))
            .map(|(_, stored)| Arc::clone(stored))
            .collect()
    }

    /// All but the node's own counters, which the journal does not have either.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.by_topic.values().filter(|stored| stored.offset.is_some())
    }

    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Bytes of all payloads.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
