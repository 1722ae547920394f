//! What a decoder takes, and a session cannot: a plain MQTT 5 one, that never asked to outlive its connection.

use super::parts::{CONNECT, DISCONNECT, PUBLISH, framed, prefixed};
use super::{ALIAS_INVALID, Answer, Broken, Level, PAYLOAD_INVALID, PROTOCOL, TOPIC_ALIAS_MAX};

const NO_TEXT: &[&[u8]] = &[b"\xFF", b"text\xC3", b"\xED\xA0\x80", b"\xC0\x80"];

pub(crate) fn all() -> Vec<Broken> {
    let mut all = Vec::new();
    let mut push = |what: &str, first, bytes, answer| {
        let answer = Answer::Reason(answer);
        all.push(Broken { what: what.to_owned(), level: Level::Five, first, bytes, answer });
    };
    // No method was agreed on with CONNECT [MQTT-4.12.0-6].
    for reason in [0x18, 0x19] {
        let method = [&[0x15][..], &prefixed(b"method")].concat();
        let body = [&[reason, method.len() as u8][..], &method].concat();
        push("AUTH without a method agreed on", false, framed(0xF0, &body), &[PROTOCOL]);
    }
    for qos in 0..3_u8 {
        let head = PUBLISH | qos << 1;
        let id: &[u8] = if qos == 0 { &[] } else { &[0, 9] };
        let publish = |topic: &str, properties: &[u8], payload: &[u8]| {
            let block = [&[properties.len() as u8][..], properties].concat();
            framed(head, &[&prefixed(topic.as_bytes())[..], id, &block, payload].concat())
        };
        let alias = |alias: u16| [&[0x23][..], &alias.to_be_bytes()].concat();
        // [MQTT-3.3.2-9]
        for beyond in [TOPIC_ALIAS_MAX + 1, u16::MAX] {
            push("alias beyond the maximum", false, publish("t", &alias(beyond), b"x"), &[ALIAS_INVALID]);
        }
        for undefined in [1, TOPIC_ALIAS_MAX] {
            push("alias that stands for nothing", false, publish("", &alias(undefined), b"x"), &[PROTOCOL]);
        }
        for payload in NO_TEXT {
            push("text that is none", false, publish("t", &[0x01, 1], payload), &[PAYLOAD_INVALID]);
        }
    }
    for payload in NO_TEXT {
        let will = [&[2, 0x01, 1][..], &prefixed(b"t"), &prefixed(payload)].concat();
        let body = [&prefixed(b"MQTT")[..], &[5, 0b110, 0, 60, 0], &prefixed(b"c"), &will].concat();
        push("will text that is none", true, framed(CONNECT, &body), &[PAYLOAD_INVALID]);
    }
    // Section 3.14.2.2.2.
    let body = [0, 5, 0x11, 0, 0, 0, 7];
    push("session that ends with its connection, prolonged", false, framed(DISCONNECT, &body), &[PROTOCOL]);
    all
}
