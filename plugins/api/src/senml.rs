//! SenML in JSON (RFC 8428): an array of records, where base fields hold for their record and all after it.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::Mode;
use crate::reading::{Fault, Reading, Unreadable, judge};
use crate::signal::Signal;

/// The version of RFC 8428; a higher one may mean something else.
const VERSION_MAX: u64 = 10;

/// Times below this many seconds are relative to now (RFC 8428 section 4.5.3).
const RELATIVE_BELOW: f64 = 268_435_456.0;

#[derive(Default)]
struct Base {
    name: String,
    time: f64,
    unit: Option<String>,
    value: Option<f64>,
}

/// As [`crate::reading::parse`]. A record's name is its signal, or ends in it after `:` or `/`; on a signal's
/// own topic it may be missing.
pub(crate) fn parse(
    topic_signal: Option<&'static Signal>,
    payload: &[u8],
    now: Timestamp,
    each: &mut dyn FnMut(Reading),
) -> Result<(), Unreadable> {
    let records: Vec<Map<String, Value>> = serde_json::from_slice(payload).map_err(|_| Unreadable)?;
    let mut base = Base::default();
    let mut readings = Vec::new();
    for record in &records {
        readings.extend(resolve(topic_signal, record, &mut base, now)?);
    }
    readings.into_iter().for_each(each);
    Ok(())
}

fn resolve(
    topic_signal: Option<&'static Signal>,
    record: &Map<String, Value>,
    base: &mut Base,
    now: Timestamp,
) -> Result<Option<Reading>, Unreadable> {
    // A label that ends in `_` must be understood or the whole pack refused (section 4.4).
    if record.keys().any(|label| label.ends_with('_')) {
        return Err(Unreadable);
    }
    if let Some(version) = record.get("bver")
        && version.as_u64().is_none_or(|version| version > VERSION_MAX)
    {
        return Err(Unreadable);
    }
    if let Some(name) = text(record, "bn")? {
        name.clone_into(&mut base.name);
    }
    if let Some(time) = number(record, "bt")? {
        base.time = time;
    }
    if let Some(unit) = text(record, "bu")? {
        base.unit = Some(unit.to_owned());
    }
    if let Some(value) = number(record, "bv")? {
        base.value = Some(value);
    }

    let own_name = text(record, "n")?;
    let value = number(record, "v")?;
    let speaks = ["v", "vs", "vb", "vd"].iter().any(|label| record.contains_key(*label))
        || (own_name.is_some() && base.value.is_some());
    if !speaks {
        return Ok(None);
    }
    let name = format!("{}{}", base.name, own_name.unwrap_or_default());
    let named = Signal::named(name.rsplit([':', '/']).next().unwrap_or_default());
    let Some(signal) = topic_signal.or(named) else { return Ok(None) };

    let unit = text(record, "u")?.or(base.unit.as_deref());
    let value = match (value, base.value) {
        (None, None) => Err(Fault::Malformed),
        _ if named.is_some_and(|named| named != signal) => Err(Fault::Malformed),
        (value, base) => {
            judge(signal, Some(value.unwrap_or_default() + base.unwrap_or_default()), unit, None)
        }
    };
    let mode = match text(record, "mode")? {
        None => Mode::Real,
        Some(word) => Mode::parse(word).ok_or(Unreadable)?,
    };
    let time = base.time + number(record, "t")?.unwrap_or_default();
    let timed = record.contains_key("t") || base.time != 0.0;
    Ok(Some(Reading { signal, value, at: timed.then(|| moment(time, now)).flatten(), mode }))
}

fn moment(seconds: f64, now: Timestamp) -> Option<Timestamp> {
    let nanosecond = if seconds < RELATIVE_BELOW { now.as_nanosecond() } else { 0 };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float that is too large saturates, and is refused below"
    )]
    let offset = (seconds * 1e6).round() as i64;
    Timestamp::from_nanosecond(nanosecond.checked_add(i128::from(offset).checked_mul(1000)?)?).ok()
}

fn text<'a>(record: &'a Map<String, Value>, label: &str) -> Result<Option<&'a str>, Unreadable> {
    record.get(label).map(|value| value.as_str().ok_or(Unreadable)).transpose()
}

fn number(record: &Map<String, Value>, label: &str) -> Result<Option<f64>, Unreadable> {
    record.get(label).map(|value| value.as_f64().ok_or(Unreadable)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(signal: Option<&str>, payload: &str) -> Result<Vec<Reading>, Unreadable> {
        let mut readings = Vec::new();
        let signal = signal.map(|name| Signal::named(name).unwrap());
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        parse(signal, payload.as_bytes(), now, &mut |reading| readings.push(reading))?;
        Ok(readings)
    }

    #[test]
    fn base_fields_hold_for_all_records_after_them() {
        let readings = read(
            None,
            r#"[{"bn":"urn:dev:mac:0024befffe804ff1:","bt":1.6e9,"bu":"beat/min","n":"hr","v":72},
                {"n":"pulse","v":71,"t":-1.5},{"n":"spo2","u":"/","v":0.97},{"n":"battery","v":3}]"#,
        )
        .unwrap();
        let values: Vec<_> = readings.iter().map(|r| (r.signal.name, r.value.clone())).collect();
        assert_eq!(values, [("hr", Ok(72.0)), ("pulse", Ok(71.0)), ("spo2", Ok(97.0))]);
        assert_eq!(readings[0].at, Some(Timestamp::from_second(1_600_000_000).unwrap()));
        assert_eq!(readings[1].at, Some(Timestamp::from_millisecond(1_599_999_998_500).unwrap()));
    }

    #[test]
    fn the_topic_names_a_nameless_record_and_contradiction_is_a_fault() {
        let readings =
            read(Some("hr"), r#"[{"v":72,"t":-5},{"n":"spo2","v":97},{"n":"dev/hr","vs":"x"}]"#).unwrap();
        let values: Vec<_> = readings.iter().map(|r| (r.signal.name, r.value.clone())).collect();
        assert_eq!(values, [("hr", Ok(72.0)), ("hr", Err(Fault::Malformed)), ("hr", Err(Fault::Malformed))]);
        assert_eq!(readings[0].at, Some(Timestamp::from_second(1_699_999_995).unwrap()));
    }

    #[test]
    fn a_pack_that_must_not_be_guessed_at_is_refused() {
        for wrong in [
            r#"[{"n":"hr","v":1,"x_":1}]"#,
            r#"[{"bver":11,"n":"hr","v":1}]"#,
            r#"[{"n":"hr","v":"1"}]"#,
            "[1]",
        ] {
            assert_eq!(read(None, wrong), Err(Unreadable), "{wrong}");
        }
        assert_eq!(read(None, r#"[{"n":"hr","v":60,"t":1e300}]"#).unwrap()[0].at, None);
    }
}
