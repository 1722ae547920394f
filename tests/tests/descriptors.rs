//! Limits of the process: with few file descriptors clients are refused and the journal goes on, and a file that may not grow
//! ends the broker with a reason.

#![allow(clippy::unwrap_used, reason = "helpers of tests assert as tests do")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use wardline_tests::{Broker, Process, RawClient, Site, tcp, wardline};
use wardline_wire::{Packet, Version};

/// `wardline` under a limit of the shell's `ulimit`.
fn limited(ulimit: &str, subcommand: &str, site: &Site) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit {ulimit} && exec \"$0\" \"$@\""));
    command.arg(wardline().get_program()).args([subcommand, "--config"]).arg(site.config());
    command.env("WARDLINE__LIMITS__CONNECT_TIMEOUT", "10m");
    command
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn silent_sockets_take_no_descriptor_from_the_journal() {
    let site = Site::new();
    let broker = Broker::start_command(
        limited("-n 256", "serve", &site)
            .env("WARDLINE__JOURNAL__SEGMENT", "64KiB")
            .env("WARDLINE__JOURNAL__QUOTA", "64MiB"),
    );
    broker.wait_for_log("a warning", |line| {
        ["WARN", "10000", "256 file descriptors", "allow for 128", "LimitNOFILE"]
            .iter()
            .all(|word| line.contains(word))
    });
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V311, "monitor");
    let half_sent: Vec<_> = std::iter::repeat_with(|| {
        let mut stream = tcp(broker.address("http"));
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        stream
    })
    .take(100)
    .collect();
    let mut silent: Vec<_> = std::iter::repeat_with(|| tcp(broker.address("lab"))).take(300).collect();
    // Accepted in order: when the last is refused, all before it have been let in or refused.
    assert_eq!(silent.last_mut().unwrap().read(&mut [0]).unwrap_or(0), 0);
    let refused = silent.iter_mut().map(is_closed).filter(|closed| *closed).count();
    assert_eq!(refused, 300 - 127, "the monitor has the 128th place");
    // Some 30 segments.
    for id in 1..=128 {
        assert!(matches!(monitor.publish("ward/b12/note", &[b'x'; 16 * 1024], id), Packet::PubAck(_)));
    }
    drop(half_sent);
    assert_eq!(broker.http("/healthz").0, 200);
    drop(silent);
    assert_eq!(broker.terminate().status, Some(0));
}

#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let site = Site::new();
    let broker =
        Broker::start_command(limited("-Sn 128", "serve", &site).env("WARDLINE__LIMITS__CONNECTIONS", "200"));
    let clients: Vec<_> = (0..200)
        .map(|id| RawClient::connected(broker.address("lab"), Version::V5, &format!("monitor-{id}")))
        .collect();
    assert_eq!(broker.http("/healthz").0, 200);
    assert!(!broker.said().contains("file descriptors"), "{}", broker.said());
    drop(clients);
}

#[test]
fn too_few_descriptors_for_the_broker_itself_are_refused() {
    let site = Site::new();
    for (subcommand, status) in [("serve", 1), ("check", 2)] {
        let mut process = Process::start(&mut limited("-n 100", subcommand, &site));
        assert_eq!(process.wait().code(), Some(status), "{}", process.said());
        let said = process.said();
        assert!(said.contains("100 file descriptors") && said.contains("LimitNOFILE"), "{said}");
    }
    assert!(!site.path().join("data").exists());
}

#[test]
fn a_file_at_the_limit_of_the_process_ends_it_with_a_reason() {
    let site = Site::new();
    // Two or four MiB: shells count in blocks of 512 or 1,024 bytes.
    let mut broker = Broker::start_command(
        limited("-f 4096", "serve", &site)
            .env("WARDLINE__JOURNAL__SEGMENT", "1MiB")
            .env("WARDLINE__LIMITS__MAX_PACKET", "16MiB"),
    );
    let mut client = RawClient::connected(broker.address("lab"), Version::V311, "monitor");
    client.send_publish("ward/b12/note", &vec![b'x'; 8 << 20], 1);
    let acknowledged = client.until_closed().iter().any(|packet| matches!(packet, Packet::PubAck(_)));
    assert!(!acknowledged);
    let end = broker.wait();
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains("File too large") && end.said.contains("journal"), "{}", end.said);
}
