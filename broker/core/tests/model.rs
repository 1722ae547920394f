//! Random conversations against a model: what a durable session is owed, it gets once and in order, whatever is lost on the way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use support::*;
use wardline_core::{ConnectionId, Limits};
use wardline_wire::{Packet, QoS, Unsubscribe, topic};

const CLIENTS: usize = 3;
const FILTERS: [&str; 4] = ["t/0", "t/1", "t/#", "+/1"];

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Lose(usize),
    Subscribe(usize, usize, u8),
    Unsubscribe(usize, usize),
    Publish(u8, u8),
    /// The client hears all and acknowledges all.
    Drain(usize),
    /// The client is sent what it is owed, and is lost before it could do anything with it.
    HearAndLose(usize),
    /// The client takes what it is first sent at QoS 2, and is lost before any of its answers arrives.
    TakeAndLose(usize),
    /// The node is killed and comes back.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        3 => client.clone().prop_map(Step::Connect),
        1 => client.clone().prop_map(Step::Lose),
        4 => (client.clone(), 0..FILTERS.len(), 0..3u8).prop_map(|(c, f, q)| Step::Subscribe(c, f, q)),
        1 => (client.clone(), 0..FILTERS.len()).prop_map(|(c, f)| Step::Unsubscribe(c, f)),
        8 => (0..2u8, 0..3u8).prop_map(|(t, q)| Step::Publish(t, q)),
        3 => client.clone().prop_map(Step::Drain),
        2 => client.clone().prop_map(Step::HearAndLose),
        2 => client.prop_map(Step::TakeAndLose),
        1 => Just(Step::Restart),
    ]
}

#[derive(Default)]
struct Client {
    connection: Option<ConnectionId>,
    exists: bool,
    subscriptions: BTreeMap<&'static str, u8>,
    owed: Vec<String>,
    heard: Vec<String>,
    /// QoS 2 identifiers that it has received and was not told to release [MQTT-4.3.3-10].
    received: BTreeSet<u16>,
    /// All that it ever received at QoS 2 under.
    taken: BTreeSet<u16>,
}

impl Client {
    /// Does what a receiver does with a packet; the answer it would send.
    fn take(&mut self, packet: &Packet) -> Option<Packet> {
        match packet {
            Packet::Publish(publish) => {
                let number = publish.packet_id.map_or(0, |id| id.0.get());
                if publish.qos == QoS::ExactlyOnce {
                    self.taken.insert(number);
                }
                let repeat = publish.qos == QoS::ExactlyOnce && !self.received.insert(number);
                if !repeat {
                    self.heard.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                }
                match publish.qos {
                    QoS::AtMostOnce => None,
                    QoS::AtLeastOnce => Some(Packet::PubAck(ack(number))),
                    QoS::ExactlyOnce => Some(Packet::PubRec(ack(number))),
                }
            }
            Packet::PubRel(release) => {
                let number = release.packet_id.0.get();
                self.received.remove(&number);
                assert!(self.taken.contains(&number), "PUBREL for {number}, which was never sent at QoS 2");
                Some(Packet::PubComp(ack(number)))
            }
            _ => None,
        }
    }
}

struct Model {
    ward: Ward,
    clients: Vec<Client>,
    publisher: ConnectionId,
    published: u16,
}

impl Model {
    fn new() -> Self {
        // A head that most queues outgrow.
        let mut ward = Ward::with_limits(Limits { head_messages_max: 4, ..Limits::default() });
        let publisher = ward.connect(resume("publisher")).0;
        let clients = (0..CLIENTS).map(|_| Client::default()).collect();
        Self { ward, clients, publisher, published: 0 }
    }

    fn connect(&mut self, number: usize) -> ConnectionId {
        let client = &mut self.clients[number];
        if let Some(connection) = client.connection {
            return connection;
        }
        let (connection, connack) = self.ward.connect(resume(&format!("c{number}")));
        assert_eq!(connack.session_present, client.exists);
        client.exists = true;
        client.connection = Some(connection);
        connection
    }

    fn drain(&mut self, number: usize) {
        let connection = self.connect(number);
        loop {
            let (packets, _) = self.ward.hear(connection);
            if packets.is_empty() {
                return;
            }
            for packet in packets {
                if let Some(answer) = self.clients[number].take(&packet) {
                    self.ward.send(connection, answer);
                }
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Connect(number) => {
                self.connect(number);
            }
            Step::Lose(number) => {
                if let Some(connection) = self.clients[number].connection.take() {
                    self.ward.lose(connection);
                }
            }
            Step::Subscribe(number, filter, qos) => {
                // Drained first: what the harness hears with the SUBACK would otherwise go unread.
                self.drain(number);
                let connection = self.connect(number);
                let answer = self.ward.ask(connection, subscribe(FILTERS[filter], qos));
                assert!(matches!(&answer[..], [Packet::SubAck(_)]), "{answer:?}");
                self.clients[number].subscriptions.insert(FILTERS[filter], qos);
            }
            Step::Unsubscribe(number, filter) => {
                self.drain(number);
                let connection = self.connect(number);
                let unsubscribe =
                    Unsubscribe { packet_id: id(2), user: Vec::new(), filters: vec![FILTERS[filter].into()] };
                self.ward.ask(connection, Packet::Unsubscribe(unsubscribe));
                self.clients[number].subscriptions.remove(FILTERS[filter]);
            }
            Step::Publish(topic, qos) => self.publish(&format!("t/{topic}"), qos),
            Step::Drain(number) => self.drain(number),
            Step::HearAndLose(number) => {
                let connection = self.connect(number);
                self.ward.hear(connection);
                self.take(&Step::Lose(number));
            }
            Step::TakeAndLose(number) => {
                let connection = self.connect(number);
                // Up to the first that it would get again in any case, so that the order stays what it was.
                let exactly_once = |packet: &Packet| match packet {
                    Packet::Publish(publish) => publish.qos == QoS::ExactlyOnce,
                    _ => true,
                };
                for packet in self.ward.hear(connection).0.iter().take_while(|packet| exactly_once(packet)) {
                    self.clients[number].take(packet);
                }
                self.take(&Step::Lose(number));
            }
            Step::Restart => {
                self.ward = self.ward.restart();
                self.clients.iter_mut().for_each(|client| client.connection = None);
                self.publisher = self.ward.connect(resume("publisher")).0;
            }
        }
    }

    fn publish(&mut self, name: &str, qos: u8) {
        self.published += 1;
        let payload = self.published.to_string();
        for client in &mut self.clients {
            let granted = client
                .subscriptions
                .iter()
                .filter(|(filter, _)| topic::matches(filter, name))
                .map(|(_, qos)| *qos)
                .max();
            if granted.is_some_and(|granted| granted.min(qos) > 0) {
                client.owed.push(payload.clone());
            }
        }
        let packet_id = if qos == 0 { 0 } else { self.published };
        self.ward.ask(self.publisher, Packet::Publish(publish(name, &payload, qos, packet_id)));
        if qos == 2 {
            self.ward.ask(self.publisher, Packet::PubRel(ack(packet_id)));
        }
    }
}

proptest! {
    #[test]
    fn every_durable_session_gets_what_it_is_owed_once_and_in_order(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
        }
        for number in 0..CLIENTS {
            model.drain(number);
            let client = &model.clients[number];
            // QoS 0 may or may not arrive, and is no part of the promise.
            let heard: Vec<&String> = client.heard.iter().filter(|payload| client.owed.contains(payload)).collect();
            prop_assert_eq!(heard, client.owed.iter().collect::<Vec<_>>(), "client {}", number);
        }
    }
}
