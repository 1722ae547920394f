//! The rule process: hears all readings, holds each against its limit, publishes an alert where a condition begins.

use std::collections::HashMap;

use rumqttc::{Client, Event, Packet, QoS};
use serde::Deserialize;
use serde_json::json;
use wardline_bench::ward::{SIGNALS, Signal};

use super::{Link, REQUESTS_MAX, RULES};

#[derive(Deserialize)]
struct Reading {
    value: f64,
}

/// Conditions that stand, by topic of their readings.
#[derive(Default)]
struct Rules {
    standing: HashMap<String, String>,
    alerts: u64,
}

/// Runs until it is killed.
pub(crate) fn run(words: &[String]) {
    let (client, mut connection) = Client::new(Link::of(RULES, words).options, REQUESTS_MAX);
    client.subscribe("telemetry/#", QoS::AtLeastOnce).expect("the client runs");
    let mut rules = Rules::default();
    for event in connection.iter() {
        match event.expect("the broker runs") {
            Event::Incoming(Packet::SubAck(_)) => println!("subscribed"),
            Event::Incoming(Packet::Publish(publish)) => {
                if let Some((topic, alert)) = rules.judge(&publish.topic, &publish.payload) {
                    // This thread is the one that sends it: waiting for room would be for ever.
                    client
                        .try_publish(topic, QoS::AtLeastOnce, false, alert)
                        .expect("there is room for an alert");
                }
            }
            _ => {}
        }
    }
}

impl Rules {
    /// Topic and payload of the message that a reading is cause for.
    fn judge(&mut self, topic: &str, payload: &[u8]) -> Option<(String, String)> {
        let [_, unit, bed, _, name] = topic.split('/').collect::<Vec<_>>().try_into().ok()?;
        let signal = SIGNALS.iter().find(|signal| signal.name == name)?;
        let value = serde_json::from_slice::<Reading>(payload).ok()?.value;
        let condition = signal.condition(value);
        let (phase, condition) = match (condition, self.standing.contains_key(topic)) {
            (Some(condition), false) => {
                self.standing.insert(topic.to_owned(), condition.clone());
                self.alerts += 1;
                ("start", condition)
            }
            (None, true) => ("end", self.standing.remove(topic)?),
            _ => return None,
        };
        Some(self.message(signal, (unit, bed), phase, &condition, value))
    }

    fn message(
        &self,
        signal: &Signal,
        (unit, bed): (&str, &str),
        phase: &str,
        condition: &str,
        value: f64,
    ) -> (String, String) {
        let alert = json!({
            "alert": format!("{RULES}-{}", self.alerts),
            "phase": phase,
            "priority": "high",
            "unit": unit,
            "bed": bed,
            "condition": condition,
            "signal": signal.name,
            "value": value,
            "ucum": signal.ucum,
        });
        (format!("alerts/{unit}/nurse/high/{bed}/{condition}"), alert.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_begins_once_and_ends_once() {
        let mut rules = Rules::default();
        let mut judge = |value: &str| {
            let reading = format!("{{\"value\":{value}}}");
            let message = rules.judge("telemetry/icu/b1/mon-1/spo2", reading.as_bytes());
            message.map(|(topic, alert)| {
                assert_eq!(topic, "alerts/icu/nurse/high/b1/spo2-low");
                let alert: serde_json::Value = serde_json::from_str(&alert).unwrap();
                alert["phase"].as_str().unwrap().to_owned()
            })
        };
        let phases = ["97", "80", "81", "97", "98", "80"].map(&mut judge);
        let phases: Vec<_> = phases.iter().map(Option::as_deref).collect();
        assert_eq!(phases, [None, Some("start"), None, Some("end"), None, Some("start")]);
        assert_eq!(judge("nonsense"), None);
    }
}
