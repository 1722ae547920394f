//! A broker with a journal in memory and clients without sockets. Time is a number that the test moves.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    collections::HashMap,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use wardline_core::{
    Broker, ClientLimits, ConnectRequest, ConnectionId, Gate, Limits, Open, Stored, Transmit,
};
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
    /// Where in `entries` each record is.
    places: Vec<usize>,
    /// Records below can be read back. Moved by the test that has the log's broker.
    pub readable: Arc<AtomicU64>,
    /// Records below are gone. Moved likewise.
    pub released: Arc<AtomicU64>,
}

impl Log for MemoryLog {
    fn append(&mut self, record: &Record<'_>) -> Offset {
        let mut bytes = Vec::new();
        encode(record, &mut bytes).unwrap();
        self.take(bytes, true);
        Offset(self.records - 1)
    }

    fn mark(&mut self, mark: &Mark<'_>) {
        let mut bytes = Vec::new();
        encode_mark(mark, &mut bytes).unwrap();
        self.take(bytes, false);
    }

    fn next_offset(&self) -> Offset {
        Offset(self.records)
    }

    fn readable(&self) -> Offset {
        Offset(self.readable.load(Ordering::Relaxed))
    }

    fn entries(&self) -> u64 {
        self.entries.len() as u64
    }
}

impl MemoryLog {
    /// Its first `kept` entries.
    pub fn prefix(&self, kept: usize) -> Self {
        let mut log = Self { released: Arc::clone(&self.released), ..Self::default() };
        for bytes in &self.entries[..kept] {
            log.take(bytes.clone(), matches!(decode(bytes).unwrap(), Body::Record(_)));
        }
        log
    }

    /// The first `count` entries are in the file: what they hold can be read back.
    pub fn wrote(&self, count: usize) {
        let records = self.places.partition_point(|place| *place < count);
        self.readable.fetch_max(records as u64, Ordering::Relaxed);
    }

    fn take(&mut self, entry: Vec<u8>, is_record: bool) {
        if is_record {
            self.places.push(self.entries.len());
            self.records += 1;
        }
        self.entries.push(entry);
    }

    /// The publishes at `offsets`.
    pub fn fetch(&self, offsets: &[Offset]) -> Vec<Arc<Stored>> {
        let read = |&offset: &Offset| {
            assert!(offset < self.readable(), "{offset} cannot be read yet");
            assert!(offset.0 >= self.released.load(Ordering::Relaxed), "{offset} is released");
            match decode(&self.entries[self.places[offset.0 as usize]]).unwrap() {
                Body::Record(Record::Publish(publish)) => Arc::new(Stored::read(offset, &publish).unwrap()),
                other => panic!("{offset} is {other:?}"),
            }
        };
        offsets.iter().map(read).collect()
    }

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
    /// What those who connect next are granted.
    pub client_limits: Arc<ClientLimits>,
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

/// The identifier of a publish that has one.
pub fn number(publish: &Publish) -> u16 {
    publish.packet_id.unwrap().0.get()
}

pub fn payloads(publishes: &[Publish]) -> Vec<&str> {
    publishes.iter().map(|publish| std::str::from_utf8(&publish.payload).unwrap()).collect()
}

impl Ward {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self::on(Broker::new(1, limits, MemoryLog::default()))
    }

    pub fn with_client_limits(limits: ClientLimits) -> Self {
        Self { client_limits: Arc::new(limits), ..Self::new() }
    }

    fn on(broker: Broker<MemoryLog>) -> Self {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let client_limits = Arc::default();
        Self { broker, now, sync: true, client_limits, decoders: HashMap::new(), early: HashMap::new() }
    }

    /// Another broker, made of what this one's journal holds.
    pub fn restart(&self) -> Self {
        self.restart_from(self.broker.log().clone(), self.now)
    }

    /// Another broker, made of a snapshot of this one; the node is back at `now`.
    pub fn restore(&mut self, now: Timestamp) -> Self {
        let mut state = Vec::new();
        let snapshot = self.broker.snapshot(1, Vec::new()).unwrap();
        self.broker.log().released.store(snapshot.horizon().0, Ordering::Relaxed);
        snapshot.encode(&mut state).unwrap();
        self.restored(&state, now)
    }

    /// Another broker, made of a snapshot taken just now; the node is back at `now`.
    pub fn restored(&self, state: &[u8], now: Timestamp) -> Self {
        self.begin_again(self.broker.log().clone(), now, |broker, _| broker.restore(state).unwrap())
    }

    fn restart_from(&self, log: MemoryLog, now: Timestamp) -> Self {
        self.begin_again(log, now, |broker, log| log.for_each(|entry| broker.recover(entry).unwrap()))
    }

    fn begin_again(
        &self,
        log: MemoryLog,
        now: Timestamp,
        read: impl FnOnce(&mut Broker<MemoryLog>, &MemoryLog),
    ) -> Self {
        let log = MemoryLog { readable: Arc::default(), ..log };
        log.readable.store(log.next_offset().0, Ordering::Relaxed);
        let mut broker = Broker::new(1, self.broker.limits().clone(), log.clone());
        read(&mut broker, &log);
        broker.recovered(now);
        let mut ward = Self::on(broker);
        ward.now = now;
        ward.client_limits = Arc::clone(&self.client_limits);
        ward
    }

    /// Another broker, made of the first `kept` entries of this one's journal: the rest was not on disk.
    pub fn crash(&self, kept: usize) -> Self {
        self.crash_until(kept, self.now)
    }

    /// As [`Self::crash`]; the node is back at `now`.
    pub fn crash_until(&self, kept: usize, now: Timestamp) -> Self {
        self.restart_from(self.broker.log().prefix(kept), now)
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
        let id = self.admit(connect, principal, gate)?;
        let mut packets = self.hear(id).0.into_iter();
        match packets.next() {
            Some(Packet::ConnAck(connack)) => {
                self.early.insert(id, packets.collect());
                Ok((id, *connack))
            }
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    /// Connects a pager that keeps its session and has subscribed, and a device that may publish to it.
    pub fn pager_and_device(&mut self, filter: &str, qos: u8) -> (ConnectionId, ConnectionId) {
        let (pager, _) = self.connect(resume("pager"));
        self.ask(pager, subscribe(filter, qos));
        (pager, self.connect(connect("device")).0)
    }

    /// Connects somebody who has not taken its CONNACK yet, nor been brought anything.
    pub fn connect_unheard(&mut self, connect: Connect) -> ConnectionId {
        self.admit(connect, "service:lab", &mut Open).unwrap()
    }

    fn admit(
        &mut self,
        connect: Connect,
        principal: &str,
        gate: &mut impl Gate,
    ) -> Result<ConnectionId, Box<ConnAck>> {
        let version = connect.version;
        let request = ConnectRequest {
            connect,
            principal: Arc::from(principal),
            peer: Arc::from("192.0.2.7:50000"),
            withheld: Arc::from([Box::from("withheld/#")]),
            authentication_data: None,
            limits: Arc::clone(&self.client_limits),
        };
        let id = self.broker.connect(request, gate, self.now)?;
        self.decoders.insert(id, (Decoder::client_side(version, u32::MAX), BytesMut::new()));
        Ok(id)
    }

    pub fn send(&mut self, id: ConnectionId, packet: Packet) {
        self.send_through(id, packet, &mut Open);
    }

    pub fn send_through(&mut self, id: ConnectionId, packet: Packet, gate: &mut impl Gate) {
        self.broker.receive(id, packet, gate, self.now);
    }

    pub fn sync(&mut self) {
        let log = self.broker.log();
        log.readable.store(log.next_offset().0, Ordering::Relaxed);
        let entries = log.entries();
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
            if self.fetch(id) {
                continue;
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

    /// Brings the client what it is owed and is not at hand; whether there was something.
    pub fn fetch(&mut self, id: ConnectionId) -> bool {
        let mut wanted = Vec::new();
        self.broker.wanted(id, &mut wanted);
        let records = self.broker.log().fetch(&wanted);
        self.broker.supply(id, &records);
        !wanted.is_empty()
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
