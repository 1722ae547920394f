//! A hospital's load: monitors that publish readings, a known few of them beyond a limit, and pagers that must hear of
//! each of those.
//!
//! Which reading is beyond its limit follows from the device and the reading's number alone, and the value of such a
//! reading tells which of the device's it is. So an alert that names bed, condition and value names its reading, and
//! with it when that was due, without anything that passes beside the broker.

use serde::Deserialize;
use wardline_wire::{EncodeError, QoS, Version};

use crate::message::{Encoded, Stamp};
use crate::plan::Plan;
use crate::schedule::Schedule;

/// Digits of a value behind its point. In a value beyond a limit they count the device's alerts.
const FRACTION_DIGITS: usize = 6;
const FRACTIONS: u32 = 10_u32.pow(FRACTION_DIGITS as u32);
/// What a payload has before its value.
const BEFORE_VALUE: &str = "{\"value\":";
/// Spreads devices over the time between two alerts of a device; Knuth's multiplicative hash.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// A vital sign as a monitor sends it: usual values lie within any sensible limits, the others beyond them.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// Last level of its topics.
    pub name: &'static str,
    /// Unit, as in UCUM.
    pub ucum: &'static str,
    /// Usual values are at least this and below the next whole number.
    usual: u32,
    /// As `usual`, beyond the limit. As many digits, so that a packet need only be patched.
    beyond: u32,
    limit: Limit,
}

/// The limit that [`rules`] sets.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Low(u32),
    High(u32),
}

const fn signal(name: &'static str, ucum: &'static str, usual: u32, limit: Limit, beyond: u32) -> Signal {
    Signal { name, ucum, usual, beyond, limit }
}

/// What a monitor measures, in the order that it sends it.
pub const SIGNALS: [Signal; 12] = [
    signal("hr", "/min", 72, Limit::Low(50), 35),
    signal("spo2", "%", 97, Limit::Low(90), 80),
    signal("rr", "/min", 16, Limit::High(30), 40),
    signal("pulse", "/min", 71, Limit::Low(50), 35),
    signal("abp-sys", "mm[Hg]", 118, Limit::High(160), 190),
    signal("abp-dia", "mm[Hg]", 74, Limit::Low(50), 40),
    signal("abp-mean", "mm[Hg]", 88, Limit::Low(60), 50),
    signal("temp", "Cel", 37, Limit::High(39), 40),
    signal("etco2", "mm[Hg]", 38, Limit::High(50), 60),
    signal("nbp-sys", "mm[Hg]", 120, Limit::High(160), 180),
    signal("nbp-dia", "mm[Hg]", 75, Limit::Low(50), 40),
    signal("nbp-mean", "mm[Hg]", 90, Limit::Low(60), 50),
];

/// `rules.toml` of a broker that is to raise an alert, to role `nurse`, for each reading beyond its limit.
pub fn rules() -> String {
    let mut text = String::new();
    for Signal { name, limit, .. } in SIGNALS {
        let limit = match limit {
            Limit::Low(limit) => format!("low = {limit}"),
            Limit::High(limit) => format!("high = {limit}"),
        };
        text += &format!(
            "[[limit]]\nsignal = \"{name}\"\n{limit}\nseverity = \"death\"\nonset = \"prompt\"\ndelay = \"0s\"\n\n\
             [[absence]]\nsignal = \"{name}\"\nafter = \"30m\"\n\n"
        );
    }
    text + "[[escalation]]\npriority = \"high\"\n\
            tiers = [{ to = \"nurse\", wait = \"60s\" }, { to = \"charge\", wait = \"120s\" }]\n"
}

impl Signal {
    /// Whether `value` is beyond the limit that [`rules`] sets, and the name of the condition that it then is.
    pub fn condition(&self, value: f64) -> Option<String> {
        let (beyond, side) = match self.limit {
            Limit::Low(limit) => (value < f64::from(limit), "low"),
            Limit::High(limit) => (value > f64::from(limit), "high"),
        };
        beyond.then(|| format!("{}-{side}", self.name))
    }
}

/// The unit of a device, which is that of one pager.
pub fn unit(prefix: &str, pagers: u32, device: u32) -> String {
    format!("{prefix}-{}", device % pagers)
}

/// The bed of a device.
pub fn bed(device: u32) -> String {
    format!("b{device}")
}

/// Client identifier of a device; its principal is `device:` with the same.
pub fn device_id(prefix: &str, device: u32) -> String {
    format!("{prefix}-mon-{device}")
}

/// Client identifier of a pager; its principal is `staff:` with the same.
pub fn pager_id(prefix: &str, pager: u32) -> String {
    format!("{prefix}-nurse-{pager}")
}

/// Who sends what, and which of it is beyond a limit.
#[derive(Clone, Debug)]
pub(crate) struct Ward {
    prefix: String,
    devices: u32,
    pagers: u32,
    /// Signals of each device, which it sends in turn.
    signals: u64,
    /// Readings of a device from one that is beyond its limit to the next.
    every: u64,
    rate_per_second: f64,
}

/// A reading that is beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Episode {
    device: u32,
    /// Counts those of the device from 0.
    number: u32,
}

/// What came to a pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The alert of a reading.
    Alert(Stamp),
    /// Another message about an alert, such as its end.
    Later,
    /// Not of this run.
    Foreign,
}

/// As much of an alert as tells its reading.
#[derive(Deserialize)]
struct Alert<'a> {
    phase: &'a str,
    unit: &'a str,
    bed: &'a str,
    condition: &'a str,
    value: Option<f64>,
}

impl Ward {
    /// Of a plan that has been checked.
    pub(crate) fn of(plan: &Plan) -> Self {
        let rate_per_second = plan.rate_per_second.unwrap_or_default();
        Self {
            prefix: plan.prefix.clone(),
            devices: plan.publishers,
            pagers: plan.subscribers,
            signals: u64::from(plan.topics),
            every: readings_for_each_alert(rate_per_second, plan.alerts_per_second),
            rate_per_second,
        }
    }

    /// When the readings of a device are due, if the run is from `begin_ns` to `end_ns`.
    pub(crate) fn schedule(&self, device: u32, begin_ns: u64, end_ns: u64) -> Schedule {
        Schedule::shared(self.rate_per_second, begin_ns, end_ns, device, self.devices)
    }

    /// How many of the first `sent` readings of a device, which are `count` in all, are beyond their limits.
    pub(crate) fn alerts(&self, device: u32, sent: u64, count: u64) -> u64 {
        let end = sent.min(count.saturating_sub(self.signals));
        end.saturating_sub(self.first(device)).div_ceil(self.every)
    }

    /// The first reading of a device that is beyond its limit. Not the first of its signal, because that may be what ends a
    /// condition left by an earlier run.
    fn first(&self, device: u32) -> u64 {
        let spread = u64::from(device).wrapping_mul(SPREAD) >> u32::BITS;
        self.signals + spread % self.every
    }

    /// Whether the reading with this number, of `count`, is beyond its limit. Not the last of its signal, because the
    /// next one ends the condition.
    fn episode(&self, device: u32, number: u64, count: u64) -> Option<Episode> {
        let after_first = number.checked_sub(self.first(device))?;
        let is_one = after_first.is_multiple_of(self.every) && number + self.signals < count;
        let counted = (after_first / self.every) % u64::from(FRACTIONS);
        is_one.then_some(Episode { device, number: counted as u32 })
    }

    /// The number of the reading.
    fn reading(&self, episode: Episode) -> u64 {
        self.first(episode.device) + u64::from(episode.number) * self.every
    }

    fn signal(&self, number: u64) -> &'static Signal {
        &SIGNALS[(number % self.signals) as usize % SIGNALS.len()]
    }

    /// The reading of an alert, by its payload; the run is from `begin_ns` to `end_ns`.
    pub(crate) fn hear(&self, payload: &[u8], begin_ns: u64, end_ns: u64) -> Heard {
        let Ok(alert) = serde_json::from_slice::<Alert<'_>>(payload) else { return Heard::Foreign };
        let device = alert.bed.strip_prefix('b').and_then(|number| number.parse().ok());
        let Some(device) = device
            .filter(|&device| device < self.devices && alert.unit == unit(&self.prefix, self.pagers, device))
        else {
            return Heard::Foreign;
        };
        if alert.phase != "start" {
            return Heard::Later;
        }
        let found = alert.value.and_then(|value| {
            let fraction = (value.fract() * f64::from(FRACTIONS)).round() as u32 % FRACTIONS;
            let episode = Episode { device, number: fraction };
            let number = self.reading(episode);
            let signal = self.signal(number);
            let of_it = signal.condition(value).is_some_and(|condition| condition == alert.condition);
            let schedule = self.schedule(device, begin_ns, end_ns);
            (of_it && self.episode(device, number, schedule.count()).is_some()).then(|| Stamp {
                sent_ns: schedule.at(number),
                publisher: device,
                sequence: fraction,
            })
        });
        found.map_or(Heard::Foreign, Heard::Alert)
    }
}

/// Readings from one alert to the next.
pub(crate) fn readings_for_each_alert(rate_per_second: f64, alerts_per_second: f64) -> u64 {
    (rate_per_second / alerts_per_second).round().max(1.0) as u64
}

/// The packets of one device: one of each signal, of which the value changes.
#[derive(Clone, Debug)]
pub(crate) struct Readings {
    ward: Ward,
    device: u32,
    packets: Vec<Encoded>,
}

impl Readings {
    /// # Errors
    /// If there can be no such packets.
    pub(crate) fn new(ward: Ward, device: u32, version: Version, qos: QoS) -> Result<Self, EncodeError> {
        let Ward { prefix, pagers, .. } = &ward;
        let place = format!("{}/{}", unit(prefix, *pagers, device), bed(device));
        let packets = (0..ward.signals).map(|number| {
            let Signal { name, ucum, usual, .. } = ward.signal(number);
            let topic = format!("telemetry/{place}/{}/{name}", device_id(prefix, device));
            let payload = format!("{BEFORE_VALUE}{usual}.{:0FRACTION_DIGITS$},\"ucum\":\"{ucum}\"}}", 0);
            Encoded::new(&topic, version, qos, payload.into_bytes())
        });
        let packets = packets.collect::<Result<_, _>>()?;
        Ok(Self { ward, device, packets })
    }

    /// Bytes of the longest packet.
    pub(crate) fn len(&self) -> usize {
        self.packets.iter().map(Encoded::len).max().unwrap_or_default()
    }

    /// Appends the reading with this number, of `count` in all.
    pub(crate) fn append(&self, out: &mut Vec<u8>, number: u64, count: u64, packet_id: u16) {
        let signal = self.ward.signal(number);
        let (whole, fraction) = match self.ward.episode(self.device, number, count) {
            Some(episode) => (signal.beyond, episode.number),
            None => (signal.usual, (number % u64::from(FRACTIONS)) as u32),
        };
        let encoded = &self.packets[(number % self.ward.signals) as usize];
        let packet = encoded.append(out, packet_id);
        let value = &mut packet[encoded.payload_at + BEFORE_VALUE.len()..];
        let point = value.iter().position(|byte| *byte == b'.').unwrap_or_default();
        write_digits(&mut value[..point], whole);
        write_digits(&mut value[point + 1..][..FRACTION_DIGITS], fraction);
    }
}

/// Fills `digits` with a number, leading zeros included.
fn write_digits(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use wardline_wire::{Decoder, PACKET_SIZE_MAX, Packet, Publish};

    use super::*;
    use crate::plan::Scenario;
    use crate::plan::tests::plan;

    const BEGIN_NS: u64 = 5_000_000;

    fn ward(devices: u32, pagers: u32, signals: u32, rate: f64, alerts: f64) -> Ward {
        let plan = Plan {
            scenario: Scenario::Ward,
            publishers: devices,
            subscribers: pagers,
            topics: signals,
            rate_per_second: Some(rate),
            alerts_per_second: alerts,
            ..plan()
        };
        Ward::of(&plan)
    }

    fn sent(readings: &Readings, number: u64, count: u64) -> Publish {
        let mut bytes = Vec::new();
        readings.append(&mut bytes, number, count, 7);
        let mut decoder = Decoder::client_side(Version::V5, PACKET_SIZE_MAX);
        match decoder.decode(&mut BytesMut::from(&bytes[..])).unwrap() {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("{other:?}"),
        }
    }

    fn alert(ward: &Ward, device: u32, phase: &str, condition: &str, value: f64) -> String {
        let unit = unit(&ward.prefix, ward.pagers, device);
        format!(
            r#"{{"phase":"{phase}","unit":"{unit}","bed":"b{device}","condition":"{condition}","value":{value}}}"#
        )
    }

    proptest! {
        #[test]
        fn every_reading_beyond_its_limit_is_found_by_its_alert_and_no_other_is(
            devices in 1_u32..20,
            pagers in 1_u32..4,
            signals in 1_u32..=12,
            alerts in 1_u32..20,
        ) {
            let ward = ward(devices, pagers, signals, 1_000.0, f64::from(alerts));
            let end_ns = BEGIN_NS + 2_000_000_000;
            for device in 0..devices {
                let schedule = ward.schedule(device, BEGIN_NS, end_ns);
                let readings = Readings::new(ward.clone(), device, Version::V5, QoS::AtLeastOnce).unwrap();
                let mut found = 0;
                let mut standing = [false; SIGNALS.len()];
                for number in 0..schedule.count() {
                    let publish = sent(&readings, number, schedule.count());
                    let reading: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
                    let value = reading["value"].as_f64().unwrap();
                    let place = (number % u64::from(signals)) as usize;
                    let signal = &SIGNALS[place];
                    let level = format!("-mon-{device}/{}", signal.name);
                    prop_assert!(publish.topic.ends_with(&level));
                    let Some(condition) = signal.condition(value) else {
                        standing[place] = false;
                        continue;
                    };
                    prop_assert!(!standing[place], "two in a row would be one alert");
                    standing[place] = true;
                    let started = alert(&ward, device, "start", &condition, value);
                    let stamp = Stamp { sent_ns: schedule.at(number), publisher: device, sequence: found };
                    prop_assert_eq!(ward.hear(started.as_bytes(), BEGIN_NS, end_ns), Heard::Alert(stamp));
                    let ended = alert(&ward, device, "end", &condition, 72.0);
                    prop_assert_eq!(ward.hear(ended.as_bytes(), BEGIN_NS, end_ns), Heard::Later);
                    found += 1;
                    prop_assert_eq!(ward.alerts(device, number + 1, schedule.count()), u64::from(found));
                }
                prop_assert_eq!(standing, [false; SIGNALS.len()], "nothing is left behind");
                prop_assert_eq!(ward.alerts(device, schedule.count(), schedule.count()), u64::from(found));
            }
        }
    }

    #[test]
    fn alerts_are_as_many_a_second_as_asked_for_and_of_all_devices() {
        let ward = ward(100, 2, 12, 20_000.0, 50.0);
        let (end_ns, seconds) = (BEGIN_NS + 60_000_000_000, 60.0);
        let of_each: Vec<u64> = (0..100)
            .map(|device| {
                let count = ward.schedule(device, BEGIN_NS, end_ns).count();
                ward.alerts(device, count, count)
            })
            .collect();
        let all: u64 = of_each.iter().sum();
        assert!((all as f64 / seconds - 50.0).abs() < 1.0, "{all}");
        assert!(of_each.iter().all(|alerts| (29..=30).contains(alerts)), "{of_each:?}");
    }

    #[test]
    fn what_is_not_of_the_run_is_foreign() {
        let ward = ward(4, 2, 2, 1_000.0, 10.0);
        let hear = |text: &str| ward.hear(text.as_bytes(), 0, u64::MAX);
        for text in [
            String::new(),
            r#"{"phase":"start","unit":"icu-3","bed":"b1","condition":"hr-low","value":35}"#.to_owned(),
            alert(&ward, 4, "start", "hr-low", 35.0),
            alert(&ward, 1, "start", "hr-high", 35.0),
            alert(&ward, 1, "start", "hr-low", 72.0),
        ] {
            assert_eq!(hear(&text), Heard::Foreign, "{text}");
        }
    }

    #[test]
    fn a_value_has_as_many_digits_beyond_the_limit_as_within() {
        for signal in SIGNALS {
            assert_eq!(signal.usual.to_string().len(), signal.beyond.to_string().len(), "{}", signal.name);
            assert_eq!(signal.condition(f64::from(signal.usual) + 0.999_999), None);
            assert!(signal.condition(f64::from(signal.beyond) + 0.999_999).is_some());
            assert!(rules().contains(&format!("signal = \"{}\"", signal.name)));
        }
    }
}
