//! A broker goes on where an earlier version of it was killed: with that version's journal, snapshot, audit store and keys.
//!
//! `tests/data-directories/VERSION` is what [`leave_much_open`] leaves. To add the version that is to be released:
//! `WARDLINE_KEEP_AS=VERSION cargo nextest run -p wardline-tests --test upgrade this_version`

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test asserts")]

use std::fs;
use std::path::{Path, PathBuf};

use wardline_tests::{Broker, RawClient, Site, connect, packet_id, record, workspace};
use wardline_wire::{Ack, Connect, Packet, Publish, PublishProperties, QoS, ReasonCode, Version, Will};

/// Those that may have been installed somewhere.
const VERSIONS: [&str; 1] = ["0.1.0"];
/// Sessions that do not end while the files lie here, and small segments.
const ENVIRONMENT: [(&str, &str); 2] =
    [("WARDLINE__LIMITS__SESSION_EXPIRY_MAX", "4294967295s"), ("WARDLINE__JOURNAL__QUOTA", "1MiB")];
/// Of the client that had not answered.
const IN_FLIGHT: u16 = 1;

/// Keeps its session for ever.
fn lasting(client: &str) -> Connect {
    let mut connect = connect(Version::V5, client);
    connect.clean_start = false;
    connect.properties.session_expiry = Some(u32::MAX);
    connect
}

fn come_back(broker: &Broker, client: &str) -> RawClient {
    RawClient::connected_by(broker.address("lab"), lasting(client))
}

fn exactly_once(client: &mut RawClient, topic: &str, payload: &str) {
    client.send(&Packet::Publish(Publish {
        topic: topic.into(),
        payload: payload.to_owned().into(),
        qos: QoS::ExactlyOnce,
        packet_id: Some(packet_id(9)),
        ..Publish::default()
    }));
    assert!(matches!(client.receive(), Packet::PubRec(ack) if !ack.reason.is_error()));
    client.send(&Packet::PubRel(done()));
    assert!(matches!(client.receive(), Packet::PubComp(_)));
}

fn done() -> Ack {
    Ack { packet_id: packet_id(9), reason: ReasonCode::Success, reason_string: None, user: Vec::new() }
}

/// Two lives of a broker: the first ends well and leaves a snapshot, the second by `kill -9`. Of each something stays open.
fn leave_much_open(site: &Site) {
    let broker = Broker::start_with(site, &ENVIRONMENT);
    for (client, filter) in [("pager", "calls/#"), ("member", "$share/porters/tasks/#"), ("kin", "wills/#")] {
        come_back(&broker, client).subscribe(filter);
    }
    let mut nurse = come_back(&broker, "nurse");
    nurse.subscribe("alerts/#");
    drop(nurse);
    let mut lab = RawClient::connected(broker.address("lab"), Version::V5, "lab");
    lab.deliver("calls/1", "of the first life", 1);
    lab.deliver("tasks/1", "of the first life", 2);
    lab.retain("ward/b12/diet", "no salt", 3);
    drop(lab);
    assert_eq!(broker.terminate().status, Some(0));

    let broker = Broker::start_with(site, &ENVIRONMENT);
    let mut half = come_back(&broker, "half");
    assert_eq!(half.try_subscribe(&[("samples/#", QoS::ExactlyOnce)]), [ReasonCode::GrantedQoS2]);
    let mut gone = lasting("gone");
    gone.will = Some(Will {
        topic: "wills/gone".into(),
        payload: "gone".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay: None,
        properties: PublishProperties::default(),
    });
    let gone = RawClient::connected_by(broker.address("lab"), gone);
    let mut lab = RawClient::connected(broker.address("lab"), Version::V5, "lab");
    lab.deliver("calls/1", "of the second life", 1);
    lab.deliver("tasks/1", "of the second life", 2);
    exactly_once(&mut lab, "samples/1", "once");
    assert!(
        matches!(half.receive(), Packet::Publish(publish) if publish.packet_id == Some(packet_id(IN_FLIGHT)))
    );
    lab.deliver("telemetry/icu-3/b12/mon-12/spo2", "80", 3);
    broker.kill();
    drop(gone);
}

/// All that was left open is there, and the record is whole.
fn goes_on(site: &Site) {
    let broker = Broker::start_with(site, &ENVIRONMENT);
    for (client, topic) in [("pager", "calls/1"), ("member", "tasks/1")] {
        let mut client = come_back(&broker, client);
        for payload in ["of the first life", "of the second life"] {
            let publish = next(&mut client);
            assert_eq!((&*publish.topic, &*publish.payload), (topic, payload.as_bytes()));
        }
    }
    assert_eq!(&*next(&mut come_back(&broker, "kin")).payload, b"gone");
    assert_eq!(&*next(&mut come_back(&broker, "nurse")).topic, "alerts/icu-3/nurse/high/b12/spo2-low");
    let mut half = come_back(&broker, "half");
    let Packet::Publish(again) = half.receive() else { panic!("what is in flight is sent again") };
    assert!(
        again.dup && again.packet_id == Some(packet_id(IN_FLIGHT)) && *again.payload == *b"once",
        "{again:?}"
    );

    let mut kitchen = RawClient::connected(broker.address("lab"), Version::V5, "kitchen");
    kitchen.subscribe("ward/+/diet");
    assert_eq!(&*next(&mut kitchen).payload, b"no salt");
    kitchen.subscribe("alarms/icu-3/b12/spo2-low");
    assert!(String::from_utf8_lossy(&next(&mut kitchen).payload).contains("\"state\":\"active\""));
    drop((half, kitchen));
    assert_eq!(broker.terminate().status, Some(0));
    record::verify(&format!("sqlite:{}", site.audit_db().display()));
}

fn next(client: &mut RawClient) -> Publish {
    let Packet::Publish(publish) = client.receive() else { panic!("no publish comes") };
    client.acknowledge(&publish);
    publish
}

/// What an earlier version left, beside what makes the site.
fn kept(version: &str) -> PathBuf {
    workspace().join("tests/data-directories").join(version)
}

/// All that a broker writes into a site.
fn state(site: &Site) -> [PathBuf; 2] {
    [site.path().join("data"), site.audit_db()]
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

#[test]
fn a_broker_goes_on_where_this_version_was_killed() {
    let site = Site::new();
    leave_much_open(&site);
    if let Ok(version) = std::env::var("WARDLINE_KEEP_AS") {
        for from in state(&site) {
            let to = kept(&version).join(from.file_name().unwrap());
            fs::create_dir_all(kept(&version)).unwrap();
            copy(&from, &to);
        }
    }
    goes_on(&site);
}

#[test]
fn a_broker_goes_on_where_an_earlier_version_was_killed() {
    for version in VERSIONS {
        let site = Site::new();
        for to in state(&site) {
            copy(&kept(version).join(to.file_name().unwrap()), &to);
        }
        goes_on(&site);
    }
}
