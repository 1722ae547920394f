//! Keeps an eye on the journal's disk: how much room is left, how long syncs take, whether the directory is still there.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use wardline_journal::{Failure, Journal, Pressure, Space};

use crate::{alarms::Priority, node::Node, status::Size};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(1);
/// A sync that takes so long is worth an alarm by itself.
pub const SYNC_MAX: Duration = Duration::from_secs(1);
/// More than one in a hundred longer than this are, too.
pub const SYNC_P99_MAX: Duration = Duration::from_millis(100);
/// Over this time; an alarm ends when the disk was quick for so long.
const WINDOW: Duration = Duration::from_secs(60);
/// Fewer slow syncs than this say nothing about the one in a hundred.
const SLOW_SYNCS_MIN: u64 = 5;

/// How long the syncs of the last minute took.
#[derive(Debug, Default)]
pub struct SyncTimes {
    seconds: VecDeque<Second>,
}

/// The syncs that came back within one second of time.
#[derive(Debug)]
struct Second {
    began: Instant,
    syncs: u64,
    slow: u64,
    longest: Duration,
}

impl SyncTimes {
    /// A sync has come back.
    pub fn synced(&mut self, took: Duration, now: Instant) {
        if self.seconds.back().is_none_or(|last| now.duration_since(last.began) >= Duration::from_secs(1)) {
            self.forget(now);
            self.seconds.push_back(Second { began: now, syncs: 0, slow: 0, longest: Duration::ZERO });
        }
        if let Some(second) = self.seconds.back_mut() {
            second.syncs += 1;
            second.slow += u64::from(took > SYNC_P99_MAX);
            second.longest = second.longest.max(took);
        }
    }

    /// What to say of a disk that is too slow, with a sync under way for `syncing`; `None` while it is quick enough.
    pub fn complaint(&mut self, syncing: Duration, now: Instant) -> Option<String> {
        self.forget(now);
        let longest = self.seconds.iter().map(|second| second.longest).max().unwrap_or_default().max(syncing);
        let (syncs, slow) = self
            .seconds
            .iter()
            .fold((0, 0), |(syncs, slow), second| (syncs + second.syncs, slow + second.slow));
        if longest >= SYNC_MAX {
            Some(format!(
                "the journal's disk took {:.1} s for a sync; acknowledgements wait for it. Look for other load on it, or for \
                 a disk that is failing",
                longest.as_secs_f64()
            ))
        } else if slow >= SLOW_SYNCS_MIN && slow * 100 > syncs {
            Some(format!(
                "{slow} of the last minute's {syncs} syncs of the journal took more than {} ms; acknowledgements wait for \
                 them. Look for other load on the disk, or give the journal a faster one",
                SYNC_P99_MAX.as_millis()
            ))
        } else {
            None
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.seconds.front().is_some_and(|first| now.duration_since(first.began) > WINDOW) {
            self.seconds.pop_front();
        }
    }
}

/// Looks until the task ends; ends the node when the journal's directory is gone.
pub async fn run(node: Arc<Node>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looking = None;
    let mut looks = Looks::default();
    loop {
        ticks.tick().await;
        // On a disk that does not answer one look waits; what is known without it is told meanwhile.
        if let Some(looked) = look(node.journal(), &mut looking).await
            && let Some(failure) = looks.judge(looked)
        {
            node.fail(&failure.to_string());
        }
        node.review_disk();
    }
}

/// What the journal's directory is the cause of when something that reads there has failed, if it says so in time.
pub async fn cause(journal: &Journal) -> Option<Failure> {
    look(journal, &mut None).await?.err()
}

type Looked = Result<Space, Failure>;

/// Looks at the directory; `None` while there is no answer, which the next call waits for.
async fn look(journal: &Journal, looking: &mut Option<JoinHandle<Looked>>) -> Option<Looked> {
    let journal = journal.clone();
    let handle = looking.get_or_insert_with(|| tokio::task::spawn_blocking(move || journal.inspect()));
    let looked = tokio::time::timeout(INTERVAL, handle).await.ok()?;
    *looking = None;
    // A look that was given up with its runtime has nothing to say.
    looked.ok()
}

/// What is made of one look after the other.
#[derive(Debug, Default)]
struct Looks {
    /// The last one failed.
    failing: bool,
}

impl Looks {
    /// The failure that ends the node, if it is one. A directory that cannot be asked for a moment may well be written:
    /// the journal says of itself when it cannot.
    fn judge(&mut self, looked: Looked) -> Option<Failure> {
        let before = std::mem::replace(&mut self.failing, looked.is_err());
        match looked {
            Err(gone @ Failure::Gone { .. }) => return Some(gone),
            Err(Failure::Storage { doing, file, error }) if !before => tracing::warn!(
                "cannot {doing} {}: {error}; it is tried again every second, and until then the room that was left at \
                 the last answer counts",
                file.display()
            ),
            Err(other) if !before => {
                tracing::warn!(error = %other, "the journal's directory cannot be looked at");
            }
            Ok(_) if before => tracing::info!("the journal's directory can be looked at again"),
            Ok(_) | Err(_) => {}
        }
        None
    }
}

/// What to say when room runs short; `None` while there is enough.
pub fn short_of_room(space: &Space) -> Option<(Priority, String)> {
    let (priority, so) = match space.pressure {
        Pressure::Normal => return None,
        Pressure::Advisory => (Priority::Low, "nothing is held back yet"),
        Pressure::Near => (Priority::Medium, "telemetry is slowed"),
        Pressure::Full => (
            Priority::High,
            "telemetry is withheld: devices keep what they measure and get no acknowledgement, and what is left is for \
             alerts and responses",
        ),
    };
    let text = format!(
        "the journal has {} of room left of {}; {so}. See `wardline status` for what holds old segments back, \
         raise `quota` in [journal], or free space on the disk",
        Size(space.room_bytes),
        Size(space.capacity_bytes)
    );
    Some((priority, text))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use wardline_journal::JournalOptions;

    use super::*;

    const QUICK: Duration = Duration::from_millis(1);

    #[test]
    fn one_long_sync_is_enough_and_is_forgotten_after_a_quick_minute() {
        let mut times = SyncTimes::default();
        let start = Instant::now();
        times.synced(QUICK, start);
        assert_eq!(times.complaint(Duration::ZERO, start), None);
        assert!(times.complaint(SYNC_MAX, start).unwrap().contains("1.0 s"), "while it is under way");
        times.synced(SYNC_MAX, start);
        assert!(times.complaint(Duration::ZERO, start + WINDOW).is_some());
        assert_eq!(times.complaint(Duration::ZERO, start + WINDOW + QUICK), None);
    }

    #[test]
    fn more_than_one_slow_sync_in_a_hundred_is_too_many() {
        let mut times = SyncTimes::default();
        let start = Instant::now();
        let slow = SYNC_P99_MAX + QUICK;
        (0..4).for_each(|_| times.synced(slow, start));
        assert_eq!(times.complaint(Duration::ZERO, start), None, "too few to say");
        times.synced(slow, start);
        assert!(times.complaint(Duration::ZERO, start).unwrap().contains("5 of the last minute's 5"));
        (0..495).for_each(|_| times.synced(QUICK, start));
        assert_eq!(times.complaint(Duration::ZERO, start), None, "one in a hundred");
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_the_cause_of_what_fails_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("journal");
        let (journal, _) = Journal::open(JournalOptions::new(&directory, 1), |_| {}).unwrap();
        assert!(cause(&journal).await.is_none());
        std::fs::rename(&directory, parent.path().join("elsewhere")).unwrap();
        assert!(matches!(cause(&journal).await, Some(Failure::Gone { .. })));
    }

    #[test]
    fn only_a_directory_that_is_gone_ends_the_node() {
        let directory = PathBuf::from("journal");
        let asked = || Failure::Storage {
            doing: "ask for free space on",
            file: directory.clone(),
            error: Arc::new(std::io::Error::from_raw_os_error(5)),
        };
        let mut looks = Looks::default();
        for _ in 0..3 {
            assert!(looks.judge(Err(asked())).is_none());
            assert!(looks.failing);
        }
        let gone = looks.judge(Err(Failure::Gone { directory: directory.clone() }));
        assert!(matches!(gone, Some(Failure::Gone { .. })));
    }

    #[test]
    fn memory_for_sync_times_is_bounded() {
        let mut times = SyncTimes::default();
        let start = Instant::now();
        (0..10_000).for_each(|second| times.synced(QUICK, start + Duration::from_secs(second)));
        assert!(times.seconds.len() <= 62, "{}", times.seconds.len());
    }
}
