//! Segments that are gone are missed, whichever they are; what they held is given up only by an order, and told to whom it was
//! owed. All else goes on from the snapshot.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test asserts")]

use std::fs;
use std::path::PathBuf;

use wardline_tests::{
    Broker, RawClient, Site, connect,
    load::{self, Publisher},
    wardline,
};
use wardline_wire::{Connect, Packet, Publish, Version};

/// Of a mebibyte each, by the quota below.
const SEGMENTS_MIN: usize = 4;
const QUOTA: &str = "[journal]\nquota = \"8MiB\"\n";
/// About 5 MB of them: room is not short.
const PUBLISHES: u64 = 4_000;
const PAYLOAD_BYTES: usize = 1_000;
const RETAINED: u16 = 20;
const WINDOW: u16 = 200;

fn archive() -> Connect {
    let mut connect = connect(Version::V5, "archive");
    connect.clean_start = false;
    connect.properties.session_expiry = Some(3_600);
    connect
}

/// A broker that was stopped in order while somebody who is away is owed everything.
fn left() -> Site {
    let site = Site::new();
    let config = fs::read_to_string(site.config()).unwrap();
    site.write("wardline.toml", &format!("{config}\n{QUOTA}"));
    let broker = Broker::start(&site);
    let mut away = RawClient::connected_by(broker.address("lab"), archive());
    away.subscribe("ward/1");
    drop(away);
    let mut device = RawClient::connected(broker.address("lab"), Version::V5, "device");
    for number in 1..=RETAINED {
        device.retain(&format!("state/{number}"), "on", number);
    }
    let address = broker.address("lab");
    let next = |number: u64| {
        let payload = format!("{number:.<PAYLOAD_BYTES$}").into();
        (number < PUBLISHES).then(|| Publish { topic: "ward/1".into(), payload, ..Publish::default() })
    };
    load::block_on(async {
        Publisher::connect(address, "monitor").await.unwrap().publish(WINDOW, next).await.unwrap();
    });
    assert_eq!(broker.terminate().status, Some(0));
    assert!(segments(&site).len() >= SEGMENTS_MIN);
    site
}

/// Oldest first.
fn segments(site: &Site) -> Vec<PathBuf> {
    let files = fs::read_dir(site.path().join("data/journal")).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<_> = files.filter(|file| file.extension().is_some_and(|it| it == "seg")).collect();
    segments.sort();
    segments
}

/// The broker does not start, for this reason; then it does, once what is missing is given up. How many of the publishes that
/// were owed are lost, each of which is told.
fn given_up(site: &Site, reason: &str) -> u64 {
    for _ in 0..2 {
        let end = Broker::fail_to_start(site, &[]);
        assert!(end.status == Some(1) && end.said.contains(reason), "{}", end.said);
        assert!(end.said.contains("wardline journal quarantine"), "{}", end.said);
    }
    let output = wardline().args(["journal", "quarantine", "--config"]).arg(site.config()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("lost to the journal"), "{said}");

    let broker = Broker::start(site);
    let mut kitchen = RawClient::connected(broker.address("lab"), Version::V5, "kitchen");
    kitchen.subscribe("state/#");
    for _ in 1..=RETAINED {
        let Packet::Publish(publish) = kitchen.receive() else { panic!("a retained message is missing") };
        assert!(publish.retain);
        kitchen.acknowledge(&publish);
    }
    kitchen.deliver("ward/1", "afterwards", 1);
    let mut away = RawClient::connected_by(broker.address("lab"), archive());
    let mut lost = 0;
    for number in 0..PUBLISHES {
        let Packet::Publish(publish) = away.receive() else { panic!("{number} is passed over") };
        away.acknowledge(&publish);
        if &*publish.topic == "wardline/lost" {
            lost += 1;
        } else {
            assert!(publish.payload.starts_with(format!("{number}.").as_bytes()), "{publish:?}");
        }
    }
    assert!(matches!(away.receive(), Packet::Publish(publish) if *publish.payload == *b"afterwards"));
    drop((kitchen, away));
    assert_eq!(broker.terminate().status, Some(0));
    lost
}

#[test]
fn all_segments_are_gone() {
    let site = left();
    segments(&site).into_iter().for_each(|segment| fs::remove_file(segment).unwrap());
    assert_eq!(given_up(&site, "Newer records are missing"), PUBLISHES);
}

#[test]
fn the_last_segment_is_gone() {
    let site = left();
    fs::remove_file(segments(&site).pop().unwrap()).unwrap();
    assert!((1..PUBLISHES).contains(&given_up(&site, "Newer records are missing")));
}

#[test]
fn the_first_segment_is_gone() {
    let site = left();
    fs::remove_file(segments(&site).remove(0)).unwrap();
    assert!((1..PUBLISHES).contains(&given_up(&site, "clients are owed records from")));
}

#[test]
fn the_last_segment_is_damaged_and_with_it_the_place_of_the_snapshot() {
    let site = left();
    let last = segments(&site).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[200] ^= 1;
    fs::write(&last, bytes).unwrap();
    assert!((1..PUBLISHES).contains(&given_up(&site, "is damaged at byte")));
}
