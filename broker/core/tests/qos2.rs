//! Exactly once, walked exhaustively: every order in which the two ends can go on, with the connection cut and the broker
//! crashed at every point of the handshake. A crash loses what was not yet durable; a cut loses what is on the wire.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
};

use support::*;
use wardline_core::ConnectionId;
use wardline_journal::{Entry, Outcome, Record};
use wardline_wire::{Packet, PacketId, Publish, QoS};

const MESSAGES: u16 = 2;

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The client begins with its next message.
    Begin,
    /// The client takes what came, and answers.
    Client,
    /// The broker takes what came, and answers what it may answer already.
    Broker,
    /// The disk catches up.
    Sync,
    /// The connection is lost, and made anew.
    Cut,
    /// The broker loses what was not on disk, and the client connects again.
    Crash,
}

/// A client's side of the protocol, which survives connections.
trait Client: Debug {
    fn connect(&self) -> Connect;
    /// What it repeats on a new connection [MQTT-4.4.0-1].
    fn repeat(&mut self) -> Vec<Packet>;
    fn can_begin(&self) -> bool;
    fn begin(&mut self) -> Packet;
    fn take(&mut self, packet: Packet) -> Option<Packet>;
    fn is_done(&self) -> bool;
}

struct World<C> {
    ward: Ward,
    client: C,
    connection: ConnectionId,
    /// Entries that a crash leaves.
    durable: usize,
    to_broker: VecDeque<Packet>,
    to_client: VecDeque<Packet>,
    /// Cuts and crashes that may still come.
    faults_left: usize,
}

impl<C: Client> World<C> {
    fn new(mut ward: Ward, client: C, faults_left: usize) -> Self {
        ward.sync = false;
        let connection = ward.connect(client.connect()).0;
        let (to_broker, to_client) = (VecDeque::new(), VecDeque::new());
        let mut world = Self { ward, client, connection, durable: 0, to_broker, to_client, faults_left };
        world.sync();
        world
    }

    /// Of all that can be seen. Whatever the broker does leaves an entry in its journal or a packet on the wire, so that what
    /// is the same to the eye goes on in the same way.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let seen = format!("{:?} {:?} {:?}", self.client, self.to_broker, self.to_client);
        (seen, &self.ward.broker.log().entries, self.durable, self.faults_left).hash(&mut hasher);
        hasher.finish()
    }

    fn enabled(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut add = |step, possible: bool| steps.extend(possible.then_some(step));
        add(Step::Client, !self.to_client.is_empty());
        add(Step::Broker, !self.to_broker.is_empty());
        add(Step::Sync, self.ward.broker.log().entries.len() > self.durable);
        add(Step::Begin, self.client.can_begin());
        if !steps.is_empty() && self.faults_left > 0 {
            steps.extend([Step::Cut, Step::Crash]);
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Begin => self.to_broker.push_back(self.client.begin()),
            Step::Client => {
                let packet = self.to_client.pop_front().unwrap();
                self.to_broker.extend(self.client.take(packet));
            }
            Step::Broker => {
                let packet = self.to_broker.pop_front().unwrap();
                self.ward.send(self.connection, packet);
                self.hear();
            }
            Step::Sync => self.sync(),
            Step::Cut => {
                self.ward.lose(self.connection);
                self.reconnect();
            }
            Step::Crash => {
                self.ward = self.ward.crash(self.durable);
                self.ward.sync = false;
                self.ward.broker.durable(self.durable as u64);
                self.reconnect();
            }
        }
    }

    fn sync(&mut self) {
        self.durable = self.ward.broker.log().entries.len();
        self.ward.sync();
        self.hear();
    }

    fn hear(&mut self) {
        let (packets, closed) = self.ward.hear(self.connection);
        assert!(!closed, "the broker closed the connection: {packets:?}");
        self.to_client.extend(packets);
    }

    fn reconnect(&mut self) {
        self.faults_left -= 1;
        self.to_client.clear();
        self.to_broker.clear();
        let (connection, connack) = self.ward.connect(self.client.connect());
        assert!(connack.session_present, "the session was durable");
        self.connection = connection;
        self.to_broker.extend(self.client.repeat());
        self.hear();
    }
}

/// Walks from every state that can be reached; `check` looks at each end. Says how many states there were.
fn walk<C: Client>(world: impl Fn() -> World<C>, check: impl Fn(&mut World<C>)) -> usize {
    let mut seen = HashSet::new();
    let mut path: Vec<(usize, usize)> = Vec::new();
    loop {
        let mut world = world();
        let mut steps = Vec::new();
        // All but the last choice was walked before, and cannot be repeated but by walking it again.
        let known = path.len();
        let mut ended = true;
        loop {
            let enabled = world.enabled();
            if enabled.is_empty() {
                break;
            }
            if steps.len() == path.len() {
                path.push((0, enabled.len()));
            }
            let step = enabled[path[steps.len()].0];
            steps.push(step);
            assert!(steps.len() < 100, "without end: {steps:?}");
            world.take(step);
            if steps.len() >= known && !seen.insert(world.fingerprint()) {
                ended = false;
                break;
            }
        }
        if ended {
            assert!(world.client.is_done(), "stuck after {steps:?}");
            check(&mut world);
        }
        // The next path in order: the last choice that has another.
        while path.last().is_some_and(|(chosen, count)| chosen + 1 == *count) {
            path.pop();
        }
        match path.last_mut() {
            Some((chosen, _)) => *chosen += 1,
            None => return seen.len(),
        }
    }
}

/// Sends its messages at QoS 2, `window` at a time, under identifiers that it uses again.
#[derive(Debug)]
struct Publisher {
    window: usize,
    next: u16,
    /// By identifier: the message, and whether PUBREL has taken its place.
    open: BTreeMap<u16, (u16, bool)>,
}

impl Publisher {
    fn packet(&self, number: u16, message: u16, released: bool, dup: bool) -> Packet {
        if released {
            return Packet::PubRel(ack(number));
        }
        Packet::Publish(Publish { dup, ..publish("t", &message.to_string(), 2, number) })
    }
}

impl Client for Publisher {
    fn connect(&self) -> Connect {
        resume("publisher")
    }

    fn repeat(&mut self) -> Vec<Packet> {
        self.open
            .iter()
            .map(|(&number, &(message, released))| self.packet(number, message, released, true))
            .collect()
    }

    fn can_begin(&self) -> bool {
        self.next < MESSAGES && self.open.len() < self.window
    }

    fn begin(&mut self) -> Packet {
        self.next += 1;
        let number = (1..).find(|number| !self.open.contains_key(number)).unwrap();
        self.open.insert(number, (self.next, false));
        self.packet(number, self.next, false, false)
    }

    fn take(&mut self, packet: Packet) -> Option<Packet> {
        match packet {
            Packet::PubRec(ack) => {
                assert!(!ack.reason.is_error());
                let number = ack.packet_id.0.get();
                let (message, released) = self.open.get_mut(&number).unwrap();
                *released = true;
                let message = *message;
                Some(self.packet(number, message, true, false))
            }
            Packet::PubComp(ack) => {
                let (_, released) = self.open.remove(&ack.packet_id.0.get()).unwrap();
                assert!(released, "PUBCOMP before PUBREL");
                None
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn is_done(&self) -> bool {
        self.next == MESSAGES && self.open.is_empty()
    }
}

/// The messages that stand in the record as accepted.
fn accepted(ward: &Ward) -> Vec<String> {
    let mut payloads = Vec::new();
    ward.broker.log().for_each(|entry| {
        if let Entry::Record(_, Record::Publish(publish)) = entry
            && publish.outcome == Outcome::Accepted
        {
            payloads.push(String::from_utf8(publish.payload.to_vec()).unwrap());
        }
    });
    payloads
}

fn walk_publisher(window: usize, faults: usize) -> usize {
    let world = || World::new(Ward::new(), Publisher { window, next: 0, open: BTreeMap::new() }, faults);
    walk(world, |world| {
        assert_eq!(accepted(&world.ward), ["1", "2"]);
        // Each identifier is free again: what comes under it is something new [MQTT-4.3.3-12].
        for number in 1..=2 {
            let message = format!("again {number}");
            world.ward.send(world.connection, Packet::Publish(publish("t", &message, 2, number)));
        }
        assert_eq!(accepted(&world.ward), ["1", "2", "again 1", "again 2"]);
    })
}

#[test]
fn a_publisher_is_heard_exactly_once_whatever_is_lost() {
    assert!(walk_publisher(1, 2) > 500);
}

#[test]
fn two_publishes_at_a_time_are_each_heard_exactly_once() {
    assert!(walk_publisher(2, 2) > 500);
}

/// Takes messages at QoS 2.
#[derive(Debug, Default)]
struct Subscriber {
    window: u16,
    heard: Vec<String>,
    /// Identifiers that were not released yet.
    open: BTreeSet<u16>,
}

impl Client for Subscriber {
    fn connect(&self) -> Connect {
        let mut connect = resume("subscriber");
        connect.properties.receive_maximum = std::num::NonZeroU16::new(self.window);
        connect
    }

    fn repeat(&mut self) -> Vec<Packet> {
        Vec::new()
    }

    fn can_begin(&self) -> bool {
        false
    }

    fn begin(&mut self) -> Packet {
        unreachable!("a subscriber begins nothing")
    }

    fn take(&mut self, packet: Packet) -> Option<Packet> {
        match packet {
            Packet::Publish(publish) => {
                assert_eq!(publish.qos, QoS::ExactlyOnce);
                let Some(PacketId(number)) = publish.packet_id else { panic!("no identifier") };
                if self.open.insert(number.get()) {
                    self.heard.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                } else {
                    assert!(publish.dup, "an identifier in use");
                }
                assert!(self.open.len() <= usize::from(self.window), "receive maximum exceeded");
                Some(Packet::PubRec(ack(number.get())))
            }
            Packet::PubRel(release) => {
                assert!(!release.reason.is_error());
                self.open.remove(&release.packet_id.0.get());
                Some(Packet::PubComp(ack(release.packet_id.0.get())))
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn is_done(&self) -> bool {
        self.heard.len() == usize::from(MESSAGES) && self.open.is_empty()
    }
}

fn walk_subscriber(window: u16, faults: usize) -> usize {
    let world = || {
        let mut ward = Ward::new();
        let subscriber = Subscriber { window, ..Subscriber::default() };
        let (id, _) = ward.connect(subscriber.connect());
        ward.ask(id, subscribe("t", 2));
        ward.lose(id);
        let (device, _) = ward.connect(connect("device"));
        for number in 1..=MESSAGES {
            ward.ask(device, Packet::Publish(publish("t", &number.to_string(), 2, number)));
        }
        ward.lose(device);
        World::new(ward, subscriber, faults)
    };
    walk(world, |world| {
        assert_eq!(world.client.heard, ["1", "2"]);
        assert_eq!(world.ward.broker.owed(world.connection), 0);
    })
}

#[test]
fn a_subscriber_hears_exactly_once_whatever_is_lost() {
    assert!(walk_subscriber(1, 2) > 500);
}

#[test]
fn two_messages_at_a_time_are_each_heard_exactly_once() {
    assert!(walk_subscriber(2, 2) > 500);
}
