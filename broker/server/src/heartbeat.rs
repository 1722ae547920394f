//! The node says regularly that it is alive: to pagers, which show "monitoring lost" without it, and to operators.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use wardline_audit::Progress;
use wardline_journal::Pressure;

use crate::{clock, node::Node};

/// A pager that misses two shows "monitoring lost"; alarm partners are to hear each other at least every 10 s.
const INTERVAL: Duration = Duration::from_secs(5);

/// Publishes the heartbeat and the `$SYS` counters until the task ends.
pub async fn run(node: Arc<Node>, audit: watch::Receiver<Progress>) {
    let started = clock::now();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = clock::now();
        if node.pressure() != Pressure::Normal {
            tracing::warn!(
                bytes = node.stored_bytes(),
                "the journal is near or over its quota; give it more room"
            );
        }
        let lag = lag(&node, &audit.borrow());
        let payload = serde_json::json!({
            "node": node.id(),
            "at": now,
            "alerting": node.failure().borrow().is_none(),
            "audit_lag_records": lag,
            "audit_error": audit.borrow().last_error,
        });
        node.publish(&format!("wardline/heartbeat/{}", node.id()), payload.to_string().into_bytes(), true);
        let counters = node.counters();
        let uptime = now.duration_since(started).as_secs();
        let values = [
            ("version", format!("wardline {}", env!("CARGO_PKG_VERSION"))),
            ("uptime", format!("{uptime} seconds")),
            ("clients/connected", counters.connections.to_string()),
            ("clients/disconnected", counters.sessions.saturating_sub(counters.connections).to_string()),
            ("clients/total", counters.sessions.to_string()),
            ("subscriptions/count", counters.subscriptions.to_string()),
            ("retained messages/count", counters.retained.to_string()),
            (
                "publish/messages/received",
                (counters.publishes_accepted + counters.publishes_denied).to_string(),
            ),
            ("publish/messages/sent", counters.publishes_sent.to_string()),
            ("publish/messages/dropped", (counters.shed + counters.overflowed).to_string()),
        ];
        node.publish_unrecorded(values.map(|(name, value)| (format!("$SYS/broker/{name}"), value)));
    }
}

/// Records that the journal has and the audit store has not.
pub(crate) fn lag(node: &Node, progress: &Progress) -> u64 {
    let next = node.next_offset().0;
    next.saturating_sub(progress.audited_up_to.map_or(0, |offset| offset.0))
}
