//! Keeps QoS 0 publishers a limited number of messages ahead of their subscribers, which are in the same process: no broker
//! need lose what it cannot keep, and what is measured is what it carries.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Nobody waits.
const NEVER: u64 = u64::MAX;

/// How far the subscribers are with one publisher's messages, all subscribers together.
#[derive(Debug)]
pub(crate) struct Progress {
    delivered: AtomicU64,
    /// The publisher waits until this many are.
    wake_at: AtomicU64,
    wake: Notify,
}

impl Default for Progress {
    fn default() -> Self {
        Self { delivered: AtomicU64::new(0), wake_at: AtomicU64::new(NEVER), wake: Notify::new() }
    }
}

impl Progress {
    /// A subscriber has so many more.
    pub(crate) fn add(&self, messages: u64) {
        let delivered = self.delivered.fetch_add(messages, Ordering::SeqCst) + messages;
        if delivered >= self.wake_at.load(Ordering::SeqCst)
            && self.wake_at.swap(NEVER, Ordering::SeqCst) != NEVER
        {
            self.wake.notify_one();
        }
    }

    /// Deliveries so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::SeqCst)
    }

    /// Returns when there have been `deliveries`.
    pub(crate) async fn reached(&self, deliveries: u64) {
        loop {
            self.wake_at.store(deliveries, Ordering::SeqCst);
            if self.delivered() >= deliveries {
                self.wake_at.store(NEVER, Ordering::SeqCst);
                return;
            }
            self.wake.notified().await;
        }
    }
}

/// How many messages a publisher may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    /// Messages ahead of the subscribers; 0 is no limit.
    window: u64,
    /// Deliveries of each message.
    receivers: u64,
    /// Deliveries given up waiting for.
    forgiven: u64,
}

impl Credit {
    pub(crate) fn new(window: u16, receivers: u32) -> Self {
        Self { window: u64::from(window), receivers: u64::from(receivers), forgiven: 0 }
    }

    /// Messages that may be sent after `sent`, when there were `delivered` deliveries.
    pub(crate) fn room(&self, sent: u64, delivered: u64) -> u64 {
        if self.window == 0 {
            return u64::MAX;
        }
        let outstanding = (sent * self.receivers).saturating_sub(delivered + self.forgiven);
        (self.window * self.receivers).saturating_sub(outstanding) / self.receivers
    }

    /// The deliveries at which half of the window is open again: fewer are not worth waking up for.
    pub(crate) fn worth_waking(&self, sent: u64) -> u64 {
        (sent * self.receivers).saturating_sub(self.forgiven + self.window * self.receivers / 2)
    }

    /// What has not been delivered will not be.
    pub(crate) fn forgive(&mut self, sent: u64, delivered: u64) {
        self.forgiven = (sent * self.receivers).saturating_sub(delivered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_is_no_more_than_its_window_ahead_of_all_its_subscribers() {
        let mut credit = Credit::new(8, 3);
        assert_eq!(credit.room(0, 0), 8);
        assert_eq!(credit.room(8, 0), 0);
        assert_eq!(credit.room(8, 2), 0, "not everybody has the first");
        assert_eq!(credit.room(8, 3), 1);
        assert_eq!(credit.room(8, credit.worth_waking(8)), 4);
        credit.forgive(8, 3);
        assert_eq!(credit.room(8, 3), 8, "what is lost does not stop it");
        assert_eq!(Credit::new(0, 3).room(1 << 40, 0), u64::MAX);
    }

    #[test]
    fn who_waits_is_woken_when_it_is_reached() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let progress = Progress::default();
            let mut reached = std::pin::pin!(progress.reached(3));
            let nothing = std::future::poll_fn(|context| match reached.as_mut().poll(context) {
                std::task::Poll::Pending => std::task::Poll::Ready(true),
                std::task::Poll::Ready(()) => std::task::Poll::Ready(false),
            });
            assert!(nothing.await);
            progress.add(2);
            progress.add(1);
            reached.await;
            progress.reached(2).await;
        });
    }
}
