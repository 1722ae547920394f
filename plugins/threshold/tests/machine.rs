//! Counts of alarms against an oracle that says the rule again in the plainest way, and against a real
//! recording.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::path::PathBuf;

use jiff::Timestamp;
use proptest::prelude::*;
use wardline_plugin_api::condition::{Change, Condition};
use wardline_plugin_api::{Input, Message, Plugin};
use wardline_threshold::{Policy, Rules, Threshold};

const GAP_MS: i64 = 5_000;

#[derive(Clone, Copy, Debug)]
struct Rule {
    low: f64,
    delay_ms: i64,
    hysteresis: f64,
}

impl Rule {
    fn plugin(self) -> Threshold {
        let rules: Rules = toml::from_str(&format!(
            "[[limit]]\nsignal = \"hr\"\nlow = {:?}\nseverity = \"death\"\nonset = \"prompt\"\ndelay = \"{}ms\"\nhysteresis = {:?}",
            self.low, self.delay_ms, self.hysteresis
        ))
        .unwrap();
        Threshold::new(Policy::new(&rules).unwrap())
    }

    /// Times at which conditions begin and end, by the plugin.
    fn run(self, samples: &[(i64, f64)]) -> Vec<(Change, i64)> {
        let mut plugin = self.plugin();
        let mut out = Vec::new();
        for (offset, (at, value)) in samples.iter().enumerate() {
            let payload = format!("{value}");
            let message = Message {
                node: 1,
                offset: offset as u64,
                topic: "telemetry/icu/b1/mon/hr",
                payload: payload.as_bytes(),
                principal: "device:mon",
            };
            plugin.handle(Input::Message(message), Timestamp::from_millisecond(*at).unwrap(), &mut out);
        }
        out.iter()
            .map(|output| {
                assert_eq!(output.topic, "conditions/icu/b1/hr-low");
                let condition: Condition = serde_json::from_slice(&output.payload).unwrap();
                (condition.phase, condition.at.as_millisecond())
            })
            .collect()
    }

    /// The same, looking back over all samples at each of them.
    fn oracle(self, samples: &[(i64, f64)]) -> Vec<(Change, i64)> {
        let mut steps = Vec::new();
        let mut quiet_from = 0;
        let mut active = false;
        for (here, (at, value)) in samples.iter().enumerate() {
            if active {
                if *value >= self.low + self.hysteresis {
                    active = false;
                    quiet_from = here + 1;
                    steps.push((Change::End, *at));
                }
                continue;
            }
            let violated =
                samples[quiet_from..=here].iter().rev().take_while(|(_, value)| *value < self.low).count();
            if violated == 0 {
                continue;
            }
            let run = &samples[here + 1 - violated..=here];
            let broken = |pair: &[(i64, f64)]| pair[1].0 - pair[0].0 > GAP_MS;
            let unbroken = run.windows(2).rev().take_while(|pair| !broken(pair)).count();
            let sparse = run.windows(2).rev().take_while(|pair| broken(pair)).count();
            let mut since = run[run.len() - 1 - unbroken].0;
            if sparse >= 2 {
                let before = run.len() - 1 - sparse;
                let dense = run[..=before].windows(2).rev().take_while(|pair| !broken(pair)).count();
                since = run[before - dense].0;
            }
            if at - since >= self.delay_ms {
                active = true;
                steps.push((Change::Begin, *at));
            }
        }
        steps
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_agrees_with_the_oracle(
        steps in prop::collection::vec((prop_oneof![8 => 200_i64..2_000, 1 => 4_900_i64..5_200, 1 => 6_000_i64..70_000], 48_u32..57), 1..400),
        delay_ms in prop_oneof![Just(0_i64), 1_000_i64..20_000],
        hysteresis in 0_u32..4,
    ) {
        let mut at = 0;
        let samples: Vec<_> = steps.iter().map(|(step, value)| { at += step; (at, f64::from(*value)) }).collect();
        let rule = Rule { low: 52.0, delay_ms, hysteresis: f64::from(hysteresis) };
        prop_assert_eq!(rule.run(&samples), rule.oracle(&samples));
    }
}

/// The heart rate of s00001, or where the recording is not at hand a walk that looks like it.
fn recording() -> (bool, Vec<(i64, f64)>) {
    let data = std::env::var_os("WARDLINE_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    if let Ok(text) = std::fs::read_to_string(data.join("mimic_matched_s00001/hr_1hz_from_ecg.csv")) {
        let samples = text.lines().skip(1).filter_map(|line| {
            let (t, value) = line.split_once(',')?;
            Some(((t.parse::<f64>().unwrap() * 1000.0).round() as i64, value.parse().ok()?))
        });
        return (true, samples.collect());
    }
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut value = 54.0;
    let samples = (0..17_681).map(|second| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = (state >> 33) as f64 / f64::from(1_u32 << 31) - 0.5;
        value += noise * 1.6 + (54.0 - value) * 0.05;
        (second * 1000 + 17, (value * 10.0_f64).round() / 10.0)
    });
    (false, samples.collect())
}

#[test]
fn delay_and_hysteresis_cure_fatigue_on_a_real_heart_rate() {
    let (real, samples) = recording();
    let known = [(0, 0.0, 286), (15_000, 0.0, 32), (15_000, 2.0, 16)];
    let mut counts = Vec::new();
    for (delay_ms, hysteresis, alarms) in known {
        let rule = Rule { low: 52.0, delay_ms, hysteresis };
        let steps = rule.run(&samples);
        assert_eq!(steps, rule.oracle(&samples));
        let begun = steps.iter().filter(|(change, _)| *change == Change::Begin).count();
        if real {
            assert_eq!(begun, alarms, "{rule:?}");
        }
        counts.push(begun);
    }
    assert!(counts[0] > counts[1] && counts[1] > counts[2] && counts[2] > 0, "{counts:?}");
}

#[test]
fn a_gap_restarts_the_delay_and_does_not_end_what_stands() {
    let rule = Rule { low: 52.0, delay_ms: 15_000, hysteresis: 0.0 };
    let seconds = |from: i64, to: i64| (from..=to).map(|second| (second * 1000, 50.0));
    let broken: Vec<_> = seconds(0, 10).chain(seconds(16, 30)).collect();
    assert_eq!(rule.run(&broken), []);
    let unbroken: Vec<_> = seconds(0, 10).chain(seconds(15, 30)).collect();
    assert_eq!(rule.run(&unbroken), [(Change::Begin, 15_000)]);
    let standing: Vec<_> = seconds(0, 20).chain(seconds(600, 640)).chain([(641_000, 52.0)]).collect();
    assert_eq!(rule.run(&standing), [(Change::Begin, 15_000), (Change::End, 641_000)]);
}

#[test]
fn a_device_slower_than_the_gap_still_alarms() {
    let rule = Rule { low: 52.0, delay_ms: 15_000, hysteresis: 0.0 };
    let minutes: Vec<_> = (0..5).map(|minute| (minute * 60_000, 40.0)).collect();
    assert_eq!(rule.run(&minutes), [(Change::Begin, 120_000)]);
}
