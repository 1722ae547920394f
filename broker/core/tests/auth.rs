//! Enhanced authentication, with a method that asks a riddle.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use support::*;
use wardline_core::{Authentication, ConnectionId, Denial, Exchange, Gate, Reply, Step};
use wardline_journal::{AccessEvent, Entry, Record};
use wardline_wire::{Auth, Packet, Publish, ReasonCode};

/// Data is a name; the answer to `NAME?` is the name backwards. `endless` is asked again and again.
#[derive(Debug, Default)]
struct Riddle {
    name: Option<String>,
}

impl Exchange for Riddle {
    type Identity = String;

    fn step(&mut self, data: Option<&[u8]>, _now: Timestamp) -> Result<Step<String>, Denial> {
        let said = String::from_utf8(data.unwrap_or_default().to_vec()).unwrap();
        let Some(name) = &self.name else {
            self.name = Some(said.clone());
            return Ok(Step::Continue(Some(Bytes::from(format!("{said}?")))));
        };
        if name == "endless" {
            return Ok(Step::Continue(None));
        }
        if said.chars().rev().collect::<String>() != *name {
            return Err(Denial { reason: ReasonCode::NotAuthorized, text: "wrong".to_owned() });
        }
        Ok(Step::Done { identity: name.clone(), data: Some(Bytes::from_static(b"welcome")) })
    }
}

fn auth(reason: ReasonCode, method: &str, data: &str) -> Auth {
    let data = Some(Bytes::copy_from_slice(data.as_bytes()));
    Auth { reason, method: Some(method.into()), data, reason_string: None, user: Vec::new() }
}

fn answer(data: &str) -> Auth {
    auth(ReasonCode::ContinueAuthentication, "riddle", data)
}

fn anew(data: &str) -> Auth {
    auth(ReasonCode::ReAuthenticate, "riddle", data)
}

struct Guest {
    authentication: Authentication<Riddle>,
    now: Timestamp,
}

impl Guest {
    fn new(name: &str) -> (Self, Result<Reply<String>, Denial>) {
        let authentication = Authentication::new("riddle".into(), Riddle::default());
        let mut guest = Self { authentication, now: Timestamp::UNIX_EPOCH };
        let reply = guest.authentication.connect(Some(name.as_bytes()), guest.now);
        (guest, reply)
    }

    fn hear(&mut self, auth: &Auth) -> Result<Reply<String>, Denial> {
        self.authentication.receive(auth, Riddle::default, self.now)
    }

    /// Somebody who is in.
    fn inside() -> Self {
        let (mut guest, _) = Self::new("ward");
        guest.hear(&answer("draw")).unwrap();
        guest
    }
}

#[track_caller]
fn refused(reply: Result<Reply<String>, Denial>, reason: ReasonCode) {
    assert_eq!(reply.unwrap_err().reason, reason);
}

#[test]
fn a_challenge_is_asked_and_answered_before_the_connack() {
    let (mut guest, reply) = Guest::new("ward");
    assert_eq!(reply, Ok(Reply::Ask(answer("ward?")))); // [MQTT-4.12.0-2]
    let reply = guest.hear(&answer("draw"));
    assert_eq!(reply, Ok(Reply::Done("ward".to_owned(), Some(Bytes::from_static(b"welcome")))));
}

#[test]
fn a_wrong_answer_is_refused_with_the_methods_reason() {
    let (mut guest, _) = Guest::new("ward");
    refused(guest.hear(&answer("ward")), ReasonCode::NotAuthorized); // [MQTT-4.12.0-4]
    let mut guest = Guest::inside();
    guest.hear(&anew("ward")).unwrap();
    refused(guest.hear(&answer("ward")), ReasonCode::NotAuthorized); // [MQTT-4.12.1-2]
}

#[test]
fn every_auth_names_the_method_of_the_connect() {
    let other = auth(ReasonCode::ContinueAuthentication, "other", "draw");
    refused(Guest::new("ward").0.hear(&other), ReasonCode::ProtocolError); // [MQTT-4.12.0-5]
    let none = Auth { method: None, ..answer("draw") };
    refused(Guest::new("ward").0.hear(&none), ReasonCode::ProtocolError);
    let other = auth(ReasonCode::ReAuthenticate, "other", "ward");
    refused(Guest::inside().hear(&other), ReasonCode::ProtocolError); // [MQTT-4.12.1-1]
}

#[test]
fn auth_out_of_turn_is_a_protocol_error() {
    // Nothing is begun anew before the client is in [MQTT-4.12.0-3], nor twice at a time.
    refused(Guest::new("ward").0.hear(&anew("ward")), ReasonCode::ProtocolError);
    let mut guest = Guest::inside();
    refused(guest.hear(&answer("draw")), ReasonCode::ProtocolError);
    let mut guest = Guest::inside();
    guest.hear(&anew("ward")).unwrap();
    refused(guest.hear(&anew("ward")), ReasonCode::ProtocolError);
    refused(Guest::inside().hear(&auth(ReasonCode::Success, "riddle", "")), ReasonCode::ProtocolError);
}

#[test]
fn a_client_can_prove_itself_again_and_again() {
    let mut guest = Guest::inside();
    for name in ["ward", "icu", "ward"] {
        assert_eq!(guest.hear(&anew(name)), Ok(Reply::Ask(answer(&format!("{name}?")))));
        let turned: String = name.chars().rev().collect();
        let Ok(Reply::Done(identity, data)) = guest.hear(&answer(&turned)) else { panic!("not done") };
        assert_eq!(identity, name);
        let success = guest.authentication.success(data);
        assert_eq!(success, auth(ReasonCode::Success, "riddle", "welcome"));
    }
}

#[test]
fn an_exchange_has_an_end() {
    let (mut guest, mut reply) = Guest::new("endless");
    let mut rounds = 0;
    while reply.is_ok() {
        rounds += 1;
        assert!(rounds < 100, "endless");
        reply = guest.hear(&answer("more"));
    }
    refused(reply, ReasonCode::ProtocolError);
}

/// Lets through what begins with the present name.
struct Named(&'static str);

impl Gate for Named {
    fn publish(&mut self, _client: &Arc<str>, publish: &Publish) -> Result<(), Denial> {
        self.subscribe(_client, &publish.topic)
    }

    fn subscribe(&mut self, _client: &Arc<str>, filter: &str) -> Result<(), Denial> {
        if filter.starts_with(self.0) {
            return Ok(());
        }
        Err(Denial { reason: ReasonCode::NotAuthorized, text: "not yours".to_owned() })
    }
}

fn with_method(client: &str) -> Connect {
    let mut connect = connect(client);
    connect.properties.authentication_method = Some("riddle".into());
    connect
}

fn record(ward: &Ward) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    ward.broker.log().for_each(|entry| {
        if let Entry::Record(_, Record::Access(access)) = entry
            && access.event == AccessEvent::Reauthenticate
        {
            rows.push((access.detail.to_owned(), access.reason.to_owned()));
        }
    });
    rows
}

fn reauthenticated(ward: &mut Ward, id: ConnectionId, gate: &mut impl Gate) {
    ward.broker.reauthenticated(id, "riddle", Arc::from([]), gate, ward.now);
    ward.broker.authenticate(id, auth(ReasonCode::Success, "riddle", "welcome"), ward.now);
}

#[test]
fn the_connack_repeats_the_method_and_only_if_there_was_one() {
    let mut ward = Ward::new();
    let (_, connack) = ward.connect(with_method("known"));
    assert_eq!(connack.properties.authentication_method.as_deref(), Some("riddle")); // [MQTT-4.12.0-5]
    let (plain, connack) = ward.connect(connect("plain"));
    assert_eq!(connack.properties.authentication_method, None); // [MQTT-4.12.0-6]
    // [MQTT-4.12.0-7]
    ward.send(plain, Packet::Auth(anew("ward")));
    let (packets, closed) = ward.hear(plain);
    assert!(closed);
    assert!(matches!(&packets[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::ProtocolError));
}

#[test]
fn new_grants_take_effect_with_the_success_and_are_recorded() {
    let mut ward = Ward::new();
    let (client, _) = ward.connect(with_method("client"));
    ward.ask(client, subscribe("old/#", 1));
    ward.ask(client, subscribe("new/#", 1));
    reauthenticated(&mut ward, client, &mut Named("new"));
    let success = auth(ReasonCode::Success, "riddle", "welcome");
    assert_eq!(ward.hear(client), (vec![Packet::Auth(success)], false));
    let (device, _) = ward.connect(connect("device"));
    for topic in ["old/1", "new/1"] {
        ward.send(device, Packet::Publish(publish(topic, topic, 0, 0)));
    }
    assert_eq!(ward.payloads(client), ["new/1"]);
    assert_eq!(record(&ward), [("riddle".to_owned(), String::new())]);
    // The record of it does not stand in the way of a restart.
    ward.restart();
}

#[test]
fn a_failed_proof_ends_the_connection_and_is_recorded() {
    let mut ward = Ward::new();
    let (client, _) = ward.connect(with_method("client"));
    let denial = Denial { reason: ReasonCode::NotAuthorized, text: "wrong".to_owned() };
    ward.broker.reauthentication_failed(client, &denial, ward.now);
    let (packets, closed) = ward.hear(client);
    assert!(closed);
    // [MQTT-4.12.1-2]
    assert!(matches!(&packets[..], [Packet::Disconnect(d)] if d.reason == ReasonCode::NotAuthorized));
    assert_eq!(record(&ward), [(String::new(), "wrong".to_owned())]);
}
