//! Thousands of packets that break one rule each: every one is refused, with the reason that the rule is broken with.
//! The end-to-end tests send the same packets to a running server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::HashSet;

use common::broken::{self, Answer, Broken, Level, PACKET_BYTES_MAX};
use common::check::{connected, decode_all};
use wardline_wire::{Decoder, ReasonCode, Version};

/// Fewer would mean that a rule makes no packets any more.
const PACKETS_MIN: usize = 6_000;

fn version(level: Level) -> Version {
    match level {
        Level::Four => Version::V311,
        Level::Five => Version::V5,
    }
}

fn check(broken: &Broken) -> Result<(), String> {
    let decoder = if broken.first {
        Decoder::server_side(PACKET_BYTES_MAX)
    } else {
        connected(version(broken.level), PACKET_BYTES_MAX)
    };
    let (packets, error) = decode_all(decoder.clone(), &broken.bytes, broken.bytes.len());
    let Some(error) = error else { return Err(format!("taken as {packets:?}")) };
    if decode_all(decoder, &broken.bytes, 1) != (packets, Some(error.clone())) {
        return Err("cut into bytes it is something else".to_owned());
    }
    let reason = error.reason();
    let right = match broken.answer {
        Answer::Reason(reasons) => broken.level == Level::Four || reasons.contains(&(reason as u8)),
        Answer::ReturnCode(code) => reason.connack_return_code() == Some(code),
        Answer::Silence => true,
    };
    if right { Ok(()) } else { Err(format!("{reason:?}: {error}")) }
}

#[test]
fn every_broken_packet_is_refused_with_the_reason_of_its_rule() {
    let all = broken::all();
    let wrong: Vec<String> = all
        .iter()
        .filter_map(|broken| {
            check(broken).err().map(|error| format!("{:?} {}: {error}", broken.level, broken.what))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn they_are_many_and_no_two_are_the_same() {
    let all = broken::all();
    let packets: HashSet<_> =
        all.iter().map(|broken| (version(broken.level), broken.first, broken.bytes.clone())).collect();
    assert!(packets.len() >= PACKETS_MIN, "{} of {}", packets.len(), all.len());
    let reasons: HashSet<u8> = all
        .iter()
        .filter_map(|broken| match broken.answer {
            Answer::Reason(&[reason]) => Some(reason),
            _ => None,
        })
        .collect();
    assert!(reasons.iter().all(|reason| ReasonCode::from_u8(*reason).is_some_and(ReasonCode::is_error)));
}
