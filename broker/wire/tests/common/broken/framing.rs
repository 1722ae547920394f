//! Rules that every packet is under: fixed header, lengths, strings, identifiers, whose turn it is.

use super::parts::{ACKNOWLEDGEMENTS, PINGREQ, Part, Sample, framed, prefixed, samples, varint};
use super::{Answer, Broken, EITHER, LEVELS, Level, MALFORMED, PACKET_BYTES_MAX, PROTOCOL, TOO_LARGE};

/// What is no UTF-8, or has U+0000 in it [MQTT-1.5.4-1] [MQTT-1.5.4-2].
pub(crate) const NOT_TEXT: &[&[u8]] = &[
    b"\0",
    b"\x80",
    b"\xBF",
    b"\xC0\x80",
    b"\xC1\xBF",
    b"\xC3",
    b"\xE0\x80\xAF",
    b"\xE0\x9F\xBF",
    b"\xE2\x82",
    b"\xED\xA0\x80",
    b"\xED\xAF\xBF",
    b"\xED\xB0\x80",
    b"\xED\xBF\xBF",
    b"\xED\xA0\xBD\xED\xB8\x80",
    b"\xF0\x80\x80\x80",
    b"\xF0\x8F\xBF\xBF",
    b"\xF0\x9F\x92",
    b"\xF4\x90\x80\x80",
    b"\xF5\x80\x80\x80",
    b"\xF8\x88\x80\x80\x80",
    b"\xFE",
    b"\xFF",
];

pub(crate) fn all() -> Vec<Broken> {
    let mut all = Vec::new();
    for sample in samples() {
        flags(&sample, &mut all);
        remaining_length(&sample, &mut all);
        cut(&sample, &mut all);
        extended(&sample, &mut all);
        strings(&sample, &mut all);
        identifier(&sample, &mut all);
        too_large(&sample, &mut all);
        too_early(&sample, &mut all);
    }
    for level in LEVELS {
        not_a_clients(level, &mut all);
    }
    all
}

/// [MQTT-2.1.3-1]; for PUBLISH [MQTT-3.3.1-2] and [MQTT-3.3.1-4].
fn flags(sample: &Sample, all: &mut Vec<Broken>) {
    let right = sample.head & 0x0F;
    let wrong = (0..16).filter(|&flags| match sample.name {
        "PUBLISH" => flags >> 1 & 0b11 == 3 || (flags & 0b1000 != 0 && flags >> 1 & 0b11 == 0),
        _ => flags != right,
    });
    for flags in wrong {
        let bytes = framed(sample.head & 0xF0 | flags, &sample.body());
        let mut broken = sample.broken(&format!("flags {flags:04b}"), bytes, &[MALFORMED]);
        if sample.is_connect() {
            broken.answer = Answer::Silence;
        }
        all.push(broken);
    }
}

/// Four bytes at most, and the fewest [MQTT-1.5.5-1].
fn remaining_length(sample: &Sample, all: &mut Vec<Broken>) {
    let body = sample.body();
    let len = body.len() as u8;
    let lengths: &[&[u8]] = &[
        &[len | 0x80, 0],
        &[len | 0x80, 0x80, 0],
        &[len | 0x80, 0x80, 0x80, 0],
        &[len | 0x80, 0x80, 0x80, 0x80, 0],
        &[len | 0x80, 0x80, 0x80, 0x80, 1],
        &[0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        &[0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for length in lengths {
        let bytes = [&[sample.head][..], length, &body].concat();
        let mut broken = sample.broken(&format!("remaining length {length:02x?}"), bytes, &[MALFORMED]);
        if sample.is_connect() {
            broken.answer = Answer::Silence;
        }
        all.push(broken);
    }
}

/// It ends within a field, or before one that it needs.
fn cut(sample: &Sample, all: &mut Vec<Broken>) {
    let body = sample.body();
    let mut boundaries = vec![0];
    for part in &sample.parts {
        boundaries.push(boundaries.last().unwrap_or(&0) + part.bytes().len());
    }
    let may_end = |at: &usize| {
        let ends = sample.ends.iter().any(|&count| boundaries.get(count) == Some(at));
        let in_payload =
            matches!(sample.parts.last(), Some(Part::Payload(payload)) if *at >= body.len() - payload.len());
        ends || in_payload || holds_no_filter(sample, &boundaries, *at)
    };
    // A CONNECT tells its version with its seventh byte.
    let told = if sample.is_connect() { 7 } else { 0 };
    for at in (0..body.len()).filter(|at| !may_end(at)) {
        let mut broken =
            sample.broken(&format!("cut after {at} bytes"), framed(sample.head, &body[..at]), &[MALFORMED]);
        if at < told {
            broken.answer = Answer::Silence;
        }
        all.push(broken);
    }
}

/// A list of filters that is empty is another rule's.
fn holds_no_filter(sample: &Sample, boundaries: &[usize], at: usize) -> bool {
    let first_filter = sample.parts.iter().position(|part| matches!(part, Part::Text(_)));
    let lists_filters = matches!(sample.name, "SUBSCRIBE" | "UNSUBSCRIBE");
    lists_filters && first_filter.and_then(|index| boundaries.get(index)) == Some(&at)
}

/// It goes on after its last field.
fn extended(sample: &Sample, all: &mut Vec<Broken>) {
    if sample.name == "PUBLISH" {
        return;
    }
    for more in [&b"\0"[..], b"\0\x05", b"\x01\x02x", b"\xFF\xFF\xFF\xFF"] {
        let bytes = framed(sample.head, &[&sample.body()[..], more].concat());
        all.push(sample.broken(&format!("followed by {more:02x?}"), bytes, &[MALFORMED]));
    }
}

fn strings(sample: &Sample, all: &mut Vec<Broken>) {
    for (index, part) in sample.parts.iter().enumerate() {
        let (Part::Text(bytes) | Part::Binary(bytes)) = part else { continue };
        let long = [&[0xFF, 0xFF], &bytes[..]].concat();
        let protocol_name = sample.is_connect() && index == 0;
        if protocol_name {
            continue; // Judged by what it says.
        }
        all.push(sample.broken(
            &format!("field {index} longer than the packet"),
            sample.with(index, long),
            &[MALFORMED],
        ));
        if matches!(part, Part::Binary(_)) {
            continue;
        }
        for bad in NOT_TEXT {
            for place in [0, bytes.len() / 2, bytes.len()] {
                let text = [&bytes[..place], bad, &bytes[place..]].concat();
                let what = format!("field {index} with {bad:02x?} at {place}");
                all.push(sample.broken(&what, sample.with(index, prefixed(&text)), &[MALFORMED]));
            }
        }
    }
}

/// Never 0 [MQTT-2.2.1-3].
fn identifier(sample: &Sample, all: &mut Vec<Broken>) {
    for (index, part) in sample.parts.iter().enumerate() {
        if matches!(part, Part::Id(_)) {
            all.push(sample.broken("identifier 0", sample.with(index, vec![0, 0]), EITHER));
        }
    }
}

/// The header is enough to tell (section 3.1.2.11.4 and 3.2.2.3.6).
fn too_large(sample: &Sample, all: &mut Vec<Broken>) {
    for remaining in [PACKET_BYTES_MAX, PACKET_BYTES_MAX * 2, 268_435_455] {
        let bytes = [&[sample.head][..], &varint(remaining), &sample.body()].concat();
        let mut broken = sample.broken(&format!("{remaining} bytes"), bytes, &[TOO_LARGE]);
        if sample.is_connect() {
            broken.answer = Answer::Silence;
        }
        all.push(broken);
    }
}

/// CONNECT comes first [MQTT-3.1.0-1], and once [MQTT-3.1.0-2].
fn too_early(sample: &Sample, all: &mut Vec<Broken>) {
    let mut broken = sample.broken("out of turn", framed(sample.head, &sample.body()), &[PROTOCOL]);
    broken.first = !broken.first;
    if broken.first {
        broken.answer = Answer::Silence;
    }
    all.push(broken);
}

/// What a client never sends.
fn not_a_clients(level: Level, all: &mut Vec<Broken>) {
    let five = level == Level::Five;
    let mut push = |what: &str, bytes: Vec<u8>, answer| {
        for first in [false, true] {
            let answer = if first { Answer::Silence } else { Answer::Reason(answer) };
            all.push(Broken { what: what.to_owned(), level, first, bytes: bytes.clone(), answer });
        }
    };
    let block: &[u8] = if five { &[0] } else { &[] };
    push("CONNACK", framed(0x20, &[&[0, 0], block].concat()), &[PROTOCOL]);
    push("SUBACK", framed(0x90, &[&[0, 1], block, &[0]].concat()), &[PROTOCOL]);
    push("UNSUBACK", framed(0xB0, &[&[0, 1], block, &[0][..block.len()]].concat()), &[PROTOCOL]);
    push("PINGRESP", framed(0xD0, &[]), &[PROTOCOL]);
    for flags in 0..16 {
        push("packet type 0", framed(flags, &[]), &[MALFORMED]);
        push("packet type 0", framed(flags, &[0, 1, 2]), &[MALFORMED]);
        if !five {
            push("packet type 15", framed(0xF0 | flags, &[]), &[MALFORMED]);
        } else if flags != 0 {
            push("AUTH with flags", framed(0xF0 | flags, &[]), &[MALFORMED]);
        }
        for (name, head) in
            [("CONNACK", 0x20), ("SUBACK", 0x90), ("UNSUBACK", 0xB0), ("PINGRESP", PINGREQ | 0x10)]
        {
            if flags != 0 {
                push(&format!("{name} with flags"), framed(head | flags, &[0, 0]), EITHER);
            }
        }
    }
    for (name, head) in ACKNOWLEDGEMENTS {
        push(&format!("{name} of nothing"), framed(head, &[]), &[MALFORMED]);
    }
}
