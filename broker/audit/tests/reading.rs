//! The timeline of an alert, and queries against an oracle: the same answers from both kinds of store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts by panicking")]

mod support;

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use support::{Node, at, load, nth};
use wardline_audit::{Filter, Query, QueryError, Relation, Store, to_json};
use wardline_journal::{Delivery, DeliveryStep, Offset, Origin, Outcome, Publish, Record};
use wardline_test_postgres::Postgres;
use wardline_wire::topic;

async fn read(store: &Store, relation: Relation, filter: &Filter) -> Vec<Value> {
    let mut query = Query::new(store, relation, filter).await.unwrap();
    let rows: Vec<_> = query.rows().try_collect().await.unwrap();
    rows.iter().map(|cells| to_json(relation, cells)).collect()
}

/// Both stores, or one where the environment has no PostgreSQL. The server lives as long as the first value.
async fn stores(node: &Node) -> (Option<Postgres>, Vec<Store>) {
    let mut stores = vec![node.sqlite()];
    let server = Postgres::start_unless_skipped();
    stores.extend(server.as_ref().map(|server| Store::parse(&server.url()).unwrap()));
    for store in &stores {
        node.project_all(store).await;
        assert!(node.verify(store).await.is_clean());
    }
    (server, stores)
}

fn publish<'a>(
    ms: i64,
    principal: &'a str,
    topic: &'a str,
    payload: &'a [u8],
    outcome: Outcome,
) -> Record<'a> {
    let origin = Origin { client: principal, principal, peer: "" };
    let reason = if outcome == Outcome::Denied { "unknown alert" } else { "" };
    Record::Publish(Publish {
        received_at: at(ms),
        origin,
        topic,
        qos: 1,
        retain: false,
        packet_id: 0,
        properties: &[],
        payload,
        outcome,
        reason,
    })
}

fn delivery<'a>(ms: i64, step: DeliveryStep, principal: &'a str, offset: u64, alert: &'a str) -> Record<'a> {
    let origin = Origin { client: principal, principal, peer: "" };
    let topic = "alerts/icu-3/nurse/high/b12/spo2-low";
    Record::Delivery(Delivery { at: at(ms), step, origin, publish: Offset(offset), alert, topic })
}

fn alert(phase: &str, to: &str, tier: u64) -> String {
    json!({"alert": "n1-48213", "phase": phase, "state": "active", "priority": "high", "unit": "icu-3", "bed": "b12",
           "condition": "spo2-low", "tier": tier, "to": to, "since": "2026-11-21T08:00:00.250Z", "text": "SpO2 84 %"})
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timeline_tells_the_story_of_an_alert_in_order() {
    use DeliveryStep::{Confirmed, Sent, Unreachable};
    use Outcome::{Accepted, Denied};
    let node = Node::new();
    let (start, escalate) = (alert("start", "nurse", 0), alert("escalate", "charge", 1));
    node.append([
        publish(0, "device:mon-12", "telemetry/icu-3/b12/mon-12/spo2", b"84", Accepted),
        publish(250, "plugin:escalation", "alerts/icu-3/nurse/high/b12/spo2-low", start.as_bytes(), Accepted),
        delivery(251, Sent, "staff:n.ito", 1, "n1-48213"),
        delivery(300, Unreachable, "staff:n.ito", 1, "n1-48213"),
        publish(
            30_250,
            "plugin:escalation",
            "alerts/icu-3/charge/high/b12/spo2-low",
            escalate.as_bytes(),
            Accepted,
        ),
        delivery(30_251, Sent, "staff:c.rossi", 4, "n1-48213"),
        delivery(30_400, Confirmed, "staff:c.rossi", 4, "n1-48213"),
        publish(
            35_250,
            "staff:c.rossi",
            "responses/icu-3/b12/n1-48213",
            br#"{"answer":"accepted"}"#,
            Accepted,
        ),
        // Everything below is another alert's, or nonsense that must not disturb the view.
        publish(
            36_000,
            "staff:x",
            "responses/icu-3/b12/n1-1",
            br#"{"answer":"rejected","reason":"mine"}"#,
            Denied,
        ),
        publish(36_001, "plugin:x", "alerts/a", b"not json", Accepted),
        publish(36_002, "plugin:x", "alerts/a", b"\xff\xfe\0", Accepted),
        publish(36_003, "plugin:x", "alerts/a", b"[1,2]", Accepted),
        publish(36_004, "plugin:x", "alerts/a", b"7", Accepted),
        publish(36_005, "plugin:x", "alerts/a", br#"{"alert":"n1-2","since":"infinity"}"#, Accepted),
        publish(36_006, "plugin:x", "alerts/a", br#"{"alert":7,"since":[1],"tier":{"a":1}}"#, Accepted),
        publish(
            36_007,
            "plugin:x",
            "alerts/a",
            br#"{"alert":"n1-3","since":"2026-99-99T99:00:00Z"}"#,
            Accepted,
        ),
        publish(36_008, "plugin:x", "alerts/a", br#"{"alert":"a\u0000b"}"#, Accepted),
        publish(36_009, "staff:x", "responses/a", b"{}", Accepted),
        publish(36_010, "staff:x", "responses/a/b/c/d", b"{}", Accepted),
        publish(36_011, "staff:x", "responses/icu-3/b12/", b"", Accepted),
    ]);
    let (_server, stores) = stores(&node).await;
    for store in &stores {
        let filter = Filter { alert: Some("n1-48213".to_owned()), ..Filter::default() };
        let story = read(store, Relation::AlertTimeline, &filter).await;
        let told: Vec<Value> = story
            .iter()
            .map(|row| {
                json!([
                    row["step_number"],
                    row["step"],
                    row["who"],
                    row["tier"],
                    row["latency_ms"],
                    row["seq"]
                ])
            })
            .collect();
        let expected = json!([
            [1, "start", "nurse", "0", 0, 1],
            [2, "sent", "staff:n.ito", null, 1, 2],
            [3, "unreachable", "staff:n.ito", null, 50, 3],
            [4, "escalate", "charge", "1", 30_000, 4],
            [5, "sent", "staff:c.rossi", null, 30_001, 5],
            [6, "confirmed", "staff:c.rossi", null, 30_150, 6],
            [7, "answer", "staff:c.rossi", null, 35_000, 7],
        ]);
        assert_eq!(Value::Array(told), expected, "{}", store.name());
        assert_eq!(story[3]["at"], "2026-11-21T08:00:30.250000Z");
        assert_eq!((&story[6]["detail"], &story[6]["bed"]), (&json!("accepted"), &json!("b12")));

        let all = read(store, Relation::AlertTimeline, &Filter::default()).await;
        let mut alerts: BTreeMap<&str, usize> = BTreeMap::new();
        all.iter().for_each(|row| *alerts.entry(row["alert"].as_str().unwrap()).or_default() += 1);
        alerts.remove("a\0b");
        alerts.remove("a");
        let expected = [("7", 1), ("n1-1", 1), ("n1-2", 1), ("n1-3", 1), ("n1-48213", 7)];
        assert_eq!(alerts, BTreeMap::from(expected), "{}", store.name());
        let denied = all.iter().find(|row| row["alert"] == "n1-1").unwrap();
        assert_eq!(
            (&denied["outcome"], &denied["detail"]),
            (&json!("denied"), &json!("rejected: mine: unknown alert"))
        );

        let deliveries = read(store, Relation::Deliveries, &filter).await;
        let told: Vec<Value> = deliveries
            .iter()
            .map(|row| json!([row["principal"], row["sent_at"], row["confirmed_at"], row["unreachable_at"]]))
            .collect();
        let expected = json!([
            ["staff:n.ito", "2026-11-21T08:00:00.251000Z", null, "2026-11-21T08:00:00.300000Z"],
            ["staff:c.rossi", "2026-11-21T08:00:30.251000Z", "2026-11-21T08:00:30.400000Z", null],
        ]);
        assert_eq!(Value::Array(told), expected, "{}", store.name());
        let of_alert = read(store, Relation::Publishes, &filter).await;
        assert_eq!(of_alert.iter().map(|row| row["seq"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 4, 7]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_agree_with_an_oracle() {
    const ROWS: u64 = 300;
    let node = Node::new();
    load(&node, 0, ROWS);
    let (_server, stores) = stores(&node).await;
    let text = |value: &str| Some(value.to_owned());
    let filters = [
        Filter::default(),
        Filter { client: text("mon-12"), ..Filter::default() },
        Filter { principal: text("device:vent-3"), ..Filter::default() },
        Filter { topic: text("telemetry/icu-3/#"), ..Filter::default() },
        Filter { topic: text("telemetry/+/b1/#"), ..Filter::default() },
        Filter { topic: text("admissions/icu-3/b12"), ..Filter::default() },
        Filter { topic: text("admissions/icu-3/b12/#"), ..Filter::default() },
        Filter { topic: text("#"), ..Filter::default() },
        Filter { topic: text("nothing/+"), ..Filter::default() },
        Filter { outcome: text("denied"), ..Filter::default() },
        Filter { from: Some(at(100)), to: Some(at(200)), ..Filter::default() },
        Filter { limit: Some(7), ..Filter::default() },
        Filter { limit: Some(7), newest_first: true, topic: text("+/icu-4/#"), ..Filter::default() },
        Filter { node: Some(2), ..Filter::default() },
        Filter { outcome: text("denied"), client: text("pager-7"), from: Some(at(50)), ..Filter::default() },
    ];
    for filter in &filters {
        let mut expected: Vec<u64> = (0..ROWS)
            .filter(|n| match nth(*n, "") {
                Record::Publish(publish) => {
                    let is = |wanted: &Option<String>, value: &str| {
                        wanted.as_ref().is_none_or(|wanted| wanted == value)
                    };
                    let outcome = if publish.outcome == Outcome::Denied { "denied" } else { "accepted" };
                    is(&filter.client, publish.origin.client)
                        && is(&filter.principal, publish.origin.principal)
                        && is(&filter.outcome, outcome)
                        && filter.topic.as_ref().is_none_or(|filter| topic::matches(filter, publish.topic))
                        && filter.from.is_none_or(|from| publish.received_at >= from)
                        && filter.to.is_none_or(|to| publish.received_at < to)
                        && filter.node.is_none_or(|node| node == support::NODE)
                }
                _ => false,
            })
            .collect();
        if filter.newest_first {
            expected.reverse();
        }
        expected.truncate(filter.limit.unwrap_or(u64::MAX) as usize);
        for store in &stores {
            let found = read(store, Relation::Publishes, filter).await;
            let found: Vec<u64> = found.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
            assert_eq!(found, expected, "{filter:?} in {}", store.name());
        }
    }
    for store in &stores {
        let refused = Filter { event: text("refuse"), ..Filter::default() };
        let found = read(store, Relation::Access, &refused).await;
        assert!(!found.is_empty() && found.iter().all(|row| row["event"] == "refuse"));
        assert_eq!(read(store, Relation::Checkpoints, &Filter::default()).await.len(), 1);
        let row = &read(store, Relation::Publishes, &Filter { limit: Some(1), ..Filter::default() }).await[0];
        assert_eq!(row["payload"], "{\"value\":0}");
        assert_eq!(
            (&row["retain"], &row["qos"], &row["received_at"]),
            (&json!(true), &json!(0), &json!("2026-11-21T08:00:00.000000Z"))
        );
        let wrong =
            Query::new(store, Relation::Access, &Filter { topic: text("#"), ..Filter::default() }).await;
        assert!(matches!(wrong, Err(QueryError::NotFilterable { .. })));
        let wrong =
            Query::new(store, Relation::Publishes, &Filter { topic: text("a#"), ..Filter::default() }).await;
        assert!(matches!(wrong, Err(QueryError::TopicFilter(_))));
    }
}

#[tokio::test]
async fn a_store_without_a_record_is_told_apart() {
    let node = Node::new();
    let missing = node.sqlite();
    assert!(Query::new(&missing, Relation::Access, &Filter::default()).await.is_err());
    std::fs::write(node.directory.path().join("audit.db"), b"").unwrap();
    let Err(error) = Query::new(&missing, Relation::Access, &Filter::default()).await else {
        panic!("no error")
    };
    assert!(error.to_string().contains("no audit tables"), "{error}");
}
