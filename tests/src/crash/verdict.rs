//! The account at the end: what was acknowledged, against what came and what is recorded.

use std::collections::{BTreeMap, BTreeSet};

use wardline_wire::QoS;

use super::Report;
use super::audit::Record;
use super::faults::{Fault, Faults};
use super::ledger::{Content, Ledger, Sent, Stream, UNIT, bed, begins_episode, clears};
use super::subscriber::Got;

/// Judges the whole run.
pub(super) fn judge(ledger: &Ledger, got: Vec<Got>, record: &Record, report: &mut Report) {
    let (mut groups, mut alerts) = (BTreeMap::<&str, Vec<Vec<u32>>>::new(), BTreeSet::new());
    for got in got {
        report.faults.extend(got.faults);
        report.delivered += got.times.iter().flatten().map(|times| *times as usize).sum::<usize>();
        alerts.extend(got.alerts);
        if got.part.is_alone {
            deliveries(ledger, got.part.id, (got.part.filter, got.part.qos), &got.times, &mut report.faults);
        } else {
            add(groups.entry(got.part.filter).or_default(), &got.times);
        }
    }
    for (shared, times) in groups {
        // `$share/GROUP/FILTER`
        let filter = shared.splitn(3, '/').nth(2).unwrap_or_default();
        deliveries(ledger, shared, (filter, QoS::ExactlyOnce), &times, &mut report.faults);
    }
    report.alerts = alerts.len();
    paged(ledger, &alerts, record, &mut report.faults);
    recorded(ledger, record, &mut report.faults);
}

/// What a subscriber, or a group together, was owed.
fn deliveries(
    ledger: &Ledger,
    who: &str,
    (filter, qos): (&str, QoS),
    times: &[Vec<u32>],
    faults: &mut Faults,
) {
    for (number, stream) in ledger.streams().iter().enumerate() {
        if stream.content == Content::Episodes || !wardline_wire::topic::matches(filter, &stream.topic) {
            continue;
        }
        let exactly_once = stream.qos == QoS::ExactlyOnce && qos == QoS::ExactlyOnce;
        for (seq, sent) in ledger.of(number).into_iter().enumerate() {
            if stream.content == Content::Retained && clears(seq) {
                continue;
            }
            let came = times.get(number).and_then(|times| times.get(seq)).copied().unwrap_or(0);
            let example = || format!("{who}: {} number {seq} came {came} times", stream.topic);
            if sent.acknowledged && came == 0 {
                let once = stream.qos == QoS::AtLeastOnce;
                faults.add(if once { Fault::Lost1 } else { Fault::Lost2 }, example);
            } else if exactly_once && came > 1 {
                faults.add(Fault::Twice2, example);
            }
        }
    }
}

/// Each acknowledged reading that begins or ends an alarm was told, and so was each alert that is in the record.
fn paged(ledger: &Ledger, alerts: &BTreeSet<(String, String)>, record: &Record, faults: &mut Faults) {
    let told: BTreeSet<(String, String)> =
        alerts.iter().filter_map(|(topic, text)| step(topic, text)).collect();
    for (number, stream) in episodes(ledger) {
        for (seq, sent) in ledger.of(number).into_iter().enumerate() {
            let phase = if begins_episode(seq) { "start" } else { "end" };
            if sent.acknowledged && !told.contains(&(bed(seq / 2), phase.to_owned())) {
                faults.add(Fault::Alert, || format!("{}: no alert of phase {phase}", stream.topic(seq)));
            }
        }
    }
    for row in record.publishes.iter().filter(|row| row.is_accepted && row.topic.starts_with("alerts/")) {
        if !alerts.contains(&(row.topic.clone(), row.payload.clone())) {
            faults.add(Fault::Alert, || format!("recorded and not told: {} {}", row.topic, row.payload));
        }
    }
}

/// Bed and phase of `alerts/{unit}/{to}/{priority}/{bed}/{condition}`.
fn step(topic: &str, payload: &str) -> Option<(String, String)> {
    let mut levels = topic.split('/').skip(1);
    (levels.next()? == UNIT).then_some(())?;
    let bed = levels.nth(2)?;
    let alert: serde_json::Value = serde_json::from_str(payload).ok()?;
    Some((bed.to_owned(), alert.get("phase")?.as_str()?.to_owned()))
}

/// Each publish is in the record as often as it was taken: at QoS 2 once, at QoS 1 at most as often as it was sent.
fn recorded(ledger: &Ledger, record: &Record, faults: &mut Faults) {
    if let Some(findings) = &record.findings {
        faults.add(Fault::AuditUnproved, || findings.clone());
    }
    let mut rows = BTreeMap::<(String, String), u64>::new();
    for row in record.publishes.iter().filter(|row| !row.topic.starts_with("alerts/")) {
        *rows.entry((row.topic.clone(), row.payload.clone())).or_default() += row.count;
        if !row.is_accepted {
            faults.add(Fault::AuditMissing, || format!("{} was denied", row.topic));
        }
    }
    for (number, stream) in ledger.streams().iter().enumerate() {
        // Clearings of a topic are alike, so they are counted together.
        let mut cleared = Sent { times: 0, acknowledged: false };
        let mut cleared_least = 0;
        for (seq, sent) in ledger.of(number).into_iter().enumerate() {
            if stream.content == Content::Retained && clears(seq) {
                cleared.times += if stream.qos == QoS::ExactlyOnce { 1 } else { sent.times };
                cleared_least += u64::from(sent.acknowledged);
                continue;
            }
            let most = if stream.qos == QoS::ExactlyOnce { 1 } else { sent.times };
            let count = rows.remove(&(stream.topic(seq), stream.payload(number, seq))).unwrap_or(0);
            let what = || format!("{} number {seq}", stream.topic(seq));
            count_is_within(count, u64::from(sent.acknowledged)..=most, what, faults);
        }
        let count = rows.remove(&(stream.topic.clone(), String::new())).unwrap_or(0);
        count_is_within(count, cleared_least..=cleared.times, || format!("{} cleared", stream.topic), faults);
    }
    for (topic, payload) in rows.keys() {
        faults.add(Fault::AuditMissing, || format!("nobody sent {topic} {payload:.40}"));
    }
}

fn count_is_within(
    count: u64,
    right: std::ops::RangeInclusive<u64>,
    what: impl FnOnce() -> String,
    faults: &mut Faults,
) {
    if count < *right.start() {
        faults.add(Fault::AuditMissing, || format!("{}: {count} rows, at least {}", what(), right.start()));
    } else if count > *right.end() {
        faults.add(Fault::AuditTwice, || format!("{}: {count} rows, at most {}", what(), right.end()));
    }
}

fn episodes(ledger: &Ledger) -> impl Iterator<Item = (usize, &Stream)> {
    ledger.streams().iter().enumerate().filter(|(_, stream)| stream.content == Content::Episodes)
}

fn add(sum: &mut Vec<Vec<u32>>, times: &[Vec<u32>]) {
    sum.resize(sum.len().max(times.len()), Vec::new());
    for (sum, times) in sum.iter_mut().zip(times) {
        sum.resize(sum.len().max(times.len()), 0);
        for (sum, times) in sum.iter_mut().zip(times) {
            *sum += times;
        }
    }
}
