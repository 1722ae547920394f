//! How many records a second one appender gets through the journal, and how long one waits for its disk.
//!
//! `cargo run --release -p wardline-journal --example append [always|interval:5ms|off] [DIRECTORY] [KEY_FILE]`
//!
//! With a key file, which `wardline journal key --out KEY_FILE` makes, the journal is encrypted.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wardline_journal::{
    Commit, Journal, JournalOptions, KeyRing, Log, Offset, Origin, Outcome, Publish, Reader, Record,
};

const RECORDS: u64 = 2_000_000;
const LATENCY_RECORDS: u64 = 2_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let commit: Commit = arguments.next().unwrap_or_else(|| "always".to_owned()).parse()?;
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("wardline-append");
    let keys = arguments.next().map(|file| KeyRing::read(file.as_ref())).transpose()?;
    let options = JournalOptions { commit, keys: keys.clone(), ..JournalOptions::new(&directory, 1) };
    let (mut journal, _) = Journal::open(options.clone(), |_| {})?;

    let started = Instant::now();
    for _ in 0..RECORDS {
        journal.append(&record());
        while journal.is_congested() {
            journal.wait_durable(journal.durable(), Duration::from_millis(100));
        }
    }
    let appended = started.elapsed();
    let durable = wait(&journal);
    let seconds = started.elapsed().as_secs_f64();
    println!("{commit}: {RECORDS} records, {} MB", journal.stored_bytes() / 1_000_000);
    println!(
        "appended in {appended:.2?}, durable in {seconds:.2} s: {:.0} a second, {:.0} MB a second",
        durable as f64 / seconds,
        journal.stored_bytes() as f64 / 1e6 / seconds
    );

    for batch in [1, 100] {
        let mut waits: Vec<Duration> = (0..LATENCY_RECORDS)
            .map(|_| {
                let started = Instant::now();
                for _ in 0..batch {
                    journal.append(&record());
                }
                wait(&journal);
                started.elapsed()
            })
            .collect();
        waits.sort_unstable();
        let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
        println!("{batch} at a time, wait for the disk: p50 {:.0?}, p99 {:.0?}", at(50), at(99));
    }
    journal.close()?;

    let started = Instant::now();
    let mut reader = Reader::open(&directory, Offset(0))?.with_keys(keys);
    let mut read = 0_u64;
    while reader.next()?.is_some() {
        read += 1;
    }
    println!("read {read} records in {:.2?}", started.elapsed());
    let started = Instant::now();
    drop(Journal::open(options, |_| {})?);
    println!("opened again in {:.2?}", started.elapsed());
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

/// Waits until everything appended is durable; returns how many records that is.
fn wait(journal: &Journal) -> u64 {
    let next = journal.next_offset();
    while journal.durable() < next && journal.failure().is_none() {
        journal.wait_durable(journal.durable(), Duration::from_secs(1));
    }
    journal.durable().0
}

fn record() -> Record<'static> {
    Record::Publish(Publish {
        received_at: jiff::Timestamp::UNIX_EPOCH,
        origin: Origin { client: "mon-12", principal: "device:mon-12", peer: "10.20.3.117:51234" },
        topic: "telemetry/icu-3/b12/mon-12/spo2",
        qos: 1,
        retain: false,
        packet_id: 0,
        properties: &[],
        payload: &[b'7'; 128],
        outcome: Outcome::Accepted,
        reason: "",
    })
}
