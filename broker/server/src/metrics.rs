//! What the node measures, in Prometheus' terms. Names begin with `wardline_` and end with their unit.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use wardline_core::{Counters, Limit};
use wardline_journal::Space;

use crate::memory;

/// A counter of the core, how to tell it in words, and where to read it.
type Counted = (&'static str, &'static str, fn(&Counters) -> u64);
/// The same for what the core holds now.
type Present = (&'static str, &'static str, fn(&Counters) -> usize);

const COUNTED: [Counted; 14] = [
    ("packets_received", "Packets from clients that were let in", |counters| counters.packets_received),
    ("packets_sent", "Packets to clients that were let in", |counters| counters.packets_sent),
    ("publishes_received", "Publishes from clients, accepted or not", |counters| counters.publishes_received),
    ("clients_connected", "Clients that were let in", |counters| counters.connects),
    ("sessions_expired", "Sessions that ended because their expiry had passed", |counters| {
        counters.sessions_expired
    }),
    ("publishes_accepted", "Publishes accepted", |counters| counters.publishes_accepted),
    ("publishes_denied", "Publishes denied", |counters| counters.publishes_denied),
    ("publishes_sent", "Publishes written to subscribers", |counters| counters.publishes_sent),
    ("publishes_shed", "QoS 0 telemetry shed for a slow subscriber", |counters| counters.shed),
    ("publishes_overflowed", "QoS 1 and 2 telemetry a full session did not get", |counters| {
        counters.overflowed
    }),
    ("publishes_expired", "Publishes that expired before delivery", |counters| counters.expired),
    ("publishes_withheld", "Publishes a denial kept from a subscriber", |counters| counters.withheld),
    ("publishes_unreadable", "Times that the journal did not give back what a client is owed", |counters| {
        counters.unreadable
    }),
    ("publishes_too_large", "Publishes larger than a subscriber takes", |counters| counters.too_large),
];

const PRESENT: [Present; 9] = [
    ("connections", "Clients connected now", |counters| counters.connections),
    ("sessions", "Sessions now, connected or not", |counters| counters.sessions),
    ("subscriptions", "Subscriptions now, those shared included", |counters| counters.subscriptions),
    ("shared_subscriptions", "Shared subscriptions now", |counters| counters.shared_subscriptions),
    ("retained_messages", "Retained messages now", |counters| counters.retained),
    ("retained_bytes", "Bytes of them", |counters| counters.retained_bytes),
    ("queued_messages", "Publishes waiting for sessions now", |counters| counters.queued_messages),
    ("queued_bytes", "Bytes of them", |counters| counters.queued_bytes),
    ("publishes_in_flight", "Publishes sent to subscribers and not acknowledged", |counters| {
        counters.in_flight
    }),
];

/// What the node and the audit store are asked for when the measurements are told.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Of the core.
    pub counters: Counters,
    /// Of the core: by listener, how often a limit was reached since the start.
    pub limits_reached: Vec<(Arc<str>, Limit, u64)>,
    /// The offset that the next record will get.
    pub next_offset: u64,
    /// Records the audit store does not have yet.
    pub audit_lag: u64,
    /// Of the journal.
    pub space: Space,
    /// How many of the node's own alarms are active.
    pub alarms: usize,
}

/// A limit of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
    listener: String,
}

/// The node's measurements.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// From reading a publish off its socket to having written the alert it led to onto the pager's socket, seconds.
    pub received_to_alert: Histogram,
    /// From reading a publish off its socket to its record being durable, seconds.
    pub received_to_durable: Histogram,
    /// How long the journal's syncs take, seconds.
    pub journal_sync: Histogram,
    /// Times that telemetry was made to wait because the journal has no room for it.
    pub telemetry_withheld: Counter,
    /// Network connections that were refused before or at CONNECT.
    pub refused: Counter,
    /// Packets that could not be decoded.
    pub malformed: Counter,
    /// Network connections accepted, whatever became of them.
    pub sockets: Counter,
    /// Bytes of MQTT read from clients, without what TLS and WebSocket add.
    pub bytes_received: Counter,
    /// Bytes of MQTT written to clients.
    pub bytes_sent: Counter,
    /// How long the broker was held up by each snapshot, seconds.
    pub snapshot_pause: Histogram,
    /// Bytes of the newest snapshot that was taken since the start.
    pub snapshot_bytes: Gauge,
    limits_reached: Family<LimitLabels, Counter>,
    counted: [Counter; COUNTED.len()],
    present: [Gauge; PRESENT.len()],
    resident_memory: Gauge,
    journal_offset: Gauge,
    journal_stored: Gauge,
    journal_quota: Gauge,
    journal_room: Gauge,
    journal_pressure: Gauge,
    alarms: Gauge,
    audit_kept: Gauge,
    audit_lag: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("wardline");
        let received_to_alert = histogram(
            &mut registry,
            "publish_received_to_alert_written",
            "From reading a publish to having written the alert it led to",
        );
        let received_to_durable = histogram(
            &mut registry,
            "publish_received_to_durable",
            "From reading a publish to its record being durable",
        );
        let journal_sync = histogram(&mut registry, "journal_sync", "A sync of the journal to its disk");
        let snapshot_pause =
            histogram(&mut registry, "snapshot_pause", "How long the broker was held up by a snapshot");
        let snapshot_bytes = Gauge::default();
        registry.register_with_unit(
            "snapshot",
            "Size of the newest snapshot taken since the start",
            Unit::Bytes,
            snapshot_bytes.clone(),
        );
        let refused =
            counter(&mut registry, "connections_refused", "Connections refused before or at CONNECT");
        let malformed = counter(&mut registry, "packets_malformed", "Packets that could not be decoded");
        let limits_reached = Family::default();
        registry.register(
            "limit_reached",
            "How often a limit was reached by the clients of a listener",
            limits_reached.clone(),
        );
        let resident_memory = Gauge::default();
        registry.register_with_unit(
            "resident_memory",
            "Memory the process has",
            Unit::Bytes,
            resident_memory.clone(),
        );
        Self {
            snapshot_pause,
            snapshot_bytes,
            received_to_alert,
            received_to_durable,
            journal_sync,
            telemetry_withheld: counter(
                &mut registry,
                "telemetry_withheld",
                "Times that telemetry was made to wait because the journal has no room for it",
            ),
            refused,
            malformed,
            sockets: counter(&mut registry, "connections_accepted", "Network connections accepted"),
            bytes_received: bytes(&mut registry, "received", "MQTT read from clients"),
            bytes_sent: bytes(&mut registry, "sent", "MQTT written to clients"),
            limits_reached,
            counted: COUNTED.map(|(name, help, _)| counter(&mut registry, name, help)),
            present: PRESENT.map(|(name, help, _)| gauge(&mut registry, name, help)),
            resident_memory,
            journal_offset: gauge(
                &mut registry,
                "journal_next_offset",
                "The offset that the next record will get",
            ),
            journal_stored: sized(&mut registry, "journal_stored", "What the journal has written and keeps"),
            journal_quota: sized(&mut registry, "journal_quota", "What the journal should stay within"),
            journal_room: sized(&mut registry, "journal_room", "What quota and disk leave for the journal"),
            journal_pressure: gauge(
                &mut registry,
                "journal_pressure",
                "0: room enough, 1: advisory, 2: telemetry is slowed, 3: telemetry is withheld",
            ),
            alarms: gauge(&mut registry, "alarms", "Alarms about the node itself, active now"),
            audit_kept: gauge(
                &mut registry,
                "audit_kept",
                "1: an audit record is kept, 0: it is switched off",
            ),
            audit_lag: gauge(&mut registry, "audit_lag_records", "Records the audit store does not have yet"),
            registry,
        }
    }

    /// Names a listener: its limits are told from now on, as never reached.
    pub fn name_listener(&self, listener: &str) {
        for limit in Limit::ALL {
            self.limit(limit, listener);
        }
    }

    /// Tells whether an audit record is kept.
    pub fn audit(&self, is_kept: bool) {
        self.audit_kept.set(is_kept.into());
    }

    /// A limit was reached outside of the core, which counts its own.
    pub fn limit_reached(&self, limit: Limit, listener: &str) {
        self.limit(limit, listener).inc();
    }

    fn limit(&self, limit: Limit, listener: &str) -> Counter {
        let labels = LimitLabels { limit: limit.as_str(), listener: listener.to_owned() };
        self.limits_reached.get_or_create_owned(&labels)
    }

    /// The exposition text, brought up to date by what was observed now.
    pub fn text(&self, observed: &Observed) -> String {
        let counters = &observed.counters;
        for (counter, (_, _, read)) in self.counted.iter().zip(COUNTED) {
            raise(counter, read(counters));
        }
        for (gauge, (_, _, read)) in self.present.iter().zip(PRESENT) {
            set(gauge, read(counters));
        }
        for (listener, limit, count) in &observed.limits_reached {
            raise(&self.limit(*limit, listener), *count);
        }

        if let Some(memory) = memory::used() {
            set(&self.resident_memory, memory.resident_bytes);
        }
        set(&self.journal_offset, observed.next_offset);
        set(&self.journal_stored, observed.space.used_bytes);
        set(&self.journal_quota, observed.space.quota_bytes);
        set(&self.journal_room, observed.space.room_bytes);
        set(&self.journal_pressure, observed.space.pressure as u8);
        set(&self.alarms, observed.alarms as u64);
        set(&self.audit_lag, observed.audit_lag);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Brings a counter up to what somebody else has counted.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn set(gauge: &Gauge, value: impl TryInto<i64>) {
    gauge.set(value.try_into().unwrap_or(i64::MAX));
}

fn bytes(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
    counter
}

fn sized(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
    gauge
}

fn histogram(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    // 20 us to about 10 s, each bucket twice the one before.
    let histogram = Histogram::new(exponential_buckets(20e-6, 2.0, 20));
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}
