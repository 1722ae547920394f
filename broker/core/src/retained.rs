//! The retained message of each topic.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use jiff::Timestamp;
use wardline_wire::{Publish, ReasonCode, topic};

use crate::{
    gate::Denial,
    limits::{Limit, Limits},
    stored::{self, Stored},
};

/// No session's: it stays when the session of its publisher ends [MQTT3-3.1.2-7].
#[derive(Debug, Default)]
pub(crate) struct Retained {
    /// Ordered, so that a filter's literal beginning bounds the search.
    by_topic: BTreeMap<Box<str>, Arc<Stored>>,
    /// Topics whose message expires, the next one first.
    by_expiry: BTreeSet<(Timestamp, Box<str>)>,
    bytes: usize,
}

impl Retained {
    /// Keeps `stored`, or forgets the topic's message if the payload is empty [MQTT-3.3.1-6] [MQTT-3.3.1-7].
    pub(crate) fn keep(&mut self, stored: &Arc<Stored>) {
        let name: &str = &stored.publish.topic;
        self.forget(name);
        if stored.publish.payload.is_empty() {
            return;
        }
        self.bytes += stored.bytes as usize;
        self.by_topic.insert(name.into(), Arc::clone(stored));
        if let Some(at) = stored.expires_at {
            self.by_expiry.insert((at, name.into()));
        }
    }

    /// Whether a client may have `publish` kept; the limit that it would pass, if not. Only what makes the whole more is held
    /// against a limit, and never what the journal says was kept.
    pub(crate) fn check(
        &mut self,
        publish: &Publish,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<(), (Limit, Denial)> {
        if !publish.retain || publish.payload.is_empty() {
            return Ok(());
        }
        self.forget_expired(now);
        let before = self.by_topic.get(&*publish.topic).map(|stored| stored.bytes);
        let bytes = stored::bytes(publish);
        let (limit, maximum) = if before.is_none() && self.by_topic.len() >= limits.retained_messages_max {
            (Limit::RetainedMessages, limits.retained_messages_max)
        } else {
            let more = bytes.saturating_sub(before.unwrap_or(0)) as usize;
            if more == 0 || self.bytes.saturating_add(more) <= limits.retained_bytes_max {
                return Ok(());
            }
            (Limit::RetainedBytes, limits.retained_bytes_max)
        };
        let text = format!("{} of the node would be more than {maximum}", limit.as_str());
        Err((limit, Denial { reason: ReasonCode::QuotaExceeded, text }))
    }

    /// What nobody is sent any more takes no room from others.
    fn forget_expired(&mut self, now: Timestamp) {
        while self.by_expiry.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, name)) = self.by_expiry.pop_first()
        {
            self.forget(&name);
        }
    }

    fn forget(&mut self, name: &str) {
        let Some((name, stored)) = self.by_topic.remove_entry(name) else { return };
        self.bytes -= stored.bytes as usize;
        if let Some(at) = stored.expires_at {
            self.by_expiry.remove(&(at, name));
        }
    }

    /// All that `filter` matches, in topic order; what has expired may be among it.
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

    /// Bytes of all: topics, payloads and properties.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
