//! How long a restart takes, by what there is to come back to:
//!
//! `cargo run --release -p wardline-tests --example recovery [-- SESSIONS QUEUED RETAINED [HISTORY]]`
//!
//! Fills a broker: SESSIONS durable sessions that are away, with QUEUED publishes of 100 bytes waiting for them, evenly, and
//! RETAINED retained messages. Kills it, and measures from its start to the first CONNACK, with the memory it has then; once
//! more after a clean end. Then HISTORY publishes pass that leave nothing behind, and the same again: what a restart costs
//! should grow with what is live, not with what has been. Without arguments a small state and a large one.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement ends where it cannot go on"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wardline_tests::load::{Publisher, block_on, leave_session};
use wardline_tests::{Broker, Site, record};
use wardline_wire::Publish;

/// One load; numbers of things.
#[derive(Clone, Copy)]
struct State {
    sessions: u64,
    queued: u64,
    retained: u64,
    history: u64,
}

const SMALL: State = State { sessions: 1_000, queued: 100_000, retained: 10_000, history: 100_000 };
const LARGE: State = State { sessions: 10_000, queued: 1_000_000, retained: 100_000, history: 1_000_000 };

const PAYLOAD_BYTES: usize = 100;
/// Publishes under way of the one publisher that fills.
const WINDOW: u16 = 1_000;
/// Sessions that are made at the same time.
const HANDSHAKES: u64 = 50;
const MEBIBYTE: f64 = 1_048_576.0;

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect("numbers")).collect();
    let states = match numbers[..] {
        [] => vec![SMALL, LARGE],
        [sessions, queued, retained] => vec![State { sessions, queued, retained, history: queued }],
        [sessions, queued, retained, history] => vec![State { sessions, queued, retained, history }],
        _ => panic!("usage: recovery [SESSIONS QUEUED RETAINED [HISTORY]]"),
    };
    println!(
        "{:>8} {:>9} {:>9} {:>9} {:>11} {:>10} {:>8} {:>10}",
        "sessions", "queued", "retained", "records", "journal MiB", "end", "ready s", "memory MiB"
    );
    for state in states {
        measure(state);
    }
}

fn measure(state: State) {
    let site = Site::new();
    let broker = Broker::start(&site);
    block_on(fill(broker.address("lab"), state));
    let broker = restarts(&site, broker, state);
    block_on(pass(broker.address("lab"), state.history));
    restarts(&site, broker, state);
}

/// Says how it is before, after `kill -9`, and after a clean end; gives the broker that runs then.
fn restarts(site: &Site, broker: Broker, state: State) -> Broker {
    line(site, &broker, state, "", None);
    broker.kill();
    let (broker, took) = restart(site);
    line(site, &broker, state, "kill -9", Some(took));
    let end = broker.terminate();
    assert_eq!(end.status, Some(0), "{}", end.said);
    let (broker, took) = restart(site);
    line(site, &broker, state, "SIGTERM", Some(took));
    broker
}

/// Starts it; the time is that to the first CONNACK.
fn restart(site: &Site) -> (Broker, Duration) {
    let began = Instant::now();
    let broker = Broker::recover(site, &[]);
    block_on(Publisher::connect(broker.address("lab"), "first")).unwrap();
    (broker, began.elapsed())
}

fn line(site: &Site, broker: &Broker, state: State, end: &str, took: Option<Duration>) {
    let queued: u64 = broker.metric("wardline_queued_messages");
    let retained: u64 = broker.metric("wardline_retained_messages");
    assert!(queued == state.queued && retained >= state.retained, "{queued} queued, {retained} retained");
    println!(
        "{:>8} {queued:>9} {retained:>9} {:>9} {:>11.0} {end:>10} {:>8} {:>10.0}",
        broker.metric::<u64>("wardline_sessions"),
        broker.metric::<u64>("wardline_journal_next_offset"),
        record::journal_bytes(&site.path().join("data")) as f64 / MEBIBYTE,
        took.map_or_else(String::new, |took| format!("{:.2}", took.as_secs_f64())),
        broker.resident_bytes() as f64 / MEBIBYTE,
    );
}

async fn fill(broker: SocketAddr, state: State) {
    let handshakes = (0..HANDSHAKES).map(|first| {
        let mine = (first..state.sessions).step_by(usize::try_from(HANDSHAKES).unwrap());
        tokio::spawn(async move {
            for number in mine {
                leave_session(broker, &format!("pager-{number}"), &owed(number)).await.unwrap();
            }
        })
    });
    for handshake in handshakes.collect::<Vec<_>>() {
        handshake.await.unwrap();
    }
    let retained = |number| Publish { retain: true, ..publish(format!("kept/{number}")) };
    let queued = |number| publish(owed(number % state.sessions));
    let mut publisher = Publisher::connect(broker, "filler").await.unwrap();
    publisher.publish(WINDOW, |number| (number < state.retained).then(|| retained(number))).await.unwrap();
    publisher.publish(WINDOW, |number| (number < state.queued).then(|| queued(number))).await.unwrap();
}

/// Publishes that nobody wants.
async fn pass(broker: SocketAddr, count: u64) {
    let mut publisher = Publisher::connect(broker, "passing").await.unwrap();
    publisher
        .publish(WINDOW, |number| (number < count).then(|| publish("past/hr".to_owned())))
        .await
        .unwrap();
}

fn owed(session: u64) -> String {
    format!("owed/{session}")
}

fn publish(topic: String) -> Publish {
    Publish { topic: topic.into(), payload: vec![b'x'; PAYLOAD_BYTES].into(), ..Publish::default() }
}
