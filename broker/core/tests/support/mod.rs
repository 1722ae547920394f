//! A broker with a journal in memory and clients without sockets. Time is a number that the test moves.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{collections::HashMap, num::NonZeroU16, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use wardline_core::{Broker, ConnectRequest, ConnectionId, Gate, Limits, Open, Transmit};
use wardline_journal::{Body, Entry, Log, Mark, Offset, Record, decode, encode, encode_mark};
pub use wardline_wire::Connect;
use wardline_wire::{
    Ack, ConnAck, ConnectProperties, Decoder, Disconnect, Packet, PacketId, Publish, QoS, ReasonCode,
    Subscribe, SubscribeFilter, SubscribeOptions, Version,
};

/// A journal in memory: entries as the real one encodes them.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    pub entries: Vec<Vec<u8>>,
    pub records: u64,
}

impl Log for MemoryLog {
    fn append(&mut self, record: &Record<'_>) -> Offset {
        let mut bytes = Vec::new();
        encode(record, &mut bytes).unwrap();
        self.entries.push(bytes);
        self.records += 1;
        Offset(self.records - 1)
    }

    fn mark(&mut self, mark: &Mark<'_>) {
        let mut bytes = Vec::new();
        encode_mark(mark, &mut bytes).unwrap();
        self.entries.push(bytes);
    }

    fn next_offset(&self) -> Offset {
        Offset(self.records)
    }

    fn entries(&self) -> u64 {
        self.entries.len() as u64
    }
}

impl MemoryLog {
    pub fn for_each(&self, mut each: impl FnMut(&Entry<'_>)) {
        let mut offset = 0;
        for bytes in &self.entries {
            match decode(bytes).unwrap() {
                Body::Record(record) => {
                    each(&Entry::Record(Offset(offset), record));
                    offset += 1;
                }
                Body::Mark(mark) => each(&Entry::Mark(mark)),
            }
        }
    }
}

/// A broker under test. What is written is durable only when the test says so, unless `sync` is left on.
pub struct Ward {
    pub broker: Broker<MemoryLog>,
    pub now: Timestamp,
    pub sync: bool,
    decoders: HashMap<ConnectionId, (Decoder, BytesMut)>,
    /// What came with a CONNACK.
    early: HashMap<ConnectionId, Vec<Packet>>,
}

pub fn id(number: u16) -> PacketId {
    PacketId(NonZeroU16::new(number).unwrap())
}

pub fn connect(client: &str) -> Connect {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        client_id: client.into(),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

/// A CONNECT that continues a session and keeps it for an hour.
pub fn resume(client: &str) -> Connect {
    let mut connect = connect(client);
    connect.clean_start = false;
    connect.properties.session_expiry = Some(3_600);
    connect
}

pub fn publish(topic: &str, payload: &str, qos: u8, packet_id: u16) -> Publish {
    Publish {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)],
        packet_id: NonZeroU16::new(packet_id).map(PacketId),
        ..Publish::default()
    }
}

pub fn subscribe(filter: &str, qos: u8) -> Packet {
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
    subscribe_with(filter, SubscribeOptions { qos, ..SubscribeOptions::default() }, None)
}

pub fn subscribe_with(filter: &str, options: SubscribeOptions, subscription_id: Option<u32>) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: id(1),
        subscription_id,
        user: Vec::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    })
}

pub fn ack(number: u16) -> Ack {
    Ack { packet_id: id(number), reason: ReasonCode::Success, reason_string: None, user: Vec::new() }
}

pub fn disconnect() -> Packet {
    Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        session_expiry: None,
        reason_string: None,
        user: Vec::new(),
        server_reference: None,
    })
}

impl Ward {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self::on(Broker::new(1, limits, MemoryLog::default()))
    }

    fn on(broker: Broker<MemoryLog>) -> Self {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        Self { broker, now, sync: true, decoders: HashMap::new(), early: HashMap::new() }
    }

    /// Another broker, made of what this one's journal holds.
    pub fn restart(&self) -> Self {
        let log = self.broker.log().clone();
        let mut broker = Broker::new(1, self.broker.limits().clone(), log.clone());
        log.for_each(|entry| broker.recover(entry).unwrap());
        broker.recovered(self.now);
        let mut ward = Self::on(broker);
        ward.now = self.now;
        ward
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.broker.tick(self.now);
    }

    pub fn connect(&mut self, connect: Connect) -> (ConnectionId, ConnAck) {
        self.connect_as(connect, "service:lab", &mut Open).unwrap()
    }

    pub fn connect_as(
        &mut self,
        connect: Connect,
        principal: &str,
        gate: &mut impl Gate,
    ) -> Result<(ConnectionId, ConnAck), Box<ConnAck>> {
        let version = connect.version;
        let request = ConnectRequest {
            connect,
            principal: Arc::from(principal),
            peer: Arc::from("192.0.2.7:50000"),
            withheld: Arc::from([Box::from("withheld/#")]),
        };
        let id = self.broker.connect(request, gate, self.now)?;
        self.decoders.insert(id, (Decoder::client_side(version, u32::MAX), BytesMut::new()));
        let mut packets = self.hear(id).0.into_iter();
        match packets.next() {
            Some(Packet::ConnAck(connack)) => {
                self.early.insert(id, packets.collect());
                Ok((id, *connack))
            }
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    pub fn send(&mut self, id: ConnectionId, packet: Packet) {
        self.send_through(id, packet, &mut Open);
    }

    pub fn send_through(&mut self, id: ConnectionId, packet: Packet, gate: &mut impl Gate) {
        self.broker.receive(id, packet, gate, self.now);
    }

    pub fn sync(&mut self) {
        let entries = self.broker.log().entries.len() as u64;
        self.broker.durable(entries);
    }

    /// All that the client is sent now, and whether the connection is closed after it.
    pub fn hear(&mut self, id: ConnectionId) -> (Vec<Packet>, bool) {
        let mut packets = self.early.remove(&id).unwrap_or_default();
        loop {
            if self.sync {
                self.sync();
            }
            let written = self.broker.log().entries.len();
            let (decoder, buffer) = self.decoders.get_mut(&id).unwrap();
            let transmit = self.broker.transmit(id, buffer, 4_096, self.now);
            while let Some(packet) = decoder.decode(buffer).unwrap() {
                packets.push(packet);
            }
            match transmit {
                Transmit::More => {}
                // What was written just now may be all that something still waits for.
                Transmit::Idle if self.sync && self.broker.log().entries.len() > written => {}
                Transmit::Idle => return (packets, false),
                Transmit::Close => return (packets, true),
            }
        }
    }

    /// Sends and hears.
    pub fn ask(&mut self, id: ConnectionId, packet: Packet) -> Vec<Packet> {
        self.send(id, packet);
        self.hear(id).0
    }

    /// The publishes among what the client hears, unacknowledged.
    pub fn publishes(&mut self, id: ConnectionId) -> Vec<Publish> {
        let (packets, _) = self.hear(id);
        packets
            .into_iter()
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some(publish),
                _ => None,
            })
            .collect()
    }

    /// The payloads the client hears until there is no more, acknowledging all.
    pub fn payloads(&mut self, id: ConnectionId) -> Vec<String> {
        let mut payloads = Vec::new();
        loop {
            let (packets, _) = self.hear(id);
            if packets.is_empty() {
                return payloads;
            }
            for packet in packets {
                match packet {
                    Packet::Publish(publish) => {
                        payloads.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                        match (publish.qos, publish.packet_id) {
                            (QoS::AtLeastOnce, Some(PacketId(number))) => {
                                self.send(id, Packet::PubAck(ack(number.get())));
                            }
                            (QoS::ExactlyOnce, Some(PacketId(number))) => {
                                self.send(id, Packet::PubRec(ack(number.get())));
                            }
                            _ => {}
                        }
                    }
                    Packet::PubRel(release) => self.send(id, Packet::PubComp(ack(release.packet_id.0.get()))),
                    _ => {}
                }
            }
        }
    }

    pub fn lose(&mut self, id: ConnectionId) {
        self.broker.end(id, "test", self.now);
    }
}
