//! A vital sign as a publish: its topic, and the one-reading payload with unit, time and mode.

use jiff::Timestamp;
use serde::Serialize;
use wardline_plugin_api::{Mode, signal::Signal};

/// Where a monitor stands and what it is called: the levels of its topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Unit, `icu-3`.
    pub unit: String,
    /// Bed, `b12`.
    pub bed: String,
    /// Device, `mon-12`.
    pub device: String,
}

/// What a device publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic name.
    pub topic: String,
    /// Application message.
    pub payload: Vec<u8>,
}

#[derive(Serialize)]
struct Payload {
    value: f64,
    ucum: &'static str,
    at: Timestamp,
    mode: Mode,
}

impl Place {
    /// The publish that carries one reading.
    pub fn reading(&self, signal: &Signal, value: f64, at: Timestamp, mode: Mode) -> Outgoing {
        let Self { unit, bed, device } = self;
        let name = signal.name;
        let payload = Payload { value, ucum: signal.ucum, at, mode };
        #[expect(clippy::expect_used, reason = "a struct of numbers and plain strings always serializes")]
        let payload = serde_json::to_vec(&payload).expect("a reading is always JSON");
        Outgoing { topic: format!("telemetry/{unit}/{bed}/{device}/{name}"), payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_carries_value_unit_time_and_mode() {
        let place = Place { unit: "icu-3".into(), bed: "b12".into(), device: "mon-12".into() };
        let at = "2026-11-21T08:00:00.125Z".parse().unwrap();
        let publish = place.reading(Signal::named("spo2").unwrap(), 97.0, at, Mode::Test);
        assert_eq!(publish.topic, "telemetry/icu-3/b12/mon-12/spo2");
        let payload: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
        let expected =
            serde_json::json!({"value": 97.0, "ucum": "%", "at": "2026-11-21T08:00:00.125Z", "mode": "test"});
        assert_eq!(payload, expected);
    }
}
