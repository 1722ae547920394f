//! How much room the journal has left, and what that asks of the server.
//!
//! Room is what the quota leaves, or what the file system has free where that is less; the steps are shares of the
//! quota, or of the whole file system where that is smaller. The quota bounds telemetry: the journal itself goes on
//! writing for as long as the disk takes it, so that alerts have what telemetry left, and beyond.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::storage::{FileSystemRoom, Storage};

/// Room from which on an operator should be told, in percent of the capacity.
pub const ADVISORY_ROOM_PERCENT: u64 = 25;
/// Room from which on telemetry is slowed.
pub const NEAR_ROOM_PERCENT: u64 = 15;
/// Room that is reserved for alerts, responses and the node itself.
pub const RESERVED_ROOM_PERCENT: u64 = 5;
/// More room than that of a step by so much ends it: a segment that comes and goes is not to flap.
const HYSTERESIS_PERCENT: u64 = 3;
const _: () = assert!(
    RESERVED_ROOM_PERCENT + HYSTERESIS_PERCENT < NEAR_ROOM_PERCENT
        && NEAR_ROOM_PERCENT + HYSTERESIS_PERCENT < ADVISORY_ROOM_PERCENT,
    "steps must not overlap"
);

/// How short the room is. The journal keeps writing in any case: withholding is up to the server, which can tell
/// telemetry from an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Room enough.
    #[default]
    Normal,
    /// [`ADVISORY_ROOM_PERCENT`] are left: somebody should look, nothing is held back.
    Advisory,
    /// [`NEAR_ROOM_PERCENT`] are left: telemetry is to be slowed.
    Near,
    /// [`RESERVED_ROOM_PERCENT`] are left, or the disk has no room for another segment: telemetry is to be withheld.
    Full,
}

impl Pressure {
    const STEPS: [(Self, u64); 3] = [
        (Self::Full, RESERVED_ROOM_PERCENT),
        (Self::Near, NEAR_ROOM_PERCENT),
        (Self::Advisory, ADVISORY_ROOM_PERCENT),
    ];

    /// In one word, for metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Advisory => "advisory",
            Self::Near => "near",
            Self::Full => "full",
        }
    }

    /// The step for so much room of a capacity, coming from this one.
    fn next(self, room_bytes: u64, capacity_bytes: u64) -> Self {
        let percent = |share: u64| u128::from(capacity_bytes) * u128::from(share) / 100;
        let step = Self::STEPS.into_iter().find(|(step, share)| {
            let kept = if *step <= self { HYSTERESIS_PERCENT } else { 0 };
            u128::from(room_bytes) <= percent(share + kept)
        });
        step.map_or(Self::Normal, |(step, _)| step)
    }

    const fn from_u8(step: u8) -> Self {
        match step {
            0 => Self::Normal,
            1 => Self::Advisory,
            2 => Self::Near,
            _ => Self::Full,
        }
    }
}

/// What the journal has and may have of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Written to segments that still exist, and waiting to be, in bytes.
    pub used_bytes: u64,
    /// What the journal should stay within, in bytes.
    pub quota_bytes: u64,
    /// Free on the file system when it was last asked, in bytes; `None` before.
    pub free_bytes: Option<u64>,
    /// What is left for the journal, in bytes.
    pub room_bytes: u64,
    /// What the steps of [`Pressure`] are shares of: the quota, or a smaller file system, in bytes.
    pub capacity_bytes: u64,
    /// How short the room is.
    pub pressure: Pressure,
}

/// Keeps count of it; every part may be asked and told by any thread.
#[derive(Debug)]
pub(crate) struct Room {
    quota_bytes: u64,
    stored_bytes: AtomicU64,
    /// Of the file system, as last asked; the largest number before.
    free_bytes: AtomicU64,
    total_bytes: AtomicU64,
    /// There was no room to preallocate the next segment.
    spare_missing: AtomicBool,
    pressure: AtomicU8,
}

impl Room {
    pub(crate) fn new(stored_bytes: u64, quota_bytes: u64) -> Self {
        Self {
            quota_bytes,
            stored_bytes: AtomicU64::new(stored_bytes),
            free_bytes: AtomicU64::new(u64::MAX),
            total_bytes: AtomicU64::new(u64::MAX),
            spare_missing: AtomicBool::new(false),
            pressure: AtomicU8::new(Pressure::Normal as u8),
        }
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn stored(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn released(&self, bytes: u64) {
        self.stored_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether the next segment has its room; returns what was the case before.
    pub(crate) fn set_spare_missing(&self, missing: bool) -> bool {
        self.spare_missing.swap(missing, Ordering::Relaxed)
    }

    /// Asks the file system that `directory` is on.
    pub(crate) fn ask(&self, storage: &dyn Storage, directory: &Path) -> std::io::Result<()> {
        // A file system that counts no blocks has no such bound.
        if let Some(FileSystemRoom { free_bytes, total_bytes }) = storage.room(directory)? {
            self.free_bytes.store(free_bytes, Ordering::Relaxed);
            self.total_bytes.store(total_bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// How short the room is, with so much yet to be written.
    pub(crate) fn pressure(&self, backlog_bytes: usize) -> Pressure {
        self.space(backlog_bytes).pressure
    }

    pub(crate) fn space(&self, backlog_bytes: usize) -> Space {
        let used_bytes = self.stored_bytes().saturating_add(backlog_bytes as u64);
        let (quota_bytes, free) = (self.quota_bytes, self.free_bytes.load(Ordering::Relaxed));
        let room_bytes = quota_bytes.saturating_sub(used_bytes).min(free);
        let capacity_bytes = quota_bytes.min(self.total_bytes.load(Ordering::Relaxed));
        let before = Pressure::from_u8(self.pressure.load(Ordering::Relaxed));
        let pressure = if self.spare_missing.load(Ordering::Relaxed) {
            Pressure::Full
        } else {
            before.next(room_bytes, capacity_bytes)
        };
        if pressure != before {
            self.pressure.store(pressure as u8, Ordering::Relaxed);
        }
        let free_bytes = (free != u64::MAX).then_some(free);
        Space { used_bytes, quota_bytes, free_bytes, room_bytes, capacity_bytes, pressure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;

    #[test]
    fn steps_come_at_their_share_and_go_only_with_some_more_room() {
        use Pressure::{Advisory, Full, Near, Normal};
        let steps = |rooms: &[u64]| {
            let mut pressure = Normal;
            let mut walk = |room| {
                pressure = pressure.next(room, 1_000);
                pressure
            };
            rooms.iter().map(|room| walk(*room)).collect::<Vec<_>>()
        };
        assert_eq!(
            steps(&[1_000, 251, 250, 151, 150, 51, 50, 0]),
            [Normal, Normal, Advisory, Advisory, Near, Near, Full, Full]
        );
        assert_eq!(
            steps(&[0, 80, 81, 180, 181, 280, 281]),
            [Full, Full, Near, Near, Advisory, Advisory, Normal]
        );
        assert_eq!(steps(&[50, 51, 60, 49, 70]), [Full; 5], "it does not flap");
        assert_eq!(steps(&[0, 1_000]), [Full, Normal]);
    }

    #[test]
    fn room_is_the_lesser_of_quota_and_disk() {
        let room = Room::new(100, 1_000);
        assert_eq!((room.space(50).room_bytes, room.pressure(50)), (850, Pressure::Normal));
        assert_eq!(room.pressure(700), Pressure::Advisory);
        room.total_bytes.store(500, Ordering::Relaxed);
        room.free_bytes.store(20, Ordering::Relaxed);
        let space = room.space(0);
        assert_eq!((space.room_bytes, space.capacity_bytes, space.pressure), (20, 500, Pressure::Full));
        room.free_bytes.store(500, Ordering::Relaxed);
        assert_eq!(room.pressure(0), Pressure::Normal);
        room.set_spare_missing(true);
        assert_eq!(room.pressure(0), Pressure::Full);
        room.set_spare_missing(false);
        assert_eq!(room.pressure(0), Pressure::Normal);
    }

    #[test]
    fn a_real_file_system_answers() {
        let room = Room::new(0, u64::MAX);
        room.ask(&Disk, &std::env::temp_dir()).unwrap();
        let space = room.space(0);
        assert!(space.free_bytes.is_some_and(|free| free <= space.capacity_bytes), "{space:?}");
    }
}
