use jiff::Timestamp;
use proptest::prelude::*;
use wardline_wire::{ReasonCode, topic};

use super::*;
use crate::{Decision, ScopeEntry};

const WARD: &str = r##"
[roles.monitor]
publish = ["telemetry/{unit}/{bed}/{id}/#"]
[roles.nurse]
subscribe = ["alerts/{unit}/nurse/#", "alerts/+/@{id}/#", "alarms/{unit}/#", "wardline/heartbeat/#"]
publish = ["responses/{unit}/#"]
[roles.lab]
publish = ["#"]
subscribe = ["#"]
deny_subscribe = ["secret/#"]
[roles.operator]
subscribe = ["$SYS/#"]
[principals."device:mon-12"]
roles = ["monitor"]
unit = "icu-3"
bed = "b12"
[principals."staff:n.ito"]
roles = ["nurse"]
unit = ["icu-3", "icu-4"]
[principals."service:lab"]
roles = ["lab"]
[principals."service:watch"]
roles = ["lab", "operator"]
"##;

fn ward() -> Policy {
    Policy::parse(WARD).unwrap()
}

fn grants(principal: &str) -> Grants {
    ward().grants(&principal.parse().unwrap(), None)
}

fn claims(roles: Option<&[&str]>, scope: Option<Scope>) -> Claims {
    Claims {
        principal: "service:lab".parse().unwrap(),
        issuer: "test".to_owned(),
        key_id: None,
        expires: Timestamp::MAX,
        id: None,
        roles: roles.map(|roles| roles.iter().map(|role| (*role).to_owned()).collect()),
        scope,
        bound_to: None,
    }
}

#[test]
fn a_device_publishes_under_its_own_name_only() {
    let grants = grants("device:mon-12");
    for topic in ["telemetry/icu-3/b12/mon-12/hr", "telemetry/icu-3/b12/mon-12"] {
        assert!(grants.publish(topic).allowed(), "{topic}");
    }
    for topic in
        ["telemetry/icu-3/b12/mon-13/hr", "telemetry/icu-3/b13/mon-12/hr", "alerts/icu-3/nurse", "$SYS/x"]
    {
        assert!(!grants.publish(topic).allowed(), "{topic}");
    }
    assert!(!grants.subscribe("telemetry/icu-3/b12/mon-12/#").allowed());
}

#[test]
fn a_nurse_hears_her_units_and_nothing_wider() {
    let grants = grants("staff:n.ito");
    for filter in [
        "alerts/icu-3/nurse/#",
        "alerts/icu-4/nurse/high/+/+",
        "alerts/+/@n.ito/#",
        "alerts/icu-9/@n.ito/high",
        "$share/team/alarms/icu-3/#",
        "wardline/heartbeat/1",
    ] {
        assert!(grants.subscribe(filter).allowed(), "{filter}");
    }
    for filter in [
        "alerts/#",
        "alerts/+/nurse/#",
        "alerts/icu-5/nurse/#",
        "alerts/+/@m.sato/#",
        "#",
        "$share/t/#",
        "$share/x",
    ] {
        assert!(!grants.subscribe(filter).allowed(), "{filter}");
    }
}

#[test]
fn every_answer_names_its_rule() {
    let explain = |decision: Decision<'_>| decision.to_string();
    let device = grants("device:mon-12");
    assert_eq!(
        explain(device.publish("telemetry/icu-3/b12/mon-12/hr")),
        "role monitor: publish telemetry/icu-3/b12/mon-12/#"
    );
    assert_eq!(explain(device.publish("alerts/x")), "no rule grants publish alerts/x");
    let lab = grants("service:lab");
    assert_eq!(explain(lab.subscribe("secret/a")), "denied by role lab: deny_subscribe secret/#");
    assert_eq!(lab.subscribe("secret/a").reason(), ReasonCode::UnspecifiedError);
    assert_eq!(device.subscribe("alerts/#").reason(), ReasonCode::NotAuthorized);
    assert_eq!(explain(lab.subscribe("$share/g")), "$share/g is not $share/GROUP/FILTER");
    assert_eq!(explain(grants("staff:nobody").publish("a")), "the policy does not name staff:nobody");
    let scope: Scope = r#"[["a",["pub"]]]"#.parse().unwrap();
    let narrowed = ward().grants(&"service:lab".parse().unwrap(), Some(&claims(None, Some(scope))));
    assert_eq!(explain(narrowed.publish("b")), "the token's scope does not include publish b");
    assert_eq!(explain(narrowed.publish("a")), "role lab: publish #");
}

#[test]
fn a_wildcard_in_a_rule_stands_for_every_topic() {
    // What a wildcard may reach is not what it matches [MQTT-4.7.2-1]; that only the node publishes to `$SYS` is the node's.
    assert!(grants("service:lab").subscribe("$SYS/#").allowed());
    assert!(grants("service:lab").publish("$elsewhere/x").allowed());
    assert!(grants("service:watch").subscribe("$SYS/broker/+").allowed());
}

#[test]
fn a_token_drops_roles_but_never_their_denials() {
    let policy = ward();
    let watch: Principal = "service:watch".parse().unwrap();
    let narrowed = policy.grants(&watch, Some(&claims(Some(&["operator", "nurse"]), None)));
    assert!(narrowed.subscribe("$SYS/#").allowed());
    assert!(!narrowed.subscribe("a").allowed(), "lab was left out");
    assert!(!narrowed.subscribe("alarms/icu-3/#").allowed(), "nurse was never given");
    assert!(narrowed.rules().any(|rule| rule.list() == List::DenySubscribe));
    let nothing = policy.grants(&watch, Some(&claims(Some(&[]), None)));
    assert!(!nothing.subscribe("a").allowed() && !nothing.publish("a").allowed());
    let unknown: Principal = "staff:nobody".parse().unwrap();
    let widened = policy.grants(&unknown, Some(&claims(Some(&["lab"]), None)));
    assert!(!widened.publish("a").allowed());
}

#[test]
fn every_problem_is_told_with_its_line() {
    let problems = |text: &str| Policy::parse(text).unwrap_err().0.iter().map(|e| e.line).collect::<Vec<_>>();
    let text = "[roles.a]\npublish = [\n  \"fine\",\n  \"a/#/b\",\n]\n[principals.\"nurse:x\"]\nroles = []\n\
                [principals.\"staff:x\"]\nroles = [\"a\",\n\"b\"]\nunit = \"a/b\"\nbed = [\"ok\", \"+\"]\n";
    assert_eq!(problems(text), [4, 6, 10, 11, 12]);
    assert_eq!(problems("[roles.a]\npublish = [\"a\"]\npublsh = []\n"), [3]);
    assert_eq!(problems("[roles.a]\npublish = \"a\"\n"), [2]);
    assert_eq!(problems("\n[roles.a\n"), [2]);
    assert_eq!(problems("[role.a]\n"), [1]);
    assert_eq!(problems("[principals.\"staff:x\"]\nunit = 3\n"), [2]);
    let many: Vec<String> = (0..5000).map(|n| format!("\"u{n}\"")).collect();
    let text = format!(
        "[roles.a]\npublish = [\"{{unit}}\"]\n[principals.\"staff:x\"]\nroles = [\"a\"]\nunit = [{}]\n",
        many.join(",")
    );
    assert_eq!(problems(&text), [3]);
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let text = "[roles.a]\npublish = [\"t/{unit}\"]\ndeny_publish = [\"t/{bed}\"]\n[roles.b]\n\
                [principals.\"device:x\"]\nroles = [\"a\"]\n";
    let policy = Policy::parse(text).unwrap();
    let warnings: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 4: nobody has the role \"b\"",
            "line 5: device:x has no unit: role a: publish t/{unit} grants nothing",
            "line 5: device:x has no bed: role a: deny_publish t/{bed} denies it for all",
        ]
    );
    let device: Principal = "device:x".parse().unwrap();
    assert!(!policy.grants(&device, None).publish("t/{unit}").allowed());
    assert!(ward().warnings().is_empty(), "{:?}", ward().warnings());
}

/// Topic names of up to three levels over a small alphabet, `$` included.
fn names() -> Vec<String> {
    let levels = ["a", "b", "$", ""];
    let mut names: Vec<String> = levels.iter().map(|l| (*l).to_owned()).collect();
    for _ in 0..2 {
        let longer: Vec<String> =
            names.iter().flat_map(|name| levels.iter().map(move |level| format!("{name}/{level}"))).collect();
        names.extend(longer);
    }
    names.retain(|name| topic::is_valid_name(name));
    names
}

fn filter() -> impl Strategy<Value = String> {
    "(([ab$]|\\+|)/){0,2}([ab$]|\\+|#|)"
        .prop_filter("a valid filter", |filter| topic::is_valid_filter(filter))
}

fn filters() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(filter(), 0..4)
}

prop_compose! {
    fn role()(publish in filters(), subscribe in filters(), deny_publish in filters(), deny_subscribe in filters()) -> String {
        format!(
            "publish = {publish:?}\nsubscribe = {subscribe:?}\n\
             deny_publish = {deny_publish:?}\ndeny_subscribe = {deny_subscribe:?}\n"
        )
    }
}

prop_compose! {
    fn policy()(one in role(), two in role()) -> Policy {
        let text = format!("[roles.one]\n{one}[roles.two]\n{two}[principals.\"device:x\"]\nroles = [\"one\", \"two\"]\n");
        Policy::parse(&text).unwrap()
    }
}

fn scope() -> impl Strategy<Value = Option<Scope>> {
    let entry = (filter(), any::<bool>(), any::<bool>());
    let entry = entry.prop_map(|(filter, publish, subscribe)| ScopeEntry { filter, publish, subscribe });
    prop::option::of(prop::collection::vec(entry, 0..4).prop_map(Scope))
}

proptest! {
    #[test]
    fn an_allowed_subscription_reaches_only_what_is_granted_and_denials_are_withheld(
        policy in policy(),
        filters in prop::collection::vec(filter(), 20),
    ) {
        let grants = policy.grants(&"device:x".parse().unwrap(), None);
        let about = |list, name: &str| {
            grants.rules().any(|rule| rule.list() == list && topic::reaches(rule.filter(), name))
        };
        for filter in filters.iter().filter(|filter| grants.subscribe(filter).allowed()) {
            let denied: Vec<_> = names().into_iter().filter(|name| about(List::DenySubscribe, name)).collect();
            let exact = names().into_iter().find(|name| name == filter);
            prop_assert!(exact.is_none_or(|name| !denied.contains(&name)), "{} is denied", filter);
            for name in names().iter().filter(|name| topic::matches(filter, name)) {
                let withheld = grants.withheld().any(|denied| topic::reaches(denied, name));
                prop_assert!(withheld || !about(List::DenySubscribe, name), "{} lets {} through", filter, name);
                prop_assert!(about(List::Subscribe, name), "{} reaches {}", filter, name);
            }
        }
    }

    #[test]
    fn a_publish_is_allowed_exactly_when_granted_and_not_denied(policy in policy()) {
        let grants = policy.grants(&"device:x".parse().unwrap(), None);
        for name in names() {
            let about = |list| grants.rules().any(|r| r.list() == list && topic::reaches(r.filter(), &name));
            prop_assert_eq!(grants.publish(&name).allowed(), about(List::Publish) && !about(List::DenyPublish), "{}", name);
        }
    }

    #[test]
    fn a_token_never_widens(
        policy in policy(),
        roles in prop::option::of(prop::sample::subsequence(vec!["one", "two", "three"], 0..=3)),
        scope in scope(),
        filters in prop::collection::vec(filter(), 20),
    ) {
        let principal: Principal = "device:x".parse().unwrap();
        let full = policy.grants(&principal, None);
        let narrowed = policy.grants(&principal, Some(&claims(roles.as_deref(), scope.clone())));
        let entries = scope.as_ref().map(|scope| scope.0.as_slice());
        for name in names() {
            if narrowed.publish(&name).allowed() {
                prop_assert!(full.publish(&name).allowed(), "publish {}", name);
                let in_scope = |entries: &[ScopeEntry]| entries.iter().any(|e| e.publish && topic::reaches(&e.filter, &name));
                prop_assert!(entries.is_none_or(in_scope), "publish {}", name);
            }
        }
        for filter in filters {
            if narrowed.subscribe(&filter).allowed() {
                prop_assert!(full.subscribe(&filter).allowed(), "subscribe {}", filter);
                let in_scope = |entries: &[ScopeEntry]| entries.iter().any(|e| e.subscribe && topic::encloses(&e.filter, &filter));
                prop_assert!(entries.is_none_or(in_scope), "subscribe {}", filter);
            }
        }
    }
}
