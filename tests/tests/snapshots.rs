//! What a restart needs does not grow with what has been: snapshots, and segments that are let go.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests assert as tests do")]

use std::path::Path;

use wardline_tests::{
    Broker, DEADLINE, RawClient, Site, connect,
    load::{self, Publisher},
    record,
};
use wardline_wire::{Connect, Packet, Publish, Version};

/// Of each publish.
const PAYLOAD_BYTES: usize = 1_000;
/// More than the journal may hold.
const PUBLISHES: u64 = 30_000;
const QUOTA_BYTES: u64 = 8 << 20;
/// Publishes under way at a time.
const WINDOW: u16 = 200;
const RETAINED: u16 = 50;

/// A journal that holds a fraction of what is published.
fn small_journal() -> Site {
    let site = Site::new();
    let sections = std::fs::read_to_string(site.config()).unwrap();
    site.write("wardline.toml", &format!("{sections}\n[journal]\nquota = \"8MiB\"\n"));
    site
}

fn durable(client: &str, receive_maximum: u16) -> Connect {
    let mut connect = connect(Version::V5, client);
    connect.clean_start = false;
    connect.properties.session_expiry = Some(3_600);
    connect.properties.receive_maximum = std::num::NonZeroU16::new(receive_maximum);
    connect
}

/// Publishes more than the journal holds, at QoS 1.
fn publish_much(broker: &Broker) {
    let address = broker.address("lab");
    let next = |number: u64| {
        let publish = Publish {
            topic: "ward/1".into(),
            payload: vec![b'.'; PAYLOAD_BYTES].into(),
            ..Publish::default()
        };
        (number < PUBLISHES).then_some(publish)
    };
    load::block_on(async {
        let mut publisher = Publisher::connect(address, "monitor").await.unwrap();
        assert_eq!(publisher.publish(WINDOW, next).await.unwrap().len() as u64, PUBLISHES);
    });
}

fn retain_some(broker: &Broker) {
    let mut device = RawClient::connected(broker.address("lab"), Version::V5, "device");
    for number in 1..=RETAINED {
        device.retain(&format!("state/{number}"), number.to_string(), number);
    }
}

/// Offset of the oldest record that the journal still has.
fn first_offset(site: &Site) -> u64 {
    let names = files(&site.path().join("data/journal"), ".seg");
    names.iter().map(|name| name.trim_end_matches(".seg").parse().unwrap()).min().unwrap()
}

fn files(directory: &Path, suffix: &str) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(suffix)).collect()
}

/// Waits until the audit store has what the segments held, and they are gone.
fn wait_for_release(site: &Site, past: u64) {
    let begun = std::time::Instant::now();
    while first_offset(site) < past {
        assert!(begun.elapsed() < DEADLINE, "the journal still begins at {}", first_offset(site));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn states(client: &mut RawClient, count: u16) -> Vec<u16> {
    let mut heard = Vec::new();
    while heard.len() < usize::from(count) {
        let Packet::Publish(publish) = client.receive() else { continue };
        client.acknowledge(&publish);
        heard.push(std::str::from_utf8(&publish.payload).unwrap().parse().unwrap());
    }
    heard.sort_unstable();
    heard
}

#[test]
fn the_journal_lets_go_of_what_nobody_needs_and_a_restart_still_knows_all_that_is_live() {
    let site = small_journal();
    let broker = Broker::start(&site);
    retain_some(&broker);
    let mut pager = RawClient::connected_by(broker.address("lab"), durable("pager", 10));
    pager.subscribe("calls/#");
    drop(pager);
    let mut lab = RawClient::connected(broker.address("lab"), Version::V5, "lab");
    lab.deliver("calls/b12", "come", 1);
    // What waits for the pager does not hold the journal back.
    publish_much(&broker);
    wait_for_release(&site, PUBLISHES / 2);
    assert!(record::journal_bytes(&site.path().join("data")) <= QUOTA_BYTES);
    lab.deliver("calls/b12", "come again", 2);
    broker.kill();

    let broker = Broker::recover(&site, &[]);
    let mut pager = RawClient::connected_by(broker.address("lab"), durable("pager", 10));
    for owed in ["come", "come again"] {
        let Packet::Publish(call) = pager.receive() else { panic!("a call is owed") };
        assert_eq!(&*call.payload, owed.as_bytes());
    }
    let mut late = RawClient::connected(broker.address("lab"), Version::V5, "late");
    late.subscribe("state/#");
    assert_eq!(states(&mut late, RETAINED), (1..=RETAINED).collect::<Vec<_>>());
    drop((pager, late));
    assert_eq!(broker.terminate().status, Some(0));
    record::verify(&format!("sqlite:{}", site.audit_db().display()));
    let rows = record::sqlite(&site.audit_db(), "SELECT count(*) FROM publishes WHERE topic = 'ward/1'");
    assert_eq!(rows, [[PUBLISHES.to_string()]]);
}

#[test]
fn a_retained_message_whose_segment_is_gone_still_reaches_who_is_away() {
    let site = small_journal();
    let broker = Broker::start(&site);
    retain_some(&broker);
    publish_much(&broker);
    wait_for_release(&site, PUBLISHES / 2);
    // One in flight, the others wait; then they are replaced.
    let mut away = RawClient::connected_by(broker.address("lab"), durable("away", 1));
    away.subscribe("state/#");
    let Packet::Publish(first) = away.receive() else { panic!("a retained message is owed") };
    drop(away);
    let mut device = RawClient::connected(broker.address("lab"), Version::V5, "clears");
    for number in 1..=RETAINED {
        device.deliver(&format!("state/{number}"), "0", number);
    }
    publish_much(&broker);
    wait_for_release(&site, PUBLISHES + PUBLISHES / 2);
    broker.kill();

    let broker = Broker::recover(&site, &[]);
    let mut away = RawClient::connected_by(broker.address("lab"), durable("away", 1));
    let heard = states(&mut away, 2 * RETAINED);
    let expected = std::iter::repeat_n(0, RETAINED.into()).chain(1..=RETAINED).collect::<Vec<u16>>();
    assert_eq!(heard, expected, "{first:?} among them, repeated");
}

#[test]
fn a_clean_stop_leaves_nothing_to_read_again_and_a_damaged_snapshot_costs_only_time() {
    let site = Site::new();
    let broker = Broker::start(&site);
    retain_some(&broker);
    assert_eq!(broker.terminate().status, Some(0));
    let journal = site.path().join("data/journal");
    let snapshots = files(&journal, ".snap");
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");

    let damage = |name: &str| {
        let file = journal.join(name);
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    };
    damage(&snapshots[0]);
    let broker = Broker::start(&site);
    assert!(broker.said().contains("a snapshot cannot be used"));
    let mut late = RawClient::connected(broker.address("lab"), Version::V5, "late");
    late.subscribe("state/#");
    assert_eq!(states(&mut late, RETAINED).len(), usize::from(RETAINED));
    drop(late);
    assert_eq!(broker.terminate().status, Some(0));
    let sound = files(&journal, ".snap");
    assert!(sound.len() == 1 && sound != snapshots, "{sound:?}");
}

#[test]
fn without_a_snapshot_nothing_is_made_up_of_a_journal_that_has_let_go_of_its_beginning() {
    let site = small_journal();
    let broker = Broker::start(&site);
    publish_much(&broker);
    wait_for_release(&site, PUBLISHES / 4);
    assert_eq!(broker.terminate().status, Some(0));
    let journal = site.path().join("data/journal");
    for snapshot in files(&journal, ".snap") {
        std::fs::remove_file(journal.join(snapshot)).unwrap();
    }
    let end = Broker::fail_to_start(&site, &[]);
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains("no snapshot of what was before can be used (there is none)"), "{}", end.said);
}

#[test]
fn a_full_journal_sheds_the_oldest_telemetry_of_an_absent_subscriber_and_nothing_in_between() {
    let site = Site::new();
    let broker = Broker::start_with(&site, &[("WARDLINE__JOURNAL__QUOTA", "1MiB")]);
    let mut archive = RawClient::connected_by(broker.address("lab"), durable("archive", 10));
    archive.subscribe("ward/#");
    drop(archive);

    let mut monitor = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    let note = |number: u16| format!("{number} {:.>8000}", "");
    let mut sent = 0;
    let shed = || broker.metric::<u16>("wardline_publishes_overflowed_total");
    // As long as nothing is released, publishers are only slowed.
    while shed() == 0 || first_offset(&site) == 0 {
        sent += 1;
        monitor.deliver("ward/b12/note", note(sent), sent);
    }
    let mut archive = RawClient::connected_by(broker.address("lab"), durable("archive", 10));
    for number in shed() + 1..=sent {
        let Packet::Publish(publish) = archive.receive() else { panic!("no publish") };
        assert_eq!(*publish.payload, *note(number).as_bytes());
        archive.acknowledge(&publish);
    }
    assert!(broker.said().contains("telemetry that waited longest"));
}
