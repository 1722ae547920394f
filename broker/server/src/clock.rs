//! The one place that asks the machine what time it is.

use jiff::Timestamp;

/// Wall-clock time in UTC, to the microsecond.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
