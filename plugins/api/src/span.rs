//! Spans of time in rules (`"15s"`, `"PT10M"`) and in sentences (`2 min 5 s`), and adding them to a moment.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serializer};

/// Parses an ISO 8601 or friendly span that is not negative.
///
/// # Errors
/// What was wrong, with examples of what is right.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = |_| format!("{text:?} is not a span of time; write \"15s\", \"2m\" or \"PT10M\"");
    let span: SignedDuration = text.parse().map_err(wrong)?;
    Duration::try_from(span).map_err(|_| format!("{text:?} is negative; a span of time is not"))
}

/// `at + span`, or the end of time.
pub fn after(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// From `earlier` to `later`; nothing if they are the other way round.
pub fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// For `#[serde(with = "wardline_plugin_api::span")]`.
///
/// # Errors
/// Those of [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// Writes what [`deserialize`] reads.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let span = SignedDuration::try_from(*span).unwrap_or(SignedDuration::MAX);
    serializer.collect_str(&span)
}

/// A span as a person says it, to the second: `10 s`, `2 min 5 s`, `1 h 5 min`.
#[derive(Clone, Copy, Debug)]
pub struct Spoken(pub Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match (hours, minutes, rest) {
            (0, 0, rest) => write!(f, "{rest} s"),
            (0, minutes, 0) => write!(f, "{minutes} min"),
            (0, minutes, rest) => write!(f, "{minutes} min {rest} s"),
            (hours, 0, _) => write!(f, "{hours} h"),
            (hours, minutes, _) => write!(f, "{hours} h {minutes} min"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_notations_and_refuses_the_rest() {
        assert_eq!(parse("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(parse("PT10M"), Ok(Duration::from_secs(600)));
        assert_eq!(parse("1h 30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "15", "soon", "-5s", "-PT1S"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn is_spoken_to_the_second() {
        let spoken = |seconds| Spoken(Duration::from_secs(seconds)).to_string();
        assert_eq!(
            [spoken(10), spoken(125), spoken(120), spoken(3900)],
            ["10 s", "2 min 5 s", "2 min", "1 h 5 min"]
        );
    }
}
