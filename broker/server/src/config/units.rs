//! Sizes and durations as people write them.

use std::time::Duration;

use jiff::SignedDuration;

/// Bytes: `256KiB`, `20 GiB`, `1MB`, `512`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => 0,
    };
    let size = number.parse::<u64>().ok().filter(|_| scale > 0).and_then(|number| number.checked_mul(scale));
    size.ok_or_else(|| {
        format!("`{text}` is not a size; write a whole number and a unit, as \"256KiB\" or \"20GiB\"")
    })
}

/// A span of time, zero or more: `5ms`, `1m 30s`, `PT10M`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok()),
    };
    parsed.ok_or_else(|| format!("`{text}` is not a duration; write one as \"15s\", \"5ms\" or \"1h\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        let sizes = [
            ("512", 512),
            ("512B", 512),
            ("256KiB", 262_144),
            ("20 GiB", 21_474_836_480),
            ("1MB", 1_000_000),
            ("0", 0),
        ];
        for (text, expected) in sizes {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "1 QiB", "99999999999TiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_never_negative() {
        let durations = [("15s", 15_000), ("5ms", 5), ("1m 30s", 90_000), ("PT10M", 600_000), ("60", 60_000)];
        for (text, milliseconds) in durations {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "-5s", "soon", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
