//! The signals that Wardline understands: codes of ISO/IEEE 11073-10101, units of UCUM, and what can be true
//! of them.

use std::ops::RangeInclusive;

/// A vital sign.
#[derive(Debug, PartialEq)]
pub struct Signal {
    /// Its name in topics and rules.
    pub name: &'static str,
    /// How it is called at the bedside.
    pub label: &'static str,
    /// MDC code.
    pub mdc: u32,
    /// MDC reference id.
    pub reference: &'static str,
    /// Unit in which limits are set and alerts speak.
    pub ucum: &'static str,
    /// What a sensor can truly read. Outside, equipment speaks, not the patient.
    pub plausible: RangeInclusive<f64>,
    /// Where a low limit can sensibly be. Narrow enough that swapped limits of two signals are noticed.
    pub low: RangeInclusive<f64>,
    /// Where a high limit can sensibly be.
    pub high: RangeInclusive<f64>,
    index: usize,
}

/// How many signals there are.
pub const COUNT: usize = 12;

macro_rules! signal {
    ($index:literal $name:literal $label:literal $mdc:literal $reference:literal $ucum:literal
     $plausible:expr, $low:expr, $high:expr) => {
        Signal {
            name: $name,
            label: $label,
            mdc: $mdc,
            reference: $reference,
            ucum: $ucum,
            plausible: $plausible,
            low: $low,
            high: $high,
            index: $index,
        }
    };
}

/// All of them. A heart that stands still reads 0, and so do breathing and the CO2 of no breath; a pressure,
/// a saturation or a pulse wave of 0 is a sensor that is not connected.
#[rustfmt::skip]
pub static SIGNALS: [Signal; COUNT] = [
    signal!(0 "hr" "HR" 147842 "MDC_ECG_HEART_RATE" "/min" 0.0..=350.0, 20.0..=200.0, 60.0..=300.0),
    signal!(1 "pulse" "Pulse" 149530 "MDC_PULS_OXIM_PULS_RATE" "/min" 1.0..=350.0, 20.0..=200.0, 60.0..=300.0),
    signal!(2 "spo2" "SpO2" 150456 "MDC_PULS_OXIM_SAT_O2" "%" 1.0..=100.0, 50.0..=100.0, 70.0..=100.0),
    signal!(3 "rr" "RR" 151562 "MDC_RESP_RATE" "/min" 0.0..=200.0, 1.0..=60.0, 10.0..=120.0),
    signal!(4 "nbp-sys" "NBP systolic" 150021 "MDC_PRESS_BLD_NONINV_SYS" "mm[Hg]" 10.0..=350.0, 30.0..=200.0, 60.0..=280.0),
    signal!(5 "nbp-dia" "NBP diastolic" 150022 "MDC_PRESS_BLD_NONINV_DIA" "mm[Hg]" 5.0..=300.0, 10.0..=130.0, 30.0..=200.0),
    signal!(6 "nbp-mean" "NBP mean" 150023 "MDC_PRESS_BLD_NONINV_MEAN" "mm[Hg]" 5.0..=320.0, 20.0..=150.0, 40.0..=220.0),
    signal!(7 "abp-sys" "ABP systolic" 150037 "MDC_PRESS_BLD_ART_ABP_SYS" "mm[Hg]" 5.0..=350.0, 30.0..=200.0, 60.0..=280.0),
    signal!(8 "abp-dia" "ABP diastolic" 150038 "MDC_PRESS_BLD_ART_ABP_DIA" "mm[Hg]" 2.0..=300.0, 10.0..=130.0, 30.0..=200.0),
    signal!(9 "abp-mean" "ABP mean" 150039 "MDC_PRESS_BLD_ART_ABP_MEAN" "mm[Hg]" 3.0..=320.0, 20.0..=150.0, 40.0..=220.0),
    signal!(10 "temp" "Temperature" 150364 "MDC_TEMP_BODY" "Cel" 20.0..=45.0, 25.0..=40.0, 30.0..=45.0),
    signal!(11 "etco2" "etCO2" 151708 "MDC_CONC_AWAY_CO2_ET" "mm[Hg]" 0.0..=200.0, 1.0..=60.0, 10.0..=150.0),
];

/// "Not available" in the 24-bit integers of several monitors (0x7FFFFF).
pub const NOT_AVAILABLE: f64 = 8_388_607.0;

impl Signal {
    /// The signal of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SIGNALS.iter().find(|signal| signal.name == name)
    }

    /// Its place in [`SIGNALS`].
    pub const fn index(&self) -> usize {
        self.index
    }

    /// `value` in this signal's own unit, or `None` if `unit` is not one that it can be given in.
    ///
    /// Annotations such as `{beats}/min` say nothing about the unit (UCUM section 6) and are left out.
    pub fn convert(&self, value: f64, unit: &str) -> Option<f64> {
        if unit == self.ucum {
            return Some(value);
        }
        let stripped;
        let unit = match (unit.find('{'), unit.find('}')) {
            (Some(open), Some(close)) if open < close => {
                let (before, after) = (unit.get(..open)?, unit.get(close + 1..)?);
                stripped = format!("{before}{after}");
                stripped.as_str()
            }
            _ => unit,
        };
        let converted = match (self.ucum, unit) {
            (own, given) if own == given => return Some(value),
            ("/min", "1/min" | "beat/min") | ("mm[Hg]", "mmHg") => return Some(value),
            ("/min", "/s" | "1/s" | "Hz") => value * 60.0,
            ("%", "1" | "/") => value * 100.0,
            ("Cel", "[degF]" | "degF") => (value - 32.0) / 1.8,
            ("Cel", "K") => value - 273.15,
            ("mm[Hg]", "kPa") => value * 7.500_617,
            _ => return None,
        };
        // Conversion must not invent digits.
        Some((converted * 100.0).round() / 100.0)
    }
}

/// For `#[serde(with = "wardline_plugin_api::signal::by_name")]` on an `Option<&'static Signal>`.
pub mod by_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Signal;

    /// Writes the name.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        signal: &Option<&'static Signal>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        signal.map(|signal| signal.name).serialize(serializer)
    }

    /// Finds the signal of the name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<&'static Signal>, D::Error> {
        let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let unknown = || serde::de::Error::custom(format!("there is no signal {name:?}"));
        Signal::named(&name).map(Some).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        for (place, signal) in SIGNALS.iter().enumerate() {
            assert_eq!(signal.index(), place, "{}", signal.name);
            assert_eq!(Signal::named(signal.name), Some(signal));
            assert!(signal.low.start() < signal.high.end());
            for limit in [&signal.low, &signal.high] {
                assert!(signal.plausible.contains(limit.start()) && signal.plausible.contains(limit.end()));
            }
        }
        assert_eq!(Signal::named("SpO2"), None);
    }

    #[test]
    fn converts_what_it_knows_and_nothing_else() {
        let convert = |name: &str, value, unit: &str| Signal::named(name).unwrap().convert(value, unit);
        assert_eq!(convert("temp", 98.6, "[degF]"), Some(37.0));
        assert_eq!(convert("temp", 310.15, "K"), Some(37.0));
        assert_eq!(convert("hr", 72.0, "{beats}/min"), Some(72.0));
        assert_eq!(convert("hr", 1.2, "Hz"), Some(72.0));
        assert_eq!(convert("spo2", 0.97, "/"), Some(97.0));
        assert_eq!(convert("nbp-sys", 16.0, "kPa"), Some(120.01));
        assert_eq!(convert("temp", 37.0, "%"), None);
        assert_eq!(convert("hr", 72.0, "}{"), None);
    }
}
