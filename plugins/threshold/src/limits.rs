//! Limits for one patient: `limits/{unit}/{bed}/{signal}`.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use wardline_plugin_api::signal::Signal;
use wardline_plugin_api::{Priority, Refusal};

use crate::condition::LimitInForce;
use crate::machine::{Criterion, Side};
use crate::rules::{Policy, Profile};

/// MQTT 5 "payload format invalid".
pub(crate) const PAYLOAD_INVALID: u8 = 0x99;

/// Priority of a patient's limit where the organization has no rule for the signal.
const PRIORITY_DEFAULT: Priority = Priority::Medium;

/// What a payload says about one side: `Some(None)` switches the limit off, `None` leaves the organization's
/// in force.
type Setting = Option<Option<f64>>;

/// A patient's limits of one signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PatientLimit {
    low: Setting,
    high: Setting,
    expires: Option<Timestamp>,
    author: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    #[serde(default, deserialize_with = "setting")]
    low: Setting,
    #[serde(default, deserialize_with = "setting")]
    high: Setting,
    #[serde(default, rename = "reason")]
    _reason: Option<String>,
    expires: Option<Timestamp>,
}

/// Tells `null` from a missing member.
fn setting<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Setting, D::Error> {
    Option::<f64>::deserialize(deserializer).map(Some)
}

impl PatientLimit {
    /// Reads and judges a payload.
    pub(crate) fn parse(signal: &Signal, payload: &[u8], author: &str) -> Result<Self, Refusal> {
        let payload: Payload = serde_json::from_slice(payload).map_err(|error| {
            refuse(format!(
                r#"not limits ({error}); send {{"low":88,"high":null,"reason":"...","expires":"..."}}"#
            ))
        })?;
        let limit = Self {
            low: payload.low,
            high: payload.high,
            expires: payload.expires,
            author: author.to_owned(),
        };
        for side in Side::BOTH {
            if let Some(message) =
                limit.setting(side).flatten().and_then(|value| side.implausible(signal, value))
            {
                return Err(refuse(message));
            }
        }
        Ok(limit)
    }

    /// Whether low stays below high, also where one of them is the organization's.
    pub(crate) fn judge(&self, signal: &Signal, profile: Profile, policy: &Policy) -> Result<(), Refusal> {
        let value = |side| match self.setting(side) {
            Some(own) => own,
            None => policy.limit(profile, signal, side).map(|criterion| criterion.limit),
        };
        match (value(Side::Low), value(Side::High)) {
            (Some(low), Some(high)) if low >= high => {
                let whose = if self.low.is_some() && self.high.is_some() {
                    ""
                } else {
                    " (one of them the policy's)"
                };
                Err(refuse(format!("low = {low} is not below high = {high}{whose}; are they swapped?")))
            }
            _ => Ok(()),
        }
    }

    const fn setting(&self, side: Side) -> Setting {
        match side {
            Side::Low => self.low,
            Side::High => self.high,
        }
    }

    fn in_force(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// The limit in force on one side, and who set it.
pub(crate) fn in_force<'a>(
    policy: &Policy,
    profile: Profile,
    patient: Option<&'a PatientLimit>,
    signal: &Signal,
    side: Side,
    now: Timestamp,
) -> LimitInForce<'a> {
    let own = policy.limit(profile, signal, side);
    let Some(patient) = patient.filter(|patient| patient.in_force(now)) else {
        return LimitInForce { criterion: own.copied(), by: "policy" };
    };
    match patient.setting(side) {
        None => LimitInForce { criterion: own.copied(), by: "policy" },
        Some(None) => LimitInForce { criterion: None, by: &patient.author },
        Some(Some(limit)) => {
            let other = match side {
                Side::Low => Side::High,
                Side::High => Side::Low,
            };
            let pattern = own.or_else(|| policy.limit(profile, signal, other)).copied();
            LimitInForce {
                criterion: Some(Criterion { limit, ..pattern.unwrap_or(WITHOUT_POLICY) }),
                by: &patient.author,
            }
        }
    }
}

const WITHOUT_POLICY: Criterion = Criterion {
    limit: 0.0,
    hysteresis: 0.0,
    delay: std::time::Duration::ZERO,
    gap: std::time::Duration::MAX,
    priority: PRIORITY_DEFAULT,
    lethal: false,
};

fn refuse(reason: String) -> Refusal {
    Refusal { code: PAYLOAD_INVALID, reason }
}
