//! Conversations of several clients with one broker, through the real decoder, with everything that can happen on the way:
//! packets in pieces, garbage, lost connections, time, a disk that lags, a restart. Asserted is what a client relies on at
//! every moment ([`ear`]), that nobody sleeps through what is there for it, and that in the end everything is answered.
//!
//! What happens is said by a [`Tape`] of bytes, so that a fuzzer can look for it (`fuzz/`) and a test can repeat it by a seed.

mod ear;
mod steps;
mod tape;

#[allow(dead_code, reason = "shared with the codec's own tests")]
#[path = "../../../wire/tests/common/other.rs"]
mod other;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use ear::{Asked, Ear};
use jiff::Timestamp;
use tape::Tape;
use wardline_core::{Broker, ClientLimits, ConnectRequest, ConnectionId, Denial, Gate, Limits, Transmit};
use wardline_journal::Log;
use wardline_wire::{Connect, Decoder, Packet, Publish, QoS, ReasonCode};

use super::support::{self, MemoryLog};

/// Connections at a time.
const LINES: usize = 4;
/// Sessions that outlive their connection.
const SESSIONS_MAX: usize = 5;
/// Bytes written at a time.
const BUDGET: usize = 512;
/// A broker that has more to say than this to one client, in this little world, never stops.
const ROUNDS_MAX: usize = 10_000;

/// Small, so that they are reached.
fn limits() -> (Limits, ClientLimits) {
    let node = Limits {
        sessions_max: SESSIONS_MAX,
        retained_messages_max: 4,
        queued_messages_max: 40,
        queued_bytes_max: 4_096,
        queued_qos0_max: 8,
        head_messages_max: 4,
        ..Limits::default()
    };
    let client = ClientLimits {
        max_packet: 4_096,
        max_keep_alive: 600,
        receive_max: 6,
        topic_alias_max: 4,
        in_flight: 10,
        session_expiry_max: 7_200,
        subscriptions: 6,
        topic_levels: 6,
        topic_bytes: 64,
        ..ClientLimits::default()
    };
    (node, client)
}

/// Denies what is below `no/`.
struct Warden;

impl Warden {
    fn judge(topic: &str) -> Result<(), Denial> {
        let denied = topic.starts_with("no/");
        let denial = || Denial { reason: ReasonCode::NotAuthorized, text: "no".to_owned() };
        if denied { Err(denial()) } else { Ok(()) }
    }
}

impl Gate for Warden {
    fn publish(&mut self, _client: &Arc<str>, publish: &Publish) -> Result<(), Denial> {
        Self::judge(&publish.topic)
    }

    fn subscribe(&mut self, _client: &Arc<str>, filter: &str) -> Result<(), Denial> {
        Self::judge(filter)
    }
}

/// A network connection.
struct Line {
    decoder: Decoder,
    input: BytesMut,
    /// Once a CONNECT was accepted.
    open: Option<(ConnectionId, Ear)>,
    /// The broker had nothing more to say and has not called since.
    asleep: bool,
}

impl Line {
    fn new(packet_bytes_max: u32) -> Self {
        Self {
            decoder: Decoder::server_side(packet_bytes_max),
            input: BytesMut::new(),
            open: None,
            asleep: false,
        }
    }
}

struct Conversation {
    broker: Broker<MemoryLog>,
    client_limits: Arc<ClientLimits>,
    now: Timestamp,
    /// Entries of the journal that are on disk.
    durable: usize,
    lines: Vec<Line>,
    asked: BTreeMap<String, Asked>,
    /// The newest snapshot with its number, and how many entries of the journal it covers.
    snapshot: Option<(u64, usize, Vec<u8>)>,
    /// Something found no room.
    overflowed: bool,
}

/// Does what the tape says, and asserts all the way.
pub(crate) fn run(tape: &[u8]) {
    let mut conversation = Conversation::new();
    let mut tape = Tape::new(tape);
    while !tape.is_over() {
        steps::step(&mut conversation, &mut tape);
        conversation.settle();
        // Beside those that may stay, one for each connection.
        assert!(conversation.broker.counters().sessions <= SESSIONS_MAX + LINES);
    }
    conversation.finish();
}

impl Conversation {
    fn new() -> Self {
        let (node_limits, client_limits) = limits();
        Self {
            broker: Broker::new(1, node_limits, MemoryLog::default()),
            lines: (0..LINES).map(|_| Line::new(client_limits.max_packet)).collect(),
            client_limits: Arc::new(client_limits),
            now: Timestamp::from_second(1_790_000_000).unwrap(),
            durable: 0,
            asked: BTreeMap::new(),
            snapshot: None,
            overflowed: false,
        }
    }

    fn hang_up(&mut self, line: usize) -> Option<ConnectionId> {
        let old = std::mem::replace(&mut self.lines[line], Line::new(self.client_limits.max_packet));
        old.open.map(|(id, _)| id)
    }

    /// The connection is gone, without a word.
    fn cut(&mut self, line: usize) {
        if let Some(id) = self.hang_up(line) {
            self.broker.end(id, "cut", self.now);
        }
    }

    /// The broker reads these bytes.
    fn feed(&mut self, line: usize, bytes: &[u8]) {
        self.lines[line].input.extend_from_slice(bytes);
        loop {
            let Line { decoder, input, open, .. } = &mut self.lines[line];
            match decoder.decode(input) {
                Ok(None) => return,
                Ok(Some(Packet::Connect(connect))) => {
                    if !self.admit(line, *connect) {
                        self.hang_up(line);
                        return;
                    }
                }
                Ok(Some(packet)) => {
                    let Some((id, ear)) = open else { panic!("{packet:?} before CONNECT") };
                    ear.said(&packet);
                    if let Packet::Subscribe(subscribe) = &packet {
                        let asked = self.asked.entry(ear.client.clone()).or_default();
                        asked.extend(subscribe.filters.iter().map(|wish| wish.filter.to_string()));
                    }
                    let id = *id;
                    self.broker.receive(id, packet, &mut Warden, self.now);
                }
                Err(error) => {
                    input.clear();
                    match open {
                        Some((id, _)) => {
                            let id = *id;
                            self.broker.malformed(id, error.reason(), &error.to_string(), self.now);
                        }
                        None => {
                            self.hang_up(line);
                        }
                    }
                    return;
                }
            }
        }
    }

    fn admit(&mut self, line: usize, connect: Connect) -> bool {
        let asked_for = connect.clone();
        let request = self.request(connect);
        match self.broker.connect(request, &mut Warden, self.now) {
            Ok(id) => {
                // Whoever has no name is given one that nobody had.
                let client = match &*asked_for.client_id {
                    "" => format!("{id:?}"),
                    name => name.to_owned(),
                };
                let ear = Ear::new(client, &asked_for, &self.client_limits);
                self.lines[line].open = Some((id, ear));
                true
            }
            Err(connack) => {
                assert!(connack.reason.is_error() && !connack.session_present, "{connack:?}");
                false
            }
        }
    }

    fn request(&self, connect: Connect) -> ConnectRequest {
        ConnectRequest {
            connect,
            principal: Arc::from("service:fuzz"),
            peer: Arc::from("192.0.2.7:50000"),
            withheld: Arc::from([Box::from("withheld/#")]),
            limits: Arc::clone(&self.client_limits),
            authentication_data: None,
        }
    }

    /// The client hears what there is for it, `rounds` buffers of it at most.
    fn hear(&mut self, line: usize, rounds: usize) {
        for _ in 0..rounds {
            let Line { open: Some((id, ear)), asleep, .. } = &mut self.lines[line] else { return };
            let id = *id;
            let transmit = self.broker.transmit(id, ear.buffer(), BUDGET, self.now);
            let quiet = ear.buffer().is_empty() && transmit == Transmit::Idle;
            let said = ear.buffer().clone();
            assert!(quiet || !*asleep, "{} was not woken for {said:02x?}: {transmit:?}", ear.client);
            ear.hear(self.asked.entry(ear.client.clone()).or_default());
            match transmit {
                Transmit::More => {}
                Transmit::Close => {
                    self.hang_up(line);
                    self.broker.end(id, "closed by the broker", self.now);
                    return self.settle();
                }
                Transmit::Idle => {
                    let mut wanted = Vec::new();
                    self.broker.wanted(id, &mut wanted);
                    let records = self.broker.log().fetch(&wanted);
                    if !wanted.is_empty() {
                        self.broker.supply(id, &records);
                    }
                    self.lines[line].asleep = true;
                    self.settle();
                    if self.lines[line].asleep {
                        return;
                    }
                }
            }
        }
    }

    /// What is written so far, as far as `entries`, is on disk.
    fn sync(&mut self, entries: usize) {
        let log = self.broker.log();
        self.durable = self.durable.max(entries.min(log.entries.len()));
        log.wrote(self.durable);
        self.broker.durable(self.durable as u64);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.broker.tick(self.now);
        assert!(
            self.broker.next_deadline().is_none_or(|deadline| deadline > self.now),
            "a deadline was missed"
        );
    }

    /// The node is killed and comes back with what is on disk, and perhaps with more.
    fn restart(&mut self, kept: usize) {
        let kept = kept.clamp(self.durable, self.broker.log().entries.len());
        for line in 0..LINES {
            self.hang_up(line);
        }
        let log = self.broker.log().prefix(kept);
        if self.snapshot.as_ref().is_some_and(|(_, covered, _)| *covered > kept) {
            self.snapshot = None; // It would never have been written, nor anything released for it.
            log.released.store(0, Ordering::Relaxed);
        }
        // What found no room when it came has room again while the journal is read from its beginning.
        self.overflowed |= self.broker.counters().overflowed > 0;
        if let Some(snapshot) = self.snapshot.as_ref().filter(|_| !self.overflowed) {
            let shortened = self.told_by(self.revive(&log, Some(snapshot)));
            let whole = self.told_by(self.revive(&log, None));
            assert_eq!(shortened, whole, "a snapshot tells another story");
        }
        self.broker = self.revive(&log, self.snapshot.as_ref());
        self.durable = 0;
        self.sync(usize::MAX);
    }

    /// The broker that a journal makes, from its beginning or from a snapshot on.
    fn revive(&self, log: &MemoryLog, snapshot: Option<&(u64, usize, Vec<u8>)>) -> Broker<MemoryLog> {
        let mut log = log.clone();
        if snapshot.is_none() {
            log.released = Arc::default();
        }
        let mut broker = Broker::new(1, self.broker.limits().clone(), log.clone());
        let covered = snapshot.map_or(0, |(_, covered, state)| {
            broker.restore(state).unwrap();
            *covered
        });
        let mut at = 0;
        log.for_each(|entry| {
            at += 1;
            if at > covered {
                broker.recover(entry).unwrap();
            }
        });
        broker.recovered(self.now);
        broker
    }

    /// All that every client hears when it comes back, and answers.
    fn told_by(&self, mut broker: Broker<MemoryLog>) -> Vec<String> {
        let mut told = Vec::new();
        for client in self.asked.keys() {
            let connect = support::resume(client);
            let mut decoder = Decoder::client_side(connect.version, u32::MAX);
            let request = self.request(connect);
            let Ok(id) = broker.connect(request, &mut Warden, self.now) else { continue };
            let mut quiet = false;
            while !quiet {
                let entries = broker.log().entries.len();
                broker.log().wrote(entries);
                broker.durable(entries as u64);
                let mut buffer = BytesMut::new();
                let transmit = broker.transmit(id, &mut buffer, usize::MAX, self.now);
                quiet =
                    buffer.is_empty() && transmit == Transmit::Idle && broker.log().entries.len() == entries;
                while let Some(packet) = decoder.decode(&mut buffer).unwrap() {
                    let answer = match &packet {
                        Packet::Publish(Publish { packet_id: Some(id), qos, .. }) => Some(match qos {
                            QoS::ExactlyOnce => Packet::PubRec(support::ack(id.0.get())),
                            _ => Packet::PubAck(support::ack(id.0.get())),
                        }),
                        Packet::PubRel(release) => {
                            Some(Packet::PubComp(support::ack(release.packet_id.0.get())))
                        }
                        _ => None,
                    };
                    told.extend(match packet {
                        Packet::Publish(publish) => Some(format!("{} {:?}", publish.topic, publish.payload)),
                        Packet::PubRel(_) | Packet::ConnAck(_) => None,
                        _ => Some(format!("{client} {packet:?}")),
                    });
                    if let Some(answer) = answer {
                        broker.receive(id, answer, &mut Warden, self.now);
                    }
                }
                let mut wanted = Vec::new();
                broker.wanted(id, &mut wanted);
                let records = broker.log().fetch(&wanted);
                quiet &= wanted.is_empty();
                broker.supply(id, &records);
            }
            broker.end(id, "told", self.now);
        }
        // Who drew what from a group, under which identifiers and in which order, is told by what happened in memory.
        told.sort_unstable();
        told
    }

    /// Takes a snapshot, of which a restart may make use.
    fn take_snapshot(&mut self) {
        let number = self.snapshot.as_ref().map_or(1, |(number, ..)| number + 1);
        let mut state = Vec::new();
        let wanted = self.broker.to_carry(self.broker.log().readable(), usize::MAX).unwrap();
        let carried = self.broker.log().fetch(&wanted);
        let snapshot = self.broker.snapshot(number, carried).unwrap();
        self.broker.log().released.store(snapshot.horizon().0, Ordering::Relaxed);
        snapshot.encode(&mut state).unwrap();
        self.snapshot = Some((number, self.broker.log().entries.len(), state));
    }

    /// Whoever is called is awake.
    fn settle(&mut self) {
        self.broker.take_events(&mut Vec::new());
        self.broker.take_alerts_sent(&mut Vec::new());
        let mut woken = Vec::new();
        self.broker.take_woken(&mut woken);
        let woken: BTreeSet<ConnectionId> = woken.into_iter().collect();
        for line in &mut self.lines {
            if line.open.as_ref().is_some_and(|(id, _)| woken.contains(id)) {
                line.asleep = false;
            }
        }
    }

    /// Everything is on disk, everybody hears all, and nothing is left without an answer.
    fn finish(&mut self) {
        // Hearing writes marks that hearing waits for.
        let mut written = usize::MAX;
        while written != self.broker.log().entries.len() {
            written = self.broker.log().entries.len();
            self.sync(usize::MAX);
            self.settle();
            for line in 0..LINES {
                self.hear(line, ROUNDS_MAX);
                let line = &self.lines[line];
                assert!(line.open.is_none() || line.asleep, "it never ends");
            }
        }
        for (_, ear) in self.lines.iter().filter_map(|line| line.open.as_ref()) {
            ear.is_answered();
        }
    }
}
