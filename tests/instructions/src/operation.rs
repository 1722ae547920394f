//! What is counted, and what is not.

use std::hint::black_box;

/// Runs before anything is counted, so that buffers and tables have grown to what they stay at.
const WARM_UP: usize = 2_000;
/// Runs that are counted. Hash tables have other seeds in each process; over so many runs they make no difference.
pub(crate) const COUNTED: usize = 2_000;

/// One path, again and again under the same circumstances.
pub(crate) trait Operation {
    /// What is counted. Gives back something of its result, so that the compiler can leave none of it out; never 0, unless it
    /// has not done what it should.
    fn run(&mut self) -> usize;

    /// Checks what came of it and makes ready for the next; not counted.
    fn restore(&mut self);
}

/// Callgrind counts while this function runs: see [`crate::callgrind`], which knows it by name.
#[inline(never)]
pub(crate) fn counted(operation: &mut dyn Operation) -> usize {
    // Not as the last thing, or it would be jumped to and not called.
    black_box(operation.run())
}

/// Warms up and runs what is counted.
pub(crate) fn repeat(operation: &mut dyn Operation) {
    for _ in 0..WARM_UP {
        assert!(black_box(operation.run()) > 0, "the operation has done nothing");
        operation.restore();
    }
    for _ in 0..COUNTED {
        assert!(counted(operation) > 0, "the operation has done nothing");
        operation.restore();
    }
}
