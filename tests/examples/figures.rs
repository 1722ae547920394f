//! The figures that are quoted for this version, measured on the machine at hand:
//!
//! `cargo run --release -p wardline-tests --example figures [CONNECTIONS [ALERTS [BACKGROUND]]]`
//!
//! Memory of an idle broker and of each idle TLS connection; time from publishing a reading to having the alert at the pager,
//! both over mutual TLS with tokens, with BACKGROUND QoS 1 publishes a second beside it; the same from the broker's own histogram.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement ends where it cannot go on"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::{QoS, v5 as packet5};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use wardline_tests::rumqtt::{V4, V5, client_config, tls};
use wardline_tests::{Broker, Credentials, Site, connect};
use wardline_wire::{Decoder, Packet, Version, encode};

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn main() {
    let argument = |place: usize, default: usize| {
        std::env::args().nth(place).map_or(default, |text| text.parse().expect("the arguments are numbers"))
    };
    let (connections, alerts, background) = (argument(1, 1_000), argument(2, 500), argument(3, 1_000));
    let site = Site::new();
    let device = site.device("mon-12");
    let broker = Broker::start(&site);
    memory(&site, &broker, &device, connections);
    latency(&site, &broker, &device, alerts, background);
}

fn memory(site: &Site, broker: &Broker, device: &Credentials, count: usize) {
    let idle = broker.resident_bytes();
    println!("idle broker: {:.1} MiB resident", idle as f64 / f64::from(1 << 20));
    let token = site.token_bound_to("device:mon-12", device);
    let config = client_config(&site.ca(), Some(device));
    let open: Vec<Connection> =
        (0..count).map(|number| idle_connection(&config, broker.port("ward"), number, &token)).collect();
    let grown = broker.resident_bytes().saturating_sub(idle);
    println!(
        "{count} idle connections over mutual TLS: {:.1} KiB resident each",
        grown as f64 / 1_024.0 / open.len() as f64
    );
}

fn idle_connection(config: &Arc<ClientConfig>, port: u16, number: usize, token: &str) -> Connection {
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_nodelay(true).unwrap();
    let tls = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(tls, socket);
    let mut hello = connect(Version::V5, &format!("idle-{number}"));
    hello.password = Some(bytes::Bytes::copy_from_slice(token.as_bytes()));
    let mut bytes = BytesMut::new();
    encode(&Packet::Connect(Box::new(hello)), Version::V5, &mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
    let mut decoder = Decoder::client_side(Version::V5, u32::MAX);
    let mut input = BytesMut::new();
    loop {
        let mut chunk = [0; 1_024];
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "the broker closed");
        input.extend_from_slice(&chunk[..length]);
        if let Some(packet) = decoder.decode(&mut input).unwrap() {
            assert!(matches!(&packet, Packet::ConnAck(connack) if !connack.reason.is_error()), "{packet:?}");
            return stream;
        }
    }
}

fn latency(site: &Site, broker: &Broker, device: &Credentials, count: usize, background: usize) {
    let mut pager = V5::pager(site, broker);
    let token = site.token_bound_to("device:mon-12", device);
    let port = broker.port("ward");
    let mut monitor = V5::connect("mon-12", port, tls(&site.ca(), Some(device)), Some(&token)).unwrap();

    let (arrived, arrivals) = std::sync::mpsc::sync_channel(count);
    std::thread::spawn(move || {
        let step = |packet: &packet5::Packet| match packet {
            packet5::Packet::Publish(publish) => {
                let at = Instant::now();
                let alert: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
                Some((at, alert["phase"].as_str().unwrap().to_owned()))
            }
            _ => None,
        };
        while let Ok(arrival) = pager.wait(step) {
            if arrived.send(arrival).is_err() {
                return;
            }
        }
    });
    let over = Arc::new(AtomicBool::new(false));
    let load = load(broker.port("lab"), background, Arc::clone(&over));
    let topic = "telemetry/icu-3/b12/mon-12/spo2";
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        for (value, phase) in [("84", "start"), ("97", "end")] {
            let sent = Instant::now();
            monitor.client.publish(topic, QoS::AtLeastOnce, false, value).unwrap();
            monitor.wait(|packet| matches!(packet, packet5::Packet::PubAck(_)).then_some(())).unwrap();
            let heard = std::iter::from_fn(|| arrivals.recv().ok()).find(|(_, heard)| heard == phase);
            took.push(heard.unwrap().0 - sent);
        }
    }
    over.store(true, Ordering::Relaxed);
    let published = load.join().unwrap();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{} alerts beside {published} other publishes: reading published to alert at the pager p50 {:.2} ms, p99 {:.2} ms",
        took.len(),
        at(0.5),
        at(0.99)
    );
    let (_, metrics) = broker.http("/metrics");
    for name in ["publish_received_to_alert_written", "publish_received_to_durable"] {
        println!(
            "broker's own histogram, {name}: p50 at most {} ms, p99 at most {} ms",
            quantile(&metrics, name, 0.5),
            quantile(&metrics, name, 0.99)
        );
    }
}

/// Publishes at a fixed rate until it is over; gives how many.
fn load(port: u16, rate: usize, over: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut load = V4::connect("load", port, rumqttc::Transport::Tcp, None).unwrap();
        let client = load.client.clone();
        let pace = Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap();
        let publisher = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut published = 0;
            while !over.load(Ordering::Relaxed) {
                if rate == 0 {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                client
                    .publish("telemetry/icu-3/b1/mon-1/hr", rumqttc::QoS::AtLeastOnce, false, "72")
                    .unwrap();
                published += 1;
                std::thread::sleep((begun + pace * published).saturating_duration_since(Instant::now()));
            }
            client.disconnect().unwrap();
            usize::try_from(published).unwrap()
        });
        // Until the connection ends, which the publisher does.
        let _ = load.wait(|_| None::<()>);
        publisher.join().unwrap()
    })
}

/// The upper edge, in milliseconds, of the histogram bucket in which the quantile lies.
fn quantile(metrics: &str, name: &str, share: f64) -> f64 {
    let prefix = format!("wardline_{name}_seconds_bucket{{le=\"");
    let buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter_map(|line| {
            let (edge, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
            Some((edge.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        })
        .collect();
    let all = buckets.last().map_or(0.0, |(_, count)| *count);
    let found = buckets.iter().find(|(_, count)| *count >= all * share);
    found.map_or(f64::NAN, |(edge, _)| edge * 1e3)
}
