//! What is wrong with the node itself, as retained messages of the alert lane: `wardline/alarms/{node}/{condition}`.
//!
//! An alarm is told when it begins, when its priority changes, and when it ends, which clears the topic. Who asks meanwhile
//! hears its text as it is then. What the journal says of the time before a restart counts, so that an alarm which has ended
//! meanwhile ends too, and one that goes on keeps the time at which it began.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// The journal's room runs short.
    JournalSpace,
    /// The disk is slow to sync.
    JournalSlow,
    /// What waits for somebody comes near its quota, or has gone beyond it.
    Queues,
}

impl Condition {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::JournalSpace, Self::JournalSlow, Self::Queues];

    /// As it stands in topics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JournalSpace => "journal-space",
            Self::JournalSlow => "journal-slow",
            Self::Queues => "queues",
        }
    }
}

/// How soon somebody is to act; in the words of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// To be looked at in working hours.
    Low,
    /// To be looked at soon: something is slower than it should be.
    Medium,
    /// At once: something is not done.
    High,
}

impl Priority {
    /// As it stands in payloads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// One alarm, as it stands in its topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The node that it is about.
    pub node: u16,
    /// What is wrong, as in the topic.
    pub condition: String,
    /// How soon somebody is to act.
    pub priority: Priority,
    /// When it began.
    pub since: Timestamp,
    /// When this was said.
    pub at: Timestamp,
    /// What it means and what to do, for people.
    pub text: String,
}

/// What is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its topic.
    pub topic: String,
    /// The alarm in JSON; empty when it has ended.
    pub payload: Vec<u8>,
}

/// The alarms of one node.
#[derive(Debug)]
pub struct Alarms {
    node: u16,
    active: BTreeMap<Condition, Alarm>,
}

impl Alarms {
    /// Those of `node`, going on from what is `retained` by topic.
    pub fn new(node: u16, retained: impl Fn(&str) -> Option<Vec<u8>>) -> Self {
        let active = Condition::ALL.into_iter().filter_map(|condition| {
            let payload = retained(&topic(node, condition))?;
            let unknown = || Alarm {
                node,
                condition: condition.as_str().to_owned(),
                priority: Priority::Low,
                since: Timestamp::UNIX_EPOCH,
                at: Timestamp::UNIX_EPOCH,
                text: String::new(),
            };
            Some((condition, serde_json::from_slice(&payload).unwrap_or_else(|_| unknown())))
        });
        Self { node, active: active.collect() }
    }

    /// Those that are active now.
    pub fn active(&self) -> impl Iterator<Item = &Alarm> {
        self.active.values()
    }

    /// The priority of `condition`, where it is active.
    pub fn priority(&self, condition: Condition) -> Option<Priority> {
        self.active.get(&condition).map(|alarm| alarm.priority)
    }

    /// `condition` has this priority and text now, or `None`: it is not there. Returns what is to be published, if anything:
    /// numbers that change are no news.
    pub fn set(
        &mut self,
        condition: Condition,
        state: Option<(Priority, String)>,
        now: Timestamp,
    ) -> Option<Told> {
        let topic = topic(self.node, condition);
        let before = self.active.get_mut(&condition);
        let Some((priority, text)) = state else {
            before?;
            tracing::info!(alarm = condition.as_str(), "the alarm has ended");
            self.active.remove(&condition);
            return Some(Told { topic, payload: Vec::new() });
        };
        let since = before.as_ref().map_or(now, |before| before.since);
        if let Some(before) = before.filter(|before| before.priority == priority) {
            (before.at, before.text) = (now, text);
            return None;
        }
        tracing::warn!(alarm = condition.as_str(), ?priority, "{text}");
        let alarm = Alarm {
            node: self.node,
            condition: condition.as_str().to_owned(),
            priority,
            since,
            at: now,
            text,
        };
        // Numbers and text always have a JSON form.
        let payload = serde_json::to_vec(&alarm).unwrap_or_default();
        self.active.insert(condition, alarm);
        Some(Told { topic, payload })
    }
}

fn topic(node: u16, condition: Condition) -> String {
    format!("wardline/alarms/{node}/{}", condition.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn state(priority: Priority) -> Option<(Priority, String)> {
        Some((priority, "text".to_owned()))
    }

    fn read(told: &Told) -> Alarm {
        serde_json::from_slice(&told.payload).unwrap()
    }

    #[test]
    fn an_alarm_is_told_when_it_begins_changes_and_ends_and_never_twice() {
        let mut alarms = Alarms::new(1, |_| None);
        let condition = Condition::JournalSpace;
        assert_eq!(alarms.set(condition, None, at(0)), None);
        let begun = alarms.set(condition, state(Priority::Low), at(1)).unwrap();
        assert_eq!(begun.topic, "wardline/alarms/1/journal-space");
        let moved = (Priority::Low, "other numbers".to_owned());
        assert_eq!(alarms.set(condition, Some(moved), at(2)), None);
        let now = alarms.active().next().unwrap();
        assert_eq!((now.since, now.at, &*now.text), (at(1), at(2), "other numbers"));
        let worse = read(&alarms.set(condition, state(Priority::High), at(3)).unwrap());
        assert_eq!((worse.since, worse.at, worse.priority), (at(1), at(3), Priority::High));
        assert_eq!(alarms.set(Condition::JournalSlow, None, at(4)), None);
        assert_eq!(alarms.active().count(), 1);
        assert!(alarms.set(condition, None, at(5)).unwrap().payload.is_empty());
        assert_eq!(alarms.set(condition, None, at(6)), None);
    }

    #[test]
    fn a_restart_neither_forgets_nor_repeats_an_alarm() {
        let condition = Condition::JournalSpace;
        let before = Alarms::new(1, |_| None).set(condition, state(Priority::Medium), at(1)).unwrap();
        let again = || {
            let before = before.clone();
            Alarms::new(1, move |topic| (topic == before.topic).then(|| before.payload.clone()))
        };
        assert_eq!(again().set(condition, state(Priority::Medium), at(9)), None);
        assert_eq!(read(&again().set(condition, state(Priority::High), at(9)).unwrap()).since, at(1));
        assert!(again().set(condition, None, at(9)).unwrap().payload.is_empty());
        let mut garbled = Alarms::new(1, |_| Some(b"x".to_vec()));
        assert!(garbled.set(condition, None, at(9)).is_some(), "what cannot be read is cleared");
    }
}
