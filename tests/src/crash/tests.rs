//! The crash test sees what it looks for: each kind of fault, made by hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use wardline_wire::{Packet, Publish, QoS, Version};

use super::audit::{Record, Row};
use super::faults::{Fault, Faults};
use super::ledger::{Content, Ledger, Stream};
use super::stage::Stage;
use super::subscriber::{Got, Manner, Part, Subscriber};
use super::{Report, verdict};
use crate::{Dice, packet_id};

const ONCE_AT_LEAST: usize = 0;
const EXACTLY_ONCE: usize = 1;
const EPISODES: usize = 2;

/// Three publishes of each stream, all acknowledged.
fn ledger() -> Ledger {
    let stream = |topic: &str, qos, content| Stream { topic: topic.to_owned(), qos, content };
    let ledger = Ledger::new(vec![
        stream("crash/one", QoS::AtLeastOnce, Content::Notes),
        stream("crash/two", QoS::ExactlyOnce, Content::Notes),
        stream("mon-12", QoS::AtLeastOnce, Content::Episodes),
    ]);
    for number in 0..3 {
        for _ in 0..3 {
            let seq = ledger.begin(number);
            ledger.send(number, seq);
            ledger.acknowledge(number, seq);
        }
    }
    ledger
}

/// What there must be of [`ledger`].
struct World {
    times: Vec<Vec<u32>>,
    alerts: BTreeSet<(String, String)>,
    record: Record,
}

impl World {
    fn of(ledger: &Ledger) -> Self {
        let row = |topic: String, payload: String| Row { topic, count: 1, is_accepted: true, payload };
        let streams = ledger.streams().iter().enumerate();
        let mut publishes: Vec<Row> = streams
            .flat_map(|(number, stream)| {
                (0..3).map(move |seq| row(stream.topic(seq), stream.payload(number, seq)))
            })
            .collect();
        let alert = |bed: &str, phase: &str| {
            (format!("alerts/icu-3/nurse/high/{bed}/spo2-low"), format!(r#"{{"phase":"{phase}"}}"#))
        };
        let alerts = BTreeSet::from([alert("e0", "start"), alert("e0", "end"), alert("e1", "start")]);
        publishes.extend(alerts.iter().map(|(topic, payload)| row(topic.clone(), payload.clone())));
        let record = Record { publishes, findings: None };
        Self { times: vec![vec![1; 3], vec![1; 3], Vec::new()], alerts, record }
    }

    fn row(&mut self, stream: usize, seq: usize) -> &mut Row {
        &mut self.record.publishes[stream * 3 + seq]
    }

    fn judged(self, ledger: &Ledger) -> Faults {
        let got = Got { part: board(), times: self.times, alerts: self.alerts, faults: Faults::default() };
        let mut report = Report::default();
        verdict::judge(ledger, vec![got], &self.record, &mut report);
        report.faults
    }
}

fn board() -> Part {
    Part {
        id: "board",
        version: Version::V5,
        filter: "crash/#",
        qos: QoS::ExactlyOnce,
        manner: Manner::Prompt,
        is_alone: true,
    }
}

/// Spoils the world in one way; gives the faults that are found.
fn found(spoil: impl FnOnce(&mut World)) -> Vec<Fault> {
    let ledger = ledger();
    let mut world = World::of(&ledger);
    spoil(&mut world);
    let faults = world.judged(&ledger);
    Fault::ALL.into_iter().filter(|fault| faults.count(*fault) > 0).collect()
}

#[test]
fn a_world_as_it_should_be_has_no_fault() {
    assert_eq!(found(|_| {}), []);
    // At least once allows twice.
    assert_eq!(found(|world| world.times[ONCE_AT_LEAST][1] = 2), []);
}

#[test]
fn lost_and_doubled_deliveries_are_found() {
    assert_eq!(found(|world| world.times[ONCE_AT_LEAST][1] = 0), [Fault::Lost1]);
    assert_eq!(found(|world| world.times[ONCE_AT_LEAST].truncate(2)), [Fault::Lost1]);
    assert_eq!(found(|world| world.times[EXACTLY_ONCE][2] = 0), [Fault::Lost2]);
    assert_eq!(found(|world| world.times[EXACTLY_ONCE][0] = 2), [Fault::Twice2]);
}

#[test]
fn lost_alerts_are_found() {
    let first = |world: &World| world.alerts.first().cloned().expect("there are alerts");
    let missed = found(|world| {
        let alert = first(world);
        world.alerts.remove(&alert);
    });
    assert_eq!(missed, [Fault::Alert]);
    // Neither raised nor told.
    let never_raised = found(|world| {
        let alert = first(world);
        world.alerts.remove(&alert);
        world.record.publishes.retain(|row| (&row.topic, &row.payload) != (&alert.0, &alert.1));
    });
    assert_eq!(never_raised, [Fault::Alert]);
}

#[test]
fn wrong_records_are_found() {
    assert_eq!(found(|world| drop(world.record.publishes.remove(1))), [Fault::AuditMissing]);
    assert_eq!(found(|world| drop(world.record.publishes.remove(EPISODES * 3))), [Fault::AuditMissing]);
    assert_eq!(found(|world| world.row(ONCE_AT_LEAST, 0).count = 2), [Fault::AuditTwice]);
    assert_eq!(found(|world| world.row(EXACTLY_ONCE, 0).count = 2), [Fault::AuditTwice]);
    assert_eq!(found(|world| world.row(EXACTLY_ONCE, 0).is_accepted = false), [Fault::AuditMissing]);
    assert_eq!(
        found(|world| world.row(EXACTLY_ONCE, 0).payload.push('?')),
        [Fault::AuditMissing],
        "one is missing, and one is of nobody"
    );
    assert_eq!(
        found(|world| world.record.findings = Some("row 3 is missing".into())),
        [Fault::AuditUnproved]
    );
}

/// What a subscriber that is given these, as stream, number and packet identifier, has found wrong.
fn heard(deliveries: &[(usize, usize, u16)]) -> Vec<Fault> {
    let ledger = Arc::new(ledger());
    let mut subscriber = Subscriber::new(board(), Arc::clone(&ledger), Arc::new(Stage::new()), Dice::new(0));
    for &(number, seq, id) in deliveries {
        let stream = &ledger.streams()[number];
        let answer = subscriber.take(Publish {
            qos: stream.qos,
            topic: stream.topic(seq).into(),
            packet_id: Some(packet_id(id)),
            payload: stream.payload(number, seq).into(),
            ..Publish::default()
        });
        assert!(matches!(answer, Some(Packet::PubAck(_) | Packet::PubRec(_))));
    }
    let faults = subscriber.into_got().faults;
    Fault::ALL.into_iter().filter(|fault| faults.count(*fault) > 0).collect()
}

#[test]
fn what_comes_out_of_order_or_hidden_or_from_nobody_is_found() {
    let (one, two) = (ONCE_AT_LEAST, EXACTLY_ONCE);
    assert_eq!(heard(&[(one, 0, 1), (one, 1, 2), (one, 0, 3), (one, 1, 4), (one, 2, 5)]), []);
    assert_eq!(heard(&[(one, 0, 1), (one, 2, 2), (one, 1, 3)]), [Fault::Order]);
    assert_eq!(heard(&[(two, 0, 1), (two, 0, 1), (two, 1, 2)]), []);
    assert_eq!(heard(&[(two, 0, 1), (two, 1, 1)]), [Fault::Lost2]);
    assert_eq!(heard(&[(one, 3, 1)]), [Fault::Strange]);
}
