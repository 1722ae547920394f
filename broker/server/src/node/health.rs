//! What the node knows of its own troubles, and tells as alarms.

use std::time::Duration;

use tokio::time::Instant;
use wardline_journal::Space;

use super::Node;
use crate::{
    alarms::{Alarm, Condition, Priority, Told},
    clock, disk,
};

impl Node {
    /// A sync of the journal has come back.
    pub fn synced(&self, took: Duration) {
        self.metrics.journal_sync.observe(took.as_secs_f64());
        self.sync_times.lock().synced(took, Instant::now());
    }

    /// Says what is to be said of the journal's room and of the pace of its disk, as far as it is known without asking the
    /// disk; returns the room that was looked at.
    pub fn review_disk(&self) -> Space {
        let space = self.space();
        self.set_alarm(Condition::JournalSpace, disk::short_of_room(&space));
        let slow = self.sync_times.lock().complaint(self.journal.syncing_for(), Instant::now());
        self.set_alarm(Condition::JournalSlow, slow.map(|text| (Priority::Medium, text)));
        space
    }

    /// Says what is to be said of the queues. Looks at every session.
    pub fn review_queues(&self) {
        let queues = self.inner.lock().broker.queues();
        let state = self.queue_watch.lock().complaint(&queues, &self.limits, Instant::now());
        self.set_alarm(Condition::Queues, state);
    }

    /// What is wrong with the node, as of the last review.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms.lock().active().cloned().collect()
    }

    /// Says that something is wrong with the node, or `None` that it is not; published when that is news.
    fn set_alarm(&self, condition: Condition, state: Option<(Priority, String)>) {
        // Held until it is published, so that what is retained is what was set last. It is taken before `inner`.
        let mut alarms = self.alarms.lock();
        if let Some(Told { topic, payload }) = alarms.set(condition, state, clock::now()) {
            self.publish(&topic, payload, true);
        }
    }
}
