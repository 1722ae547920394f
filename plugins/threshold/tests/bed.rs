//! What happens at a bed: bad data, silence, several devices, limits of the patient, admissions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use jiff::Timestamp;
use wardline_plugin_api::condition::{Change, Condition};
use wardline_plugin_api::{Input, Kind, Message, Mode, Output, Plugin, Priority, Refusal};
use wardline_threshold::{BEDS_MAX, INVALID_EVERY, Policy, Rules, STREAMS_PER_BED_MAX, Threshold};

const RULES: &str = r#"
[[limit]]
signal = "hr"
low = 50
high = 120
severity = "death"
onset = "prompt"
[[limit]]
signal = "hr"
low = 100
high = 200
profile = "neonate"
severity = "death"
onset = "immediate"
[[limit]]
signal = "spo2"
low = 88
severity = "reversible"
onset = "prompt"
[[absence]]
signal = "hr"
after = "30s"
"#;

struct Ward {
    plugin: Threshold,
    now: Timestamp,
    offset: u64,
    said: Vec<Output>,
}

impl Ward {
    fn new() -> Self {
        let rules: Rules = toml::from_str(RULES).unwrap();
        let plugin = Threshold::new(Policy::new(&rules).unwrap());
        Self { plugin, now: Timestamp::UNIX_EPOCH, offset: 0, said: Vec::new() }
    }

    fn publish(&mut self, topic: &str, payload: &str, principal: &str) -> Result<(), Refusal> {
        let message = Message { node: 1, offset: self.offset, topic, payload: payload.as_bytes(), principal };
        self.plugin.admit(&message)?;
        self.offset += 1;
        self.plugin.handle(Input::Message(message), self.now, &mut self.said);
        Ok(())
    }

    /// A reading at b1, and the conditions that follow from it.
    fn reads(&mut self, device: &str, signal: &str, payload: &str) -> Vec<(Change, String)> {
        self.publish(&format!("telemetry/icu/b1/{device}/{signal}"), payload, "device:mon").unwrap();
        self.told()
    }

    fn hr(&mut self, payload: &str) -> Vec<(Change, String)> {
        self.reads("mon", "hr", payload)
    }

    fn limit(&mut self, signal: &str, payload: &str) -> Result<(), Refusal> {
        self.publish(&format!("limits/icu/b1/{signal}"), payload, "staff:dr.sato")
    }

    fn pass(&mut self, seconds: i64) {
        let until = self.now + jiff::SignedDuration::from_secs(seconds);
        while let Some(due) = self.plugin.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.plugin.handle(Input::Tick, self.now, &mut self.said);
        }
        self.now = until;
    }

    fn conditions(&mut self) -> Vec<Condition> {
        self.said.drain(..).map(|output| serde_json::from_slice(&output.payload).unwrap()).collect()
    }

    fn told(&mut self) -> Vec<(Change, String)> {
        self.conditions().into_iter().map(|condition| (condition.phase, condition.condition)).collect()
    }
}

fn begin(name: &str) -> Vec<(Change, String)> {
    vec![(Change::Begin, name.to_owned())]
}

fn end(name: &str) -> Vec<(Change, String)> {
    vec![(Change::End, name.to_owned())]
}

#[test]
fn a_condition_says_what_and_why() {
    let mut ward = Ward::new();
    ward.publish("telemetry/icu/b1/mon/hr", "48", "device:mon").unwrap();
    let output = &ward.said[0];
    assert_eq!((output.topic.as_str(), output.qos, output.retain), ("conditions/icu/b1/hr-low", 1, false));
    let condition = ward.conditions().remove(0);
    assert_eq!(
        (condition.priority, condition.kind, condition.mode),
        (Priority::High, Kind::Physiological, Mode::Real)
    );
    assert_eq!(
        (condition.value, condition.limit, condition.limit_by.as_deref()),
        (Some(48.0), Some(50.0), Some("policy"))
    );
    assert_eq!(condition.text, "HR 48 /min below 50 /min");
    assert_eq!(
        (condition.mdc, condition.offset, condition.device.as_deref()),
        (Some(147_842), Some(0), Some("mon"))
    );
}

#[test]
fn limits_themselves_are_still_fine_and_sides_are_separate() {
    let mut ward = Ward::new();
    assert_eq!(ward.hr("50"), []);
    assert_eq!(ward.hr("120"), []);
    assert_eq!(ward.hr("49.9"), begin("hr-low"));
    assert_eq!(ward.hr("121"), [end("hr-low"), begin("hr-high")].concat());
}

#[test]
fn a_sensor_that_is_off_is_technical_and_does_not_flood() {
    let mut ward = Ward::new();
    assert_eq!(ward.reads("mon", "spo2", "0"), begin("spo2-invalid"));
    for junk in
        ["0", "8388607", "NaN", "x", r#"{"value":97,"quality":"poor"}"#, r#"{"value":97,"ucum":"Cel"}"#]
    {
        assert_eq!(ward.reads("mon", "spo2", junk), [], "{junk}");
    }
    assert_eq!(ward.reads("mon", "spo2", "97"), end("spo2-invalid"));
    assert_eq!(ward.reads("mon", "spo2", "0"), [], "not again so soon");
    ward.now += jiff::SignedDuration::try_from(INVALID_EVERY).unwrap();
    assert_eq!(ward.reads("mon", "spo2", "0"), begin("spo2-invalid"));
}

#[test]
fn bad_data_is_not_recovery() {
    let mut ward = Ward::new();
    assert_eq!(ward.hr("40"), begin("hr-low"));
    assert_eq!(ward.hr("8388607"), begin("hr-invalid"));
    assert_eq!(ward.hr("41"), end("hr-invalid"));
    assert_eq!(ward.hr("60"), end("hr-low"));
}

#[test]
fn a_device_whose_payload_cannot_be_read_is_told_of_until_it_can() {
    let mut ward = Ward::new();
    let device = "telemetry/icu/b1/mon";
    ward.publish(device, "\u{1}\u{2}", "device:mon").unwrap();
    assert_eq!(ward.told(), begin("device-data"));
    ward.publish(device, r#"{"readings":{"hr":40,"spo2":80,"ppg":1}}"#, "device:mon").unwrap();
    assert_eq!(ward.told(), [end("device-data"), begin("hr-low"), begin("spo2-low")].concat());
}

#[test]
fn what_no_rule_is_about_is_passed_over() {
    let mut ward = Ward::new();
    for (signal, payload) in [("ppg", "\u{1}"), ("rr", "x"), ("temp", "8388607"), ("hr/raw", "1")] {
        assert_eq!(ward.reads("mon", signal, payload), [], "{signal}");
    }
    assert_eq!(ward.plugin.next_deadline(), None);
}

#[test]
fn silence_is_a_condition_once_the_signal_was_there() {
    let mut ward = Ward::new();
    ward.pass(100);
    ward.hr("70");
    ward.pass(20);
    ward.hr("70");
    ward.pass(29);
    assert_eq!(ward.told(), []);
    ward.pass(1);
    let absent = ward.conditions().remove(0);
    assert_eq!((absent.condition.as_str(), absent.text.as_str()), ("hr-absent", "no HR reading for 30 s"));
    assert_eq!((absent.priority, absent.kind), (Priority::Medium, Kind::Technical));
    ward.pass(1000);
    assert_eq!(ward.told(), [], "once");
    assert_eq!(ward.hr("NaN"), begin("hr-invalid"), "a device that has no value is not back");
    assert_eq!(ward.hr("70"), [end("hr-invalid"), end("hr-absent")].concat());
    ward.pass(30);
    assert_eq!(ward.told(), begin("hr-absent"));
}

#[test]
fn one_device_reading_well_does_not_end_what_another_sees() {
    let mut ward = Ward::new();
    assert_eq!(ward.reads("a", "hr", "40"), begin("hr-low"));
    assert_eq!(ward.reads("b", "hr", "70"), []);
    assert_eq!(ward.reads("b", "hr", "40"), begin("hr-low"));
    assert_eq!(ward.reads("a", "hr", "70"), []);
    assert_eq!(ward.reads("b", "hr", "70"), end("hr-low"));
}

#[test]
fn modes_are_apart_and_only_a_test_plays_faster_than_life() {
    let mut ward = Ward::new();
    assert_eq!(ward.hr("40"), begin("hr-low"));
    let at = |mode: &str, value: u32| {
        format!(r#"{{"value":{value},"at":"2020-01-01T00:00:00Z","mode":"{mode}"}}"#)
    };
    assert_eq!(ward.hr(&at("test", 70)), []);
    ward.publish("telemetry/icu/b1/mon/hr", &at("test", 40), "device:mon").unwrap();
    let test = ward.conditions().remove(0);
    assert_eq!((test.mode, test.since.to_string().as_str()), (Mode::Test, "2020-01-01T00:00:00Z"));
    ward.publish("telemetry/icu/b1/mon/hr", &at("real", 70), "device:mon").unwrap();
    let real = ward.conditions().remove(0);
    assert_eq!(
        (real.phase, real.mode, real.at),
        (Change::End, Mode::Real, ward.now),
        "a device's clock decides nothing"
    );
}

#[test]
fn a_patients_limit_has_an_author_and_an_end() {
    let mut ward = Ward::new();
    ward.limit("hr", r#"{"low":40,"high":null,"reason":"athlete","expires":"1970-01-01T01:00:00Z"}"#)
        .unwrap();
    assert_eq!(ward.hr("45"), []);
    assert_eq!(ward.hr("180"), [], "high is off");
    ward.publish("telemetry/icu/b1/mon/hr", "39", "device:mon").unwrap();
    let condition = ward.conditions().remove(0);
    assert_eq!((condition.limit, condition.limit_by.as_deref()), (Some(40.0), Some("staff:dr.sato")));
    ward.hr("60");
    ward.now += jiff::SignedDuration::from_hours(1);
    assert_eq!(ward.hr("45"), begin("hr-low"), "the policy's again");
}

#[test]
fn a_limit_that_changes_while_it_is_violated() {
    let mut ward = Ward::new();
    ward.hr("45");
    ward.limit("hr", r#"{"low":48}"#).unwrap();
    ward.publish("telemetry/icu/b1/mon/hr", "45", "device:mon").unwrap();
    let condition = ward.conditions().remove(0);
    assert_eq!(
        (condition.phase, condition.text.as_str()),
        (Change::Update, "HR 45 /min, low limit now 48 /min by staff:dr.sato")
    );
    ward.limit("hr", r#"{"low":null}"#).unwrap();
    assert_eq!(ward.told(), end("hr-low"), "a limit that is switched off is over at once");
    ward.limit("hr", "").unwrap();
    assert_eq!(ward.hr("45"), begin("hr-low"));
}

#[test]
fn a_patients_limit_is_watched_although_no_rule_is() {
    let mut ward = Ward::new();
    ward.limit("rr", r#"{"high":30}"#).unwrap();
    ward.publish("telemetry/icu/b1/mon/rr", "31", "device:mon").unwrap();
    let condition = ward.conditions().remove(0);
    assert_eq!((condition.condition.as_str(), condition.priority), ("rr-high", Priority::Medium));
}

#[test]
fn limits_that_cannot_be_meant_are_refused() {
    let mut ward = Ward::new();
    let cases = [
        ("limits/icu/b1/hr", r#"{"low":580}"#, "low = 580 is not plausible for hr"),
        ("limits/icu/b1/spo2", r#"{"high":10085}"#, "high = 10085 is not plausible"),
        ("limits/icu/b1/rr", r#"{"low":90,"high":100}"#, "is not plausible for rr"),
        ("limits/icu/b1/hr", r#"{"low":120,"high":100}"#, "are they swapped?"),
        ("limits/icu/b1/hr", r#"{"low":130}"#, "high = 120 (one of them the policy's)"),
        ("limits/icu/b1/hr", r#"{"lo":50}"#, "unknown field"),
        ("limits/icu/b1/hr", "50", "not limits"),
        ("limits/icu/b1/sats", r#"{"low":50}"#, "there is no signal \"sats\""),
        ("limits/icu/b1", "{}", "limits/{unit}/{bed}/{signal}"),
        ("admissions/icu/b1", r#"{"profile":"elderly"}"#, "not an admission"),
        ("admissions/icu", "{}", "admissions/{unit}/{bed}"),
    ];
    for (topic, payload, reason) in cases {
        let refusal = ward.publish(topic, payload, "staff:dr.sato").unwrap_err();
        assert!(refusal.code >= 0x80 && refusal.reason.contains(reason), "{payload}: {refusal}");
    }
    let refusal = ward.publish("limits/icu/b1/hr", r#"{"low":50}"#, "device:mon").unwrap_err();
    assert_eq!(refusal.code, 0x87);
}

#[test]
fn who_is_in_the_bed_chooses_the_rules() {
    let mut ward = Ward::new();
    ward.publish("admissions/icu/b1", r#"{"profile":"neonate","patient":"p1","ward":"x"}"#, "service:adt")
        .unwrap();
    ward.publish("telemetry/icu/b1/mon/hr", "90", "device:mon").unwrap();
    let condition = ward.conditions().remove(0);
    assert_eq!((condition.limit, condition.lethal), (Some(100.0), true));
}

#[test]
fn limits_leave_with_the_patient() {
    for leaving in ["", r#"{"patient":"p2"}"#] {
        let mut ward = Ward::new();
        ward.publish("admissions/icu/b1", r#"{"patient":"p1"}"#, "service:adt").unwrap();
        ward.limit("hr", r#"{"low":40}"#).unwrap();
        assert_eq!(ward.hr("45"), []);
        ward.publish("admissions/icu/b1", leaving, "service:adt").unwrap();
        let cleared = ward.said.remove(0);
        assert_eq!(
            (cleared.topic.as_str(), cleared.retain, cleared.payload.len()),
            ("limits/icu/b1/hr", true, 0)
        );
        assert_eq!(ward.hr("45"), begin("hr-low"));
    }
}

#[test]
fn a_discharge_ends_silence_and_bad_data_but_not_a_violated_limit() {
    let mut ward = Ward::new();
    ward.hr("40");
    ward.hr("NaN");
    ward.pass(30);
    ward.told();
    ward.publish("admissions/icu/b1", "", "service:adt").unwrap();
    assert_eq!(ward.told(), [end("hr-absent"), end("hr-invalid")].concat());
    ward.pass(1000);
    assert_eq!(ward.told(), [], "an empty bed is silent");
    assert_eq!(ward.hr("70"), end("hr-low"));
}

#[test]
fn memory_is_bounded() {
    let mut ward = Ward::new();
    for device in 0..STREAMS_PER_BED_MAX * 2 {
        ward.reads(&format!("d{device}"), "spo2", "97");
    }
    let snapshot = String::from_utf8(ward.plugin.snapshot()).unwrap();
    assert_eq!(snapshot.matches("\"device\"").count(), STREAMS_PER_BED_MAX);

    for bed in 1..BEDS_MAX {
        ward.publish(&format!("telemetry/icu/x{bed}/d/spo2"), "97", "device:d").unwrap();
    }
    let refusal = ward.publish("telemetry/icu/last/d/spo2", "97", "device:d").unwrap_err();
    assert_eq!(refusal.code, 0x97);
    assert_eq!(ward.reads("d1", "spo2", "80"), begin("spo2-low"), "who is known stays known");
}

#[test]
fn a_restart_changes_nothing() {
    let mut ward = Ward::new();
    let mut restarted = Ward::new();
    let script = ["70", "40", "x", "41", "130", "", "70", "0", "49", "", ""];
    for payload in script {
        for (restart, ward) in [(false, &mut ward), (true, &mut restarted)] {
            match payload {
                "" => ward.pass(31),
                payload => ward.publish("telemetry/icu/b1/mon/hr", payload, "device:mon").unwrap(),
            }
            if restart {
                let mut next = Ward::new().plugin;
                next.restore(&ward.plugin.snapshot()).unwrap();
                ward.plugin = next;
            }
        }
    }
    assert!(ward.said.len() > 6);
    assert_eq!(ward.said, restarted.said);
    assert!(ward.plugin.restore(b"[{}]").is_err());
    assert_eq!(ward.plugin.snapshot(), restarted.plugin.snapshot());
}
