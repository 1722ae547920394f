//! Enhanced authentication: method `ace`, at CONNECT and within a connection.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests assert as tests do")]

use std::io::{Read, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rustls::{ClientConnection, StreamOwned};
use wardline_tests::rumqtt::client_config;
use wardline_tests::{Broker, Credentials, RawClient, Site, connect, record, tcp};
use wardline_wire::{Auth, ConnAck, Connect, Packet, ReasonCode, Version};

/// Authentication data: length, token, and a proof of possession.
fn data(token: &str, proof: &[u8]) -> Bytes {
    let length = u16::try_from(token.len()).unwrap();
    Bytes::from([&length.to_be_bytes(), token.as_bytes(), proof].concat())
}

fn connect_by(method: &str, data: Option<Bytes>) -> Connect {
    let mut packet = connect(Version::V5, "client");
    packet.properties.authentication_method = Some(method.into());
    packet.properties.authentication_data = data;
    packet
}

fn auth(reason: ReasonCode, method: &str, data: Bytes) -> Packet {
    let (method, data) = (Some(method.into()), Some(data));
    Packet::Auth(Auth { reason, method, data, reason_string: None, user: Vec::new() })
}

fn renewal(token: &str) -> Packet {
    auth(ReasonCode::ReAuthenticate, "ace", data(token, b""))
}

fn connack<S: Read + Write>(client: &mut RawClient<S>, connect: Connect) -> ConnAck {
    client.send(&Packet::Connect(Box::new(connect)));
    match client.receive() {
        Packet::ConnAck(connack) => *connack,
        other => panic!("not a CONNACK: {other:?}"),
    }
}

fn inside(address: SocketAddr, token: &str) -> RawClient {
    RawClient::open(address, Version::V5).admitted(connect_by("ace", Some(data(token, b""))))
}

/// The reason with which the broker ends the connection, and nothing else.
fn end(client: &mut RawClient) -> ReasonCode {
    match &client.until_closed()[..] {
        [Packet::Disconnect(disconnect)] => disconnect.reason,
        other => panic!("not a DISCONNECT: {other:?}"),
    }
}

fn reason(packet: &Packet) -> ReasonCode {
    match packet {
        Packet::PubAck(ack) => ack.reason,
        Packet::Auth(auth) => auth.reason,
        other => panic!("no reason in {other:?}"),
    }
}

/// Rows of the record, once the broker has stopped.
fn rows(broker: Broker, site: &Site, sql: &'static str) -> Vec<Vec<String>> {
    assert_eq!(broker.terminate().status, Some(0));
    record::sqlite(&site.audit_db(), sql)
}

#[test]
fn a_token_is_taken_by_ace_and_the_method_is_repeated() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = RawClient::open(broker.address("gateway"), Version::V5);
    let token = site.token("service:lab");
    let connack = connack(&mut client, connect_by("ace", Some(data(&token, b""))));
    assert_eq!(connack.reason, ReasonCode::Success);
    assert_eq!(connack.properties.authentication_method.as_deref(), Some("ace")); // [MQTT-4.12.0-5]
    assert_eq!(reason(&client.publish("telemetry/x", b"1", 1)), ReasonCode::Success);
}

#[test]
fn what_is_not_a_good_token_is_refused_and_recorded() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let token = site.token("service:lab");
    let whole = data(&token, b"");
    let cases = [
        ("gateway", "ace", None, ReasonCode::NotAuthorized, "empty"),
        ("gateway", "ace", Some(Bytes::new()), ReasonCode::NotAuthorized, "empty"),
        ("gateway", "ace", Some(whole.slice(2..)), ReasonCode::NotAuthorized, "two-byte length"),
        ("gateway", "ace", Some(whole.slice(..40)), ReasonCode::NotAuthorized, "two-byte length"),
        ("gateway", "ace", Some(data("not.a.token", b"")), ReasonCode::NotAuthorized, "token"),
        ("gateway", "ace", Some(data(&token, b"proof")), ReasonCode::NotAuthorized, "proof of possession"),
        ("gateway", "SCRAM-SHA-256", Some(whole.clone()), ReasonCode::BadAuthenticationMethod, "SCRAM"),
        ("lab", "ace", Some(whole), ReasonCode::BadAuthenticationMethod, "no tokens"),
    ];
    for (listener, method, data, expected, what) in &cases {
        let mut client = RawClient::open(broker.address(listener), Version::V5);
        let connack = connack(&mut client, connect_by(method, data.clone()));
        assert_eq!(connack.reason, *expected, "{what}"); // [MQTT-4.12.0-1] [MQTT-4.12.0-4]
        assert_eq!(client.until_closed(), []);
    }
    let sql = "SELECT reason FROM access WHERE event = 'refuse' ORDER BY seq";
    let refusals = rows(broker, &site, sql);
    assert_eq!(refusals.len(), cases.len());
    for (row, (.., what)) in refusals.iter().zip(&cases) {
        assert!(row[0].contains(what), "{row:?} does not tell: {what}");
        assert!(!row[0].contains(&token), "the record shows a token");
    }
}

#[test]
fn a_renewed_token_keeps_the_connection_beyond_the_first() {
    let site = Site::new();
    let broker = Broker::start(&site);
    #[expect(clippy::disallowed_methods, reason = "the broker under test is another process")]
    let soon_over = Timestamp::now() - SignedDuration::from_secs(3_600 - 3);
    let short = site.token_at("service:lab", soon_over);
    let mut renewed = inside(broker.address("gateway"), &short);
    let mut other = RawClient::connected_by(broker.address("gateway"), {
        let mut connect = connect_by("ace", Some(data(&short, b"")));
        connect.client_id = "other".into();
        connect
    });
    renewed.send(&renewal(&site.token("service:lab")));
    let Packet::Auth(success) = renewed.receive() else { panic!("no AUTH") };
    assert_eq!((success.reason, success.method.as_deref()), (ReasonCode::Success, Some("ace")));
    // The other one shows when the first token has ended.
    assert_eq!(end(&mut other), ReasonCode::NotAuthorized);
    assert_eq!(reason(&renewed.publish("telemetry/x", b"1", 1)), ReasonCode::Success);
    let sql = "SELECT client_id, principal, detail, reason FROM access WHERE event = 'reauthenticate'";
    let record = rows(broker, &site, sql);
    assert_eq!(record.len(), 1);
    assert_eq!(record[0][..2], ["client", "service:lab"]);
    assert!(record[0][2].starts_with("ace, until "), "{record:?}");
    assert_eq!(record[0][3], "");
}

#[test]
fn a_renewed_token_brings_its_own_grants_for_what_follows_it() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let mut client = inside(broker.address("gateway"), &site.token("service:lab"));
    client.subscribe("open/#");
    let narrow = site.token_narrowed_to("service:lab", serde_json::json!([["telemetry/#", ["pub"]]]));
    // In one write: before, renewal, after.
    client.send_publish("elsewhere/x", b"1", 1);
    client.send(&renewal(&narrow));
    client.send_publish("elsewhere/x", b"2", 2);
    client.send_publish("telemetry/x", b"3", 3);
    use ReasonCode::{NoMatchingSubscribers, NotAuthorized, Success};
    let mut reasons = Vec::new();
    let mut renewed = false;
    while reasons.len() < 3 {
        match client.receive() {
            Packet::PubAck(ack) => reasons.push((ack.packet_id.0.get(), ack.reason)),
            Packet::Auth(auth) => renewed = auth.reason == Success,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(renewed);
    let taken = |reason| matches!(reason, Success | NoMatchingSubscribers);
    assert!(taken(reasons[0].1) && reasons[1].1 == NotAuthorized && taken(reasons[2].1), "{reasons:?}");
    let sql = "SELECT detail FROM access WHERE event = 'unsubscribe'";
    assert_eq!(rows(broker, &site, sql), [["open/#"]]);
}

#[test]
fn a_renewal_that_fails_ends_the_connection() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let own = site.token("service:lab");
    let cases = [
        (renewal(&site.token("device:mon-12")), ReasonCode::NotAuthorized),
        (renewal("not.a.token"), ReasonCode::NotAuthorized),
        (auth(ReasonCode::ReAuthenticate, "ace", Bytes::new()), ReasonCode::NotAuthorized),
        // [MQTT-4.12.1-1]
        (auth(ReasonCode::ReAuthenticate, "other", data(&own, b"")), ReasonCode::ProtocolError),
        // [MQTT-4.12.0-3]: nobody has asked.
        (auth(ReasonCode::ContinueAuthentication, "ace", data(&own, b"")), ReasonCode::ProtocolError),
    ];
    for (packet, expected) in &cases {
        let mut client = inside(broker.address("gateway"), &own);
        client.send(packet);
        assert_eq!(end(&mut client), *expected, "{packet:?}"); // [MQTT-4.12.1-2]
    }
    // A client that began without a method cannot begin with one now [MQTT-4.12.0-7].
    let mut plain = connect(Version::V5, "plain");
    (plain.username, plain.password) = (Some("token".into()), Some(Bytes::from(own.clone())));
    let mut client = RawClient::connected_by(broker.address("gateway"), plain);
    client.send(&renewal(&own));
    assert_eq!(end(&mut client), ReasonCode::ProtocolError);

    let sql = "SELECT reason FROM access WHERE event = 'reauthenticate' ORDER BY seq";
    let record = rows(broker, &site, sql);
    assert_eq!(record.len(), cases.len());
    assert!(record[0][0].contains("device:mon-12"), "{record:?}");
}

fn over_tls(site: &Site, broker: &Broker, credentials: &Credentials) -> RawClient<impl Read + Write + use<>> {
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(client_config(&site.ca(), Some(credentials)), name).unwrap();
    RawClient::over(StreamOwned::new(connection, tcp(broker.address("ward"))), Version::V5)
}

#[test]
fn a_bound_token_is_good_only_with_its_certificate() {
    let site = Site::new();
    let (own, other) = (site.device("mon-12"), site.device("mon-13"));
    let broker = Broker::start(&site);
    for (bound_to, proof, expected) in [
        (&own, &b""[..], ReasonCode::Success),
        // TLS has proved possession; what a client adds is not needed.
        (&own, b"proof", ReasonCode::Success),
        (&other, b"", ReasonCode::NotAuthorized),
        (&other, b"proof", ReasonCode::NotAuthorized),
    ] {
        let token = site.token_bound_to("device:mon-12", bound_to);
        let mut client = over_tls(&site, &broker, &own);
        assert_eq!(connack(&mut client, connect_by("ace", Some(data(&token, proof)))).reason, expected);
        if expected == ReasonCode::Success {
            client.send(&renewal(&site.token_bound_to("device:mon-12", &own)));
            assert_eq!(reason(&client.receive()), ReasonCode::Success);
            client.send(&renewal(&site.token_bound_to("device:mon-12", &other)));
            assert!(
                matches!(client.receive(), Packet::Disconnect(d) if d.reason == ReasonCode::NotAuthorized)
            );
        }
    }
}
