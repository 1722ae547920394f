//! A lab with an open door, and packets in one line each.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use wardline_tests::{Broker, RawClient, Site, connect};
pub use wardline_tests::{ack, packet_id};
use wardline_wire::{
    Ack, ConnAck, Connect, Disconnect, Packet, Publish, PublishProperties, QoS, ReasonCode, SubAck,
    Subscribe, SubscribeFilter, SubscribeOptions, Unsubscribe, Version, Will,
};

/// The identifier of the subscription to the marker; tests number their own packets from 1 on.
const MARKER_ID: u16 = 60_000;
/// Markers that there have been, so that each has a name of its own.
static MARKERS: AtomicU32 = AtomicU32::new(0);

/// A site and a broker on it, gone together.
pub struct Lab {
    pub broker: Broker,
    pub site: Site,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// With environment variables such as `("WARDLINE__LIMITS__MAX_PACKET", "4KiB")`.
    pub fn with(environment: &[(&str, &str)]) -> Self {
        let site = Site::new();
        let broker = Broker::start_with(&site, environment);
        Self { broker, site }
    }

    /// The listener where everybody is let in.
    pub fn address(&self) -> SocketAddr {
        self.broker.address("lab")
    }

    /// A connection on which nothing has been said.
    pub fn open(&self) -> RawClient {
        RawClient::open(self.address(), Version::V5)
    }

    /// A client with a new session.
    pub fn client(&self, id: &str) -> RawClient {
        self.connected(connect5(id)).0
    }

    /// A client with a new session that hears the marker.
    pub fn listener(&self, id: &str) -> Listener {
        Listener::new(self.client(id))
    }

    /// Connects, and demands success.
    pub fn connected(&self, connect: Connect) -> (RawClient, ConnAck) {
        let mut client = self.open();
        client.send(&Packet::Connect(Box::new(connect)));
        match client.receive() {
            Packet::ConnAck(answer) if answer.reason == ReasonCode::Success => (client, *answer),
            other => panic!("refused: {other:?}"),
        }
    }

    /// The CONNACK that refuses a CONNECT, and is the last that is said.
    pub fn refused(&self, connect: Connect) -> ConnAck {
        let mut client = self.open();
        client.send(&Packet::Connect(Box::new(connect)));
        refusal(client)
    }

    /// [`Self::refused`] for bytes.
    pub fn refused_bytes(&self, bytes: &[u8]) -> ConnAck {
        let mut client = self.open();
        client.send_bytes(bytes);
        refusal(client)
    }

    /// The reason for which a connected client that sends `bytes` is disconnected.
    pub fn broken_by(&self, bytes: &[u8]) -> ReasonCode {
        let mut client = self.client("breaker");
        client.send_bytes(bytes);
        client.goodbye()
    }
}

fn refusal(mut client: RawClient) -> ConnAck {
    match client.until_closed().as_slice() {
        [Packet::ConnAck(answer)] => {
            assert!(answer.reason.is_error() && !answer.session_present, "{answer:?}");
            (**answer).clone()
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// A client that can tell when nothing more is on its way to it: it publishes a marker to itself, and what was sent before
/// comes before.
pub struct Listener {
    client: RawClient,
    marker: String,
}

impl Listener {
    pub fn new(mut client: RawClient) -> Self {
        let marker = format!("listener/marker/{}", MARKERS.fetch_add(1, Ordering::Relaxed));
        client.send(&subscribe_as(MARKER_ID, &[(&marker, at(QoS::AtMostOnce))], None));
        assert!(matches!(client.receive(), Packet::SubAck(_)));
        Self { client, marker }
    }
}

impl Deref for Listener {
    type Target = RawClient;

    fn deref(&self) -> &RawClient {
        &self.client
    }
}

impl DerefMut for Listener {
    fn deref_mut(&mut self) -> &mut RawClient {
        &mut self.client
    }
}

/// All that was on its way.
pub fn heard(listener: &mut Listener) -> Vec<Packet> {
    let Listener { client, marker } = listener;
    client.send(&publish(marker, "", QoS::AtMostOnce, 0));
    let mut packets = Vec::new();
    loop {
        match client.receive() {
            Packet::Publish(publish) if publish.topic == **marker => return packets,
            packet => packets.push(packet),
        }
    }
}

/// The payloads among [`heard`].
pub fn payloads(listener: &mut Listener) -> Vec<String> {
    heard(listener)
        .into_iter()
        .filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(text(&publish)),
            _ => None,
        })
        .collect()
}

/// The next packet, which must be a publish.
pub fn next_publish(client: &mut RawClient) -> Publish {
    match client.receive() {
        Packet::Publish(publish) => publish,
        other => panic!("no PUBLISH but {other:?}"),
    }
}

pub fn text(publish: &Publish) -> String {
    String::from_utf8(publish.payload.to_vec()).expect("tests publish text")
}

/// The identifier of a publish that has one.
pub fn id_of(publish: &Publish) -> u16 {
    publish.packet_id.expect("QoS above 0").0.get()
}

pub fn connect5(id: &str) -> Connect {
    connect(Version::V5, id)
}

/// A CONNECT that continues a session and keeps it for an hour.
pub fn resume(id: &str) -> Connect {
    let mut connect = connect5(id);
    connect.clean_start = false;
    connect.properties.session_expiry = Some(3_600);
    connect
}

pub fn will(topic: &str, payload: &str) -> Will {
    Will {
        topic: topic.into(),
        payload: payload.to_owned().into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay: None,
        properties: PublishProperties::default(),
    }
}

/// A PUBLISH; `id` counts where `qos` is above 0.
pub fn publish(topic: &str, payload: &str, qos: QoS, id: u16) -> Packet {
    Packet::Publish(message(topic, payload, qos, id))
}

pub fn message(topic: &str, payload: &str, qos: QoS, id: u16) -> Publish {
    Publish {
        topic: topic.into(),
        payload: payload.to_owned().into(),
        qos,
        packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(id)),
        ..Publish::default()
    }
}

/// Publishes at QoS 1 and 2 what the policy denies, and gives the answers.
pub fn denied(client: &mut RawClient) -> [Ack; 2] {
    [(QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)].map(|(qos, id)| {
        client.send(&publish("secret/t", "x", qos, id));
        match (qos, client.receive()) {
            (QoS::AtLeastOnce, Packet::PubAck(ack)) | (QoS::ExactlyOnce, Packet::PubRec(ack)) => {
                assert_eq!(ack.reason, ReasonCode::NotAuthorized);
                ack
            }
            (_, other) => panic!("{other:?}"),
        }
    })
}

/// Publishes at QoS 1 with RETAIN and waits until the broker has it.
pub fn retain(client: &mut RawClient, topic: &str, payload: &str, id: u16) {
    client.send(&Packet::Publish(Publish { retain: true, ..message(topic, payload, QoS::AtLeastOnce, id) }));
    assert_eq!(client.receive(), Packet::PubAck(ack(id)));
}

pub fn ack_with(id: u16, reason: ReasonCode) -> Ack {
    Ack { reason, ..ack(id) }
}

pub fn at(qos: QoS) -> SubscribeOptions {
    SubscribeOptions { qos, ..SubscribeOptions::default() }
}

pub fn subscribe_as(id: u16, filters: &[(&str, SubscribeOptions)], subscription_id: Option<u32>) -> Packet {
    let filters = filters
        .iter()
        .map(|(filter, options)| SubscribeFilter { filter: (*filter).into(), options: *options })
        .collect();
    Packet::Subscribe(Subscribe { packet_id: packet_id(id), subscription_id, user: Vec::new(), filters })
}

/// Subscribes and gives the SUBACK, which must be the next packet.
pub fn ask_subscribe(client: &mut RawClient, id: u16, filters: &[(&str, SubscribeOptions)]) -> SubAck {
    client.send(&subscribe_as(id, filters, None));
    match client.receive() {
        Packet::SubAck(answer) => answer,
        other => panic!("no SUBACK but {other:?}"),
    }
}

/// Subscribes and demands that it is granted as asked.
pub fn subscribe(client: &mut RawClient, filter: &str, qos: QoS) {
    let granted = [ReasonCode::Success, ReasonCode::GrantedQoS1, ReasonCode::GrantedQoS2][qos as usize];
    assert_eq!(ask_subscribe(client, 1, &[(filter, at(qos))]).reasons, [granted], "{filter}");
}

/// Unsubscribes and gives the UNSUBACK, which must be the next packet.
pub fn ask_unsubscribe(client: &mut RawClient, id: u16, filters: &[&str]) -> SubAck {
    client.send(&Packet::Unsubscribe(Unsubscribe {
        packet_id: packet_id(id),
        user: Vec::new(),
        filters: filters.iter().map(|filter| (*filter).into()).collect(),
    }));
    match client.receive() {
        Packet::UnsubAck(answer) => answer,
        other => panic!("no UNSUBACK but {other:?}"),
    }
}

pub fn disconnect(reason: ReasonCode) -> Packet {
    Packet::Disconnect(Disconnect {
        reason,
        session_expiry: None,
        reason_string: None,
        user: Vec::new(),
        server_reference: None,
    })
}

/// First byte, remaining length, body.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "the remaining length is one byte");
    [&[first, body.len() as u8], body].concat()
}

/// A length and that many bytes.
pub fn field(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("a short field").to_be_bytes()[..], bytes].concat()
}
