//! Chance that a seed decides: the same seed, the same throws.

/// `SplitMix64`. Good enough to choose what to do next, and nothing else.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of their own for one of several players, so that one throw more of another shifts nothing.
    pub fn for_player(seed: u64, player: usize) -> Self {
        let mut dice = Self(seed ^ (player as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
        dice.throw();
        dice
    }

    /// Any number.
    pub const fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range; its beginning if it is empty.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.throw() % range.end.saturating_sub(range.start).max(1)
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// Any time up to `longest`, in whole microseconds.
    pub fn up_to(&mut self, longest: std::time::Duration) -> std::time::Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        std::time::Duration::from_micros(self.within(0..micros))
    }
}
