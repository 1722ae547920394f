//! What can happen, and how a tape says it.

use std::{num::NonZeroU16, time::Duration};

use bytes::{Bytes, BytesMut};
use wardline_wire::{
    Ack, Connect, ConnectProperties, Disconnect, Packet, PacketId, Publish, PublishProperties, QoS,
    ReasonCode, RetainHandling, Subscribe, SubscribeFilter, SubscribeOptions, Unsubscribe, Version, Will,
    encode,
};

use super::{Conversation, LINES, tape::Tape};

const CLIENTS: [&str; 4] = ["a", "b", "c", ""];
const TOPICS: [&str; 8] =
    ["t/1", "t/2", "t", "alerts/x", "no/entry", "withheld/1", "$SYS/x", "a/b/c/d/e/f/g"];
const FILTERS: [&str; 10] =
    ["t/1", "t/+", "#", "alerts/#", "$share/g/t/+", "$share/h/#", "no/entry", "withheld/#", "+/x", "t/2"];
const SPANS_S: [u64; 8] = [0, 1, 2, 5, 10, 61, 1_600, 100_000];

/// Pieces that a packet is cut into; 0 leaves it whole.
const PIECES: [usize; 8] = [0, 0, 0, 0, 0, 1, 2, 7];

/// Does one thing. The more often it happens on a ward, the more of 256 it has.
pub(crate) fn step(conversation: &mut Conversation, tape: &mut Tape<'_>) {
    let what = tape.byte();
    let line = tape.below(LINES);
    match what {
        0..48 => return conversation.sync(usize::MAX),
        48..56 => {
            let some = conversation.durable + tape.below(8);
            return conversation.sync(some);
        }
        56..64 => return conversation.pass(Duration::from_secs(tape.choose(&SPANS_S))),
        64..66 => {
            let kept = conversation.durable + tape.below(8);
            return conversation.restart(kept);
        }
        66..71 => return conversation.cut(line),
        71 => return conversation.take_snapshot(),
        72..88 => {
            conversation.cut(line);
            let packet = connect(tape);
            return say(conversation, line, tape, &packet);
        }
        _ if conversation.lines[line].open.is_none() => {
            return say(conversation, line, tape, &resumption(line));
        }
        88..120 => return conversation.hear(line, 1 + tape.below(8)),
        120..122 => {
            let count = tape.below(64);
            return conversation.feed(line, tape.bytes(count));
        }
        _ => {}
    }
    let packet = match what {
        122..124 => connect(tape),
        124..148 => subscribe(tape),
        148..152 => unsubscribe(tape),
        152..200 => publish(tape),
        200..203 => acknowledgement(tape),
        203..206 => Packet::PubRel(ack(tape, &[ReasonCode::Success])),
        206..210 => Packet::PingReq,
        210..213 => disconnect(tape),
        _ => {
            // What a good client answers to what it has heard.
            let answers = conversation.lines[line].open.as_mut().map(|(_, ear)| &mut ear.answers);
            let Some(answer) = answers.and_then(|answers| answers.pop_front()) else { return };
            answer
        }
    };
    say(conversation, line, tape, &packet);
}

/// A client comes back to the session that it has, or has one from now on.
fn resumption(line: usize) -> Packet {
    let properties = ConnectProperties {
        session_expiry: Some(u32::MAX),
        receive_maximum: NonZeroU16::new(line as u16 * 2),
        topic_alias_maximum: Some(2),
        ..ConnectProperties::default()
    };
    Packet::Connect(Box::new(Connect {
        version: if line == 0 { Version::V311 } else { Version::V5 },
        clean_start: false,
        keep_alive: 0,
        client_id: format!("line {line}").into(),
        will: None,
        username: None,
        password: None,
        properties: if line == 0 { ConnectProperties::default() } else { properties },
    }))
}

/// In the version of its connection, whole or in pieces.
fn say(conversation: &mut Conversation, line: usize, tape: &mut Tape<'_>, packet: &Packet) {
    let version = match (packet, &conversation.lines[line].open) {
        (Packet::Connect(connect), _) => connect.version,
        (_, Some((_, ear))) => ear.version,
        (_, None) => Version::V5,
    };
    let mut bytes = BytesMut::new();
    if encode(packet, version, &mut bytes).is_err() {
        return; // Nothing that this version could say.
    }
    match tape.choose(&PIECES) {
        0 => conversation.feed(line, &bytes),
        piece => bytes.chunks(piece).for_each(|piece| conversation.feed(line, piece)),
    }
}

fn number(tape: &mut Tape<'_>) -> PacketId {
    PacketId(NonZeroU16::MIN.saturating_add(tape.below(12) as u16))
}

fn qos(tape: &mut Tape<'_>) -> QoS {
    tape.choose(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn payload(tape: &mut Tape<'_>) -> Bytes {
    let bytes = [tape.choose(b"abcdefghijklmno\xFF")].repeat(tape.choose(&[0, 1, 1, 20, 300]));
    bytes.into()
}

fn connect(tape: &mut Tape<'_>) -> Packet {
    let version = tape.choose(&[Version::V5, Version::V5, Version::V311, Version::V31]);
    let will = (tape.byte() & 3 == 3).then(|| Will {
        topic: tape.choose(&TOPICS).into(),
        payload: payload(tape),
        qos: qos(tape),
        retain: tape.flag(),
        delay: (version == Version::V5).then(|| tape.choose(&[0, 5, 1_000])),
        properties: PublishProperties::default(),
    });
    let properties = if version == Version::V5 {
        ConnectProperties {
            session_expiry: tape.choose(&[None, Some(0), Some(60), Some(u32::MAX)]),
            receive_maximum: NonZeroU16::new(tape.choose(&[0, 1, 2, 50])),
            maximum_packet_size: tape.choose(&[None, None, None, Some(30), Some(200)]),
            topic_alias_maximum: tape.choose(&[None, Some(1), Some(3)]),
            request_problem_information: tape.choose(&[None, Some(false)]),
            ..ConnectProperties::default()
        }
    } else {
        ConnectProperties::default()
    };
    Packet::Connect(Box::new(Connect {
        version,
        clean_start: tape.flag(),
        keep_alive: tape.choose(&[0, 0, 0, 30, 1_000]),
        client_id: tape.choose(&CLIENTS).into(),
        will,
        username: None,
        password: None,
        properties,
    }))
}

fn subscribe(tape: &mut Tape<'_>) -> Packet {
    let filters = (0..=tape.below(3)).map(|_| {
        let options = SubscribeOptions {
            qos: qos(tape),
            no_local: tape.byte() & 3 == 3,
            retain_as_published: tape.flag(),
            retain_handling: tape.choose(&[
                RetainHandling::Send,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]),
        };
        SubscribeFilter { filter: tape.choose(&FILTERS).into(), options }
    });
    let filters = filters.collect();
    let subscription_id = tape.choose(&[None, None, Some(1), Some(70_000)]);
    Packet::Subscribe(Subscribe { packet_id: number(tape), subscription_id, user: Vec::new(), filters })
}

fn unsubscribe(tape: &mut Tape<'_>) -> Packet {
    let filters = (0..=tape.below(2)).map(|_| tape.choose(&FILTERS).into()).collect();
    Packet::Unsubscribe(Unsubscribe { packet_id: number(tape), user: Vec::new(), filters })
}

fn publish(tape: &mut Tape<'_>) -> Packet {
    let qos = qos(tape);
    let packet_id = (qos != QoS::AtMostOnce).then(|| number(tape));
    let alias = NonZeroU16::new(tape.choose(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 5]));
    let topic = if alias.is_some() && tape.byte() & 3 == 3 { "" } else { tape.choose(&TOPICS) };
    Packet::Publish(Publish {
        dup: qos != QoS::AtMostOnce && tape.byte() & 7 == 7,
        qos,
        retain: tape.byte() & 3 == 3,
        topic: topic.into(),
        packet_id,
        properties: PublishProperties {
            topic_alias: alias,
            message_expiry: tape.choose(&[None, None, Some(0), Some(10)]),
            payload_format: tape.choose(&[None, None, Some(1)]),
            ..PublishProperties::default()
        }
        .into(),
        payload: payload(tape),
    })
}

fn ack(tape: &mut Tape<'_>, reasons: &[ReasonCode]) -> Ack {
    Ack { packet_id: number(tape), reason: tape.choose(reasons), reason_string: None, user: Vec::new() }
}

/// Whether or not there is anything to acknowledge.
fn acknowledgement(tape: &mut Tape<'_>) -> Packet {
    let kind = tape.choose(&[Packet::PubAck, Packet::PubRec, Packet::PubComp]);
    kind(ack(tape, &[ReasonCode::Success, ReasonCode::Success, ReasonCode::QuotaExceeded]))
}

fn disconnect(tape: &mut Tape<'_>) -> Packet {
    Packet::Disconnect(Disconnect {
        reason: tape.choose(&[ReasonCode::Success, ReasonCode::Success, ReasonCode::DisconnectWithWill]),
        session_expiry: tape.choose(&[None, None, Some(0), Some(100)]),
        reason_string: None,
        user: Vec::new(),
        server_reference: None,
    })
}
