//! What a run is: the scenario and its numbers, refused where they make no sense.

use std::time::Duration;

use wardline_wire::{QoS, Version, topic};

use crate::message::{STAMP_BYTES, TOPICS_MAX};
use crate::ward;

/// Connections of one run: more do not fit the ports of one address.
pub const CONNECTIONS_MAX: u32 = 60_000;
/// A payload is smaller than what a packet can hold by room for its topic.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// Threads of the load.
pub const THREADS_MAX: usize = 64;
/// Subscriptions beside those of the load.
pub const SUBSCRIPTIONS_MAX: u32 = 10_000_000;
/// Longest of each part of a run.
pub const SECONDS_MAX: u64 = 7 * 24 * 3_600;
/// Longest pause: a client that is away for longer does not keep up with a fast broker.
pub const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Messages or connections a second.
pub const RATE_MAX: f64 = 10e6;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Publishers as fast as they may, to subscribers that each want everything.
    Flood,
    /// Each publisher has a topic, and a subscriber, of its own.
    Pairs,
    /// As `Flood`, at a fixed rate.
    Rate,
    /// As `Flood` or `Rate`, and one subscriber more that does not read until the publishers have ended.
    Slow,
    /// Monitors publish readings at a fixed rate, and pagers hear of those beyond a limit: see [`ward`].
    Ward,
    /// Connections, at a fixed rate or as fast as they come, that are then held.
    Connect,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it is called in the report.
    pub name: String,
    /// What the clients do.
    pub scenario: Scenario,
    /// MQTT 3.1.1 or 5.
    pub version: Version,
    /// Of publishes and subscriptions.
    pub qos: QoS,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Connections that publish.
    pub publishers: u32,
    /// Connections that subscribe, the one that is slow not counted.
    pub subscribers: u32,
    /// Topics that the publishers take in turn; with [`Scenario::Pairs`] each has one, and this is not used; with
    /// [`Scenario::Ward`] signals of each device.
    pub topics: u32,
    /// Subscriptions that no message matches, held beside the others.
    pub subscriptions: u32,
    /// For each publisher: QoS 1 and 2, publishes not yet acknowledged; QoS 0, not yet delivered, and 0 is no limit.
    pub window: u16,
    /// Messages, or connections, a second, all together.
    pub rate_per_second: Option<f64>,
    /// Readings beyond a limit of [`Scenario::Ward`], of all devices together.
    pub alerts_per_second: f64,
    /// Connections of [`Scenario::Connect`].
    pub connections: u32,
    /// Load before anything is measured.
    pub warmup: Duration,
    /// What is measured; with [`Scenario::Connect`], how long the connections are held.
    pub measured: Duration,
    /// Threads of the load.
    pub threads: usize,
    /// How long a thread that has nothing to do stays away before it looks again, so that it need not be woken for each
    /// message; latencies are longer by as much.
    pub pause: Duration,
    /// Seconds; clients ping at half of it. 0: no keep-alive.
    pub keep_alive: u16,
    /// Beginning of all client identifiers, and first levels of all topics.
    pub prefix: String,
    /// The broker's process; `None`: whoever listens on the port, if that is on this machine.
    pub pid: Option<u32>,
}

/// Why a plan cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A number is out of its range.
    #[error("{what} is {range}")]
    Range {
        /// Which.
        what: &'static str,
        /// What it may be.
        range: String,
    },
    /// No room for the stamp.
    #[error(
        "a payload of {bytes} bytes cannot be measured: it begins with when it was sent, by whom and its number, which \
         are {STAMP_BYTES} bytes"
    )]
    PayloadTooSmall {
        /// What was asked for.
        bytes: usize,
    },
    /// It would be no topic.
    #[error(
        "'{prefix}' cannot be the beginning of topics: not empty, without + and #, and in a ward without /"
    )]
    Prefix {
        /// What was asked for.
        prefix: String,
    },
    /// Each publisher has its own subscriber.
    #[error("with pairs there are as many subscribers as publishers: {publishers}, not {subscribers}")]
    Unpaired {
        /// As asked for.
        publishers: u32,
        /// As asked for.
        subscribers: u32,
    },
    /// A rate is needed.
    #[error("this scenario needs a rate: say how many a second, with --rate")]
    NoRate,
    /// A condition has to end before it can begin again.
    #[error(
        "there is at most one alert for {} readings, and more than none: each of the {signals} signals of a device has \
         to come back within its limit before the next", 2 * .signals
    )]
    TooManyAlerts {
        /// Signals of a device.
        signals: u32,
    },
    /// QoS 1 and 2 have always one.
    #[error("a window of 0 is for QoS 0: at QoS 1 and 2 a publisher has at least one publish under way")]
    NoWindow,
}

impl Plan {
    /// Refuses what cannot be carried out.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), PlanError> {
        let range =
            |what, ok: bool, range: String| if ok { Ok(()) } else { Err(PlanError::Range { what, range }) };
        let from_1 =
            |what, value: u32, max: u32| range(what, (1..=max).contains(&value), format!("1 to {max}"));
        range(
            "the number of threads",
            (1..=THREADS_MAX).contains(&self.threads),
            format!("1 to {THREADS_MAX}"),
        )?;
        let short = |time: Duration| time <= Duration::from_secs(SECONDS_MAX);
        range(
            "the time",
            short(self.warmup) && short(self.measured),
            format!("at most {SECONDS_MAX} seconds"),
        )?;
        range("the pause", self.pause <= PAUSE_MAX, format!("at most {} us", PAUSE_MAX.as_micros()))?;
        if let Some(rate) = self.rate_per_second {
            range("the rate", rate > 0.0 && rate <= RATE_MAX, format!("above 0 and at most {RATE_MAX}"))?;
        }
        if !topic::is_valid_name(&self.prefix) {
            return Err(PlanError::Prefix { prefix: self.prefix.clone() });
        }
        if self.scenario == Scenario::Connect {
            return from_1("the number of connections", self.connections, CONNECTIONS_MAX);
        }
        from_1("the number of publishers", self.publishers, CONNECTIONS_MAX)?;
        from_1("the number of subscribers", self.subscribers, CONNECTIONS_MAX)?;
        from_1("the number of topics", self.topics, TOPICS_MAX)?;
        range(
            "the number of subscriptions",
            self.subscriptions <= SUBSCRIPTIONS_MAX,
            format!("at most {SUBSCRIPTIONS_MAX}"),
        )?;
        range("the measured time", !self.measured.is_zero(), "above 0".to_owned())?;
        range(
            "the payload",
            self.payload_bytes <= PAYLOAD_BYTES_MAX,
            format!("at most {PAYLOAD_BYTES_MAX} bytes"),
        )?;
        if self.payload_bytes < STAMP_BYTES {
            return Err(PlanError::PayloadTooSmall { bytes: self.payload_bytes });
        }
        if self.scenario == Scenario::Pairs && self.publishers != self.subscribers {
            let (publishers, subscribers) = (self.publishers, self.subscribers);
            return Err(PlanError::Unpaired { publishers, subscribers });
        }
        if matches!(self.scenario, Scenario::Rate | Scenario::Ward) && self.rate_per_second.is_none() {
            return Err(PlanError::NoRate);
        }
        if self.scenario == Scenario::Ward {
            self.check_ward()?;
        }
        if self.window == 0 && self.qos != QoS::AtMostOnce {
            return Err(PlanError::NoWindow);
        }
        Ok(())
    }

    fn check_ward(&self) -> Result<(), PlanError> {
        let signals = ward::SIGNALS.len() as u32;
        if !(1..=signals).contains(&self.topics) {
            return Err(PlanError::Range { what: "the number of signals", range: format!("1 to {signals}") });
        }
        if self.prefix.contains('/') {
            return Err(PlanError::Prefix { prefix: self.prefix.clone() });
        }
        let rate = self.rate_per_second.unwrap_or_default();
        let above_0 = self.alerts_per_second > 0.0;
        if !above_0
            || ward::readings_for_each_alert(rate, self.alerts_per_second) < 2 * u64::from(self.topics)
        {
            return Err(PlanError::TooManyAlerts { signals: self.topics });
        }
        Ok(())
    }

    /// Client identifier of a publisher.
    pub(crate) fn publisher_id(&self, number: u32) -> String {
        match self.scenario {
            Scenario::Ward => ward::device_id(&self.prefix, number),
            _ => format!("{}-pub-{number}", self.prefix),
        }
    }

    /// Client identifier of a subscriber that reads what comes.
    pub(crate) fn subscriber_id(&self, number: u32) -> String {
        match self.scenario {
            Scenario::Ward => ward::pager_id(&self.prefix, number),
            _ => format!("{}-sub-{number}", self.prefix),
        }
    }

    /// How many subscribers are due a publisher's messages, the slow one not counted.
    pub fn receivers(&self) -> u32 {
        if matches!(self.scenario, Scenario::Pairs | Scenario::Ward) { 1 } else { self.subscribers }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Eight publishers to one subscriber.
    pub(crate) fn plan() -> Plan {
        Plan {
            name: "fan-in".to_owned(),
            scenario: Scenario::Flood,
            version: Version::V311,
            qos: QoS::AtMostOnce,
            payload_bytes: 64,
            publishers: 8,
            subscribers: 1,
            topics: 1,
            subscriptions: 0,
            window: 16,
            rate_per_second: None,
            alerts_per_second: 10.0,
            connections: 1,
            warmup: Duration::ZERO,
            measured: Duration::from_secs(1),
            threads: 1,
            pause: Duration::ZERO,
            keep_alive: 60,
            prefix: "bench".to_owned(),
            pid: None,
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_reason() {
        let refusal = |change: fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.check().unwrap_err().to_string()
        };
        assert_eq!(plan().check(), Ok(()));
        assert!(refusal(|plan| plan.payload_bytes = 15).contains("15 bytes cannot be measured"));
        assert!(refusal(|plan| plan.prefix = "a/#".to_owned()).contains("'a/#'"));
        assert!(refusal(|plan| plan.scenario = Scenario::Pairs).contains("8, not 1"));
        assert!(refusal(|plan| plan.scenario = Scenario::Rate).contains("--rate"));
        assert!(refusal(|plan| (plan.window, plan.qos) = (0, QoS::AtLeastOnce)).contains("a window of 0"));
        let ward = |plan: &mut Plan| {
            (plan.scenario, plan.qos, plan.rate_per_second) =
                (Scenario::Ward, QoS::AtLeastOnce, Some(1_000.0));
        };
        let mut fine = plan();
        ward(&mut fine);
        assert_eq!(fine.check(), Ok(()));
        let refusal_of_ward = |change: fn(&mut Plan)| {
            let mut plan = plan();
            ward(&mut plan);
            change(&mut plan);
            plan.check().unwrap_err().to_string()
        };
        assert!(refusal_of_ward(|plan| plan.topics = 13).contains("signals is 1 to 12"));
        assert!(refusal_of_ward(|plan| plan.prefix = "a/b".to_owned()).contains("'a/b'"));
        assert!(
            refusal_of_ward(|plan| (plan.topics, plan.alerts_per_second) = (10, 60.0))
                .contains("for 20 readings")
        );
        assert!(refusal_of_ward(|plan| plan.alerts_per_second = 0.0).contains("for 2 readings"));
        assert!(refusal(|plan| plan.publishers = 0).contains("publishers is 1 to"));
        assert!(refusal(|plan| plan.rate_per_second = Some(f64::NAN)).contains("the rate is above 0"));
        assert!(refusal(|plan| plan.measured = Duration::ZERO).contains("measured time is above 0"));
    }
}
