//! One wrong packet for each rule about single packets: the reason it is answered with, and what the message says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use bytes::BytesMut;
use common::check::{connected, decode_all};
use wardline_wire::ReasonCode::{
    self, ClientIdentifierNotValid, MalformedPacket, PacketTooLarge, ProtocolError, TopicAliasInvalid,
    TopicFilterInvalid, TopicNameInvalid, UnsupportedProtocolVersion,
};
use wardline_wire::{DecodeError, Decoder, Packet, Version};

const MAX_PACKET_SIZE: u32 = 1000;

/// Who reads it, and how far the connection is.
#[derive(Clone, Copy, Debug)]
enum To {
    NewServer,
    Server(Version),
    Client(Version),
}
use To::{Client, NewServer, Server};
use Version::{V5, V31, V311};

impl To {
    fn decoder(self) -> Decoder {
        match self {
            NewServer => Decoder::server_side(MAX_PACKET_SIZE),
            Server(version) => connected(version, MAX_PACKET_SIZE),
            Client(version) => Decoder::client_side(version, MAX_PACKET_SIZE),
        }
    }
}

/// `first` byte, remaining length, body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128);
    [&[first, body.len() as u8], body].concat()
}

fn assert_refused(to: To, bytes: &[u8], reason: ReasonCode, says: &str) {
    let (packets, error) = decode_all(to.decoder(), bytes, bytes.len());
    let Some(error) = error else { panic!("{to:?} took {bytes:02x?}, {says}: {packets:?}") };
    assert_eq!(error.reason(), reason, "{to:?} {bytes:02x?}: {error}");
    assert!(
        error.to_string().contains(says),
        "{to:?} {bytes:02x?}: {error:?} says \"{error}\", not \"{says}\""
    );
    assert_eq!(decode_all(to.decoder(), bytes, 1), (packets, Some(error)), "however it is cut");
}

fn assert_table(first: u8, rows: &[(To, &[u8], ReasonCode, &str)]) {
    for (to, body, reason, says) in rows {
        assert_refused(*to, &packet(first, body), *reason, says);
    }
}

#[test]
fn fixed_headers() {
    let rows: &[(To, &[u8], ReasonCode, &str)] = &[
        (Server(V5), b"\x00\x00", MalformedPacket, "packet type 0"),
        (Server(V311), b"\xF0\x00", MalformedPacket, "packet type 15"),
        (Server(V5), b"\x36\x00", MalformedPacket, "PUBLISH: fixed-header flags 0b0110"),
        (Server(V5), b"\x38\x00", MalformedPacket, "PUBLISH: fixed-header flags 0b1000"),
        (Server(V5), b"\x60\x00", MalformedPacket, "PUBREL: fixed-header flags 0b0000"),
        (Server(V5), b"\x80\x00", MalformedPacket, "SUBSCRIBE: fixed-header flags"),
        (Server(V311), b"\x8A\x00", MalformedPacket, "SUBSCRIBE: fixed-header flags 0b1010"),
        (Server(V5), b"\xA0\x00", MalformedPacket, "UNSUBSCRIBE: fixed-header flags"),
        (Server(V5), b"\xC1\x00", MalformedPacket, "PINGREQ: fixed-header flags 0b0001"),
        (Server(V5), b"\x41\x00", MalformedPacket, "PUBACK: fixed-header flags"),
        (NewServer, b"\x16\x03\x01", MalformedPacket, "CONNECT: fixed-header flags 0b0110"),
        (NewServer, b"\x11\x00", MalformedPacket, "CONNECT: fixed-header flags"),
        (NewServer, b"\x30\x00", ProtocolError, "PUBLISH before CONNECT"),
        (NewServer, b"\xC0\x00", ProtocolError, "PINGREQ before CONNECT"),
        (Server(V5), b"\x10\x00", ProtocolError, "second CONNECT"),
        (Server(V5), b"\x20\x00", ProtocolError, "CONNACK is not for a client"),
        (Server(V311), b"\x90\x00", ProtocolError, "SUBACK is not for a client"),
        (Server(V5), b"\xD0\x00", ProtocolError, "PINGRESP is not for a client"),
        (Client(V5), b"\x82\x00", ProtocolError, "SUBSCRIBE is not for a server"),
        (Client(V5), b"\x10\x00", ProtocolError, "CONNECT is not for a server"),
        (Client(V311), b"\xE0\x00", ProtocolError, "DISCONNECT is not for a server"),
        (Server(V5), b"\xC0\x80\x00", MalformedPacket, "remaining length is encoded in more bytes"),
        (Server(V5), b"\x30\x80\x80\x80\x80", MalformedPacket, "remaining length is encoded in more bytes"),
        (Server(V5), b"\x30\xFF\xFF\xFF\xFF\x7F", MalformedPacket, "remaining length is encoded in more"),
        (Server(V5), b"\xC0\x01\x00", MalformedPacket, "PINGREQ: 1 bytes follow"),
        (Server(V311), b"\xE0\x01\x00", MalformedPacket, "DISCONNECT: 1 bytes follow"),
    ];
    for (to, bytes, reason, says) in rows {
        assert_refused(*to, bytes, *reason, says);
    }
}

#[test]
fn a_packet_above_the_limit_is_refused_by_its_header() {
    // 1000 bytes are allowed: three of header and a remaining length of 997.
    assert_eq!(connected(V5, MAX_PACKET_SIZE).decode(&mut BytesMut::from(&b"\x30\xE5\x07"[..])), Ok(None));
    assert_refused(Server(V5), b"\x30\xE6\x07", PacketTooLarge, "PUBLISH: 1001 bytes exceed the maximum");
    assert_refused(NewServer, b"\x10\xFF\xFF\xFF\x7F", PacketTooLarge, "CONNECT: 268435460 bytes exceed");
    let mut buf = BytesMut::new();
    buf.extend_from_slice(b"\x30\xE5\x07");
    let before = buf.capacity();
    assert_eq!(connected(V5, MAX_PACKET_SIZE).decode(&mut buf), Ok(None));
    assert_eq!(buf.capacity(), before, "nothing is allocated for what was only claimed");
}

#[test]
fn connect() {
    assert_table(
        0x10,
        &[
            (NewServer, b"", MalformedPacket, "ends within the protocol name"),
            (NewServer, b"\0\x04HTTP\x05\x02\0\0\0\0\0", UnsupportedProtocolVersion, "not MQTT"),
            (NewServer, b"\0\x04mqtt\x05\x02\0\0\0\0\0", UnsupportedProtocolVersion, "not MQTT"),
            (NewServer, b"\0\x04MQTT\x06\x02\0\0\0\0\0", UnsupportedProtocolVersion, "level 6"),
            (NewServer, b"\0\x06MQIsdp\x04\x02\0\0\0\x01c", UnsupportedProtocolVersion, "level 4"),
            (NewServer, b"\0\x04MQTT\x05\x03\0\0\0\0\0", MalformedPacket, "reserved bit"),
            (NewServer, b"\0\x04MQTT\x05\x0A\0\0\0\0\0", MalformedPacket, "without a will"),
            (NewServer, b"\0\x04MQTT\x05\x22\0\0\0\0\0", MalformedPacket, "without a will"),
            (NewServer, b"\0\x04MQTT\x05\x1E\0\0\0\0\0\0\0\x01t\0\0", MalformedPacket, "no will QoS 3"),
            (NewServer, b"\0\x04MQTT\x04\x42\0\0\0\0\0\0", MalformedPacket, "password without a user name"),
            (NewServer, b"\0\x04MQTT\x04\0\0\0\0\0", ClientIdentifierNotValid, "empty client identifier"),
            (NewServer, b"\0\x06MQIsdp\x03\x02\0\0\0\0", ClientIdentifierNotValid, "empty client identifier"),
            (NewServer, b"\0\x04MQTT\x04\x02\0", MalformedPacket, "ends within the keep alive"),
            (
                NewServer,
                b"\0\x04MQTT\x04\x02\0\0\0\x02c",
                MalformedPacket,
                "ends within the client identifier",
            ),
            (
                NewServer,
                b"\0\x04MQTT\x04\x02\0\0\0\x01\xFF",
                MalformedPacket,
                "client identifier is not well-formed",
            ),
            (
                NewServer,
                b"\0\x04MQTT\x04\x02\0\0\0\x01\0",
                MalformedPacket,
                "client identifier contains U+0000",
            ),
            (NewServer, b"\0\x04MQTT\x04\x02\0\0\0\x01cX", MalformedPacket, "1 bytes follow"),
            (NewServer, b"\0\x04MQTT\x04\x82\0\0\0\x01c", MalformedPacket, "ends within the user name"),
            (NewServer, b"\0\x04MQTT\x04\xC2\0\0\0\x01c\0\x01u", MalformedPacket, "ends within the password"),
            (NewServer, b"\0\x04MQTT\x04\x06\0\0\0\x01c\0\x01#\0\0", TopicNameInvalid, "will topic"),
            (NewServer, b"\0\x04MQTT\x04\x06\0\0\0\x01c\0\0\0\0", TopicNameInvalid, "will topic"),
            (
                NewServer,
                b"\0\x04MQTT\x04\x06\0\0\0\x01c\0\x01t\0\x01",
                MalformedPacket,
                "within the will payload",
            ),
        ],
    );
}

#[test]
fn connect_properties() {
    let connect = |properties: &[u8]| {
        [b"\0\x04MQTT\x05\x02\0\0", &[properties.len() as u8][..], properties, b"\0\0"].concat()
    };
    let rows: &[(&[u8], ReasonCode, &str)] = &[
        (b"\x21\0\0", ProtocolError, "receive maximum: must not be 0"),
        (b"\x27\0\0\0\0", ProtocolError, "maximum packet size: must not be 0"),
        (b"\x17\x02", ProtocolError, "request problem information: must be 0 or 1"),
        (b"\x19\x02", ProtocolError, "request response information: must be 0 or 1"),
        (b"\x16\0\x01x", ProtocolError, "authentication data: needs an authentication method"),
        (b"\x11\0\0\0\x01\x11\0\0\0\x01", ProtocolError, "session expiry interval appears more than once"),
        (b"\x22\0\x01\x22\0\x01", ProtocolError, "topic alias maximum appears more than once"),
        (b"\x15\0\0\x15\0\0", ProtocolError, "authentication method appears more than once"),
        (b"\x1F\0\0", MalformedPacket, "reason string does not belong here"),
        (b"\x23\0\x01", MalformedPacket, "topic alias does not belong here"),
        (b"\x18\0\0\0\x01", MalformedPacket, "will delay interval does not belong here"),
        (b"\x7F", MalformedPacket, "no property 0x7f"),
        (b"\x00", MalformedPacket, "no property 0x00"),
        (b"\x91\x00\0\0\0\x01", MalformedPacket, "property identifier is encoded in more bytes"),
        (b"\x11\0\0\0", MalformedPacket, "ends within the session expiry interval"),
        (b"\x26\0\x01n", MalformedPacket, "ends within the user property value"),
        (b"\x26\0\x01\xC0\0\0", MalformedPacket, "user property name is not well-formed"),
    ];
    for (properties, reason, says) in rows {
        assert_refused(NewServer, &packet(0x10, &connect(properties)), *reason, says);
    }

    let will = |properties: &[u8]| {
        [b"\0\x04MQTT\x05\x06\0\0\0\0\0", &[properties.len() as u8][..], properties, b"\0\x01t\0\0"].concat()
    };
    let rows: &[(&[u8], ReasonCode, &str)] = &[
        (b"\x23\0\x01", MalformedPacket, "topic alias does not belong here"),
        (b"\x0B\x01", MalformedPacket, "subscription identifier does not belong here"),
        (b"\x11\0\0\0\x01", MalformedPacket, "session expiry interval does not belong here"),
        (b"\x18\0\0\0\x01\x18\0\0\0\x01", ProtocolError, "will delay interval appears more than once"),
        (b"\x01\x02", ProtocolError, "payload format indicator: must be 0 or 1"),
        (b"\x08\0\x01#", ProtocolError, "response topic"),
    ];
    for (properties, reason, says) in rows {
        assert_refused(NewServer, &packet(0x10, &will(properties)), *reason, says);
    }
}

#[test]
fn a_refused_connect_can_be_answered_in_its_version() {
    let refused = |body: &[u8]| {
        let mut decoder = Decoder::server_side(MAX_PACKET_SIZE);
        let error = decoder.decode(&mut BytesMut::from(&packet(0x10, body)[..]));
        (error, decoder.version())
    };
    for (level, answer) in [(0, V311), (3, V311), (6, V5), (0x7F, V5), (0x84, V311), (0x85, V5)] {
        let body = [b"\0\x04MQTT", &[level][..], b"\x02\0\0\0\0\0"].concat();
        let error = Err(DecodeError::UnsupportedProtocolVersion { level, answer });
        assert_eq!(refused(&body), (error, None));
    }
    for (level, version) in [(4, V311), (5, V5)] {
        let body = [b"\0\x04MQTT", &[level][..], b"\x03"].concat();
        assert!(matches!(refused(&body), (Err(_), Some(spoken)) if spoken == version));
    }
}

#[test]
fn publish() {
    assert_table(
        0x30,
        &[
            (Server(V5), b"", MalformedPacket, "ends within the topic name"),
            (Server(V5), b"\0\x05t", MalformedPacket, "ends within the topic name"),
            (Server(V5), b"\0\x01+\0", TopicNameInvalid, "topic name"),
            (Server(V311), b"\0\x03a/#", TopicNameInvalid, "topic name"),
            (Server(V311), b"\0\0", TopicNameInvalid, "topic name"),
            (Server(V5), b"\0\0\0", ProtocolError, "no topic alias stands for it"),
            (Server(V5), b"\0\x02t\0\0", MalformedPacket, "topic name contains U+0000"),
            (Server(V5), b"\0\x03\xED\xA0\x80\0", MalformedPacket, "topic name is not well-formed UTF-8"),
            (Server(V311), b"\0\x02\xC0\x80", MalformedPacket, "topic name is not well-formed UTF-8"),
            (Server(V311), b"\0\x01\xC3", MalformedPacket, "topic name is not well-formed UTF-8"),
            (Server(V5), b"\0\x01t", MalformedPacket, "ends within the property length"),
            (Server(V5), b"\0\x01t\x02\x01", MalformedPacket, "ends within the properties"),
            (Server(V5), b"\0\x01t\x80\0", MalformedPacket, "property length is encoded in more bytes"),
            (
                Server(V5),
                b"\0\x01t\x02\x0B\x01",
                ProtocolError,
                "subscription identifier: is not for a client",
            ),
            (Client(V5), b"\0\x01t\x02\x0B\x00", ProtocolError, "subscription identifier: must not be 0"),
            (
                Client(V5),
                b"\0\x01t\x05\x0B\x80\x80\x80\x80",
                MalformedPacket,
                "identifier is encoded in more",
            ),
            (Server(V5), b"\0\x01t\x03\x23\0\0", TopicAliasInvalid, "topic alias 0"),
            (
                Server(V5),
                b"\0\x01t\x06\x23\0\x01\x23\0\x01",
                ProtocolError,
                "topic alias appears more than once",
            ),
            (Server(V5), b"\0\x01t\x02\x01\x02", ProtocolError, "payload format indicator: must be 0 or 1"),
            (Server(V5), b"\0\x01t\x04\x08\0\x01+", ProtocolError, "response topic"),
            (Server(V5), b"\0\x01t\x03\x08\0\0", ProtocolError, "response topic"),
            (
                Server(V5),
                b"\0\x01t\x06\x03\0\0\x03\0\0",
                ProtocolError,
                "content type appears more than once",
            ),
            (
                Server(V5),
                b"\0\x01t\x06\x09\0\0\x09\0\0",
                ProtocolError,
                "correlation data appears more than once",
            ),
            (
                Server(V5),
                b"\0\x01t\x05\x18\0\0\0\x01",
                MalformedPacket,
                "will delay interval does not belong",
            ),
        ],
    );
    assert_table(
        0x32,
        &[
            (Server(V5), b"\0\x01t\0\0\0", ProtocolError, "packet identifier: must not be 0"),
            (Server(V311), b"\0\x01t\0\0", ProtocolError, "packet identifier: must not be 0"),
            (Server(V311), b"\0\x01t\0", MalformedPacket, "ends within the packet identifier"),
        ],
    );
}

#[test]
fn acknowledgements() {
    assert_table(
        0x40,
        &[
            (Server(V5), b"\0", MalformedPacket, "ends within the packet identifier"),
            (Server(V5), b"\0\0", ProtocolError, "packet identifier: must not be 0"),
            (Server(V311), b"\0\x01\0", MalformedPacket, "1 bytes follow"),
            (Server(V5), b"\0\x01\x92", ProtocolError, "PUBACK: reason code 0x92 does not belong here"),
            (Server(V5), b"\0\x01\x7F", ProtocolError, "reason code 0x7f"),
            (
                Server(V5),
                b"\0\x01\0\x05\x11\0\0\0\x01",
                MalformedPacket,
                "session expiry interval does not belong",
            ),
            (
                Server(V5),
                b"\0\x01\0\x06\x1F\0\0\x1F\0\0",
                ProtocolError,
                "reason string appears more than once",
            ),
            (Server(V5), b"\0\x01\0\0\0", MalformedPacket, "1 bytes follow"),
        ],
    );
    assert_table(0x62, &[(Server(V5), b"\0\x01\x10", ProtocolError, "PUBREL: reason code 0x10")]);
    assert_table(
        0x90,
        &[
            (Client(V5), b"\0\x01\0", ProtocolError, "reason codes: at least one"),
            (Client(V311), b"\0\x01\x03", ProtocolError, "SUBACK: reason code 0x03"),
            (Client(V311), b"\0\x01\x87", ProtocolError, "SUBACK: reason code 0x87"),
            (Client(V5), b"\0\x01\0\x11", ProtocolError, "SUBACK: reason code 0x11"),
        ],
    );
    assert_table(
        0xB0,
        &[
            (Client(V311), b"\0\x01\0", MalformedPacket, "UNSUBACK: 1 bytes follow"),
            (Client(V5), b"\0\x01\0\x02", ProtocolError, "UNSUBACK: reason code 0x02"),
        ],
    );
    assert_table(
        0x20,
        &[
            (Client(V311), b"\x02\0", MalformedPacket, "acknowledge flags: reserved"),
            (Client(V311), b"\x00\x06", ProtocolError, "CONNACK: reason code 0x06"),
            (Client(V311), b"\x01\x05", ProtocolError, "a refusal cannot have a session present"),
            (Client(V5), b"\x00\x01\0", ProtocolError, "CONNACK: reason code 0x01"),
            (Client(V5), b"\x00\x00\x02\x24\x02", ProtocolError, "maximum QoS: must be 0 or 1"),
            (Client(V5), b"\x00\x00\x03\x21\0\0", ProtocolError, "receive maximum: must not be 0"),
            (
                Client(V5),
                b"\x00\x00\x02\x17\x01",
                MalformedPacket,
                "request problem information does not belong",
            ),
            (Client(V5), b"\x00\x00\x03\x16\0\0", ProtocolError, "needs an authentication method"),
        ],
    );
}

#[test]
fn subscribe_and_unsubscribe() {
    assert_table(
        0x82,
        &[
            (Server(V5), b"\0\0\0\0\x01t\0", ProtocolError, "packet identifier: must not be 0"),
            (Server(V5), b"\0\x01\0", ProtocolError, "topic filters: at least one"),
            (Server(V311), b"\0\x01", ProtocolError, "topic filters: at least one"),
            (Server(V5), b"\0\x01\0\0\x01t", MalformedPacket, "ends within the subscription options"),
            (Server(V5), b"\0\x01\0\0\x01t\x40", MalformedPacket, "subscription options: reserved bits"),
            (Server(V5), b"\0\x01\0\0\x01t\x80", MalformedPacket, "subscription options: reserved bits"),
            (Server(V311), b"\0\x01\0\x01t\x04", MalformedPacket, "subscription options: reserved bits"),
            (Server(V5), b"\0\x01\0\0\x01t\x03", ProtocolError, "there is no QoS 3"),
            (Server(V311), b"\0\x01\0\x01t\x03", MalformedPacket, "there is no QoS 3"),
            (Server(V5), b"\0\x01\0\0\x01t\x30", ProtocolError, "there is no retain handling 3"),
            (Server(V5), b"\0\x01\0\0\x0A$share/g/t\x04", ProtocolError, "no local"),
            (Server(V5), b"\0\x01\0\0\x01t\0\0\x03a#b\0", TopicFilterInvalid, "SUBSCRIBE: filter 1"),
            (Server(V311), b"\0\x01\0\0\0", TopicFilterInvalid, "SUBSCRIBE: filter 0"),
            (Server(V5), b"\0\x01\0\0\x09$share//t\0", TopicFilterInvalid, "filter 0"),
            (Server(V5), b"\0\x01\0\0\x08$share/g\0", TopicFilterInvalid, "filter 0"),
            (
                Server(V5),
                b"\0\x01\x02\x0B\0\0\x01t\0",
                ProtocolError,
                "subscription identifier: must not be 0",
            ),
            (Server(V5), b"\0\x01\x04\x0B\x01\x0B\x02\0\x01t\0", ProtocolError, "appears more than once"),
            (Server(V5), b"\0\x01\x03\x1F\0\0\0\x01t\0", MalformedPacket, "reason string does not belong"),
        ],
    );
    assert_table(
        0xA2,
        &[
            (Server(V5), b"\0\x01\0", ProtocolError, "topic filters: at least one"),
            (Server(V311), b"\0\x01", ProtocolError, "topic filters: at least one"),
            (Server(V5), b"\0\x01\x02\x0B\x01\0\x01t", MalformedPacket, "identifier does not belong here"),
            (Server(V5), b"\0\x01\0\0\x03+a+", TopicFilterInvalid, "UNSUBSCRIBE: filter 0"),
            (Server(V311), b"\0\x01\0\x02t", MalformedPacket, "ends within the topic filter"),
        ],
    );
}

#[test]
fn disconnect_and_auth() {
    assert_table(
        0xE0,
        &[
            (Server(V5), b"\x8B", ProtocolError, "DISCONNECT: reason code 0x8b"),
            (Client(V5), b"\x04", ProtocolError, "DISCONNECT: reason code 0x04"),
            (Client(V5), b"\x8B\x05\x11\0\0\0\x01", ProtocolError, "expiry interval: is not for a server"),
            (Server(V5), b"\0\x03\x03\0\0", MalformedPacket, "content type does not belong here"),
            (Server(V5), b"\0\0\0", MalformedPacket, "1 bytes follow"),
        ],
    );
    assert_table(
        0xF0,
        &[
            (Server(V5), b"", ProtocolError, "AUTH: reason code 0x00"),
            (Server(V5), b"\0", ProtocolError, "AUTH: reason code 0x00"),
            (Client(V5), b"\x19", ProtocolError, "AUTH: reason code 0x19"),
            (Server(V5), b"\x18", ProtocolError, "authentication method: is missing"),
            (Server(V5), b"\x18\x03\x16\0\0", ProtocolError, "authentication method: is missing"),
            (Server(V5), b"\x18\x06\x15\0\0\x15\0\0", ProtocolError, "method appears more than once"),
        ],
    );
}

#[test]
fn control_characters_in_names() {
    let controls: [&[u8]; 4] = [b"\x01", b"\x1F", b"\x7F", b"\xC2\x9F"];
    for control in controls {
        let name = [&[0, control.len() as u8 + 1, b'a'], control].concat();
        let says = "contains a control character";
        for level in [b"\x04", b"\x05"] {
            let properties: &[u8] = if *level == *b"\x05" { b"\0" } else { b"" };
            let head = |flags: u8| [b"\0\x04MQTT", &level[..], &[flags, 0, 0], properties].concat();
            let identifier = [&head(2)[..], &name].concat();
            let user = [&head(0x82)[..], b"\0\x01c", &name].concat();
            let will = [&head(6)[..], b"\0\x01c", properties, &name, b"\0\0"].concat();
            for body in [identifier, user, will] {
                assert_refused(NewServer, &packet(0x10, &body), MalformedPacket, says);
            }
        }
        for version in [V311, V5] {
            let properties: &[u8] = if version == V5 { b"\0" } else { b"" };
            let publish = packet(0x30, &[&name, properties, b"x"].concat());
            let subscribe = packet(0x82, &[b"\0\x01", properties, &name, b"\0"].concat());
            let unsubscribe = packet(0xA2, &[b"\0\x01", properties, &name].concat());
            for bytes in [publish, subscribe, unsubscribe] {
                assert_refused(Server(version), &bytes, MalformedPacket, says);
            }
        }
        let response = [b"\0\x01t", &[name.len() as u8 + 1, 0x08][..], &name].concat();
        assert_refused(Server(V5), &packet(0x30, &response), MalformedPacket, says);
    }
}

#[test]
fn what_looks_wrong_and_is_allowed() {
    let accepted: &[(To, &[u8])] = &[
        (Server(V5), b"\xE0\0"),
        (Client(V5), b"\xF0\0"),
        (Server(V5), b"\x40\x04\0\x01\0\0"),
        // MQTT 3.1 repeats a SUBSCRIBE or a PUBREL with DUP.
        (Server(V31), b"\x8A\x06\0\x01\0\x01t\0"),
        (Server(V31), b"\x6A\x02\0\x01"),
        // Noncharacters are only discouraged, and control characters outside of names [1.5.4].
        (Server(V311), b"\x30\x05\0\x03\xEF\xBF\xBF"),
        (Server(V5), b"\x30\x0C\0\x01t\x08\x26\0\x01k\0\x02a\n"),
        // MQTT 3.1 did not use the lowest connect flag.
        (NewServer, b"\x10\x0F\0\x06MQIsdp\x03\x03\0\0\0\x01c"),
        // A payload that is called text and is none is for the session to judge.
        (Server(V5), b"\x30\x07\0\x01t\x02\x01\x01\xFF"),
        // MQTT 5 has passwords without user names.
        (NewServer, b"\x10\x10\0\x04MQTT\x05\x42\0\0\0\0\0\0\x01p"),
        // MQTT 3.1 left the first byte of CONNACK open.
        (Client(V31), b"\x20\x02\x01\0"),
    ];
    for (to, bytes) in accepted {
        let (packets, error) = decode_all(to.decoder(), bytes, bytes.len());
        assert!(packets.len() == 1 && error.is_none(), "{to:?} {bytes:02x?}: {error:?}");
    }
}

#[test]
fn alias_stands_for_an_empty_topic() {
    let (packets, error) = decode_all(Server(V5).decoder(), b"\x30\x06\0\0\x03\x23\0\x07", 1);
    let [Packet::Publish(publish)] = &packets[..] else { panic!("{packets:?} {error:?}") };
    assert!(publish.topic.is_empty());
    assert_eq!(publish.properties.topic_alias.map(|alias| alias.get()), Some(7));
}
