//! Every packet that breaks a rule is answered by the running broker as the specification says, and costs nobody else.
//!
//! Answers are read byte by byte, not with the codec that the broker itself uses.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests assert as tests do")]

#[allow(dead_code, reason = "shared with the decoder's own tests")]
#[path = "../../broker/wire/tests/common/broken/mod.rs"]
mod broken;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use broken::{Answer, Broken, Level, PACKET_BYTES_MAX, TOPIC_ALIAS_MAX};
use wardline_tests::{Broker, RawClient, Site, tcp};
use wardline_wire::{Packet, Version};

const CONNECTIONS: usize = 8;
/// Of the answers that a broker gives before it closes; far more than any.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// A broker with the limits that the packets are beyond.
fn broker() -> (Site, Broker) {
    let site = Site::new();
    let limits = format!("[limits]\nmax_packet = {PACKET_BYTES_MAX}\ntopic_alias_max = {TOPIC_ALIAS_MAX}\n");
    site.edit("wardline.toml", "[http]\n", &format!("{limits}\n[http]\n"));
    let broker = Broker::start(&site);
    (site, broker)
}

/// What the broker said before it closed the connection.
fn answers(address: SocketAddr, broken: &Broken) -> Vec<u8> {
    let mut stream = tcp(address);
    if !broken.first {
        let (connect, connack): (&[u8], &[u8]) = match broken.level {
            Level::Four => (b"\x10\x0C\0\x04MQTT\x04\x02\0\x3C\0\0", b"\x20\x02\0\0"),
            Level::Five => (b"\x10\x0D\0\x04MQTT\x05\x02\0\x3C\0\0\0", b"\x20"),
        };
        stream.write_all(connect).expect("a CONNECT can be sent");
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).expect("it is answered");
        assert!(answer.starts_with(&connack[..1]), "{answer:02x?}");
        let mut rest = vec![0; usize::from(answer[1])];
        stream.read_exact(&mut rest).expect("whole");
        assert_eq!(rest[1], 0, "{}: not let in", broken.what);
    }
    // It may be refused before its end is read.
    let _ = stream.write_all(&broken.bytes);
    let mut said = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut said) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{}: {error}", broken.what),
        _ => said,
    }
}

fn is_right(broken: &Broken, said: &[u8]) -> bool {
    match (broken.answer, broken.level, said) {
        (Answer::Silence, _, []) | (Answer::Reason(_), Level::Four, []) => true,
        (Answer::ReturnCode(code), _, [0x20, 2, 0, given]) => *given == code,
        // [MQTT-3.2.2-6]: no session where the connection is refused.
        (Answer::Reason(codes), Level::Five, [0x20, _, 0, given, ..]) if broken.first => {
            codes.contains(given)
        }
        (Answer::Reason(codes), Level::Five, [0xE0, _, given, ..]) if !broken.first => codes.contains(given),
        _ => false,
    }
}

/// PUBACK or PUBREC says it as well as DISCONNECT does, and the connection goes on.
fn is_refused_politely(broken: &Broken) -> bool {
    broken.answer == Answer::Reason(&[broken::PAYLOAD_INVALID])
        && broken.bytes[0] & 0b110 != 0
        && !broken.first
}

#[test]
fn every_broken_packet_is_answered_as_the_specification_says() {
    let (_site, broker) = broker();
    let address = broker.address("lab");
    let mut bystander = RawClient::connected(address, Version::V5, "bystander");

    let mut packets = broken::all();
    packets.extend(broken::session::all().into_iter().filter(|broken| !is_refused_politely(broken)));
    let next = AtomicUsize::new(0);
    let wrong = thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            while let Some(broken) = packets.get(next.fetch_add(1, Ordering::Relaxed)) {
                let said = answers(address, broken);
                if !is_right(broken, &said) {
                    let expected = broken.answer;
                    wrong.push(format!("{:?} {}: {said:02x?}, not {expected:?}", broken.level, broken.what));
                }
            }
            wrong
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it asserts nothing")).collect::<Vec<_>>()
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), packets.len(), wrong.join("\n"));

    bystander.send(&Packet::PingReq);
    assert_eq!(bystander.receive(), Packet::PingResp, "nobody else is the worse for it");
}

#[test]
fn a_publish_with_a_payload_that_is_not_what_it_says_is_refused_and_the_connection_goes_on() {
    let (_site, broker) = broker();
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "mistaken");
    for broken in broken::session::all().iter().filter(|broken| is_refused_politely(broken)) {
        client.send_bytes(&broken.bytes);
        let (Packet::PubAck(answer) | Packet::PubRec(answer)) = client.receive() else {
            panic!("{}", broken.what)
        };
        assert_eq!(answer.reason as u8, broken::PAYLOAD_INVALID);
    }
    client.send(&Packet::PingReq);
    assert_eq!(client.receive(), Packet::PingResp);
}
