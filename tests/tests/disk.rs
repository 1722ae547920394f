//! When the disk is in trouble, telemetry waits, people are heard, and nothing acknowledged is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests assert as tests do")]

use std::fs::{self, File};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit};
use serde_json::Value;
use wardline_tests::{
    Broker, DEADLINE, Exit, Heard, RawClient, Site, ack, connect, packet_id, record, wardline,
};
use wardline_wire::{Packet, Publish, PublishProperties, QoS, Version};

const READING: &str = "telemetry/icu-3/b12/mon-12/spo2";
/// What staff say is no telemetry.
const NOTE: &str = "notes/icu-3/b12";
const ALARM: &str = "wardline/alarms/1/journal-space";
/// How long a client listens to be sure that it is told nothing.
const SILENCE: Duration = Duration::from_millis(300);

/// Nothing for a developer: no panic, no backtrace.
fn is_for_people(end: &Exit) {
    assert!(!end.said.contains("panicked") && !end.said.contains("RUST_BACKTRACE"), "{}", end.said);
}

/// A site with a listener `station` at which everybody is a nurse.
fn site_with_a_nurse() -> Site {
    let site = Site::new();
    site.add_listener("station", "bind = \"127.0.0.1:0\"\ntransport = \"tcp\"\nanonymous = \"staff:n.ito\"");
    let (publish, subscribe) = ("publish = [\"responses/{unit}/#\"", "\"wardline/heartbeat/#\"");
    site.edit("policy.toml", publish, &format!("{publish}, \"notes/#\""));
    site.edit("policy.toml", subscribe, &format!("{subscribe}, \"wardline/alarms/#\""));
    site
}

fn store(site: &Site) -> String {
    format!("sqlite:{}", site.audit_db().display())
}

/// Waits for what a look shows in time.
fn until(what: &str, broker: &Broker, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !look() {
        assert!(Instant::now() < deadline, "{what} did not come:\n{}", broker.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pressure(broker: &Broker) -> u64 {
    broker.metric("wardline_journal_pressure")
}

/// The next publish.
fn next_publish(client: &mut RawClient) -> Publish {
    match client.receive() {
        Packet::Publish(publish) => {
            if publish.packet_id.is_some() {
                client.acknowledge(&publish);
            }
            publish
        }
        other => panic!("{other:?}"),
    }
}

/// Whether a client is told nothing for a while.
fn is_silent(client: &mut RawClient) -> bool {
    let heard = client.listen(SILENCE);
    client.stream().set_read_timeout(Some(DEADLINE)).unwrap();
    matches!(heard, Heard::Silence)
}

fn json(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap()
}

fn status(broker: &Broker) -> Value {
    json(broker.http("/status").1.as_bytes())
}

/// Nobody listens there: nothing is audited, and no segment is released.
const NO_STORE: (&str, &str) = ("WARDLINE__AUDIT__STORE", "postgres://wardline@127.0.0.1:1/wardline");
/// A quota of 1 MiB, in eight segments.
const SMALL_QUOTA: [(&str, &str); 2] = [("WARDLINE__JOURNAL__QUOTA", "1MiB"), NO_STORE];

/// Publishes telemetry until it is acknowledged no more; how many were, and the last identifier.
fn fill(client: &mut RawClient, broker: &Broker) -> u16 {
    let payload = vec![b'x'; 8 << 10];
    for id in 1.. {
        client.send_publish(READING, &payload, id);
        loop {
            match client.listen(Duration::from_millis(50)) {
                Heard::Packet(packet) => {
                    assert_eq!(packet, Packet::PubAck(ack(id)));
                    break;
                }
                Heard::Silence if broker.metric::<u64>("wardline_telemetry_withheld_total") > 0 => {
                    return id - 1;
                }
                Heard::Silence => {}
                Heard::End => panic!("disconnected:\n{}", broker.said()),
            }
        }
    }
    unreachable!("a quota ends before the identifiers do")
}

#[test]
fn near_the_quota_telemetry_waits_while_people_go_on() {
    let site = site_with_a_nurse();
    let broker = Broker::start_with(&site, &SMALL_QUOTA);
    let mut pager = RawClient::connected(broker.address("station"), Version::V5, "pager");
    pager.subscribe("wardline/alarms/#");
    let mut archive = connect(Version::V5, "archive");
    archive.properties.session_expiry = Some(3_600);
    RawClient::connected_by(broker.address("lab"), archive).subscribe("telemetry/#");
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    let taken = fill(&mut monitor, &broker);
    assert!((20..128).contains(&taken), "{taken}");
    assert_eq!(pressure(&broker), 3);

    // The alarm has grown with the pressure, and began once.
    let mut priorities = Vec::new();
    let mut since = None;
    while priorities.last() != Some(&"high".to_owned()) {
        let publish = next_publish(&mut pager);
        assert_eq!(&*publish.topic, ALARM);
        let alarm = json(&publish.payload);
        assert_eq!(*since.get_or_insert_with(|| alarm["since"].clone()), alarm["since"]);
        priorities.push(alarm["priority"].as_str().unwrap().to_owned());
        assert!(alarm["text"].as_str().unwrap().contains("of room left of 1.0 MiB"), "{alarm}");
    }
    assert!(
        priorities
            .is_sorted_by_key(|priority| ["low", "medium", "high"].iter().position(|it| it == priority))
    );
    assert_eq!(status(&broker)["alarms"][0]["condition"], "journal-space");
    broker.wait_for_log("the alarm in the log", |line| line.contains("telemetry is withheld"));

    // It is neither dropped nor acknowledged, while people go on, beyond the quota if need be.
    let note = vec![b'x'; 4 << 10];
    for id in 1..=40 {
        pager.deliver(NOTE, &note, id);
    }

    assert!(is_silent(&mut monitor));
    // Nor does it stand in the way of what its sender has to say besides.
    monitor.send(&Packet::PingReq);
    assert_eq!(monitor.receive(), Packet::PingResp);
    monitor.deliver("limits/icu-3/b12/spo2", r#"{"low":86}"#, taken + 2);
    // The audit store has none of it, so that nothing can be shed.
    assert_eq!(broker.metric::<u64>("wardline_publishes_overflowed_total"), 0);
    assert!(broker.metric::<u64>("wardline_journal_stored_bytes") > 1 << 20);
    let text = String::from_utf8(wardline_status(&broker, &[]).stdout).unwrap();
    assert!(
        text.contains("pressure full") && text.contains("alarm     journal-space, priority high"),
        "{text}"
    );
    // People have written since the alarm grew, and its text says what is left now.
    let room = text.split("room for ").nth(1).unwrap().split(',').next().unwrap();
    assert!(text.contains(&format!("the journal has {room} of room left")), "{text}");
    assert!(text.contains("is kept for the audit store"), "{text}");
    broker.kill();

    // With more room all goes on, and the alarm is over: there is nothing retained.
    let broker = Broker::start_with(&site, &[("WARDLINE__JOURNAL__QUOTA", "64MiB")]);
    until("the end of the alarm", &broker, || broker.metric::<u64>("wardline_alarms") == 0);
    let mut pager = RawClient::connected(broker.address("station"), Version::V5, "pager");
    pager.subscribe("wardline/alarms/#");
    assert!(is_silent(&mut pager));
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    monitor.deliver(READING, "97", 1);
    assert_eq!(broker.terminate().status, Some(0));
    let sql = "SELECT count(*) FROM publishes WHERE topic LIKE 'telemetry/%'";
    assert_eq!(record::sqlite(&site.audit_db(), sql), [[(taken + 1).to_string()]]);
    record::verify(&store(&site));
}

fn wardline_status(broker: &Broker, options: &[&str]) -> std::process::Output {
    let url = format!("http://{}", broker.address("http"));
    wardline().args(["status", "--url", &url]).args(options).output().unwrap()
}

#[test]
fn status_says_how_a_broker_is_and_that_there_is_none() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    monitor.deliver(READING, "97", 1);
    until("the record", &broker, || status(&broker)["audit"]["lag_records"] == 0);
    assert!(broker.metric::<u64>("wardline_journal_sync_seconds_count") > 0);
    let said = wardline_status(&broker, &["--json"]);
    assert!(said.status.success(), "{said:?}");
    let said = json(&said.stdout);
    assert_eq!(said["node"], 1);
    assert_eq!(said["sessions"]["connected"], 1);
    let journal = &said["journal"];
    assert_eq!(journal["pressure"], "normal");
    assert_eq!(journal["first_offset"], 0);
    assert_eq!(journal["next_offset"], journal["durable_offset"]);
    assert_eq!(journal["held"]["audit"], said["audit"]["up_to"]);
    let text = String::from_utf8(wardline_status(&broker, &[]).stdout).unwrap();
    assert!(text.starts_with("node      1 is running"), "{text}");

    // By the configuration, which names the port; and when there is none to answer.
    let address = broker.address("http").to_string();
    let by_config = || {
        let mut command = wardline();
        command.args(["status", "--config"]).arg(site.config());
        command.env("WARDLINE__HTTP__BIND", &address).output().unwrap()
    };
    assert_eq!(by_config().status.code(), Some(0));
    assert_eq!(broker.terminate().status, Some(0));
    let said = by_config();
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains(&format!("no broker answers on http://{address}")), "{text}");
}

/// A site whose data directory is a file system of its own, in a mount namespace that goes with the broker.
struct SmallDisk {
    site: Site,
    options: &'static str,
}

impl SmallDisk {
    fn new(options: &'static str) -> Self {
        let site = site_with_a_nurse();
        fs::create_dir(site.path().join("data")).unwrap();
        Self { site, options }
    }

    /// `wardline serve`, after `prepare` with the directory as `$1`.
    fn command(&self, prepare: &str) -> Command {
        let mut command = Command::new("unshare");
        let script = format!(
            "mount -t tmpfs -o {} tmpfs \"$1\" && {prepare} && exec \"$2\" serve --config \"$3\"",
            self.options
        );
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
        command.arg(self.site.path().join("data")).arg(wardline().get_program()).arg(self.site.config());
        command.env("WARDLINE__JOURNAL__SEGMENT", "1MiB");
        command
    }

    /// The data directory, as the broker sees it.
    fn data(&self, broker: &Broker) -> PathBuf {
        let inside = self.site.path().join("data");
        PathBuf::from(format!("/proc/{}/root", broker.id())).join(inside.strip_prefix("/").unwrap())
    }
}

/// Publishes to the topic that alias 1 stands for, which a `topic` gives it.
fn aliased(client: &mut RawClient, topic: &'static str, id: u16) {
    let properties = PublishProperties { topic_alias: NonZeroU16::new(1), ..PublishProperties::default() };
    client.send(&Packet::Publish(Publish {
        qos: QoS::AtLeastOnce,
        topic: topic.into(),
        packet_id: Some(packet_id(id)),
        properties: properties.into(),
        ..Publish::default()
    }));
}

#[test]
fn telemetry_goes_on_by_itself_once_the_disk_has_room_again() {
    let disk = SmallDisk::new("size=32m");
    let broker = Broker::start_command(&mut disk.command("true"));
    let mut pager = RawClient::connected(broker.address("station"), Version::V5, "pager");
    pager.subscribe("wardline/alarms/#");
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    monitor.deliver(READING, "97", 1);
    aliased(&mut pager, NOTE, 1);
    assert_eq!(pager.receive(), Packet::PubAck(ack(1)));

    // Another program takes all but a part of what is reserved.
    let ballast = disk.data(&broker).join("ballast");
    let free = status(&broker)["journal"]["free_bytes"].as_u64().unwrap();
    let file = File::create(&ballast).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free - (1 << 20)).unwrap();
    until("the pressure", &broker, || pressure(&broker) == 3);
    let raised = json(&next_publish(&mut pager).payload);
    assert_eq!(raised["priority"], "high");

    monitor.send_publish(READING, b"96", 2);
    monitor.send_publish(READING, b"95", 3);
    let withheld = || broker.metric::<u64>("wardline_telemetry_withheld_total");
    until("a reading that waits", &broker, || withheld() > 0);
    aliased(&mut pager, "", 2); // By the alias that it gave its topic while there was room.
    assert_eq!(pager.receive(), Packet::PubAck(ack(2)));
    assert!(is_silent(&mut monitor));

    drop(file);
    fs::remove_file(&ballast).unwrap();
    assert_eq!(monitor.receive(), Packet::PubAck(ack(2)));
    assert_eq!(monitor.receive(), Packet::PubAck(ack(3)));
    let ended = next_publish(&mut pager);
    assert_eq!((&*ended.topic, &*ended.payload), (ALARM, &b""[..]));
    assert!(is_silent(&mut pager), "an alarm ends once");
    assert_eq!(broker.terminate().status, Some(0));
    let sql = "SELECT cast(payload AS text) FROM publishes WHERE topic LIKE 'telemetry/%' ORDER BY seq";
    assert_eq!(record::sqlite(&disk.site.audit_db(), sql), [["97"], ["96"], ["95"]]);
}

/// What was reserved is gone, too: nothing more is acknowledged.
/// [MQTT3-4.8.0-2]
#[test]
fn a_full_disk_ends_acknowledgements_and_is_said() {
    let disk = SmallDisk::new("size=16m");
    let mut command = disk.command("true");
    let mut broker = Broker::start_command(command.env(NO_STORE.0, NO_STORE.1));
    let mut client = RawClient::connected(broker.address("station"), Version::V311, "pager");
    let payload = vec![b'x'; 16 * 1024];
    let filled =
        (1..).take_while(|_| pressure(&broker) < 3).inspect(|id| client.deliver(NOTE, &payload, *id)).count();
    broker.wait_for_log("that it is said before", |line| line.contains("telemetry is withheld"));
    let mut sender = client.sender();
    let sending = std::thread::spawn(move || {
        // 64 MiB do not fit.
        (1..=4_096).take_while(|id| sender.publish(NOTE, &payload, *id)).count()
    });
    let acknowledged = std::iter::from_fn(|| client.try_receive())
        .filter(|packet| matches!(packet, Packet::PubAck(_)))
        .count();
    sending.join().unwrap();
    assert!((1..(16 << 20) / (16 * 1024)).contains(&(filled + acknowledged)), "{filled} and {acknowledged}");
    let end = broker.wait();
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains("No space left on device"), "{}", end.said);
    is_for_people(&end);
}

/// A write is refused in the middle; after a restart all that was acknowledged is there, and work goes on.
#[test]
fn a_write_that_fails_ends_the_broker_and_a_restart_recovers() {
    let site = Site::new();
    let mut broker = Broker::start(&site);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    client.deliver(READING, "97", 1);
    // From here on no file may grow beyond this, and the journal writes at its end.
    let limit = Rlimit { current: Some(128 << 10), maximum: Some(128 << 10) };
    rustix::process::prlimit(Pid::from_raw(broker.id() as i32), Resource::Fsize, limit).unwrap();
    let mut acknowledged = 1;
    for id in 2..1_000 {
        client.send_publish(READING, &[b'x'; 4 << 10], id);
        match client.try_receive() {
            Some(Packet::PubAck(_)) => acknowledged += 1,
            _ => break,
        }
    }
    assert!((2..128).contains(&acknowledged), "{acknowledged}");
    let end = broker.wait();
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains("data/journal/00000000000000000000.seg: File too large"), "{}", end.said);
    assert!(end.said.contains("no further publish is acknowledged"), "{}", end.said);
    is_for_people(&end);

    let broker = Broker::start(&site);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    client.deliver(READING, "96", 1);
    assert_eq!(broker.terminate().status, Some(0));
    let sql = "SELECT count(*) FROM publishes WHERE topic LIKE 'telemetry/%'";
    let rows: usize = record::sqlite(&site.audit_db(), sql)[0][0].parse().unwrap();
    assert!(rows > acknowledged, "{rows} rows of {acknowledged} and one more");
    record::verify(&store(&site));
}

#[test]
fn a_read_only_file_system_is_named() {
    let disk = SmallDisk::new("size=16m");
    let mut process = wardline_tests::Process::start(&mut disk.command("mount -o remount,ro \"$1\""));
    let status = process.wait();
    let end = Exit { status: status.code(), said: process.said() };
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains("Read-only file system") && end.said.contains("data/journal"), "{}", end.said);
    is_for_people(&end);
}

#[test]
fn a_second_broker_is_told_which_process_has_the_data() {
    let site = Site::new();
    let first = Broker::start(&site);
    let end = Broker::fail_to_start(&site, &[]);
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains(&format!("in use by process {}", first.id())), "{}", end.said);
    is_for_people(&end);
    let mut monitor = RawClient::connected(first.address("lab"), Version::V5, "monitor");
    monitor.deliver(READING, "97", 1);
}

#[test]
fn a_data_directory_that_is_gone_ends_the_broker_at_once() {
    let site = Site::new();
    let mut broker = Broker::start(&site);
    fs::rename(site.path().join("data/journal"), site.path().join("data/elsewhere")).unwrap();
    let end = broker.wait();
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains("data/journal was removed or replaced"), "{}", end.said);
    is_for_people(&end);
}

#[test]
fn a_lock_file_that_is_gone_ends_the_broker_at_once() {
    let site = Site::new();
    let mut broker = Broker::start(&site);
    fs::remove_file(site.path().join("data/journal/lock")).unwrap();
    let end = broker.wait();
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains("or the file `lock` in it was"), "{}", end.said);
    is_for_people(&end);
}

/// Starts over a journal with a flaw in its middle: refused, quarantined on purpose, and what is lost is named ever after.
#[test]
fn a_damaged_segment_is_refused_quarantined_and_never_passed_over_in_silence() {
    let site = Site::new();
    let small = ("WARDLINE__JOURNAL__SEGMENT", "4KiB");
    let broker = Broker::start_with(&site, &[small, NO_STORE]);
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    for id in 1..=100 {
        monitor.deliver(READING, id.to_string(), id);
    }
    broker.kill();
    let journal = site.path().join("data/journal");
    let mut segments: Vec<_> = fs::read_dir(&journal).unwrap().map(|file| file.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    let damaged = &segments[2];
    let mut bytes = fs::read(damaged).unwrap();
    bytes[1_000] ^= 1;
    fs::write(damaged, &bytes).unwrap();

    let end = Broker::fail_to_start(&site, &[small]);
    assert_eq!(end.status, Some(1), "{}", end.said);
    for expected in [damaged.to_str().unwrap(), "is damaged at byte", "`wardline journal quarantine`"] {
        assert!(end.said.contains(expected), "{}", end.said);
    }
    is_for_people(&end);

    let mut command = wardline();
    let done = command.args(["journal", "quarantine", "--config"]).arg(site.config()).output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let range = said.split("are lost to the journal: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let (first, last) = range.split_once(" to ").unwrap();
    let count = last.parse::<u64>().unwrap() - first.parse::<u64>().unwrap() + 1;
    let kept = site.path().join("data/quarantine").join(damaged.file_name().unwrap());
    assert_eq!(fs::read(kept).unwrap(), bytes);

    let broker = Broker::start_with(&site, &[small]);
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    monitor.deliver(READING, "101", 1);
    assert_eq!(broker.terminate().status, Some(0));
    let number = |sql| record::sqlite(&site.audit_db(), sql)[0][0].parse::<u64>().unwrap();
    assert_eq!(number("SELECT cast(count(*) AS text) FROM access WHERE event = 'lost'"), count);
    let readings = number("SELECT cast(count(*) AS text) FROM publishes WHERE topic LIKE 'telemetry/%'");
    assert!((101 - count..101).contains(&readings), "{readings} readings, {count} records lost");
    let verified = wardline().args(["audit", "verify", "--store", &store(&site)]).output().unwrap();
    let said = String::from_utf8(verified.stdout).unwrap() + &String::from_utf8_lossy(&verified.stderr);
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("lost records {first} to {last}")), "{said}");
}
