//! What the node measures, in Prometheus' terms. Names begin with `wardline_` and end with their unit.

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use wardline_core::Counters;

/// A counter of the core, how to tell it in words, and where to read it.
type Counted = (&'static str, &'static str, fn(&Counters) -> u64);
/// The same for what the core holds now.
type Present = (&'static str, &'static str, fn(&Counters) -> usize);

const COUNTED: [Counted; 8] = [
    ("publishes_accepted", "Publishes accepted", |counters| counters.publishes_accepted),
    ("publishes_denied", "Publishes denied", |counters| counters.publishes_denied),
    ("publishes_sent", "Publishes written to subscribers", |counters| counters.publishes_sent),
    ("publishes_shed", "QoS 0 telemetry shed for a slow subscriber", |counters| counters.shed),
    ("publishes_overflowed", "QoS 1 and 2 telemetry a full session did not get", |counters| {
        counters.overflowed
    }),
    ("publishes_expired", "Publishes that expired before delivery", |counters| counters.expired),
    ("publishes_withheld", "Publishes a denial kept from a subscriber", |counters| counters.withheld),
    ("publishes_too_large", "Publishes larger than a subscriber takes", |counters| counters.too_large),
];

const PRESENT: [Present; 4] = [
    ("connections", "Clients connected now", |counters| counters.connections),
    ("sessions", "Sessions now, connected or not", |counters| counters.sessions),
    ("subscriptions", "Subscriptions now", |counters| counters.subscriptions),
    ("retained_messages", "Retained messages now", |counters| counters.retained),
];

/// The node's measurements.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// From reading a publish off its socket to having written the alert it led to onto the pager's socket, seconds.
    pub received_to_alert: Histogram,
    /// From reading a publish off its socket to its record being durable, seconds.
    pub received_to_durable: Histogram,
    /// Network connections that were refused before or at CONNECT.
    pub refused: Counter,
    /// Packets that could not be decoded.
    pub malformed: Counter,
    counted: [Counter; COUNTED.len()],
    present: [Gauge; PRESENT.len()],
    journal_offset: Gauge,
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
        let refused =
            counter(&mut registry, "connections_refused", "Connections refused before or at CONNECT");
        let malformed = counter(&mut registry, "packets_malformed", "Packets that could not be decoded");
        Self {
            received_to_alert,
            received_to_durable,
            refused,
            malformed,
            counted: COUNTED.map(|(name, help, _)| counter(&mut registry, name, help)),
            present: PRESENT.map(|(name, help, _)| gauge(&mut registry, name, help)),
            journal_offset: gauge(
                &mut registry,
                "journal_next_offset",
                "The offset that the next record will get",
            ),
            audit_lag: gauge(&mut registry, "audit_lag_records", "Records the audit store does not have yet"),
            registry,
        }
    }

    /// The exposition text, with the core's counters, the journal's next offset and the audit lag in records as they are now.
    pub fn text(&self, counters: &Counters, next_offset: u64, audit_lag: u64) -> String {
        for (counter, (_, _, read)) in self.counted.iter().zip(COUNTED) {
            counter.inc_by(read(counters).saturating_sub(counter.get()));
        }
        for (gauge, (_, _, read)) in self.present.iter().zip(PRESENT) {
            gauge.set(i64::try_from(read(counters)).unwrap_or(i64::MAX));
        }
        self.journal_offset.set(i64::try_from(next_offset).unwrap_or(i64::MAX));
        self.audit_lag.set(i64::try_from(audit_lag).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
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
