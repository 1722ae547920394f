//! The node says regularly that it is alive: to pagers, which show "monitoring lost" without it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::{alarms::Alarm, audited::Audited, clock, node::Node};

/// A pager that misses two shows "monitoring lost"; alarm partners are to hear each other at least every 10 s.
const INTERVAL: Duration = Duration::from_secs(5);

/// Characters of the audit store's complaint. A heartbeat is small whatever is wrong, for pagers that take only small packets;
/// the whole complaint is in the log and in [`crate::status`].
const AUDIT_ERROR_CHARS_MAX: usize = 200;

/// Publishes the heartbeat until the task ends.
pub async fn run(node: Arc<Node>, audited: Audited) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let alerting = node.failure().borrow().is_none();
        let (lag, error) = (audited.lag_records(), audited.error());
        let payload = payload(node.id(), clock::now(), alerting, &node.alarms(), lag, error.as_deref());
        node.publish(&format!("wardline/heartbeat/{}", node.id()), payload.into_bytes(), true);
    }
}

/// `alarms`: one at most of each [`crate::alarms::Condition`].
fn payload(
    node: u16,
    at: Timestamp,
    alerting: bool,
    alarms: &[Alarm],
    lag: u64,
    error: Option<&str>,
) -> String {
    let payload = serde_json::json!({
        "node": node,
        "at": at,
        "alerting": alerting,
        "alarms": alarms.iter().map(|alarm| alarm.condition.as_str()).collect::<Vec<_>>(),
        "audit_lag_records": lag,
        "audit_error": error.map(|error| error.chars().take(AUDIT_ERROR_CHARS_MAX).collect::<String>()),
    });
    payload.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarms::{Alarms, Condition, Priority};

    #[test]
    fn a_heartbeat_is_small_whatever_is_wrong() {
        let mut alarms = Alarms::new(u16::MAX, |_| None);
        for condition in Condition::ALL {
            alarms.set(condition, Some((Priority::High, "x".repeat(10_000))), Timestamp::MAX);
        }
        let alarms: Vec<Alarm> = alarms.active().cloned().collect();
        // A control character is the longest in JSON.
        let error = "\u{1}".repeat(10_000);
        let payload = payload(u16::MAX, Timestamp::MAX, false, &alarms, u64::MAX, Some(&error));
        assert!(payload.len() < 2_048, "{} bytes", payload.len());
        for condition in Condition::ALL {
            assert!(payload.contains(condition.as_str()), "{payload}");
        }
    }
}
