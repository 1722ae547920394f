//! What a run tells: the same names in JSON and in the table, units in the names.

use serde::Serialize;
use wardline_wire::{QoS, Version};

use crate::meter::Latencies;
use crate::plan::{Plan, Scenario};
use crate::proc::{Ticks, Usage};

/// Messages in a million.
const MILLION: f64 = 1e6;

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Whether everything asked for was done: nothing lost, refused or unsent, and no connection ended early.
    pub complete: bool,
    /// What was not, in words; empty if `complete`.
    pub troubles: Vec<String>,
    /// What was asked for.
    pub load: Load,
    /// Messages of the whole run; `None` where there were only connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Messages>,
    /// Messages to the subscriber that did not read until the publishers had ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slow>,
    /// What passed while it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measurement>,
    /// From when it was due at a fixed rate to being written: what the load itself waited for a processor, or for a broker that
    /// takes no more. It is part of every latency below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_late_us: Option<Percentiles>,
    /// From sending, or from when it was due at a fixed rate, to a subscriber; in a ward from a reading to its alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Percentiles>,
    /// From sending, or from when it was due at a fixed rate, to PUBACK or PUBCOMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledgement_us: Option<Percentiles>,
    /// Connections that were opened and held; `None` where there were messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    /// The broker's process; `None` if it is not on this machine, or not ours to look at.
    pub broker: Option<Process>,
    /// The process of the load, while it was measured.
    pub load_cpu_seconds: f64,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "as in `Plan`")]
pub struct Load {
    pub scenario: String,
    pub url: String,
    pub mqtt: &'static str,
    pub threads: usize,
    pub qos: u8,
    pub payload_bytes: usize,
    pub publishers: u32,
    pub subscribers: u32,
    pub topics: u32,
    pub subscriptions: u32,
    pub window: u16,
    pub rate_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alerts_per_second: Option<f64>,
    pub pause_us: u64,
    pub warmup_seconds: f64,
    pub seconds: f64,
}

/// Messages, from the first to the last. In a ward readings are sent, and their alerts due and delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// Written.
    pub sent: u64,
    /// Due at the fixed rate, and not sent before it was given up.
    pub unsent: u64,
    /// With success; 0 at QoS 0.
    pub acknowledged: u64,
    /// Acknowledged with a reason that says no.
    pub refused: u64,
    /// Deliveries due: those sent and not refused, to each subscriber that wants them.
    pub due: u64,
    /// Deliveries of which each is another.
    pub delivered: u64,
    /// Of those due, not delivered.
    pub lost: u64,
    /// Delivered another time.
    pub duplicated: u64,
    /// Delivered after a later one of the same publisher; of several topics that is no fault.
    pub out_of_order: u64,
    /// Came to a subscriber and were not of this run.
    pub foreign: u64,
}

/// What became of the messages to the slow subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "as in `Messages`")]
pub struct Slow {
    pub due: u64,
    pub delivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// From its first read to the last message.
    pub drain_seconds: f64,
}

/// What passed in the time that was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Measurement {
    pub seconds: f64,
    pub sent: u64,
    pub delivered: u64,
    pub sent_per_second: f64,
    pub delivered_per_second: f64,
}

/// Of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Percentiles {
    pub samples: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// Connections that were opened, and then held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Connections {
    /// Asked for.
    pub wanted: u32,
    /// Let in.
    pub opened: u64,
    /// Not let in, or ended while they were held.
    pub failed: u64,
    /// Until the last was opened.
    pub open_seconds: f64,
    /// While they were opened.
    pub opened_per_second: f64,
    /// From when it was due to CONNACK.
    pub connect_us: Percentiles,
    /// The broker's CPU time for opening, each.
    pub broker_cpu_ms_each: Option<f64>,
    /// The broker's CPU time while they were held and silent, all.
    pub broker_cpu_seconds_held: Option<f64>,
    /// The broker's memory, each: what it grew by.
    pub resident_bytes_each: Option<f64>,
}

/// The broker's process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Process {
    /// Its identifier.
    pub pid: u32,
    /// What it is called.
    pub name: String,
    /// In the time that was measured, user and system.
    pub cpu_seconds: f64,
    /// Of it, in the program.
    pub cpu_seconds_user: f64,
    /// Of it, in the kernel.
    pub cpu_seconds_system: f64,
    /// Deliveries for a second of its CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_per_cpu_second: Option<f64>,
    /// Its CPU for a million deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds_per_million_delivered: Option<f64>,
    /// Its CPU for a million publishes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds_per_million_sent: Option<f64>,
    /// Before anybody connected.
    pub resident_bytes_before: u64,
    /// At the end of the time that was measured, with all clients still there.
    pub resident_bytes_after: u64,
    /// By name of thread, most first.
    pub threads: Vec<Thread>,
}

/// Threads of one name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Thread {
    pub name: String,
    pub count: u32,
    pub cpu_seconds: f64,
}

impl Load {
    /// Of a plan.
    pub fn of(plan: &Plan, url: &str) -> Self {
        let messages = plan.scenario != Scenario::Connect;
        let if_messages = |number: u32| if messages { number } else { 0 };
        Self {
            scenario: plan.name.clone(),
            url: url.to_owned(),
            mqtt: match plan.version {
                Version::V31 => "3.1",
                Version::V311 => "3.1.1",
                Version::V5 => "5",
            },
            threads: plan.threads,
            qos: plan.qos as u8,
            payload_bytes: if messages { plan.payload_bytes } else { 0 },
            publishers: if_messages(plan.publishers),
            subscribers: if_messages(plan.subscribers + u32::from(plan.scenario == Scenario::Slow)),
            topics: match plan.scenario {
                Scenario::Pairs => plan.publishers,
                Scenario::Ward => plan.publishers.saturating_mul(plan.topics),
                _ => if_messages(plan.topics),
            },
            subscriptions: plan.subscriptions,
            window: plan.window,
            rate_per_second: plan.rate_per_second,
            alerts_per_second: (plan.scenario == Scenario::Ward).then_some(plan.alerts_per_second),
            pause_us: plan.pause.as_micros() as u64,
            warmup_seconds: plan.warmup.as_secs_f64(),
            seconds: plan.measured.as_secs_f64(),
        }
    }
}

impl Measurement {
    pub(crate) fn of(seconds: f64, sent: u64, delivered: u64) -> Self {
        let per_second = |count: u64| count as f64 / seconds;
        Self {
            seconds,
            sent,
            delivered,
            sent_per_second: per_second(sent),
            delivered_per_second: per_second(delivered),
        }
    }
}

impl Percentiles {
    /// `None` of no latencies.
    pub(crate) fn of(latencies: &Latencies) -> Option<Self> {
        (latencies.count() > 0).then(|| Self {
            samples: latencies.count(),
            p50: latencies.quantile_us(0.5),
            p90: latencies.quantile_us(0.9),
            p99: latencies.quantile_us(0.99),
            p99_9: latencies.quantile_us(0.999),
            max: latencies.quantile_us(1.0),
        })
    }
}

impl Process {
    /// From readings before anybody connected, and at both ends of what was measured.
    pub(crate) fn of(pid: u32, name: String, before: &Usage, begin: &Usage, end: &Usage) -> Self {
        let cpu = end.cpu.since(&begin.cpu);
        let threads = end.threads_since(begin).into_iter();
        let seconds = |user, system| Ticks { user, system }.seconds();
        Self {
            pid,
            name,
            cpu_seconds: cpu.seconds(),
            cpu_seconds_user: seconds(cpu.user, 0),
            cpu_seconds_system: seconds(0, cpu.system),
            resident_bytes_before: before.resident_bytes,
            resident_bytes_after: end.resident_bytes,
            threads: threads
                .map(|(name, count, ticks)| Thread { name, count, cpu_seconds: ticks.seconds() })
                .collect(),
            ..Self::default()
        }
    }

    /// With its cost of each message; none where nothing passed, or too little to be seen. In a ward the cost is not that
    /// of the few alerts.
    pub(crate) fn for_messages(mut self, measured: &Measurement, scenario: Scenario) -> Self {
        let per_million = |count: u64| {
            (count > 0).then(|| self.cpu_seconds * MILLION / count as f64).filter(|cost| *cost > 0.0)
        };
        let delivered = if scenario == Scenario::Ward { 0 } else { measured.delivered };
        self.cpu_seconds_per_million_delivered = per_million(delivered);
        self.cpu_seconds_per_million_sent = per_million(measured.sent);
        self.delivered_per_cpu_second = self.cpu_seconds_per_million_delivered.map(|cost| MILLION / cost);
        self
    }
}

impl Report {
    /// Looks what is not as it was asked for, and says so.
    pub(crate) fn judged(mut self, plan: &Plan, ended: u64, first_reason: Option<&str>) -> Self {
        let mut troubles = Vec::new();
        let mut trouble = |count: u64, what: &str| {
            if count > 0 {
                troubles.push(format!("{count} {what}"));
            }
        };
        if let Some(messages) = &self.messages {
            let what = if plan.scenario == Scenario::Ward { "alerts MISSING" } else { "deliveries LOST" };
            trouble(messages.lost, &format!("of {} {what}", messages.due));
            trouble(messages.refused, "publishes refused");
            trouble(messages.unsent, "publishes that were due never sent");
            trouble(
                messages.foreign,
                "messages received that are not of this run: is somebody else using these topics?",
            );
            if plan.qos != QoS::AtLeastOnce && plan.scenario != Scenario::Ward {
                trouble(messages.duplicated, "messages delivered again, which only QoS 1 allows");
            }
        }
        if let Some(slow) = &self.slow {
            trouble(slow.lost, &format!("of {} deliveries to the slow subscriber LOST", slow.due));
        }
        let reason = first_reason.unwrap_or("no reason is known");
        trouble(ended, &format!("connections failed or ended early; the first: {reason}"));
        self.complete = troubles.is_empty();
        self.troubles = troubles;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn what_was_lost_is_said() {
        let messages = Messages { due: 10, delivered: 7, lost: 3, duplicated: 1, ..Messages::default() };
        let report =
            Report { messages: Some(messages), ..Report::default() }.judged(&plan(), 1, Some("x: closed"));
        assert!(!report.complete);
        assert_eq!(report.troubles[0], "3 of 10 deliveries LOST");
        assert!(report.troubles[1].contains("again"));
        assert!(report.troubles[2].contains("x: closed"));
        let fine = Messages { due: 10, delivered: 10, ..Messages::default() };
        let report = Report { messages: Some(fine), ..Report::default() }.judged(&plan(), 0, None);
        assert!(report.complete && report.troubles.is_empty());
    }

    #[test]
    fn costs_are_for_each_message() {
        let process = Process { cpu_seconds: 2.0, ..Process::default() };
        let process = process.for_messages(&Measurement::of(10.0, 500_000, 1_000_000), Scenario::Flood);
        assert_eq!(process.delivered_per_cpu_second, Some(500_000.0));
        assert_eq!(process.cpu_seconds_per_million_delivered, Some(2.0));
        assert_eq!(process.cpu_seconds_per_million_sent, Some(4.0));
        let nothing = Process::default().for_messages(&Measurement::of(10.0, 0, 5), Scenario::Flood);
        assert_eq!((nothing.delivered_per_cpu_second, nothing.cpu_seconds_per_million_sent), (None, None));
    }
}
