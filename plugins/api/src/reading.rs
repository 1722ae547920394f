//! Telemetry payloads: from bytes to readings, in every shape a device may use.
//!
//! One reading: a bare number, or an object. Several: an object with `readings`, or SenML (RFC 8428). A value
//! that cannot be a reading of its signal is a [`Fault`], never a number: equipment must not pass for a
//! patient.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Mode;
use crate::signal::{NOT_AVAILABLE, Signal};

/// What a device said about one signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Which one.
    pub signal: &'static Signal,
    /// In the signal's own unit, plausible and of good quality; or why there is none.
    pub value: Result<f64, Fault>,
    /// By the device's clock.
    pub at: Option<Timestamp>,
    /// Whose it is; `real` where the device does not say.
    pub mode: Mode,
}

/// Why a value is not a reading.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The device says itself that it has none.
    NotAvailable,
    /// Outside what the signal can be.
    Implausible(f64),
    /// The device does not trust it; its word for that.
    Quality(String),
    /// In a unit that the signal cannot be given in.
    Unit(String),
    /// Not in a shape that is understood.
    Malformed,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAvailable => f.write_str("is not available at the device"),
            Self::Implausible(value) => {
                write!(f, "reads {value}, which cannot be: check sensor and connection")
            }
            Self::Quality(word) => {
                write!(f, "is of quality {word:?} by the device's own word: check the sensor")
            }
            Self::Unit(unit) => write!(f, "comes in unit {unit:?}, which is not one of this signal"),
            Self::Malformed => f.write_str("cannot be read: the payload is not a reading"),
        }
    }
}

/// The payload as a whole was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a telemetry payload: send a number, {{\"value\":97}}, {{\"readings\":{{\"spo2\":97}}}}, or SenML (RFC 8428)"
)]
pub struct Unreadable;

/// Longest word that is quoted from a device.
const QUOTED_MAX: usize = 32;

/// Reads one payload and hands each reading to `each`, in a fixed order.
///
/// `signal` is the topic's, or `None` on the topic of a whole device. Signals that Wardline does not know are
/// passed over. `now` is what relative times of SenML count from.
///
/// # Errors
/// [`Unreadable`] if nothing can be made of it; then `each` was not called.
pub fn parse(
    signal: Option<&'static Signal>,
    payload: &[u8],
    now: Timestamp,
    each: &mut dyn FnMut(Reading),
) -> Result<(), Unreadable> {
    let payload = payload.trim_ascii();
    match (signal, payload.first()) {
        (_, Some(b'[')) => crate::senml::parse(signal, payload, now, each),
        (None, Some(b'{')) => several(payload, each),
        (Some(signal), Some(b'{')) => {
            let fields: Fields<'_> = serde_json::from_slice(payload).map_err(|_| Unreadable)?;
            each(fields.reading(signal, None, None));
            Ok(())
        }
        (Some(signal), Some(_)) => {
            let value = bare(payload).ok_or(Unreadable)?;
            each(Reading {
                signal,
                value: judge(signal, Some(value), None, None),
                at: None,
                mode: Mode::Real,
            });
            Ok(())
        }
        (None, Some(_)) | (_, None) => Err(Unreadable),
    }
}

/// Whether a number in some unit and quality is a reading.
pub(crate) fn judge(
    signal: &Signal,
    value: Option<f64>,
    unit: Option<&str>,
    quality: Option<&str>,
) -> Result<f64, Fault> {
    let value = match value {
        Some(value) if !value.is_nan() && value != NOT_AVAILABLE => value,
        _ => return Err(Fault::NotAvailable),
    };
    if let Some(quality) = quality.filter(|quality| *quality != "good") {
        return Err(Fault::Quality(quote(quality)));
    }
    let value = match unit {
        None => value,
        Some(unit) => signal.convert(value, unit).ok_or_else(|| Fault::Unit(quote(unit)))?,
    };
    if signal.plausible.contains(&value) { Ok(value) } else { Err(Fault::Implausible(value)) }
}

fn quote(text: &str) -> String {
    text.chars().take(QUOTED_MAX).collect()
}

/// A JSON number, or the `NaN` that monitors send although JSON has none.
fn bare(payload: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(payload).ok()?;
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    // Rust's parser also takes words such as `inf`.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    if numeric { text.parse().ok() } else { None }
}

/// The members of one reading.
#[derive(Deserialize)]
struct Fields<'a> {
    value: Option<f64>,
    #[serde(borrow)]
    ucum: Option<Cow<'a, str>>,
    #[serde(borrow)]
    at: Option<Cow<'a, str>>,
    #[serde(borrow)]
    quality: Option<Cow<'a, str>>,
    mode: Option<Mode>,
}

impl Fields<'_> {
    fn reading(&self, signal: &'static Signal, at: Option<Timestamp>, mode: Option<Mode>) -> Reading {
        Reading {
            signal,
            value: judge(signal, self.value, self.ucum.as_deref(), self.quality.as_deref()),
            at: self.at.as_deref().and_then(moment).or(at),
            mode: self.mode.or(mode).unwrap_or(Mode::Real),
        }
    }
}

/// A device's clock never decides about a patient, so a time that cannot be read is as good as none.
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[derive(Deserialize)]
struct Several<'a> {
    #[serde(borrow)]
    at: Option<Cow<'a, str>>,
    mode: Option<Mode>,
    #[serde(borrow)]
    readings: BTreeMap<Cow<'a, str>, Entry<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry<'a> {
    Number(Option<f64>),
    #[serde(borrow)]
    Object(Fields<'a>),
    Other(IgnoredAny),
}

fn several(payload: &[u8], each: &mut dyn FnMut(Reading)) -> Result<(), Unreadable> {
    let several: Several<'_> = serde_json::from_slice(payload).map_err(|_| Unreadable)?;
    let at = several.at.as_deref().and_then(moment);
    for (name, entry) in &several.readings {
        let Some(signal) = Signal::named(name) else { continue };
        each(match entry {
            Entry::Object(fields) => fields.reading(signal, at, several.mode),
            other => {
                let value = match other {
                    Entry::Number(value) => judge(signal, *value, None, None),
                    _ => Err(Fault::Malformed),
                };
                Reading { signal, value, at, mode: several.mode.unwrap_or(Mode::Real) }
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(signal: &str, payload: &str) -> Result<Vec<Reading>, Unreadable> {
        let mut readings = Vec::new();
        let signal = (!signal.is_empty()).then(|| Signal::named(signal).unwrap());
        parse(signal, payload.as_bytes(), Timestamp::UNIX_EPOCH, &mut |reading| readings.push(reading))?;
        Ok(readings)
    }

    fn value(signal: &str, payload: &str) -> Result<f64, Fault> {
        read(signal, payload).unwrap().pop().unwrap().value
    }

    #[test]
    fn one_reading_in_each_of_its_shapes() {
        assert_eq!(value("spo2", "97"), Ok(97.0));
        assert_eq!(value("spo2", " 9.7e1\n"), Ok(97.0));
        let full = r#"{"value":97,"ucum":"%","at":"2026-11-21T08:00:00.125Z","quality":"good","mode":"test","extra":1}"#;
        let reading = read("spo2", full).unwrap().pop().unwrap();
        assert_eq!((reading.value, reading.mode), (Ok(97.0), Mode::Test));
        assert_eq!(reading.at, Some("2026-11-21T08:00:00.125Z".parse().unwrap()));
    }

    #[test]
    fn several_readings_share_time_and_mode_unless_they_say_otherwise() {
        let readings = read(
            "",
            r#"{"at":"2026-01-01T00:00:00Z","mode":"demo","readings":{"hr":72,"spo2":{"value":97,"mode":"test"},"ppg":[1],"rr":"x","temp":null}}"#,
        )
        .unwrap();
        let summary: Vec<_> = readings.iter().map(|r| (r.signal.name, r.value.clone(), r.mode)).collect();
        assert_eq!(
            summary,
            [
                ("hr", Ok(72.0), Mode::Demo),
                ("rr", Err(Fault::Malformed), Mode::Demo),
                ("spo2", Ok(97.0), Mode::Test),
                ("temp", Err(Fault::NotAvailable), Mode::Demo),
            ]
        );
        assert!(readings.iter().all(|r| r.at.is_some()));
    }

    #[test]
    fn what_is_not_a_reading_never_becomes_a_number() {
        for nothing in ["8388607", "NaN", r#"{"value":null}"#, r#"{"value":8388607}"#, "{}"] {
            assert_eq!(value("hr", nothing), Err(Fault::NotAvailable), "{nothing}");
        }
        assert_eq!(value("spo2", "0"), Err(Fault::Implausible(0.0)));
        assert_eq!(value("temp", "98.6"), Err(Fault::Implausible(98.6)));
        assert_eq!(value("temp", r#"{"value":98.6,"ucum":"[degF]"}"#), Ok(37.0));
        assert_eq!(value("temp", r#"{"value":37,"ucum":"mm[Hg]"}"#), Err(Fault::Unit("mm[Hg]".into())));
        assert_eq!(value("hr", r#"{"value":72,"quality":"poor"}"#), Err(Fault::Quality("poor".into())));
        assert_eq!(value("hr", "0"), Ok(0.0), "a heart that stands still is a reading");
    }

    #[test]
    fn the_rest_is_unreadable() {
        for wrong in [
            "",
            "  ",
            "x",
            "inf",
            "-",
            "{",
            "[1]",
            "\"97\"",
            "true",
            r#"{"value":"97"}"#,
            r#"{"mode":"life"}"#,
        ] {
            assert_eq!(read("hr", wrong), Err(Unreadable), "{wrong}");
        }
        for wrong in ["97", "{}", r#"{"value":97}"#, r#"{"readings":[]}"#] {
            assert_eq!(read("", wrong), Err(Unreadable), "{wrong}");
        }
    }
}
