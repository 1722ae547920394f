//! Section 4.7: topic names and filters.

use wardline_tests::{Broker, Site};

use crate::bytes::{PUBACK, PUBLISH, QOS_1, RETAIN, answer, publish, subscribe, unsubscribe};
use crate::lab::Lab;
use crate::peer::Peer;

/// A broker whose clients on `lab` may use `$lab/#` too.
fn lab_with_dollar_topics() -> Lab {
    let site = Site::new();
    site.edit("policy.toml", "publish = [\"#\"]", "publish = [\"#\", \"$lab/#\"]");
    site.edit("policy.toml", "\"$SYS/#\"", "\"$SYS/#\", \"$lab/#\"");
    let broker = Broker::start(&site);
    Lab { broker, site }
}

const TOPICS: [&str; 20] = [
    "sport",
    "Sport",
    "sport/",
    "sport/tennis",
    "sport/tennis/",
    "sport/tennis/player1",
    "sport/tennis/player1/ranking",
    "sport//player1",
    "finance",
    "/finance",
    "/finance/x",
    "/",
    "//",
    " ",
    "a b/c",
    // Composed and decomposed: the same to the eye.
    "caf\u{E9}",
    "cafe\u{301}",
    "$lab",
    "$lab/x",
    "lab/$x",
];

/// What of [`TOPICS`] a filter matches.
const MATCHES: &[(&str, &[&str])] = &[
    ("sport/tennis/player1/#", &["sport/tennis/player1", "sport/tennis/player1/ranking"]),
    (
        "sport/#",
        &[
            "sport",
            "sport/",
            "sport/tennis",
            "sport/tennis/",
            "sport/tennis/player1",
            "sport/tennis/player1/ranking",
            "sport//player1",
        ],
    ),
    ("sport/tennis/+", &["sport/tennis/", "sport/tennis/player1"]),
    ("sport/+", &["sport/", "sport/tennis"]),
    (
        "+/tennis/#",
        &["sport/tennis", "sport/tennis/", "sport/tennis/player1", "sport/tennis/player1/ranking"],
    ),
    ("sport/+/player1", &["sport/tennis/player1", "sport//player1"]),
    ("/+", &["/finance", "/"]),
    ("/#", &["/finance", "/", "//", "/finance/x"]),
    ("+/", &["sport/", "/"]),
    ("+/+/+", &["sport/tennis/player1", "sport/tennis/", "sport//player1", "//", "/finance/x"]),
    // Names that begin with $ are for filters that do.
    ("+", &["sport", "Sport", "finance", " ", "caf\u{E9}", "cafe\u{301}"]),
    ("+/+", &["sport/", "sport/tennis", "/finance", "/", "a b/c", "lab/$x"]),
    ("+/x", &[]),
    ("+/$x", &["lab/$x"]),
    ("$lab/#", &["$lab", "$lab/x"]),
    ("$lab/+", &["$lab/x"]),
    ("$lab/x", &["$lab/x"]),
    // Nothing is normalized.
    ("sport", &["sport"]),
    ("Sport", &["Sport"]),
    ("finance", &["finance"]),
    ("/finance", &["/finance"]),
    ("/", &["/"]),
    ("//", &["//"]),
    (" ", &[" "]),
    ("caf\u{E9}", &["caf\u{E9}"]),
    ("cafe\u{301}", &["cafe\u{301}"]),
];

/// Demands that each client of [`readers`] heard what its filter matches.
fn demand_matches(readers: &mut [Peer]) {
    for (reader, (filter, mut matched)) in readers.iter_mut().zip(filters()) {
        let mut heard: Vec<_> = reader.heard().into_iter().map(|heard| heard.topic).collect();
        heard.sort();
        matched.sort();
        assert_eq!(heard, matched, "{filter:?}");
    }
}

/// [`MATCHES`], and `#`, which matches all that does not begin with `$`.
fn filters() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let everything = TOPICS.into_iter().filter(|topic| !topic.starts_with('$')).collect();
    MATCHES.iter().map(|(filter, matched)| (*filter, matched.to_vec())).chain([("#", everything)])
}

/// A client for each of [`filters`].
fn readers(lab: &Lab) -> Vec<Peer> {
    filters().map(|(filter, _)| lab.subscriber(&format!("of {filter}"), filter, 0)).collect()
}

/// [MQTT3-3.8.3-2] [MQTT3-3.3.2-3] [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT3-4.7.2-1] [MQTT3-4.7.3-4]
#[test]
fn filters_match_names_level_by_level_and_byte_by_byte() {
    let lab = lab_with_dollar_topics();
    let mut subscribed = readers(&lab);
    let mut writer = lab.client("writer");
    for topic in TOPICS {
        writer.put(topic, topic);
    }
    demand_matches(&mut subscribed);
    // What is retained is found by the same rules.
    drop(subscribed);
    for topic in TOPICS {
        writer.ask(&publish(PUBLISH | QOS_1 | RETAIN, topic, Some(1), topic), &answer(PUBACK, 1));
    }
    demand_matches(&mut readers(&lab));
}

/// [MQTT3-4.7.1-2] [MQTT3-4.7.1-3]
#[test]
fn a_misplaced_wildcard_closes_the_connection() {
    let lab = Lab::start();
    let filters = [
        "a#", "#a", "a/#/b", "#/", "#/a", "##", "a/b#", "+a", "a+", "a/+b", "a/b+/c", "++", "+#", "a/+#",
        "/+a/b",
    ];
    for filter in filters {
        lab.closes_client_on(&subscribe(1, &[(filter, 0)]), filter);
        lab.closes_client_on(&unsubscribe(1, &[filter]), filter);
    }
}

/// [MQTT3-4.7.2-1]
#[test]
fn the_broker_s_own_topics_are_for_those_who_ask_for_them() {
    let lab = Lab::start();
    let mut everybody = lab.subscriber("everybody", "#", 0);
    let mut operator = lab.subscriber("operator", "$SYS/#", 0);
    let heard = operator.publish();
    assert!(heard.topic.starts_with("$SYS/broker/"), "{heard:?}");
    assert!(everybody.heard().is_empty());
}

/// [MQTT3-4.7.3-3]
#[test]
fn the_longest_topic_name_has_65_535_bytes() {
    let lab = Lab::start();
    let longest = format!("long/{}", "x".repeat(65_530));
    let mut reader = lab.subscriber("reader", "long/#", 0);
    let mut writer = lab.client("writer");
    writer.ask(&publish(PUBLISH | QOS_1, &longest, Some(1), "x"), &answer(PUBACK, 1));
    assert!(reader.publish().topic == longest);
    // As a filter, too.
    lab.subscriber("exact", &longest, 0);
}
