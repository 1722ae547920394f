//! The `$SYS` tree: the broker's counters as retained messages, named as operators of MQTT brokers know them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use wardline_core::Counters;
use wardline_journal::Space;

use crate::{
    clock,
    load::{Load, SPANS},
    memory::{self, Memory},
    node::Node,
};

/// What every topic of the tree begins with.
pub const ROOT: &str = "$SYS/broker/";

/// What the tree is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was taken.
    pub at: Timestamp,
    /// Of the core.
    pub counters: Counters,
    /// Bytes of MQTT read from clients since the start.
    pub bytes_received: u64,
    /// Bytes of MQTT written to them.
    pub bytes_sent: u64,
    /// Network connections accepted since the start.
    pub sockets: u64,
    /// Of the journal.
    pub space: Space,
    /// Of the process, where the system tells.
    pub memory: Option<Memory>,
}

/// A counter of which the load is told, and where to read it.
type Loaded = (&'static str, fn(&Sample) -> u64);

const LOADED: [Loaded; 9] = [
    ("connections", |sample| sample.counters.connects),
    ("messages/received", |sample| sample.counters.packets_received),
    ("messages/sent", |sample| sample.counters.packets_sent),
    ("publish/received", |sample| sample.counters.publishes_received),
    ("publish/sent", |sample| sample.counters.publishes_sent),
    ("publish/dropped", |sample| dropped(&sample.counters)),
    ("bytes/received", |sample| sample.bytes_received),
    ("bytes/sent", |sample| sample.bytes_sent),
    ("sockets", |sample| sample.sockets),
];

/// The tree as it was told last.
#[derive(Debug)]
pub struct Sys {
    started: Timestamp,
    last: Timestamp,
    loads: [Load; LOADED.len()],
    told: HashMap<String, String>,
}

impl Sys {
    /// Of a broker that started then.
    pub fn new(started: Timestamp) -> Self {
        Self { started, last: started, loads: Default::default(), told: HashMap::new() }
    }

    /// The topics whose value is another than it was, with that value.
    pub fn changed(&mut self, sample: &Sample) -> Vec<(String, String)> {
        let elapsed = Duration::try_from(sample.at.duration_since(self.last)).unwrap_or_default();
        self.last = sample.at;
        let mut changed = self.values(sample);
        for (load, (name, read)) in self.loads.iter_mut().zip(LOADED) {
            load.observe(read(sample), elapsed);
            for (average, (_, span)) in load.per_minute().into_iter().zip(SPANS) {
                changed.push((format!("load/{name}/{span}"), format!("{average:.2}")));
            }
        }
        changed.retain(|(name, value)| self.told.get(name) != Some(value));
        self.told.extend(changed.iter().cloned());
        for (name, _) in &mut changed {
            name.insert_str(0, ROOT);
        }
        changed
    }

    fn values(&self, sample: &Sample) -> Vec<(String, String)> {
        let Sample { at, counters, .. } = sample;
        let uptime = at.duration_since(self.started).as_secs().max(0);
        let away = counters.sessions.saturating_sub(counters.connections) as u64;
        let stored = (counters.retained + counters.queued_messages) as u64;
        let numbers = [
            ("clients/connected", counters.connections as u64),
            ("clients/active", counters.connections as u64),
            ("clients/disconnected", away),
            ("clients/inactive", away),
            ("clients/total", counters.sessions as u64),
            ("clients/maximum", counters.connections_peak as u64),
            ("clients/expired", counters.sessions_expired),
            ("messages/received", counters.packets_received),
            ("messages/sent", counters.packets_sent),
            ("messages/stored", stored),
            ("publish/messages/received", counters.publishes_received),
            ("publish/messages/sent", counters.publishes_sent),
            ("publish/messages/dropped", dropped(counters)),
            ("publish/messages/denied", counters.publishes_denied),
            ("publish/messages/shed", counters.shed),
            ("publish/messages/overflowed", counters.overflowed),
            ("publish/messages/expired", counters.expired),
            ("publish/messages/too_large", counters.too_large),
            ("publish/messages/withheld", counters.withheld),
            ("publish/bytes/received", counters.publish_bytes_received),
            ("publish/bytes/sent", counters.publish_bytes_sent),
            ("bytes/received", sample.bytes_received),
            ("bytes/sent", sample.bytes_sent),
            ("retained messages/count", counters.retained as u64),
            ("subscriptions/count", counters.subscriptions as u64),
            ("shared_subscriptions/count", counters.shared_subscriptions as u64),
            ("store/messages/count", stored),
            ("store/messages/bytes", (counters.retained_bytes + counters.queued_bytes) as u64),
            ("store/journal/bytes", sample.space.used_bytes),
            ("store/journal/quota", sample.space.quota_bytes),
            ("store/journal/room", sample.space.room_bytes),
        ];
        let memory = sample.memory.into_iter().flat_map(|memory| {
            [("heap/current", memory.resident_bytes), ("heap/maximum", memory.resident_bytes_peak)]
        });
        let words = [
            ("version", format!("wardline {}", env!("CARGO_PKG_VERSION"))),
            ("uptime", format!("{uptime} seconds")),
            ("store/journal/pressure", sample.space.pressure.as_str().to_owned()),
        ];
        let numbers = numbers.into_iter().chain(memory).map(|(name, number)| (name, number.to_string()));
        words.into_iter().chain(numbers).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Publishes for which a subscriber's queue had no room.
fn dropped(counters: &Counters) -> u64 {
    counters.shed + counters.overflowed
}

/// Brings the tree up to date every `every` until the task ends.
pub async fn run(node: Arc<Node>, every: Duration) {
    let mut sys = Sys::new(clock::now());
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let metrics = node.metrics();
        let sample = Sample {
            at: clock::now(),
            counters: node.counters(),
            bytes_received: metrics.bytes_received.get(),
            bytes_sent: metrics.bytes_sent.get(),
            sockets: metrics.sockets.get(),
            space: node.space(),
            memory: memory::used(),
        };
        node.publish_unrecorded(sys.changed(&sample));
    }
}

#[cfg(test)]
mod tests {
    use wardline_journal::Pressure;

    use super::*;

    fn sample(at: Timestamp, counters: Counters) -> Sample {
        let space = Space {
            used_bytes: 1,
            quota_bytes: 10,
            free_bytes: None,
            room_bytes: 9,
            capacity_bytes: 10,
            pressure: Pressure::Normal,
        };
        Sample { at, counters, bytes_received: 0, bytes_sent: 0, sockets: 0, space, memory: None }
    }

    #[test]
    fn only_what_has_changed_is_told_again() {
        let started = Timestamp::from_second(1_790_000_000).unwrap();
        let mut sys = Sys::new(started);
        let first = sys.changed(&sample(started, Counters::default()));
        assert!(first.iter().all(|(topic, _)| topic.starts_with(ROOT)));
        assert!(first.iter().any(|(topic, _)| topic == "$SYS/broker/load/bytes/sent/15min"));
        let counters = Counters { shed: 2, overflowed: 1, publishes_denied: 5, ..Counters::default() };
        let next = sys.changed(&sample(started + Duration::from_secs(60), counters));
        let next: Vec<_> =
            next.iter().map(|(topic, value)| (topic.trim_start_matches(ROOT), value.as_str())).collect();
        let expected = [
            ("uptime", "60 seconds"),
            ("publish/messages/dropped", "3"),
            ("publish/messages/denied", "5"),
            ("publish/messages/shed", "2"),
            ("publish/messages/overflowed", "1"),
            // Three in the minute that has passed.
            ("load/publish/dropped/1min", "1.90"),
            ("load/publish/dropped/5min", "0.54"),
            ("load/publish/dropped/15min", "0.19"),
        ];
        assert_eq!(next, expected);
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let started = Timestamp::from_second(1_790_000_000).unwrap();
        let mut sys = Sys::new(started);
        let changed = sys.changed(&sample(started - Duration::from_secs(5), Counters::default()));
        assert!(changed.contains(&(format!("{ROOT}uptime"), "0 seconds".to_owned())));
    }
}
