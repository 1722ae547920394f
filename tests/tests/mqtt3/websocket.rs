//! Section 6: MQTT in WebSocket frames.

use std::net::TcpStream;

use wardline_tests::{Opcode, WebSocket, tcp};

use crate::bytes::{
    ACCEPTED, CLEAN, PINGREQ, PINGRESP, PUBACK, PUBLISH, QOS_1, answer, connect, publish, suback, subscribe,
};
use crate::lab::Lab;
use crate::peer::Peer;

const MQTT: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

impl Lab {
    /// A WebSocket on which no MQTT has been said.
    fn web(&self) -> Peer<WebSocket<TcpStream>> {
        Peer::over(WebSocket::open(tcp(self.broker.address("web")), "/mqtt", MQTT))
    }

    /// The head of the answer to an opening handshake with these headers.
    fn shake_hands(&self, headers: &str) -> String {
        WebSocket::request(tcp(self.broker.address("web")), "/mqtt", headers).0
    }
}

/// [MQTT3-6.0.0-3] [MQTT3-6.0.0-4]
#[test]
fn the_subprotocol_is_mqtt() {
    let lab = Lab::start();
    for offer in ["mqtt", "chat, mqtt", "mqtt, chat"] {
        let head = lab.shake_hands(&format!("Sec-WebSocket-Protocol: {offer}\r\n"));
        assert!(head.starts_with("HTTP/1.1 101 "), "{offer}: {head}");
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        let chosen: Vec<_> = headers
            .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
            .map(|(_, value)| value)
            .collect();
        assert_eq!(chosen, ["mqtt"], "{offer}");
    }
    for offer in ["", "Sec-WebSocket-Protocol: chat\r\n", "Sec-WebSocket-Protocol: mqttt\r\n"] {
        let head = lab.shake_hands(offer);
        assert!(head.starts_with("HTTP/1.1 400 "), "{offer}: {head}");
    }
}

/// [MQTT3-6.0.0-2]
#[test]
fn packets_are_split_and_joined_across_frames() {
    let lab = Lab::start();
    let mut web = lab.web();
    // A frame for each byte, and an empty one.
    for byte in connect(CLEAN, &[b"web"]) {
        web.send(&[byte]);
    }
    web.stream.send(Opcode::Binary, true, b"");
    web.expect(&ACCEPTED);
    // Three packets and the beginning of a fourth in one frame, its end in another.
    let last = publish(PUBLISH | QOS_1, "t", Some(3), vec![b'x'; 300]);
    let (begin, end) = last.split_at(10);
    let first = [
        subscribe(1, &[("t", 0)]),
        publish(PUBLISH, "t", None, "1"),
        publish(PUBLISH, "t", None, "2"),
        begin.to_vec(),
    ];
    web.send(&first.concat());
    web.expect(&suback(1, &[0]));
    web.expect(&publish(PUBLISH, "t", None, "1"));
    web.expect(&publish(PUBLISH, "t", None, "2"));
    web.send(end);
    // Its acknowledgement and what the subscription makes of it come in either order.
    let mut both = [web.frame(), web.frame()];
    both.sort();
    assert_eq!(both, [publish(PUBLISH, "t", None, vec![b'x'; 300]), answer(PUBACK, 3)]);
    // A packet in fragments of one message.
    let (begin, end) = PINGREQ.split_at(1);
    web.stream.send(Opcode::Binary, false, begin);
    web.stream.send(Opcode::Continuation, true, end);
    web.expect(&PINGRESP);
}

/// [MQTT3-6.0.0-1]
#[test]
fn a_frame_that_is_not_binary_ends_the_connection() {
    let lab = Lab::start();
    for said in [&b""[..], &PINGREQ] {
        let mut web = lab.web();
        web.send(&connect(CLEAN, &[b"web"]));
        // And what the broker sends is in binary frames.
        let (opcode, payload) = web.stream.receive().unwrap();
        assert_eq!((opcode, payload), (Opcode::Binary as u8, ACCEPTED.to_vec()));
        web.stream.send(Opcode::Text, true, said);
        web.expect_closed("a text frame");
    }
    let mut first = lab.web();
    first.stream.send(Opcode::Text, true, &connect(CLEAN, &[b"web"]));
    first.expect_closed("a text frame instead of CONNECT");
}
