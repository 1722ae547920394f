//! Network connections (section 4.2) and WebSocket (section 6).

use std::io::{Read, Write};
use std::net::TcpStream;

use wardline_tests::{Opcode, WebSocket, tcp};
use wardline_wire::QoS;

use crate::support::*;

const CONNECT: [u8; 17] = [0x10, 15, 0, 4, b'M', b'Q', b'T', b'T', 5, 0x02, 0, 60, 0, 0, 2, b'w', b's'];
const CONNACK: u8 = 0x20;
const PING: [u8; 2] = [0xC0, 0x00];
const PONG: [u8; 2] = [0xD0, 0x00];

fn open(lab: &Lab) -> WebSocket<TcpStream> {
    WebSocket::open(tcp(lab.broker.address("web")), "/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n")
}

fn receive(socket: &mut WebSocket<TcpStream>, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).expect("bytes come before the end");
    bytes
}

/// Reads a CONNACK, which is shorter than 128 bytes.
fn receive_connack(socket: &mut WebSocket<TcpStream>) {
    let head = receive(socket, 2);
    assert_eq!(head[0], CONNACK);
    receive(socket, head[1].into());
}

/// MQTT over TCP, TLS and WebSocket: [MQTT-4.2.0-1].
#[test]
fn every_transport_carries_mqtt() {
    let lab = Lab::new();
    let mut watcher = lab.client("tcp");
    subscribe(&mut watcher, "telemetry/#", QoS::AtMostOnce);
    let device = lab.site.device("mon-12");
    let tls = wardline_tests::rumqtt::tls(&lab.site.ca(), Some(&device));
    let mut monitor =
        wardline_tests::rumqtt::V5::connect("mon-12", lab.broker.port("bedside"), tls, None).unwrap();
    let topic = "telemetry/icu-3/b12/mon-12/hr";
    let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
    monitor.client.publish(topic, qos, false, "72").unwrap();
    let acknowledged = |packet: &rumqttc::v5::mqttbytes::v5::Packet| {
        matches!(packet, rumqttc::v5::mqttbytes::v5::Packet::PubAck(_)).then_some(())
    };
    monitor.wait(acknowledged).unwrap();
    assert_eq!(next_publish(&mut watcher).topic, topic);
    let mut socket = open(&lab);
    socket.write_all(&CONNECT).unwrap();
    receive_connack(&mut socket);
    socket.write_all(&[0x30, 14, 0, 11]).unwrap();
    socket.write_all(b"telemetry/w\0").unwrap();
    assert_eq!(next_publish(&mut watcher).topic, "telemetry/w");
}

/// Packets are not frames: several in one, one in several: [MQTT-6.0.0-2]; what the broker sends is binary: [MQTT-6.0.0-1].
#[test]
fn packets_may_be_split_and_joined_across_frames() {
    let lab = Lab::new();
    let mut socket = open(&lab);
    for byte in CONNECT {
        socket.send(Opcode::Binary, true, &[byte]);
    }
    let (opcode, connack) = socket.receive().unwrap();
    assert_eq!((opcode, connack[0]), (Opcode::Binary as u8, CONNACK));
    socket.send(Opcode::Binary, true, &[PING, PING, PING].concat());
    assert_eq!(receive(&mut socket, 6), [PONG, PONG, PONG].concat());
    socket.send(Opcode::Binary, true, &PING[..1]);
    socket.send(Opcode::Binary, true, &[PING[1], PING[0]]);
    assert_eq!(receive(&mut socket, 2), PONG);
    // A frame may itself come in fragments.
    socket.send(Opcode::Binary, false, &PING[1..]);
    socket.send(Opcode::Continuation, true, &PING);
    assert_eq!(receive(&mut socket, 4), [PONG, PONG].concat());
}

/// A text frame closes the connection, whatever is in it: [MQTT-6.0.0-1].
#[test]
fn a_text_frame_closes_the_connection() {
    let lab = Lab::new();
    let mut socket = open(&lab);
    socket.write_all(&CONNECT).unwrap();
    receive_connack(&mut socket);
    socket.send(Opcode::Text, true, &[0x30, 5, 0, 1, b't', 0, b'x']);
    socket.write_all(&PING).unwrap();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert!(!rest.windows(2).any(|bytes| bytes == PONG), "nothing behind it is answered: {rest:02x?}");
}

/// A client offers `mqtt`: [MQTT-6.0.0-3], and the broker selects it: [MQTT-6.0.0-4].
#[test]
fn the_subprotocol_is_mqtt() {
    let lab = Lab::new();
    let answer = |offer: &str| {
        WebSocket::request(tcp(lab.broker.address("web")), "/mqtt", offer).0.to_ascii_lowercase()
    };
    for offer in ["mqtt", "chat, mqtt", "mqtt, chat"] {
        let head = answer(&format!("Sec-WebSocket-Protocol: {offer}\r\n"));
        assert!(head.starts_with("http/1.1 101 "), "{offer}: {head}");
        assert!(head.contains("sec-websocket-protocol: mqtt\r\n"), "{offer}: {head}");
    }
    for offer in ["", "Sec-WebSocket-Protocol: chat\r\n"] {
        assert!(answer(offer).starts_with("http/1.1 400 "), "{offer}");
    }
}
