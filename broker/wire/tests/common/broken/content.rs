//! Rules of single packet types: what CONNECT may say, names and filters, options, reason codes.

use super::parts::{
    ACKNOWLEDGEMENTS, CONNECT, DISCONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, framed, prefixed,
};
use super::{
    Answer, Broken, EITHER, FILTER_INVALID, LEVELS, Level, MALFORMED, NAME_INVALID, PROTOCOL,
    UNSUPPORTED_VERSION,
};

const CLEAN_START: u8 = 0b10;
const WILL: u8 = 0b100;
const PASSWORD: u8 = 0b100_0000;
const USER_NAME: u8 = 0b1000_0000;

const NAMES: &[&str] = &["#", "+", "a/#", "a/+", "+/a", "a/+/b", "a#", "a+", "/#", "/+", "a/b#/c"];

/// Wildcards stand for whole levels, `#` for the last only, and a group has a name and a filter [MQTT-4.7.1-1] [MQTT-4.7.1-2]
/// [MQTT-4.8.2-1] [MQTT-4.8.2-2].
const FILTERS: &[&str] = &[
    "",
    "a#",
    "#a",
    "#/a",
    "a/#/b",
    "##",
    "/##",
    "a/#b",
    "a+",
    "+a",
    "a/b+",
    "a/+b/c",
    "++",
    "+#",
    "#+",
    "$share/",
    "$share//a",
    "$share/g",
    "$share/g/",
    "$share/g+/a",
    "$share/#/a",
    "$share/+/a",
    "$share/g/a#",
    "$share/g/a/#/b",
    "$share/g/b+",
];

pub(crate) fn all() -> Vec<Broken> {
    let mut all = Vec::new();
    for level in LEVELS {
        connect(level, &mut all);
        publish(level, &mut all);
        filters(level, &mut all);
        options(level, &mut all);
    }
    protocols(&mut all);
    reasons(&mut all);
    all
}

fn of(level: Level, first: bool, what: String, bytes: Vec<u8>, answer: &'static [u8]) -> Broken {
    Broken { what, level, first, bytes, answer: Answer::Reason(answer) }
}

/// An empty block of properties, where there are properties.
fn block(level: Level) -> &'static [u8] {
    if level == Level::Five { &[0] } else { &[] }
}

/// The variable header and the client identifier.
fn opening(level: Level, flags: u8, client: &str) -> Vec<u8> {
    let number = if level == Level::Five { 5 } else { 4 };
    [&prefixed(b"MQTT")[..], &[number, flags, 0, 60], block(level), &prefixed(client.as_bytes())].concat()
}

fn connect(level: Level, all: &mut Vec<Broken>) {
    let mut push = |what: String, body: Vec<u8>, answer| {
        all.push(of(level, true, format!("CONNECT: {what}"), framed(CONNECT, &body), answer));
    };
    let will = |topic: &str| [block(level), &prefixed(topic.as_bytes()), &prefixed(b"gone")].concat();
    let user = prefixed(b"user");
    for flags in (1..=u8::MAX).step_by(2) {
        // [MQTT-3.1.2-3]; what else the flags promise follows.
        let will = if flags & WILL == 0 { vec![] } else { will("t") };
        let user = if flags & USER_NAME == 0 { vec![] } else { user.clone() };
        let password = if flags & PASSWORD == 0 { vec![] } else { user.clone() };
        let body = [opening(level, flags, "c"), will, user, password].concat();
        push(format!("reserved flag in {flags:08b}"), body, &[MALFORMED]);
    }
    for qos_and_retain in 1..8 {
        // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
        let flags = CLEAN_START | qos_and_retain << 3;
        push(format!("will flags {flags:08b} without a will"), opening(level, flags, "c"), EITHER);
    }
    for retain in [0, 1 << 5] {
        // [MQTT-3.1.2-12]
        let flags = CLEAN_START | WILL | 3 << 3 | retain;
        push("will QoS 3".to_owned(), [opening(level, flags, "c"), will("t")].concat(), &[MALFORMED]);
    }
    for topic in NAMES.iter().chain(&[""]) {
        let body = [opening(level, CLEAN_START | WILL, "c"), will(topic)].concat();
        push(format!("will topic {topic:?}"), body, &[NAME_INVALID, MALFORMED, PROTOCOL]);
    }
    for flag in [WILL, PASSWORD, USER_NAME] {
        // [MQTT-3.1.2-9] [MQTT-3.1.2-17] [MQTT-3.1.2-19]
        push(
            format!("without what flag {flag:08b} promises"),
            opening(level, CLEAN_START | flag, "c"),
            &[MALFORMED],
        );
    }
    push(
        "with what no flag promises".to_owned(),
        [opening(level, CLEAN_START, "c"), user.clone()].concat(),
        &[MALFORMED],
    );
    if level == Level::Four {
        // [MQTT3-3.1.2-22]
        let body = [opening(level, CLEAN_START | PASSWORD, "c"), user].concat();
        push("a password without a user name".to_owned(), body, &[MALFORMED]);
        // [MQTT3-3.1.3-8]
        let bytes = framed(CONNECT, &opening(level, 0, ""));
        let what = "CONNECT: no client identifier for a lasting session".to_owned();
        all.push(Broken { what, level, first: true, bytes, answer: Answer::ReturnCode(2) });
    }
}

/// [MQTT-3.1.2-1] [MQTT-3.1.2-2]
fn protocols(all: &mut Vec<Broken>) {
    let body =
        |name: &[u8], number: u8| [&prefixed(name)[..], &[number, CLEAN_START, 0, 0, 0, 0, 1, b'c']].concat();
    for name in ["", "M", "MQT", "MQTTX", "mqtt", "Mqtt", "MQTt", "MQIsdP", "HTTP", "MQTT ", "\u{FEFF}MQTT"] {
        for number in [3, 4, 5] {
            all.push(Broken {
                what: format!("CONNECT of protocol {name:?}, level {number}"),
                level: Level::Five,
                first: true,
                bytes: framed(CONNECT, &body(name.as_bytes(), number)),
                answer: Answer::Silence,
            });
        }
    }
    for number in 0..0x80 {
        let (level, answer) = match number {
            4 | 5 => continue,
            0..4 => (Level::Four, Answer::ReturnCode(1)),
            _ => (Level::Five, Answer::Reason(&[UNSUPPORTED_VERSION])),
        };
        let bytes = framed(CONNECT, &body(b"MQTT", number));
        all.push(Broken { what: format!("CONNECT of level {number}"), level, first: true, bytes, answer });
    }
}

fn publish(level: Level, all: &mut Vec<Broken>) {
    // [MQTT-3.3.2-2] [MQTT-4.7.3-1]: some would call it malformed, and both are right.
    for name in NAMES {
        for qos in 0..3 {
            let id: &[u8] = if qos == 0 { &[] } else { &[0, 9] };
            let body = [&prefixed(name.as_bytes())[..], id, block(level), b"x"].concat();
            let what = format!("PUBLISH to {name:?} with QoS {qos}");
            all.push(of(level, false, what, framed(PUBLISH | qos << 1, &body), &[NAME_INVALID]));
        }
    }
    for qos in 0..3 {
        let id: &[u8] = if qos == 0 { &[] } else { &[0, 9] };
        let body = [&[0, 0], id, block(level), b"x"].concat();
        let what = format!("PUBLISH to nothing with QoS {qos}");
        all.push(of(level, false, what, framed(PUBLISH | qos << 1, &body), &[PROTOCOL]));
    }
}

fn filters(level: Level, all: &mut Vec<Broken>) {
    for (name, head, options) in [("SUBSCRIBE", SUBSCRIBE, &[1][..]), ("UNSUBSCRIBE", UNSUBSCRIBE, &[])] {
        let entry = |filter: &str| [&prefixed(filter.as_bytes())[..], options].concat();
        for filter in FILTERS {
            for (place, entries) in [
                ("alone", entry(filter)),
                ("first", [entry(filter), entry("good")].concat()),
                ("last", [entry("good"), entry(filter)].concat()),
            ] {
                let body = [&[0, 9], block(level), &entries[..]].concat();
                let what = format!("{name} {filter:?} {place}");
                all.push(of(level, false, what, framed(head, &body), &[FILTER_INVALID]));
            }
        }
        // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
        let nothing = framed(head, &[&[0, 9], block(level)].concat());
        all.push(of(level, false, format!("{name} of nothing"), nothing, &[PROTOCOL]));
    }
}

fn options(level: Level, all: &mut Vec<Broken>) {
    let mut push = |filter: &str, options: u8, answer| {
        let body = [&[0, 9], block(level), &prefixed(filter.as_bytes()), &[options]].concat();
        let what = format!("SUBSCRIBE {filter} with options {options:08b}");
        all.push(of(level, false, what, framed(SUBSCRIBE, &body), answer));
    };
    for options in 0..=u8::MAX {
        let no_such_qos = options & 0b11 == 3;
        if level == Level::Four {
            // [MQTT3-3.8.3-4]
            if no_such_qos || options > 3 {
                push("a", options, &[MALFORMED]);
            }
            continue;
        }
        let reserved = options & 0b1100_0000 != 0;
        let no_such_handling = options >> 4 & 0b11 == 3;
        match (reserved, no_such_qos || no_such_handling) {
            (true, true) => push("a", options, EITHER),
            (true, false) => push("a", options, &[MALFORMED]), // [MQTT-3.8.3-5]
            (false, true) => push("a", options, &[PROTOCOL]),  // section 3.8.3.1
            // [MQTT-3.8.3-4]
            (false, false) if options & 0b100 != 0 => push("$share/g/a", options, &[PROTOCOL]),
            (false, false) => {}
        }
    }
}

/// Each packet has its own list [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.14.2-1].
fn reasons(all: &mut Vec<Broken>) {
    const ANSWERED: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    const RELEASED: &[u8] = &[0x00, 0x92];
    const LEFT: &[u8] = &[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
    for (name, head) in ACKNOWLEDGEMENTS {
        let allowed = if matches!(name, "PUBACK" | "PUBREC") { ANSWERED } else { RELEASED };
        for reason in (0..=u8::MAX).filter(|reason| !allowed.contains(reason)) {
            let what = format!("{name} with reason {reason:#04x}");
            all.push(of(Level::Five, false, what, framed(head, &[0, 9, reason]), EITHER));
        }
    }
    for reason in (0..=u8::MAX).filter(|reason| !LEFT.contains(reason)) {
        let what = format!("DISCONNECT with reason {reason:#04x}");
        all.push(of(Level::Five, false, what, framed(DISCONNECT, &[reason]), EITHER));
    }
}
