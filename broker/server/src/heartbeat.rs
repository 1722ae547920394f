//! The node says regularly that it is alive: to pagers, which show "monitoring lost" without it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use wardline_audit::Progress;

use crate::{clock, node::Node};

/// A pager that misses two shows "monitoring lost"; alarm partners are to hear each other at least every 10 s.
const INTERVAL: Duration = Duration::from_secs(5);

/// Publishes the heartbeat until the task ends.
pub async fn run(node: Arc<Node>, audit: watch::Receiver<Progress>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = clock::now();
        let lag = lag(&node, &audit.borrow());
        let payload = serde_json::json!({
            "node": node.id(),
            "at": now,
            "alerting": node.failure().borrow().is_none(),
            "alarms": node.alarms().iter().map(|alarm| alarm.condition.as_str()).collect::<Vec<_>>(),
            "audit_lag_records": lag,
            "audit_error": audit.borrow().last_error,
        });
        node.publish(&format!("wardline/heartbeat/{}", node.id()), payload.to_string().into_bytes(), true);
    }
}

/// Records that the journal has and the audit store has not.
pub(crate) fn lag(node: &Node, progress: &Progress) -> u64 {
    let next = node.next_offset().0;
    next.saturating_sub(progress.audited_up_to.map_or(0, |offset| offset.0))
}
