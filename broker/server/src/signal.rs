//! How a connection's task hears that the node has something for it.

use std::{
    sync::atomic::{
        AtomicBool,
        Ordering::{AcqRel, Acquire},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// Raised by whoever holds something for one task, and taken by that task. Raised twice, it wakes once.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicBool,
    task: AtomicWaker,
}

impl Signal {
    /// Wakes the task, or keeps it from going to sleep.
    pub fn raise(&self) {
        if !self.raised.swap(true, AcqRel) {
            self.task.wake();
        }
    }

    /// Whether it was raised since this was last asked.
    pub fn take(&self) -> bool {
        self.raised.load(Acquire) && self.raised.swap(false, AcqRel)
    }

    /// Ready when it is raised, which it stays.
    pub fn poll_raised(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.raised.load(Acquire) {
            self.task.register(cx.waker());
            // It may have been raised before there was somebody to wake.
            if !self.raised.load(Acquire) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::{Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn raised_twice_it_wakes_once_and_is_taken_once() {
        let (signal, count) = (Signal::default(), Arc::<Count>::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(signal.poll_raised(&mut Context::from_waker(&waker)).is_pending() && !signal.take());
        (0..2).for_each(|_| signal.raise());
        assert_eq!(count.0.load(Relaxed), 1);
        assert!(signal.poll_raised(&mut Context::from_waker(&waker)).is_ready());
        assert!(signal.take() && !signal.take());
    }

    #[test]
    fn what_was_raised_before_anybody_slept_keeps_them_awake() {
        let signal = Signal::default();
        signal.raise();
        assert!(signal.poll_raised(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
