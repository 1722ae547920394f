//! The topics of readings, limits and admissions, taken apart.

/// What topics of readings begin with.
pub(crate) const TELEMETRY: &str = "telemetry/";
/// What topics of a patient's limits begin with.
pub(crate) const LIMITS: &str = "limits/";
/// What topics of admissions begin with.
pub(crate) const ADMISSIONS: &str = "admissions/";

/// `telemetry/{unit}/{bed}/{device}` and, with a signal, one level more. Other depths are not readings.
pub(crate) struct Telemetry<'a> {
    /// `unit/bed`
    pub(crate) place: &'a str,
    pub(crate) device: &'a str,
    /// All that follows the device.
    pub(crate) signal: Option<&'a str>,
}

impl<'a> Telemetry<'a> {
    pub(crate) fn parse(topic: &'a str) -> Option<Self> {
        let (place, rest) = split_place(topic.strip_prefix(TELEMETRY)?)?;
        let (device, signal) = split_level(rest?);
        (!device.is_empty()).then_some(Self { place, device, signal })
    }
}

/// `unit/bed` and the signal's name.
pub(crate) fn limit(topic: &str) -> Option<(&str, &str)> {
    let (place, signal) = split_place(topic.strip_prefix(LIMITS)?)?;
    Some((place, signal?))
}

/// `unit/bed`, and nothing more.
pub(crate) fn admission(topic: &str) -> Option<&str> {
    match split_place(topic.strip_prefix(ADMISSIONS)?)? {
        (place, None) => Some(place),
        (_, Some(_)) => None,
    }
}

/// `unit/bed` and what follows it, if both are there.
fn split_place(levels: &str) -> Option<(&str, Option<&str>)> {
    let (unit, rest) = split_level(levels);
    let (bed, rest) = split_level(rest?);
    if unit.is_empty() || bed.is_empty() {
        return None;
    }
    Some((levels.get(..unit.len() + 1 + bed.len())?, rest))
}

/// The first level and what follows it. Levels are a few bytes long: looking at each is cheaper than a search that is made for
/// long texts.
fn split_level(levels: &str) -> (&str, Option<&str>) {
    let end = levels.bytes().position(|byte| byte == b'/').unwrap_or(levels.len());
    let (level, rest) = levels.split_at_checked(end).unwrap_or((levels, ""));
    (level, rest.get(1..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(topic: &str) -> Option<(&str, &str, Option<&str>)> {
        Telemetry::parse(topic).map(|topic| (topic.place, topic.device, topic.signal))
    }

    #[test]
    fn a_reading_names_its_place_its_device_and_perhaps_its_signal() {
        assert_eq!(telemetry("telemetry/icu/b1/mon/hr"), Some(("icu/b1", "mon", Some("hr"))));
        assert_eq!(telemetry("telemetry/icu/b1/mon"), Some(("icu/b1", "mon", None)));
        assert_eq!(telemetry("telemetry/ü/b1/mön/hr/x"), Some(("ü/b1", "mön", Some("hr/x"))));
        assert_eq!(telemetry("telemetry/icu/b1/mon/"), Some(("icu/b1", "mon", Some(""))));
        for other in [
            "telemetry/icu/b1",
            "telemetry/icu/b1/",
            "telemetry//b1/mon",
            "telemetry/icu//mon",
            "limits/a/b/c",
        ] {
            assert_eq!(telemetry(other), None, "{other}");
        }
    }

    #[test]
    fn limits_need_a_signal_and_admissions_take_none() {
        assert_eq!(limit("limits/icu/b1/hr"), Some(("icu/b1", "hr")));
        assert_eq!(admission("admissions/icu/b1"), Some("icu/b1"));
        assert_eq!([limit("limits/icu/b1"), limit("limits/icu"), limit("limits/")], [None; 3]);
        assert_eq!(["admissions/icu/b1/x", "admissions/icu/b1/", "admissions/icu"].map(admission), [None; 3]);
    }
}
