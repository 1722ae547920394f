//! Numbers in payloads: a whole value is written `84`, not `84.0`, as a person or another monitor would.

use serde::Serializer;

/// Largest magnitude below which every whole `f64` is exact.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// For `#[serde(serialize_with = "...")]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        None => serializer.serialize_none(),
        Some(value) if value.fract() == 0.0 && value.abs() < WHOLE_MAX =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within the exact range")]
            serializer.serialize_i64(value as i64)
        }
        Some(value) => serializer.serialize_f64(value),
    }
}
