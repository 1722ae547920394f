//! A journal that is encrypted at rest: it comes back with its keys, and without them nothing is readable.

#![allow(clippy::unwrap_used, reason = "helpers of tests assert as tests do")]

use std::fs;
use std::path::Path;

use wardline_tests::{Broker, RawClient, Site, connect, wardline};
use wardline_wire::{Connect, Packet, Version};

/// What must not be readable in any file of the journal.
const PAYLOAD: &str = "resuscitation in bed 12";
const TOPIC: &str = "ward/b12/note";

/// Makes a key with the command; returns its name.
fn make_key(site: &Site) -> String {
    let made = wardline().args(["journal", "key", "--out"]).arg(site.path().join("journal.key")).output();
    let made = made.unwrap();
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success(), "{said}");
    said.strip_prefix("key ").unwrap().split(' ').next().unwrap().to_owned()
}

/// A session that outlives its connection.
fn pager(broker: &Broker) -> RawClient {
    let connect = Connect { clean_start: false, ..connect(Version::V311, "pager") };
    RawClient::connected_by(broker.address("lab"), connect)
}

fn is_readable(journal: &Path) -> bool {
    let files: Vec<_> = fs::read_dir(journal).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.iter().any(|file| file.extension().is_some_and(|suffix| suffix == "seg")));
    files.iter().any(|file| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(PAYLOAD.len()).any(|window| window == PAYLOAD.as_bytes())
    })
}

#[test]
fn an_encrypted_journal_survives_kill_9_and_a_new_key_and_is_closed_without_them() {
    let site = Site::new();
    let first = make_key(&site);
    site.edit(
        "wardline.toml",
        "[audit]\n",
        "[journal]\nkey_file = \"journal.key\"\nsegment = \"64KiB\"\n[audit]\n",
    );
    let check = wardline().args(["check", "--config"]).arg(site.config()).output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(said.contains(&format!("journal encrypted with key {first}")), "{said}");

    let journal = site.path().join("data/journal");
    let broker = Broker::start(&site);
    pager(&broker).subscribe(TOPIC);
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V311, "monitor");
    for id in 1..=3 {
        monitor.deliver(TOPIC, format!("{PAYLOAD} {id}"), id);
    }
    broker.kill();
    assert!(!is_readable(&journal));

    let second = make_key(&site);
    assert_ne!(first, second);
    let broker = Broker::start(&site);
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V311, "monitor");
    monitor.deliver(TOPIC, format!("{PAYLOAD} 4"), 1);
    assert_eq!(broker.terminate().status, Some(0));
    assert!(!is_readable(&journal));

    let keys = fs::read_to_string(site.path().join("journal.key")).unwrap();
    let newest = keys.lines().next().unwrap();
    site.write("journal.key", newest);
    let end = Broker::fail_to_start(&site, &[]);
    assert_eq!(end.status, Some(1));
    assert!(end.said.contains(&format!(".seg is encrypted with key {first}, which ")), "{}", end.said);
    assert!(end.said.contains("journal.key does not hold"), "{}", end.said);

    site.write("journal.key", &keys);
    let broker = Broker::start(&site);
    let mut pager = pager(&broker);
    for id in 1..=4 {
        let Packet::Publish(publish) = pager.receive() else { panic!("publish {id}") };
        assert_eq!(publish.payload, format!("{PAYLOAD} {id}"));
        pager.acknowledge(&publish);
    }
}
