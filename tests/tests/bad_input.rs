//! Bad input gets a clear answer and costs nobody else.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests assert as tests do")]

use std::net::{Shutdown, TcpStream};

use wardline_tests::{Broker, Bystanders, DEADLINE, RawClient, Site, connect, record};
use wardline_wire::{Packet, ReasonCode, Version};

#[test]
fn a_malformed_packet_ends_its_own_connection_with_the_reason() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut bystanders = Bystanders::of(&broker);
    let cases: &[(&str, &[u8], ReasonCode)] = &[
        ("reserved packet type", &[0x00, 0x00], ReasonCode::MalformedPacket),
        ("length of five bytes", &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], ReasonCode::MalformedPacket),
        ("QoS 3", &[0x36, 0x07, 0x00, 0x01, b'a', 0x00, 0x01, 0x00, b'x'], ReasonCode::MalformedPacket),
        ("topic that is no UTF-8", &[0x30, 0x05, 0x00, 0x02, 0xC3, 0x28, 0x00], ReasonCode::MalformedPacket),
        ("SUBSCRIBE with wrong flags", &[0x80, 0x02, 0x00, 0x01], ReasonCode::MalformedPacket),
        ("SUBSCRIBE for nothing", &[0x82, 0x03, 0x00, 0x01, 0x00], ReasonCode::ProtocolError),
        ("wildcard in a topic name", &[0x30, 0x04, 0x00, 0x01, b'#', 0x00], ReasonCode::TopicNameInvalid),
        (
            "topic alias 0",
            &[0x30, 0x07, 0x00, 0x01, b'a', 0x03, 0x23, 0x00, 0x00],
            ReasonCode::TopicAliasInvalid,
        ),
        ("unknown topic alias", &[0x30, 0x06, 0x00, 0x00, 0x03, 0x23, 0x00, 0x05], ReasonCode::ProtocolError),
    ];
    for (what, bytes, reason) in cases {
        let mut client = RawClient::connected(broker.address("lab"), Version::V5, "careless");
        client.send_bytes(bytes);
        assert_eq!(client.goodbye(), *reason, "{what}");
        bystanders.are_undisturbed();
    }
}

#[test]
fn a_second_connect_ends_the_connection() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut bystanders = Bystanders::of(&broker);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "twice");
    client.send(&Packet::Connect(Box::new(connect(Version::V5, "twice"))));
    assert_eq!(client.goodbye(), ReasonCode::ProtocolError);
    bystanders.are_undisturbed();
}

#[test]
fn what_is_not_mqtt_is_closed_without_an_answer() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut bystanders = Bystanders::of(&broker);
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: ward\r\n\r\n"[..], &[0xFF; 64], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]]
    {
        let mut client = RawClient::open(broker.address("lab"), Version::V311);
        client.send_bytes(bytes);
        assert_eq!(client.until_closed(), []);
        bystanders.are_undisturbed();
    }
}

#[test]
fn an_unknown_protocol_version_is_answered() {
    let site = Site::new();
    let broker = Broker::start(&site);
    // The answer comes in the newest version that the broker knows.
    let mut client = RawClient::open(broker.address("lab"), Version::V5);
    // MQTT, level 9, clean session, client id "x".
    client
        .send_bytes(&[0x10, 0x0D, 0x00, 0x04, b'M', b'Q', b'T', b'T', 9, 0x02, 0x00, 0x3C, 0x00, 0x01, b'x']);
    match client.until_closed().as_slice() {
        [Packet::ConnAck(answer)] => assert_eq!(answer.reason, ReasonCode::UnsupportedProtocolVersion),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_oversized_packet_is_refused_by_its_header() {
    let site = Site::new();
    let broker = Broker::start_with(&site, &[("WARDLINE__LIMITS__MAX_PACKET", "4KiB")]);
    let mut bystanders = Bystanders::of(&broker);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "large");
    // A PUBLISH that claims 256 MiB and sends none of them.
    client.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(client.goodbye(), ReasonCode::PacketTooLarge);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "large");
    client.deliver("large/1", [b'x'; 4_000], 1);
    bystanders.are_undisturbed();
}

#[test]
fn a_connect_that_never_comes_does_not_hold_its_place() {
    let site = Site::new();
    let broker = Broker::start_with(&site, &[("WARDLINE__LIMITS__CONNECT_TIMEOUT", "200ms")]);
    let mut bystanders = Bystanders::of(&broker);
    let mut silent = RawClient::open(broker.address("lab"), Version::V311);
    assert_eq!(silent.until_closed(), []);
    // Half a CONNECT, and a TLS handshake that does not begin, are no better.
    let mut slow = RawClient::open(broker.address("lab"), Version::V311);
    slow.send_bytes(&[0x10, 0x0D, 0x00, 0x04]);
    assert_eq!(slow.until_closed(), []);
    let mut tls = RawClient::open(broker.address("ward"), Version::V311);
    assert_eq!(tls.until_closed(), []);
    bystanders.are_undisturbed();
}

#[test]
fn silent_connections_do_not_keep_others_out() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let silent: Vec<TcpStream> = ["lab", "ward", "bedside"]
        .iter()
        .map(|name| TcpStream::connect(broker.address(name)).unwrap())
        .collect();
    let credentials = site.device("mon-12");
    let tls = wardline_tests::rumqtt::tls(&site.ca(), Some(&credentials));
    wardline_tests::rumqtt::V5::connect("mon-12", broker.port("bedside"), tls, None).unwrap();
    for stream in silent {
        stream.shutdown(Shutdown::Both).unwrap();
    }
}

#[test]
fn the_connection_after_the_last_is_closed_and_a_freed_place_is_given_again() {
    let site = Site::new();
    let broker = Broker::start_with(&site, &[("WARDLINE__LIMITS__CONNECTIONS", "2")]);
    let first = RawClient::connected(broker.address("lab"), Version::V5, "first");
    let _second = RawClient::connected(broker.address("lab"), Version::V5, "second");
    assert_eq!(RawClient::open(broker.address("lab"), Version::V5).until_closed(), []);
    drop(first);
    // The broker learns of the end a moment after it, and nothing tells when.
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let mut third = RawClient::open(broker.address("lab"), Version::V5);
        third.send(&Packet::Connect(Box::new(connect(Version::V5, "third"))));
        match third.try_receive() {
            Some(Packet::ConnAck(answer)) => break assert!(!answer.reason.is_error()),
            None => assert!(std::time::Instant::now() < deadline, "the place was not given again"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_publish_that_the_policy_does_not_allow_is_refused_and_recorded() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "curious");
    match client.publish("secret/plans", b"?", 1) {
        Packet::PubAck(ack) => assert_eq!(ack.reason, ReasonCode::NotAuthorized),
        other => panic!("{other:?}"),
    }
    client.deliver("open/plans", b"!", 2);
    assert_eq!(broker.terminate().status, Some(0));
    let rows = record::sqlite(
        &site.audit_db(),
        "SELECT topic, outcome, principal, client_id, reason <> '' FROM publishes WHERE topic LIKE '%/plans' ORDER BY seq",
    );
    let expected = [
        ["secret/plans", "denied", "service:lab", "curious", "1"],
        ["open/plans", "accepted", "service:lab", "curious", "0"],
    ];
    assert_eq!(rows, expected);
}

#[test]
fn telemetry_that_is_no_reading_is_a_technical_condition_and_no_vital_sign() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut bystanders = Bystanders::of(&broker);
    let mut monitor = RawClient::connected(broker.address("lab"), Version::V5, "monitor");
    let mut ward = RawClient::connected(broker.address("lab"), Version::V5, "ward");
    ward.subscribe("conditions/#");
    // Not JSON; "not available" of ISO/IEEE 11073; a probe that hangs in the air; a saturation there cannot be.
    let payloads = ["nonsense {", "8388607", "0", r#"{"value":1e9}"#];
    for (id, payload) in (1..).zip(payloads) {
        let topic = format!("telemetry/icu-3/b{id}/mon/spo2");
        monitor.deliver(&topic, payload, id);
        let Packet::Publish(publish) = ward.receive() else { panic!("{payload} began no condition") };
        assert_eq!(publish.topic, format!("conditions/icu-3/b{id}/spo2-invalid"), "{payload}");
        let condition: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
        assert_eq!(condition["kind"], "technical", "{condition}");
    }
    // A signal nobody knows and a topic that is too deep are carried like any other publish.
    for (id, topic) in (10..).zip(["telemetry/icu-3/b1/mon/aura", "telemetry/icu-3/b1/mon/spo2/raw/1"]) {
        monitor.deliver(topic, b"97", id);
    }
    bystanders.are_undisturbed();
}

#[test]
fn implausible_limits_are_refused_with_a_reason() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "chart");
    let cases =
        [r#"{"low":580,"reason":"typing"}"#, r#"{"low":100,"high":88,"reason":"swapped"}"#, "88 or so"];
    for (id, payload) in (1..).zip(cases) {
        match client.publish("limits/icu-3/b12/spo2", payload.as_bytes(), id) {
            Packet::PubAck(ack) => {
                assert!(ack.reason.is_error(), "{payload} was taken");
                assert!(
                    ack.reason_string.is_some_and(|reason| !reason.is_empty()),
                    "{payload} got no reason"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_answer_to_no_alert_is_refused_with_a_reason() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = RawClient::connected(broker.address("lab"), Version::V5, "pager");
    match client.publish("responses/icu-3/b12/n1-999", br#"{"answer":"accepted"}"#, 1) {
        Packet::PubAck(ack) => {
            assert!(ack.reason.is_error());
            assert!(ack.reason_string.is_some_and(|reason| !reason.is_empty()));
        }
        other => panic!("{other:?}"),
    }
}
