//! What operators watch: the `$SYS` tree and the metrics.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests assert as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use wardline_tests::{Broker, DEADLINE, RawClient, Site, record};
use wardline_wire::{Packet, ReasonCode, Version};

/// Every topic below `$SYS/broker/`, but for the loads.
const TOPICS: [&str; 36] = [
    "bytes/received",
    "bytes/sent",
    "clients/active",
    "clients/connected",
    "clients/disconnected",
    "clients/expired",
    "clients/inactive",
    "clients/maximum",
    "clients/total",
    "heap/current",
    "heap/maximum",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/denied",
    "publish/messages/dropped",
    "publish/messages/expired",
    "publish/messages/overflowed",
    "publish/messages/received",
    "publish/messages/sent",
    "publish/messages/shed",
    "publish/messages/too_large",
    "publish/messages/withheld",
    "retained messages/count",
    "shared_subscriptions/count",
    "store/messages/bytes",
    "store/journal/bytes",
    "store/journal/pressure",
    "store/journal/quota",
    "store/journal/room",
    "store/messages/count",
    "subscriptions/count",
    "uptime",
    "version",
];

type Tree = BTreeMap<String, String>;

/// Reads the tree until `enough`, or for so long that it will never be; topics without what they all begin with.
fn tree(client: &mut RawClient, enough: impl Fn(&Tree) -> bool) -> Tree {
    let deadline = Instant::now() + DEADLINE;
    let mut tree = BTreeMap::new();
    while !enough(&tree) && Instant::now() < deadline {
        let Packet::Publish(publish) = client.receive() else { panic!("only publishes are expected") };
        let name = publish.topic.strip_prefix("$SYS/broker/").expect("the tree has one root");
        let value = String::from_utf8(publish.payload.to_vec()).expect("text");
        tree.insert(name.to_owned(), value);
    }
    tree
}

fn number(tree: &Tree, topic: &str) -> u64 {
    tree.get(topic).and_then(|value| value.parse().ok()).unwrap_or_default()
}

#[test]
fn the_sys_tree_tells_what_operators_look_for_and_follows() {
    let site = Site::new();
    let broker = Broker::start_with(&site, &[("WARDLINE__NODE__SYS_INTERVAL", "100ms")]);
    let mut writer = RawClient::connected(broker.address("lab"), Version::V5, "writer");
    let mut shared = RawClient::connected(broker.address("lab"), Version::V5, "shared");
    shared.subscribe("$share/readers/sys/test");
    for id in 1..=5 {
        writer.deliver("sys/test", [b'x'; 1_000], id);
        assert!(matches!(shared.receive(), Packet::Publish(_)));
    }
    let mut operator = RawClient::connected(broker.address("lab"), Version::V311, "operator");
    operator.subscribe("$SYS/#");
    let loads: BTreeSet<String> = [
        "connections",
        "messages/received",
        "messages/sent",
        "publish/received",
        "publish/sent",
        "publish/dropped",
        "bytes/received",
        "bytes/sent",
        "sockets",
    ]
    .iter()
    .flat_map(|name| ["1min", "5min", "15min"].map(|span| format!("load/{name}/{span}")))
    .collect();
    let expected = [
        ("clients/connected", 3),
        ("clients/maximum", 3),
        ("publish/messages/received", 5),
        ("publish/bytes/received", 5_000),
        ("subscriptions/count", 2),
        ("shared_subscriptions/count", 1),
    ];
    // At least: the tree itself is retained and sent. Three CONNECTs, two SUBSCRIBEs, five PUBLISHes; their answers, and as
    // many delivered.
    let at_least = [
        ("publish/messages/sent", 5),
        ("publish/bytes/sent", 5_000),
        ("messages/received", 10),
        ("messages/sent", 15),
        ("bytes/received", 5_000),
        ("bytes/sent", 5_000),
        ("retained messages/count", TOPICS.len() as u64),
        ("store/messages/count", TOPICS.len() as u64),
        ("heap/current", 1 << 20),
        ("heap/maximum", 1 << 20),
    ];
    let seen = tree(&mut operator, |tree| {
        tree.len() == TOPICS.len() + loads.len()
            && expected.iter().all(|(topic, value)| number(tree, topic) == *value)
            && at_least.iter().all(|(topic, value)| number(tree, topic) >= *value)
            && tree["load/publish/received/1min"] != "0.00"
    });
    for (topic, value) in expected {
        assert_eq!(number(&seen, topic), value, "{topic}");
    }
    for (topic, value) in at_least {
        assert!(number(&seen, topic) >= value, "{topic} is {}", number(&seen, topic));
    }
    let names: BTreeSet<String> = seen.keys().cloned().collect();
    assert_eq!(names, TOPICS.iter().map(|name| (*name).to_owned()).chain(loads).collect());
    assert_eq!(seen["version"], format!("wardline {}", env!("CARGO_PKG_VERSION")));
    assert!(seen["uptime"].ends_with(" seconds"), "{}", seen["uptime"]);
    assert!(seen["load/publish/received/1min"].parse::<f64>().is_ok_and(|load| load > 0.0));

    drop(shared);
    let gone =
        |tree: &Tree| number(tree, "clients/connected") == 2 && number(tree, "subscriptions/count") == 1;
    assert!(gone(&tree(&mut operator, gone)), "the tree follows");
}

#[test]
fn the_sys_tree_is_the_nodes_own_and_no_part_of_the_record() {
    let site = Site::new();
    site.edit("policy.toml", "publish = [\"#\"]", "publish = [\"#\", \"$SYS/#\"]");
    let broker = Broker::start_with(&site, &[("WARDLINE__NODE__SYS_INTERVAL", "100ms")]);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "writer");
    match client.publish("$SYS/broker/clients/connected", b"0", 1) {
        Packet::PubAck(ack) => assert_eq!(ack.reason, ReasonCode::NotAuthorized),
        other => panic!("{other:?}"),
    }
    // A wildcard at the first level does not reach it: what was retained, and what changes, stays away [MQTT-4.7.2-1].
    let mut everything = RawClient::connected(broker.address("lab"), Version::V5, "everything");
    everything.subscribe("#");
    let mut operator = RawClient::connected(broker.address("lab"), Version::V5, "operator");
    operator.subscribe("$SYS/broker/clients/connected");
    tree(&mut operator, |tree| number(tree, "clients/connected") == 3);
    assert!(matches!(client.publish("last", b"!", 2), Packet::PubAck(_)));
    loop {
        let Packet::Publish(publish) = everything.receive() else { panic!("only publishes are expected") };
        assert!(!publish.topic.starts_with("$SYS"), "{}", publish.topic);
        if publish.topic == "last" {
            break;
        }
    }
    assert_eq!(broker.terminate().status, Some(0));
    let rows = record::sqlite(
        &site.audit_db(),
        "SELECT principal, topic, outcome FROM publishes WHERE topic LIKE '$SYS%'",
    );
    assert_eq!(rows, [["service:lab", "$SYS/broker/clients/connected", "denied"]]);
}

#[test]
fn the_metrics_are_well_formed_and_documented() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "writer");
    assert!(matches!(client.publish("metrics", b"97", 1), Packet::PubAck(_)));
    let (_, text) = broker.http("/metrics");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut samples = BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a text");
            assert!(name.starts_with("wardline_") && help.ends_with('.'), "{line}");
            assert!(helped.insert(name), "{name} is told twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(kinds.insert(name, kind).is_none(), "{name} has two types");
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').expect("a name and a unit");
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
            assert!(samples.insert(series), "{series} is told twice");
            let name = series.split('{').next().expect("split gives one part");
            let family = kinds.iter().find(|(family, kind)| match **kind {
                "counter" => name.strip_suffix("_total") == Some(**family),
                "histogram" => {
                    ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(**family))
                }
                _ => name == **family,
            });
            assert!(family.is_some_and(|(family, _)| helped.contains(family)), "{name} has no type or help");
        }
    }
    for series in [
        "wardline_connections",
        "wardline_received_bytes_total",
        "wardline_sent_bytes_total",
        "wardline_resident_memory_bytes",
        "wardline_queued_messages",
        "wardline_queued_bytes",
        "wardline_limit_reached_total{limit=\"receive_max\",listener=\"lab\"}",
        "wardline_limit_reached_total{limit=\"publishes_per_second\",listener=\"ward\"}",
    ] {
        assert!(samples.contains(series), "no {series} in\n{text}");
    }
}
