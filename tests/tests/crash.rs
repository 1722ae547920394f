//! What was acknowledged is kept, whatever happens to the process, and the record has it exactly once.

#![allow(clippy::unwrap_used, reason = "helpers of tests assert as tests do")]

use std::collections::BTreeMap;

use wardline_test_postgres::Postgres;
use wardline_tests::crash::{Plan, Store, run};
use wardline_tests::{Broker, RawClient, Site, connect, record};
use wardline_wire::{Packet, Version};

/// Lives of the broker before the last.
const CRASHES: u16 = 3;
/// Publishes under way at any time.
const WINDOW: u16 = 100;
/// Acknowledgements after which the broker is killed.
const ACKNOWLEDGED_MIN: usize = 300;
/// Of a short run of the crash test.
const KILLS: u32 = 6;
/// Of the short run, so that it tells the same story each time.
const SEED: u64 = 3;

/// Publishes as fast as it is acknowledged, kills the broker in the middle, and returns the payloads that were acknowledged.
fn publish_and_kill(site: &Site, environment: &[(&str, &str)], life: u16) -> Vec<String> {
    let broker = Broker::start_with(site, environment);
    let mut client = RawClient::connected(broker.address("lab"), Version::V311, "monitor");
    let mut ids = 1..;
    let mut send = |client: &mut RawClient| {
        let id = ids.next().unwrap();
        client.send_publish("ward/b12/note", payload(life, id).as_bytes(), id);
    };
    for _ in 0..WINDOW {
        send(&mut client);
    }
    let mut acknowledged = Vec::new();
    let mut alive = Some(broker);
    while let Some(Packet::PubAck(ack)) = client.try_receive() {
        acknowledged.push(payload(life, ack.packet_id.0.get()));
        if acknowledged.len() >= ACKNOWLEDGED_MIN {
            // What had left it before counts as well, and is read below.
            alive.take().map(Broker::kill);
        } else {
            send(&mut client);
        }
    }
    acknowledged
}

fn payload(life: u16, id: u16) -> String {
    format!("life {life} publish {id}")
}

/// Kills the broker several times under load, and then demands of `rows`, each recorded payload with its count, that what
/// was acknowledged is there once, and nothing twice.
fn acknowledged_is_recorded_once(
    site: &Site,
    environment: &[(&str, &str)],
    rows: impl FnOnce() -> BTreeMap<String, u64>,
) {
    let mut acknowledged = Vec::new();
    for life in 1..=CRASHES {
        acknowledged.extend(publish_and_kill(site, environment, life));
    }
    assert!(acknowledged.len() >= ACKNOWLEDGED_MIN * usize::from(CRASHES));
    // A clean end waits until the store has everything.
    let end = Broker::start_with(site, environment).terminate();
    assert_eq!(end.status, Some(0), "{}", end.said);
    let rows = rows();
    for payload in &acknowledged {
        assert_eq!(rows.get(payload), Some(&1), "{payload:?} was acknowledged");
    }
    for (payload, count) in &rows {
        assert_eq!(*count, 1, "{payload:?} was sent once");
    }
}

#[test]
fn acknowledged_publishes_are_in_sqlite_exactly_once_after_kill_9() {
    let site = Site::new();
    acknowledged_is_recorded_once(&site, &[], || {
        let sql = "SELECT CAST(payload AS TEXT), CAST(count(*) AS TEXT) FROM publishes WHERE topic = 'ward/b12/note' GROUP BY payload";
        let rows = record::sqlite(&site.audit_db(), sql);
        rows.into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
    });
    record::verify(&format!("sqlite:{}", site.audit_db().display()));
}

#[test]
fn acknowledged_publishes_are_in_postgres_exactly_once_after_kill_9() {
    let Some(postgres) = Postgres::start_unless_skipped() else { return };
    let site = Site::new();
    let url = postgres.url();
    acknowledged_is_recorded_once(&site, &[("WARDLINE__AUDIT__STORE", &url)], || {
        let sql = "SELECT convert_from(payload, 'UTF8'), count(*) FROM audit.publishes WHERE topic = 'ward/b12/note' GROUP BY payload";
        let rows = postgres.query(sql);
        let row = |line: &str| {
            let (payload, count) = line.rsplit_once('|').unwrap();
            (payload.to_owned(), count.parse().unwrap())
        };
        rows.lines().map(row).collect()
    });
    record::verify(&url);
}

#[test]
fn a_database_that_crashes_loses_nothing_and_doubles_nothing() {
    let Some(mut postgres) = Postgres::start_unless_skipped() else { return };
    let site = Site::new();
    let url = postgres.url();
    let broker = Broker::start_with(&site, &[("WARDLINE__AUDIT__STORE", &url)]);
    let mut client = RawClient::connected(broker.address("lab"), Version::V311, "monitor");
    let mut publish = |ids: std::ops::RangeInclusive<u16>| {
        for id in ids {
            client.deliver("ward/b12/note", payload(1, id), id);
        }
    };
    publish(1..=100);
    postgres.stop_immediate();
    // The ward does not notice.
    publish(101..=200);
    postgres.start_again();
    publish(201..=300);
    let end = broker.terminate();
    assert_eq!(end.status, Some(0), "{}", end.said);
    let sql = "SELECT count(*), count(DISTINCT payload) FROM audit.publishes WHERE topic = 'ward/b12/note'";
    assert_eq!(postgres.query(sql), "300|300");
    record::verify(&url);
}

#[test]
fn an_absent_subscriber_gets_what_was_acknowledged_before_kill_9() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let durable = || {
        let mut connect = connect(Version::V311, "pager");
        connect.clean_start = false;
        connect
    };
    let mut pager = RawClient::connected_by(broker.address("lab"), durable());
    pager.subscribe("ward/#");
    drop(pager);
    let mut publisher = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    for id in 1..=20 {
        publisher.deliver("ward/b12/note", payload(1, id), id);
    }
    broker.kill();

    let broker = Broker::start(&site);
    let mut pager = RawClient::connected_by(broker.address("lab"), durable());
    for id in 1..=20 {
        let Packet::Publish(publish) = pager.receive() else { panic!("publish {id} is missing") };
        assert_eq!(publish.payload, payload(1, id));
        pager.acknowledge(&publish);
    }
}

#[test]
fn a_retained_message_survives_kill_9() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut publisher = RawClient::connected(broker.address("lab"), Version::V311, "adt");
    publisher.retain("ward/b12/diet", "no salt", 1);
    broker.kill();

    let broker = Broker::start(&site);
    let mut kitchen = RawClient::connected(broker.address("lab"), Version::V311, "kitchen");
    kitchen.subscribe("ward/+/diet");
    match kitchen.receive() {
        Packet::Publish(publish) => assert_eq!((publish.payload, publish.retain), ("no salt".into(), true)),
        other => panic!("{other:?}"),
    }
}

/// A short run of the crash test; `tests/crash` is the long one.
fn nothing_is_lost_by_kills_at_random(store: Store) {
    let report = run(Plan { kills: KILLS, seed: SEED, store, journal_quota_mib: None });
    assert!(report.faults.is_empty(), "{report}");
    // It went as it should: there was something to lose.
    assert!(report.killed.serving >= 2 && report.acknowledged > 100, "{report}");
    assert!(report.delivered > report.acknowledged && report.rows >= report.acknowledged, "{report}");
    assert!(report.alerts > 0, "{report}");
}

#[test]
fn kills_at_random_lose_nothing_with_sqlite() {
    nothing_is_lost_by_kills_at_random(Store::Sqlite);
}

#[test]
fn kills_at_random_of_broker_and_postgres_lose_nothing() {
    if Postgres::start_unless_skipped().is_none() {
        return;
    }
    nothing_is_lost_by_kills_at_random(Store::Postgres);
}
