//! A timer of the kernel, where those of the runtime are a millisecond coarse: one for all that wait on a thread.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::schedule::Clock;

/// A handle of a thread's timer. It goes off while [`Self::run`] is awaited on that thread.
#[derive(Clone, Debug)]
pub(crate) struct Timer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    kernel: AsyncFd<OwnedFd>,
    sleepers: Mutex<Sleepers>,
}

#[derive(Debug)]
struct Sleepers {
    /// By when they are to be woken, in nanoseconds of the clock, and numbers.
    wakers: BTreeMap<(u64, u64), Waker>,
    /// Numbers that were given to those who slept.
    given: u64,
    /// When the kernel's timer goes off; [`u64::MAX`]: it does not.
    set_ns: u64,
}

impl Timer {
    /// Made within the runtime of the thread.
    ///
    /// # Errors
    /// What the system says when it has no more timers to give.
    pub(crate) fn new(clock: Clock) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let kernel = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "an OwnedFd stays open while it is owned; what replaces this needs `unsafe`"
        )]
        let kernel = AsyncFd::new(kernel)?;
        let sleepers = Mutex::new(Sleepers { wakers: BTreeMap::new(), given: 0, set_ns: u64::MAX });
        Ok(Self(Arc::new(Shared { clock, kernel, sleepers })))
    }

    /// Wakes whoever waits, when it is time.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub(crate) async fn run(self) -> io::Result<()> {
        loop {
            // Not read: to set it anew is enough for it to tell again.
            self.0.kernel.readable().await?.clear_ready();
            for waker in self.0.due() {
                waker.wake();
            }
        }
    }

    /// Returns at `at_ns`, at once if that is over.
    pub(crate) async fn wait(&self, at_ns: u64) {
        let mut sleep = Sleep { timer: &self.0, at_ns, number: None };
        poll_fn(|context| sleep.poll(context)).await;
    }
}

impl Shared {
    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out who is to be woken, and sets the timer for the next.
    fn due(&self) -> Vec<Waker> {
        let now_ns = self.clock.now_ns();
        let mut sleepers = self.sleepers();
        let later = sleepers.wakers.split_off(&(now_ns, u64::MAX));
        let due = std::mem::replace(&mut sleepers.wakers, later);
        sleepers.set_ns = u64::MAX;
        if let Some((&(next_ns, _), _)) = sleepers.wakers.first_key_value() {
            self.set(&mut sleepers, next_ns);
        }
        due.into_values().collect()
    }

    /// Sees to it that the timer goes off at `at_ns`.
    fn set(&self, sleepers: &mut Sleepers, at_ns: u64) {
        // Nothing would stop the timer.
        let wait = Duration::from_nanos(at_ns.saturating_sub(self.clock.now_ns()).max(1));
        let value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        #[expect(clippy::expect_used, reason = "the descriptor is a timer's, and the time is valid")]
        timerfd_settime(self.kernel.get_ref(), TimerfdTimerFlags::empty(), &once).expect(
            "an open timer takes any time that is not negative and has less than a second of nanoseconds",
        );
        sleepers.set_ns = at_ns;
    }
}

/// Somebody who waits; forgotten when dropped.
struct Sleep<'a> {
    timer: &'a Shared,
    at_ns: u64,
    number: Option<u64>,
}

impl Sleep<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.timer.clock.now_ns() >= self.at_ns {
            return Poll::Ready(());
        }
        let mut sleepers = self.timer.sleepers();
        let number = *self.number.get_or_insert_with(|| {
            sleepers.given += 1;
            sleepers.given
        });
        sleepers.wakers.insert((self.at_ns, number), context.waker().clone());
        if self.at_ns < sleepers.set_ns {
            self.timer.set(&mut sleepers, self.at_ns);
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.timer.sleepers().wakers.remove(&(self.at_ns, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn it_returns_no_earlier_than_asked_and_at_once_for_what_is_over() {
        let clock = Clock::start();
        let timer = Timer::new(clock).unwrap();
        let running = tokio::spawn(timer.clone().run());
        for wait_ns in [300_000, 0, 2_000_000] {
            let at_ns = clock.now_ns() + wait_ns;
            timer.wait(at_ns).await;
            assert!(clock.now_ns() >= at_ns);
        }
        timer.wait(0).await;
        running.abort();
    }

    #[tokio::test]
    async fn many_wait_at_once_and_who_gives_up_holds_nobody_up() {
        let clock = Clock::start();
        let timer = Timer::new(clock).unwrap();
        let running = tokio::spawn(timer.clone().run());
        let begin_ns = clock.now_ns();
        let mut waiting = JoinSet::new();
        for place in [5, 1, 4, 2, 3, 3] {
            let timer = timer.clone();
            waiting.spawn(async move {
                timer.wait(begin_ns + place * 3_000_000).await;
                place
            });
        }
        let gives_up = timeout(Duration::from_millis(1), timer.wait(begin_ns + 2_000_000));
        assert!(gives_up.await.is_err() || clock.now_ns() >= begin_ns + 2_000_000);
        let mut order = Vec::new();
        while let Some(place) = waiting.join_next().await {
            order.push(place.unwrap());
            assert!(clock.now_ns() >= begin_ns + order[order.len() - 1] * 3_000_000);
        }
        order.sort_unstable();
        assert_eq!(order, [1, 2, 3, 3, 4, 5]);
        assert!(timer.0.sleepers().wakers.is_empty());
        running.abort();
    }
}
