//! What the audit record costs: rows a second, CPU of the broker's side and of the database, and the lag.
//!
//! `cargo run --release -p wardline-audit --example rate -- [--rate ROWS_PER_SECOND] [--seconds N] [--store
//! sqlite|postgres]`
//!
//! A thread appends telemetry to a journal of its own at the given rate (0: as fast as the projector follows), the
//! projector brings it into the store, and the record is verified at the end. CPU is that of threads, from
//! `/proc`, in hundredths of a second: let it run for a while.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark asserts by panicking, and reads the clock"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use wardline_audit::{
    Expectations, JournalSource, Options, PayloadPolicy, Progress, SigningKey, Store, verify,
};
use wardline_journal::{Journal, JournalOptions, Log, Origin, Outcome, Publish, Record};
use wardline_test_postgres::Postgres;

const NODE: u16 = 1;
const DEVICES: usize = 500;
/// How often the load appends what is due.
const TICK: Duration = Duration::from_millis(5);
/// How often the lag is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Rows that wait at most while there is no rate.
const WAITING_MAX: u64 = 50_000;
/// `/proc/PID/stat` counts in these.
const TICKS_PER_SECOND: f64 = 100.0;
/// Longest wait for the last row.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")).clone())
    };
    let number = |name, default| option(name).map_or(default, |value| value.parse().expect("a number"));
    let rate = number("--rate", 20_000);
    let seconds = number("--seconds", 10);
    let only = option("--store");
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("sqlite") {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::sqlite(&directory.path().join("audit.db"));
        measure("SQLite", directory.path(), &store, rate, seconds).await;
    }
    if wanted("postgres") {
        let Some(server) = Postgres::start_unless_skipped() else { return };
        let directory = tempfile::tempdir().unwrap();
        let store = Store::parse(&server.url()).unwrap();
        measure("PostgreSQL", directory.path(), &store, rate, seconds).await;
    }
}

async fn measure(name: &str, directory: &Path, store: &Store, rate: u64, seconds: u64) {
    let journal = Journal::open(JournalOptions::new(directory.join("journal"), NODE), |_| {}).unwrap().0;
    let key = SigningKey::open_or_create(directory, NODE).unwrap();
    let public = key.public().clone();
    let options = Options {
        node: NODE,
        payload: PayloadPolicy::default(),
        key,
        clock: Timestamp::now,
        drain: Duration::from_secs(1),
    };
    let (stop, shutdown) = watch::channel(false);
    let (sender, mut progress) = watch::channel(Progress::default());
    let source = JournalSource::new(journal.clone());
    let projection = tokio::spawn(wardline_audit::run(source, store.clone(), options, shutdown, sender));
    let claimed = progress.wait_for(|progress| progress.audited_up_to.is_some());
    tokio::time::timeout(PATIENCE, claimed).await.unwrap().unwrap();

    let before = cpu();
    let begun = Instant::now();
    let is_over = Arc::new(AtomicBool::new(false));
    let load = {
        let (journal, progress, is_over) = (journal.clone(), progress.clone(), Arc::clone(&is_over));
        let load = move || append(journal, &progress, rate, &is_over);
        std::thread::Builder::new().name("load".into()).spawn(load).unwrap()
    };
    let mut lags = Vec::new();
    while begun.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(LOOK).await;
        lags.push(journal.next_offset().0 - progress.borrow().audited_up_to.unwrap().0);
    }
    let after = cpu();
    let (audited, elapsed) = (progress.borrow().audited_up_to.unwrap().0, begun.elapsed());
    is_over.store(true, Ordering::Relaxed);
    load.join().unwrap();
    let end = journal.next_offset();
    let all = progress.wait_for(|progress| progress.audited_up_to >= Some(end));
    tokio::time::timeout(PATIENCE, all).await.unwrap().unwrap();
    stop.send_replace(true);
    projection.await.unwrap().unwrap();

    let expectations = Expectations { keys: vec![public], ..Expectations::default() };
    let report = verify(store, NODE, &expectations).await.unwrap();
    assert!(report.is_clean() && report.rows == end.0, "{:?}", report.findings);

    lags.sort_unstable();
    let rows_per_second = audited as f64 / elapsed.as_secs_f64();
    let lag_ms = |rows: u64| rows as f64 / rows_per_second * 1000.0;
    let (p50, max) = (lags[lags.len() / 2], lags[lags.len() - 1]);
    println!("{name}: {rows_per_second:.0} rows/s, {:.0} rows a batch", end.0 as f64 / report.batches as f64);
    println!(
        "  lag           p50 {p50} rows ({:.0} ms), max {max} rows ({:.0} ms)",
        lag_ms(p50),
        lag_ms(max)
    );
    let spent = |thread: &str| {
        let spent = after.get(thread).unwrap_or(&0) - before.get(thread).unwrap_or(&0);
        spent as f64 / TICKS_PER_SECOND / audited as f64 * 1e6
    };
    let of = |side: &str| after.keys().filter(|name| name.starts_with(side)).map(|name| spent(name)).sum();
    for (side, title) in [("audit", "broker, audit"), ("database", "database"), ("other", "journal and load")]
    {
        let total: f64 = of(side);
        println!("  {title:<17} {total:.2} CPU seconds a million rows");
        for thread in after.keys().filter(|name| name.starts_with(side) && spent(name) >= 0.005) {
            println!("    {:<20} {:.2}", thread.split_once(' ').unwrap().1, spent(thread));
        }
    }
}

/// Appends telemetry until `is_over`.
fn append(mut journal: Journal, progress: &watch::Receiver<Progress>, rate: u64, is_over: &AtomicBool) {
    let devices: Vec<[String; 4]> = (0..DEVICES)
        .map(|n| {
            [
                format!("mon-{n}"),
                format!("device:mon-{n}"),
                format!("10.0.{}.{}:4711", n / 256, n % 256),
                format!("telemetry/icu-{}/b{n}/mon-{n}/hr", n % 8),
            ]
        })
        .collect();
    let payload = r#"{"value":97,"unit":"bpm","at":"2026-11-21T08:00:00.125Z","seq":0}"#;
    let begun = Instant::now();
    let mut appended = 0;
    while !is_over.load(Ordering::Relaxed) {
        let due = match rate {
            0 => progress.borrow().audited_up_to.unwrap().0 + WAITING_MAX,
            rate => (begun.elapsed().as_secs_f64() * rate as f64) as u64,
        };
        while appended < due {
            let [client, principal, peer, topic] = &devices[appended as usize % DEVICES];
            journal.append(&Record::Publish(Publish {
                received_at: Timestamp::now(),
                origin: Origin { client, principal, peer },
                topic,
                qos: 1,
                retain: false,
                packet_id: 0,
                properties: &[],
                payload: payload.as_bytes(),
                outcome: Outcome::Accepted,
                reason: "",
            }));
            appended += 1;
        }
        std::thread::sleep(TICK);
    }
}

/// Ticks of CPU so far, by side and thread or process.
fn cpu() -> BTreeMap<String, u64> {
    let mut ticks = BTreeMap::new();
    let mut add = |name: String, spent| *ticks.entry(name).or_default() += spent;
    for task in numbered(Path::new("/proc/self/task")) {
        let Some((thread, _, spent, _)) = stat(task) else { continue };
        let side = if ["load", "journal"].contains(&thread.as_str()) { "other" } else { "audit" };
        add(format!("{side} {thread}"), spent);
    }
    let processes: Vec<_> = numbered(Path::new("/proc")).collect();
    let own = u64::from(std::process::id());
    let servers = processes.iter().filter_map(|(pid, path)| {
        let (name, parent, spent, ended) = stat((*pid, path.clone()))?;
        (parent == own && name == "postgres").then_some((*pid, spent, ended))
    });
    for (server, spent, ended) in servers.collect::<Vec<_>>() {
        add("database server".to_owned(), spent);
        add("database ended processes".to_owned(), ended);
        for (pid, path) in &processes {
            let Some((_, parent, spent, _)) = stat((*pid, path.clone())) else { continue };
            if parent == server {
                let title = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
                let title = title.trim_start_matches("postgres: ");
                let known = ["checkpointer", "walwriter", "background writer", "autovacuum"];
                let title = known.into_iter().find(|known| title.starts_with(known)).unwrap_or("backend");
                add(format!("database {title}"), spent);
            }
        }
    }
    ticks
}

/// The entries of a directory of `/proc` that are numbers.
fn numbered(directory: &Path) -> impl Iterator<Item = (u64, std::path::PathBuf)> {
    std::fs::read_dir(directory).unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        Some((path.file_name()?.to_str()?.parse().ok()?, path))
    })
}

/// Name, parent, ticks of its own and of children that have ended; `None` if it is gone.
fn stat((_, path): (u64, std::path::PathBuf)) -> Option<(String, u64, u64, u64)> {
    let stat = std::fs::read_to_string(path.join("stat")).ok()?;
    let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Some((name.to_owned(), number(1)?, number(11)? + number(12)?, number(13)? + number(14)?))
}
