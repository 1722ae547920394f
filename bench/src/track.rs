//! What a subscriber has of one publisher: lost, twice, out of order.

use std::collections::BTreeMap;

/// Gaps that are remembered: a message that fills one forgotten counts as duplicated, and the forgotten as lost.
const GAPS_MAX: usize = 1 << 16;

/// What came of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// After all that came before.
    InOrder,
    /// The first time, after a later one.
    Late,
    /// Not the first time.
    Again,
}

/// The numbers of one publisher's messages as they come, from 0.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// One above the highest.
    next: u64,
    /// What is missing below it: each gap's first number and the one after its last.
    gaps: BTreeMap<u64, u64>,
    counts: Counts,
}

/// What came in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Different messages.
    pub received: u64,
    /// Messages that had come before.
    pub duplicated: u64,
    /// Messages after a later one.
    pub out_of_order: u64,
}

impl Track {
    /// A message came. After the highest number of 32 bits comes 0 again: each stands for the nearest to what is expected.
    pub fn arrived(&mut self, sequence: u32) -> Arrival {
        let ahead = sequence.wrapping_sub(self.next as u32).cast_signed();
        let sequence = self.next.wrapping_add_signed(ahead.into());
        let arrival = if ahead >= 0 {
            if sequence > self.next {
                self.gaps.insert(self.next, sequence);
                if self.gaps.len() > GAPS_MAX {
                    self.gaps.pop_first();
                }
            }
            self.next = sequence + 1;
            Arrival::InOrder
        } else {
            self.fill(sequence)
        };
        match arrival {
            Arrival::InOrder => self.counts.received += 1,
            Arrival::Late => {
                self.counts.received += 1;
                self.counts.out_of_order += 1;
            }
            Arrival::Again => self.counts.duplicated += 1,
        }
        arrival
    }

    /// What came.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn fill(&mut self, sequence: u64) -> Arrival {
        let gap = self.gaps.range(..=sequence).next_back().map(|(&first, &end)| (first, end));
        let Some((first, end)) = gap.filter(|&(_, end)| sequence < end) else { return Arrival::Again };
        self.gaps.remove(&first);
        if first < sequence {
            self.gaps.insert(first, sequence);
        }
        if sequence + 1 < end {
            self.gaps.insert(sequence + 1, end);
        }
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_of_all_that_came_would_say_the_same(
            sequences in proptest::collection::vec(0_u32..60, 0..150),
        ) {
            let (mut track, mut seen, mut late, mut again) = (Track::default(), BTreeSet::new(), 0, 0);
            for &sequence in &sequences {
                let highest = seen.last().copied();
                let expected = if !seen.insert(sequence) {
                    again += 1;
                    Arrival::Again
                } else if highest.is_some_and(|highest| sequence < highest) {
                    late += 1;
                    Arrival::Late
                } else {
                    Arrival::InOrder
                };
                prop_assert_eq!(track.arrived(sequence), expected);
            }
            let counts = Counts { received: seen.len() as u64, duplicated: again, out_of_order: late };
            prop_assert_eq!(track.counts(), counts);
        }
    }

    #[test]
    fn numbers_begin_again_after_the_highest() {
        let mut track = Track { next: u64::from(u32::MAX), ..Track::default() };
        assert_eq!(track.arrived(u32::MAX), Arrival::InOrder);
        assert_eq!(track.arrived(1), Arrival::InOrder);
        assert_eq!(track.arrived(0), Arrival::Late);
        assert_eq!(track.arrived(u32::MAX), Arrival::Again);
        assert_eq!(track.next, (1 << 32) + 2);
    }

    #[test]
    fn what_is_lost_takes_a_limited_memory() {
        let mut track = Track::default();
        for sequence in (1..4 * GAPS_MAX as u32).step_by(2) {
            track.arrived(sequence);
        }
        assert_eq!(track.gaps.len(), GAPS_MAX);
        assert_eq!(track.counts().received, 2 * GAPS_MAX as u64);
        assert_eq!(track.arrived(0), Arrival::Again, "its gap is forgotten");
        assert_eq!(track.arrived(4 * GAPS_MAX as u32 - 2), Arrival::Late);
    }
}
