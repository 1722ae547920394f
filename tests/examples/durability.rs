//! What "acknowledged means durable" costs on the machine at hand:
//!
//! `cargo run --release -p wardline-tests --example durability [-- SECONDS]`
//!
//! First what the disk does by itself: 4 KiB written and synced into a file that is there already. Then for each commit mode
//! acknowledged QoS 1 publishes of 100 bytes a second, from publish to PUBACK, and bytes written to disk for each byte
//! published: of the journal as it lies there; of the process as Linux accounts it, audit store included, which with large folios
//! (ext4 since 6.16) counts a whole folio for each page of it; of the disk, which counts everybody's and is true only when
//! nobody else writes. SECONDS for each line, 3 if not said. The data are in the system's directory for temporary files;
//! `TMPDIR` chooses another disk.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement ends where it cannot go on"
)]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use wardline_tests::load::{Publisher, block_on, quantile};
use wardline_tests::{Broker, Site, record};
use wardline_wire::Publish;

const MODES: [&str; 3] = ["always", "interval:5ms", "off"];
/// Publishers, and publishes under way of each.
const LOADS: [(usize, u16); 5] = [(1, 1), (10, 1), (100, 1), (1_000, 1), (100, 20)];
const PAYLOAD_BYTES: usize = 100;
const SECONDS_DEFAULT: u64 = 3;

const PAGE_BYTES: usize = 4_096;
/// As large as a segment of the journal.
const FILE_PAGES: u64 = 64 * 1_024 * 1_024 / PAGE_BYTES as u64;
/// Place of the sectors written in a block device's statistics, and what a sector is there.
const SECTORS_WRITTEN: usize = 6;
const SECTOR_BYTES: u64 = 512;

fn main() {
    let seconds =
        std::env::args().nth(1).map_or(SECONDS_DEFAULT, |text| text.parse().expect("a number of seconds"));
    let time = Duration::from_secs(seconds);
    disk(time);
    println!();
    println!(
        "{:<13} {:>10} {:>6} {:>10} {:>9} {:>9} {:>12} {:>12} {:>12}",
        "commit",
        "publishers",
        "window",
        "acked/s",
        "p50 ms",
        "p99 ms",
        "journal B/B",
        "process B/B",
        "disk B/B"
    );
    for mode in MODES {
        for (publishers, window) in LOADS {
            measure(mode, publishers, window, time);
        }
    }
}

/// One after the other, as the journal would with a single publisher.
fn disk(time: Duration) {
    let directory = tempfile::tempdir().unwrap();
    let file = File::create(directory.path().join("pages")).unwrap();
    let page = [0x5a; PAGE_BYTES];
    for number in 0..FILE_PAGES {
        file.write_all_at(&[0; PAGE_BYTES], number * PAGE_BYTES as u64).unwrap();
    }
    file.sync_all().unwrap();
    let began = Instant::now();
    let mut took = Vec::new();
    while began.elapsed() < time {
        let at = Instant::now();
        file.write_all_at(&page, took.len() as u64 % FILE_PAGES * PAGE_BYTES as u64).unwrap();
        file.sync_data().unwrap();
        took.push(at.elapsed());
    }
    let rate = took.len() as f64 / began.elapsed().as_secs_f64();
    took.sort_unstable();
    println!(
        "disk: {rate:.0} writes of 4 KiB with fdatasync a second, p50 {:.2} ms, p99 {:.2} ms",
        milliseconds(quantile(&took, 0.5)),
        milliseconds(quantile(&took, 0.99))
    );
}

fn measure(mode: &str, publishers: usize, window: u16, time: Duration) {
    let site = Site::new();
    let broker = Broker::start_with(&site, &[("WARDLINE__JOURNAL__COMMIT", mode)]);
    let before = (broker.disk_write_bytes(), device_write_bytes(site.path()));
    let (mut took, elapsed) = block_on(load(broker.address("lab"), publishers, window, time));
    // Until the audit store has everything, which is part of the price.
    while broker.metric::<u64>("wardline_audit_lag_records") > 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let process = broker.disk_write_bytes() - before.0;
    let disk = device_write_bytes(site.path()) - before.1;
    let journal = record::journal_bytes(&site.path().join("data"));
    let published = (took.len() * PAYLOAD_BYTES) as f64;
    took.sort_unstable();
    println!(
        "{mode:<13} {publishers:>10} {window:>6} {:>10.0} {:>9.2} {:>9.2} {:>12.2} {:>12.2} {:>12.2}",
        took.len() as f64 / elapsed.as_secs_f64(),
        milliseconds(quantile(&took, 0.5)),
        milliseconds(quantile(&took, 0.99)),
        journal as f64 / published,
        process as f64 / published,
        disk as f64 / published,
    );
}

/// Publishes from all at once; gives how long each took to be acknowledged, and how long all of them.
async fn load(
    broker: SocketAddr,
    publishers: usize,
    window: u16,
    time: Duration,
) -> (Vec<Duration>, Duration) {
    let mut connected = Vec::new();
    for number in 0..publishers {
        connected.push(Publisher::connect(broker, &format!("mon-{number}")).await.expect("it is let in"));
    }
    let began = Instant::now();
    let publishing = connected.into_iter().enumerate().map(|(number, mut publisher)| {
        tokio::spawn(async move {
            let topic = ByteString::from(format!("ward/b{number}/note"));
            let payload = Bytes::from_static(&[b'x'; PAYLOAD_BYTES]);
            let next = |_| {
                let (topic, payload) = (topic.clone(), payload.clone());
                (began.elapsed() < time).then(|| Publish { topic, payload, ..Publish::default() })
            };
            publisher.publish(window, next).await.expect("the broker goes on")
        })
    });
    let publishing: Vec<_> = publishing.collect();
    let mut took = Vec::new();
    for publisher in publishing {
        took.extend(publisher.await.unwrap());
    }
    (took, began.elapsed())
}

/// What has been written to the disk under `path` since the machine's start.
fn device_write_bytes(path: &Path) -> u64 {
    let device = fs::metadata(path).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let statistics = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"));
    // A file system in memory, or over a network, has no such file.
    let sectors =
        statistics.ok().and_then(|text| text.split_whitespace().nth(SECTORS_WRITTEN)?.parse::<u64>().ok());
    sectors.unwrap_or(0) * SECTOR_BYTES
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
