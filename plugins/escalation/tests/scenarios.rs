//! Alerts in virtual time: what happens to one when nobody, somebody or nothing answers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use wardline_escalation::{Escalation, Paths, RETRY_EVERY, Rules};
use wardline_plugin_api::alert::{Alert, SHELVE_MAX};
use wardline_plugin_api::condition::{Change, Condition};
use wardline_plugin_api::{
    Input, Kind, Message, Mode, Output, Phase, Plugin, Priority, Receipt, ReceiptStep, Refusal, State, span,
};

const RULES: &str = r#"
[[escalation]]
priority = "high"
tiers = [{ to = "nurse", wait = "30s" }, { to = "charge", wait = "60s" }, { to = "physician", wait = "120s" }]
"#;

/// A ward with one plugin, a clock that is moved by hand, and everything it said since the last look.
struct Ward {
    plugin: Escalation,
    now: Timestamp,
    offset: u64,
    /// Pagers confirm at once.
    reachable: bool,
    said: Vec<Output>,
}

impl Ward {
    fn new(rules: &str) -> Self {
        let rules: Rules = toml::from_str(rules).unwrap();
        let plugin = Escalation::new(Paths::new(&rules).unwrap());
        Self { plugin, now: Timestamp::UNIX_EPOCH, offset: 0, reachable: true, said: Vec::new() }
    }

    fn input(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.plugin.handle(input, self.now, &mut out);
        while !out.is_empty() {
            let said = std::mem::take(&mut out);
            for output in &said {
                if let Some(alert) = output.correlation.as_deref().filter(|_| self.reachable) {
                    let receipt = Receipt {
                        topic: &output.topic,
                        alert,
                        step: ReceiptStep::Confirmed,
                        principal: "staff:pager",
                    };
                    self.plugin.handle(Input::Receipt(receipt), self.now, &mut out);
                }
            }
            self.said.extend(said);
        }
    }

    fn publish(&mut self, topic: &str, payload: &[u8], principal: &str) -> Result<(), Refusal> {
        let message = Message { node: 7, offset: self.offset, topic, payload, principal };
        self.plugin.admit(&message)?;
        self.offset += 1;
        self.input(Input::Message(message));
        Ok(())
    }

    fn condition(&mut self, condition: &Condition) {
        let Output { topic, payload, .. } = condition.publish();
        self.publish(&topic, &payload, "plugin:threshold").unwrap();
    }

    fn answer(&mut self, bed: &str, alert: &str, payload: &str) -> Result<(), Refusal> {
        self.publish(&format!("responses/icu/{bed}/{alert}"), payload.as_bytes(), "staff:n.ito")
    }

    fn receipt(&mut self, to: &str, alert: &str, step: ReceiptStep) {
        let topic = format!("alerts/icu/{to}/high/b1/hr-low");
        self.input(Input::Receipt(Receipt { topic: &topic, alert, step, principal: "" }));
    }

    /// Lets `seconds` pass, deadline by deadline.
    fn pass(&mut self, seconds: i64) {
        let until = self.now + jiff::SignedDuration::from_secs(seconds);
        while let Some(due) = self.plugin.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.input(Input::Tick);
        }
        self.now = until;
    }

    /// What people were told since the last look: second, phase, state, to whom.
    fn told(&mut self) -> Vec<(i64, Phase, State, String)> {
        let said = std::mem::take(&mut self.said);
        let alerts = said.iter().filter(|output| output.topic.starts_with("alerts/"));
        alerts.map(parse).map(|alert| (alert.at.as_second(), alert.phase, alert.state, alert.to)).collect()
    }
}

fn parse(output: &Output) -> Alert {
    serde_json::from_slice(&output.payload).unwrap()
}

fn condition(phase: Change) -> Condition {
    Condition {
        unit: "icu".into(),
        bed: "b1".into(),
        condition: "hr-low".into(),
        signal: Some("hr".into()),
        mdc: Some(147_842),
        phase,
        priority: Priority::High,
        lethal: false,
        kind: Kind::Physiological,
        value: Some(48.0),
        ucum: Some("/min".into()),
        limit: Some(52.0),
        limit_by: Some("policy".into()),
        since: Timestamp::UNIX_EPOCH,
        at: Timestamp::UNIX_EPOCH,
        mode: Mode::Real,
        text: "HR 48 /min below 52 /min".into(),
        offset: Some(3),
        device: Some("mon".into()),
    }
}

fn told(second: i64, phase: Phase, state: State, to: &str) -> (i64, Phase, State, String) {
    (second, phase, state, to.to_owned())
}

use Phase::{Continue, Escalate, Start, Update};
use State::{Acknowledged, Active, Inactive, Latched, Shelved};

#[test]
fn nobody_answers_and_it_climbs_and_never_falls_silent() {
    let mut ward = Ward::new(RULES);
    ward.condition(&condition(Change::Begin));
    ward.pass(340);
    assert_eq!(
        ward.told(),
        [
            told(0, Start, Active, "nurse"),
            told(30, Escalate, Active, "charge"),
            told(90, Escalate, Active, "physician"),
            told(210, Continue, Active, "physician"),
            told(330, Continue, Active, "physician"),
        ]
    );
}

#[test]
fn the_alert_says_everything_in_the_order_of_the_contract() {
    let mut ward = Ward::new(RULES);
    ward.offset = 48_213;
    ward.condition(&condition(Change::Begin));
    let [alert, alarm] = &ward.said[..] else { panic!("{:?}", ward.said) };
    let expected = concat!(
        r#"{"alert":"n7-48213","revision":1,"phase":"start","state":"active","priority":"high","kind":"physiological","#,
        r#""unit":"icu","bed":"b1","condition":"hr-low","signal":"hr","mdc":147842,"value":48,"ucum":"/min","limit":52,"#,
        r#""limit_by":"policy","tier":1,"to":"nurse","since":"1970-01-01T00:00:00Z","at":"1970-01-01T00:00:00Z","#,
        r#""deadline":"1970-01-01T00:00:30Z","mode":"real","text":"HR 48 /min below 52 /min","respond":"responses/icu/b1/n7-48213"}"#
    );
    assert_eq!(String::from_utf8_lossy(&alert.payload), expected);
    assert_eq!(
        (alert.topic.as_str(), alert.qos, alert.retain),
        ("alerts/icu/nurse/high/b1/hr-low", 1, false)
    );
    assert_eq!(alert.response_topic.as_deref(), Some("responses/icu/b1/n7-48213"));
    assert_eq!(
        (alert.correlation.as_deref(), alert.content_type),
        (Some("n7-48213"), Some("application/json"))
    );
    assert_eq!((alarm.topic.as_str(), alarm.qos, alarm.retain), ("alarms/icu/b1/hr-low", 1, true));
    assert_eq!((&alarm.payload, &alarm.correlation), (&alert.payload, &None));
}

#[test]
fn every_accepting_answer_stops_it_until_the_condition_ends() {
    for answer in ["accepted", "accepted-positive", "accepted-not-relevant", "accepted-false"] {
        let mut ward = Ward::new(RULES);
        ward.condition(&condition(Change::Begin));
        ward.pass(40);
        ward.answer("b1", "n7-0", &format!(r#"{{"answer":"{answer}"}}"#)).unwrap();
        let alarm = parse(ward.said.last().unwrap());
        assert_eq!(
            (alarm.state, alarm.by.as_deref(), alarm.deadline),
            (Acknowledged, Some("staff:n.ito"), None)
        );
        ward.pass(10_000);
        ward.condition(&condition(Change::End));
        assert_eq!(
            ward.told()[2..],
            [
                told(40, Update, Acknowledged, "nurse"),
                told(40, Update, Acknowledged, "charge"),
                told(10_040, Phase::End, Inactive, "nurse"),
                told(10_040, Phase::End, Inactive, "charge"),
            ]
        );
        ward.condition(&condition(Change::Begin));
        assert_eq!(
            ward.told(),
            [told(10_040, Start, Active, "nurse")],
            "what comes later is not acknowledged"
        );
    }
}

#[test]
fn a_rejection_climbs_at_once_and_comes_back_to_the_last() {
    let mut ward = Ward::new(RULES);
    ward.condition(&condition(Change::Begin));
    for _ in 0..3 {
        ward.pass(1);
        ward.answer("b1", "n7-0", r#"{"answer":"rejected"}"#).unwrap();
    }
    ward.pass(120);
    assert_eq!(
        ward.told(),
        [
            told(0, Start, Active, "nurse"),
            told(1, Escalate, Active, "charge"),
            told(2, Escalate, Active, "physician"),
            told(3, Update, Active, "nurse"),
            told(3, Update, Active, "charge"),
            told(3, Update, Active, "physician"),
            told(123, Continue, Active, "physician"),
        ]
    );
}

#[test]
fn an_unreachable_tier_is_left_at_once_and_all_are_tried_again() {
    let mut ward = Ward::new(RULES);
    ward.reachable = false;
    ward.condition(&condition(Change::Begin));
    for to in ["nurse", "nurse", "charge", "physician"] {
        ward.receipt(to, "n7-0", ReceiptStep::Unreachable);
    }
    assert_eq!(
        ward.told(),
        [
            told(0, Start, Active, "nurse"),
            told(0, Escalate, Active, "charge"),
            told(0, Escalate, Active, "physician"),
        ]
    );
    ward.pass(RETRY_EVERY.as_secs() as i64);
    assert_eq!(
        ward.told(),
        ["nurse", "charge", "physician"].map(|to| told(30, Continue, Active, to)),
        "one of them may be back"
    );
}

#[test]
fn a_pager_that_does_not_confirm_is_not_waited_for() {
    let mut ward = Ward::new(RULES);
    ward.reachable = false;
    ward.condition(&condition(Change::Begin));
    ward.receipt("nurse", "n7-0", ReceiptStep::Sent);
    ward.pass(6);
    assert_eq!(ward.told()[1..], [told(5, Escalate, Active, "charge")]);
    ward.receipt("charge", "n7-0", ReceiptStep::Confirmed);
    ward.receipt("charge", "n7-0", ReceiptStep::Unreachable);
    ward.pass(58);
    assert_eq!(ward.told(), [], "a confirmed tier has its time to answer");
    ward.pass(1);
    assert_eq!(ward.told(), [told(65, Escalate, Active, "physician")]);
}

#[test]
fn what_came_and_went_unseen_still_reaches_its_person() {
    let mut ward = Ward::new(RULES);
    ward.reachable = false;
    ward.condition(&condition(Change::Begin));
    ward.condition(&Condition { text: "HR back at 60 /min".into(), ..condition(Change::End) });
    let alarm = parse(ward.said.last().unwrap());
    assert_eq!(
        (alarm.state, alarm.text.as_str()),
        (Latched, "HR 48 /min below 52 /min; over: HR back at 60 /min")
    );
    ward.pass(5);
    assert_eq!(ward.told(), [told(0, Start, Active, "nurse"), told(5, Escalate, Latched, "charge")]);
    ward.receipt("charge", "n7-0", ReceiptStep::Confirmed);
    assert!(ward.said.last().is_some_and(|alarm| alarm.retain && alarm.payload.is_empty()));
    assert_eq!(
        ward.told(),
        [told(5, Phase::End, Inactive, "nurse"), told(5, Phase::End, Inactive, "charge")]
    );
    assert_eq!(ward.plugin.next_deadline(), None);
}

#[test]
fn a_low_one_that_came_and_went_is_let_go() {
    let mut ward = Ward::new(RULES);
    ward.reachable = false;
    ward.condition(&Condition { priority: Priority::Low, ..condition(Change::Begin) });
    ward.condition(&condition(Change::End));
    assert_eq!(ward.told()[1..], [told(0, Phase::End, Inactive, "nurse")]);
}

#[test]
fn shelving_has_a_reason_and_an_end() {
    let mut ward = Ward::new(RULES);
    ward.condition(&condition(Change::Begin));
    for wrong in [
        r#"{"answer":"shelve","for":"PT10M"}"#.to_owned(),
        r#"{"answer":"shelve","reason":"suction"}"#.to_owned(),
        r#"{"answer":"shelve","for":"PT0S","reason":"suction"}"#.to_owned(),
        format!(r#"{{"answer":"shelve","for":"{}s","reason":"suction"}}"#, SHELVE_MAX.as_secs() + 1),
    ] {
        assert_eq!(ward.answer("b1", "n7-0", &wrong).unwrap_err().code, 0x99, "{wrong}");
    }
    ward.answer("b1", "n7-0", r#"{"answer":"shelve","for":"PT10M","reason":"suction"}"#).unwrap();
    ward.pass(601);
    assert_eq!(ward.told()[1..], [told(0, Update, Shelved, "nurse"), told(600, Continue, Active, "nurse")]);
}

#[test]
fn what_kills_at_once_is_not_shelved() {
    let mut ward = Ward::new(RULES);
    ward.condition(&Condition { lethal: true, ..condition(Change::Begin) });
    let refusal = ward.answer("b1", "n7-0", r#"{"answer":"shelve","for":"5m","reason":"busy"}"#).unwrap_err();
    assert_eq!(refusal.code, 0x83);
    assert!(refusal.reason.contains("cannot be shelved"));
}

#[test]
fn answers_that_cannot_be_given_are_refused_with_a_reason() {
    let mut ward = Ward::new(RULES);
    ward.condition(&condition(Change::Begin));
    ward.condition(&Condition { bed: "b2".into(), ..condition(Change::Begin) });
    ward.answer("b2", "n7-1", r#"{"answer":"completed"}"#).unwrap();
    let accepted = r#"{"answer":"accepted"}"#;
    let cases = [
        ("staff:a", "responses/icu/b1/n7-9", accepted, 0x83, "there is no alert n7-9"),
        ("staff:a", "responses/icu/b2/n7-1", accepted, 0x83, "is over"),
        ("staff:a", "responses/icu/b2/n7-0", accepted, 0x83, "is about icu/b1"),
        ("staff:a", "responses/icu/b1/n7-0", "accepted", 0x99, "not an answer"),
        ("staff:a", "responses/icu/b1/n7-0", r#"{"answer":"ok"}"#, 0x99, "unknown variant"),
        ("staff:a", "responses/icu/b1/n7-0", r#"{"answer":"accepted","by":"me"}"#, 0x99, "unknown field"),
        ("device:mon", "responses/icu/b1/n7-0", accepted, 0x87, "only staff"),
        ("staff:a", "responses/icu/n7-0", accepted, 0x90, "responses/{unit}"),
        ("staff:a", "conditions/icu/b1/hr-low", "{}", 0x87, "only plugins"),
        ("service:lab", "alarms/icu/b1/hr-low", "", 0x87, "only plugins"),
        ("service:lab", "alerts/icu/nurse/high/b1/hr-low", "{}", 0x87, "only plugins"),
    ];
    for (principal, topic, payload, code, reason) in cases {
        let refusal = ward.publish(topic, payload.as_bytes(), principal).unwrap_err();
        assert_eq!(refusal.code, code, "{topic} {payload}: {refusal}");
        assert!(refusal.reason.contains(reason), "{refusal}");
    }
    ward.answer("b1", "n7-0", accepted).unwrap();
    let refusal =
        ward.publish("responses/icu/b1/n7-0", br#"{"answer":"rejected"}"#, "staff:other").unwrap_err();
    assert!(refusal.reason.contains("staff:n.ito has accepted"), "{refusal}");
    ward.answer("b1", "n7-0", r#"{"answer":"rejected"}"#).unwrap();
    assert_eq!(
        ward.told().last(),
        Some(&told(0, Escalate, Active, "charge")),
        "who accepted may hand it back"
    );
}

#[test]
fn a_test_never_touches_a_patient() {
    let mut ward = Ward::new(RULES);
    let test = |phase| Condition { mode: Mode::Test, ..condition(phase) };
    ward.condition(&test(Change::Begin));
    assert!(
        ward.said
            .iter()
            .all(|output| parse(output).text.starts_with("TEST: ") && parse(output).mode == Mode::Test)
    );
    ward.said.clear();
    ward.condition(&condition(Change::Begin));
    assert_eq!(parse(ward.said.last().unwrap()).alert, "n7-1");
    ward.said.clear();
    ward.condition(&test(Change::End));
    assert_eq!(ward.said.len(), 1, "the retained topic is the patient's: {:?}", ward.said);
    assert_eq!(ward.told(), [told(0, Phase::End, Inactive, "nurse")]);
    ward.pass(30);
    assert_eq!(ward.told(), [told(30, Escalate, Active, "charge")], "the patient's goes on");
}

#[test]
fn beds_and_conditions_do_not_touch_each_other() {
    let mut ward = Ward::new(RULES);
    ward.condition(&condition(Change::Begin));
    ward.condition(&Condition { bed: "b2".into(), ..condition(Change::Begin) });
    ward.condition(&Condition { condition: "hr-high".into(), ..condition(Change::Begin) });
    ward.answer("b1", "n7-0", r#"{"answer":"accepted"}"#).unwrap();
    ward.condition(&condition(Change::End));
    ward.told();
    ward.pass(30);
    assert_eq!(ward.told(), [told(30, Escalate, Active, "charge"), told(30, Escalate, Active, "charge")]);
}

#[test]
fn a_worse_condition_wakes_what_was_accepted() {
    let mut ward = Ward::new(RULES);
    ward.condition(&Condition { priority: Priority::Medium, ..condition(Change::Begin) });
    ward.answer("b1", "n7-0", r#"{"answer":"accepted"}"#).unwrap();
    ward.condition(&condition(Change::Update));
    assert_eq!(ward.told().last(), Some(&told(0, Update, Active, "nurse")));
    ward.pass(30);
    assert_eq!(ward.told(), [told(30, Escalate, Active, "charge")]);
}

#[test]
fn without_escalation_it_is_the_nurses_and_repeated_only_while_out_of_reach_or_rejected() {
    let mut ward = Ward::new("");
    ward.reachable = false;
    ward.condition(&condition(Change::Begin));
    ward.receipt("nurse", "n7-0", ReceiptStep::Unreachable);
    ward.pass(61);
    assert_eq!(
        ward.told(),
        [
            told(0, Start, Active, "nurse"),
            told(30, Continue, Active, "nurse"),
            told(60, Continue, Active, "nurse")
        ]
    );
    ward.reachable = true;
    ward.receipt("nurse", "n7-0", ReceiptStep::Confirmed);
    ward.pass(10_000);
    assert_eq!(ward.told(), []);
    ward.answer("b1", "n7-0", r#"{"answer":"rejected"}"#).unwrap();
    ward.pass(30);
    assert_eq!(ward.told()[1..], [told(10_091, Continue, Active, "nurse")]);
}

/// Something that may happen to a ward.
#[derive(Clone, Debug)]
enum Event {
    Condition(u8, Mode, Change, Priority),
    Pass(i64),
    Receipt(u64, &'static str, ReceiptStep),
    Answer(u64, &'static str),
    Reachable(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let mode = prop_oneof![3 => Just(Mode::Real), 1 => Just(Mode::Test)];
    let change = prop_oneof![3 => Just(Change::Begin), 1 => Just(Change::Update), 2 => Just(Change::End)];
    let priority = prop_oneof![3 => Just(Priority::High), 1 => Just(Priority::Medium)];
    let to = prop_oneof![Just("nurse"), Just("charge"), Just("physician")];
    let step =
        prop_oneof![Just(ReceiptStep::Sent), Just(ReceiptStep::Confirmed), Just(ReceiptStep::Unreachable)];
    let answer = prop_oneof![
        2 => Just(r#"{"answer":"accepted"}"#),
        2 => Just(r#"{"answer":"rejected"}"#),
        1 => Just(r#"{"answer":"completed"}"#),
        1 => Just(r#"{"answer":"shelve","for":"5m","reason":"x"}"#),
    ];
    prop_oneof![
        (0_u8..2, mode, change, priority)
            .prop_map(|(bed, mode, change, priority)| Event::Condition(bed, mode, change, priority)),
        (0_i64..70).prop_map(Event::Pass),
        (0_u64..12, to, step).prop_map(|(alert, to, step)| Event::Receipt(alert, to, step)),
        (0_u64..12, answer).prop_map(|(alert, answer)| Event::Answer(alert, answer)),
        any::<bool>().prop_map(Event::Reachable),
    ]
}

fn run(events: &[Event], restart: bool) -> Vec<Output> {
    let rules = format!(
        "{RULES}\n[[escalation]]\npriority = \"medium\"\ntiers = [{{ to = \"nurse\", wait = \"45s\" }}]\n"
    );
    let mut ward = Ward::new(&rules);
    let mut said = Vec::new();
    let mut last = BTreeMap::new();
    for event in events {
        match event {
            Event::Condition(bed, mode, phase, priority) => {
                let bed = format!("b{bed}");
                ward.condition(&Condition { bed, mode: *mode, priority: *priority, ..condition(*phase) });
            }
            Event::Pass(seconds) => ward.pass(*seconds),
            Event::Receipt(alert, to, step) => ward.receipt(to, &format!("n7-{alert}"), *step),
            Event::Answer(alert, answer) => {
                // Whether it is refused is for other tests.
                let _ = ["b0", "b1"].map(|bed| ward.answer(bed, &format!("n7-{alert}"), answer).is_ok());
            }
            Event::Reachable(reachable) => ward.reachable = *reachable,
        }
        let alerts = ward.said.iter().filter(|output| !output.payload.is_empty()).map(parse);
        last.extend(alerts.map(|alert| (alert.alert.clone(), alert)));
        said.append(&mut ward.said);
        if restart {
            let mut next = Ward::new(&rules).plugin;
            next.restore(&ward.plugin.snapshot()).unwrap();
            ward.plugin = next;
        }
        assert_somebody_is_responsible(&ward, &last);
    }
    said
}

/// Of every open alert that nobody answered for, the last message names a deadline, and the plugin has one no
/// later than that.
fn assert_somebody_is_responsible(ward: &Ward, last: &BTreeMap<String, Alert>) {
    for alert in last.values().filter(|alert| !matches!(alert.state, Acknowledged | Inactive)) {
        let deadline = alert.deadline.unwrap_or_else(|| panic!("no deadline: {alert:?}"));
        let next = ward.plugin.next_deadline();
        assert!(next.is_some_and(|next| next <= deadline), "{next:?} is after {alert:?}");
        assert!(deadline >= ward.now, "{deadline} has passed: {alert:?}");
        assert!(deadline <= span::after(alert.at, SHELVE_MAX));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_alert_is_somebodys_until_a_person_answers(events in prop::collection::vec(event(), 1..80)) {
        run(&events, false);
    }

    #[test]
    fn two_runs_agree_and_a_restart_changes_nothing(events in prop::collection::vec(event(), 1..60)) {
        let first = run(&events, false);
        prop_assert_eq!(&first, &run(&events, false));
        prop_assert_eq!(&first, &run(&events, true));
    }
}

#[test]
fn an_episode_is_an_alert_of_its_own_unless_nobody_could_be_told_of_the_one_before() {
    for on_its_way in [true, false] {
        let mut ward = Ward::new(RULES);
        ward.reachable = false;
        for phase in [Change::Begin, Change::End, Change::Begin] {
            ward.condition(&condition(phase));
            if on_its_way {
                ward.receipt("nurse", "n7-0", ReceiptStep::Sent);
            }
        }
        let said = std::mem::take(&mut ward.said);
        let begun: Vec<Alert> = said.iter().filter(|o| o.topic.starts_with("alerts/")).map(parse).collect();
        let names: Vec<&str> = begun.iter().map(|alert| alert.alert.as_str()).collect();
        if !on_its_way {
            assert_eq!(names, ["n7-0", "n7-0"]);
            continue;
        }
        assert_eq!(names, ["n7-0", "n7-2"]);
        // The first still reaches its person, and leaves the second's retained state alone.
        ward.receipt("nurse", "n7-0", ReceiptStep::Confirmed);
        let said = std::mem::take(&mut ward.said);
        assert!(said.iter().all(|output| output.topic.starts_with("alerts/")), "{said:?}");
        assert_eq!((parse(&said[0]).phase, parse(&said[0]).alert), (Phase::End, "n7-0".into()));
        // And again after its plugin was put under other rules.
        let rules: Rules = toml::from_str(RULES).unwrap();
        let mut next = Escalation::new(Paths::new(&rules).unwrap());
        next.restore(&ward.plugin.snapshot()).unwrap();
        ward.plugin = next;
        ward.receipt("nurse", "n7-2", ReceiptStep::Confirmed);
        ward.condition(&condition(Change::End));
        let ends = std::mem::take(&mut ward.said);
        assert!(
            ends.iter().any(|output| output.topic == "alarms/icu/b1/hr-low" && output.payload.is_empty())
        );
    }
}
