//! Everything that can happen, one step after the other, as a seed says; and what must be so in the end.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use wardline_core::{ClientLimits, ConnectRequest, Denial, Gate, Transmit};
use wardline_test_disk::{Fault, Random, SimulatedDisk};
use wardline_wire::{Packet, Publish, QoS, ReasonCode, topic};

use crate::{
    Violation,
    brief::Brief,
    client::{Client, Role},
    ensure,
    history::History,
    model::{DENIED_ROOT, Model},
    network::Line,
    node::{Node, StartError, fetch},
    probe,
};

/// Steps of one seed.
const STEPS: u64 = 200;
/// Clients of one seed.
const CLIENTS: usize = 6;
/// Rounds after which a world that is left alone has come to rest, or never will.
const ROUNDS_MAX: usize = 2_000;
/// What failed is told with so many steps before it.
const TRACE_STEPS: usize = 60;
/// Streams of random numbers; the disk has its own.
const CLIENTS_STREAM: u64 = 2;
const STEPS_STREAM: u64 = 3;

/// What a seed had in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Publishes that clients sent.
    pub publishes: usize,
    /// Times the process or the power went.
    pub crashes: usize,
    /// Records in the journal.
    pub records: u64,
}

/// How a seed failed.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is not as promised.
    pub violation: Violation,
    /// The last steps before.
    pub steps: Vec<String>,
}

/// Runs a seed.
///
/// # Errors
/// What is not as promised. [`trace`] tells how it came to that.
pub fn run(seed: u64) -> Result<Summary, Violation> {
    World::new(seed, None)?.live()
}

/// Runs a seed, and tells the last steps where it fails.
pub fn trace(seed: u64) -> Option<Report> {
    let mut world = match World::new(seed, Some(VecDeque::new())) {
        Ok(world) => world,
        Err(violation) => return Some(Report { violation, steps: Vec::new() }),
    };
    let violation = world.live().err()?;
    Some(Report { violation, steps: world.trace.into_iter().flatten().collect() })
}

/// Denies what is below [`DENIED_ROOT`].
struct Policy;

impl Gate for Policy {
    fn publish(&mut self, _client: &Arc<str>, publish: &Publish) -> Result<(), Denial> {
        let denial = || Denial { reason: ReasonCode::NotAuthorized, text: "denied".to_owned() };
        if publish.topic.starts_with(DENIED_ROOT) { Err(denial()) } else { Ok(()) }
    }

    fn subscribe(&mut self, _client: &Arc<str>, _filter: &str) -> Result<(), Denial> {
        Ok(())
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    /// What was written is there.
    Process,
    /// What was synced is there.
    Power,
}

struct World {
    random: Random,
    disk: SimulatedDisk,
    node: Node,
    clients: Vec<Client>,
    lines: Vec<Line>,
    model: Model,
    history: History,
    now: Timestamp,
    client_limits: Arc<ClientLimits>,
    crashes: usize,
    /// One in so many crashes and troubles that could be is.
    calm: usize,
    trace: Option<VecDeque<String>>,
}

impl World {
    fn new(seed: u64, trace: Option<VecDeque<String>>) -> Result<Self, Violation> {
        let mut random = Random::new(seed, CLIENTS_STREAM);
        let clients = (0..CLIENTS).map(|index| Client::new(index, &mut random)).collect();
        let now = Timestamp::from_second(1_790_000_000).map_err(|error| Violation(error.to_string()))?;
        let disk = SimulatedDisk::new(seed);
        let calm = 1 + random.below(4);
        let node = Node::start(&disk, now).map_err(|error| Violation(format!("{error:?}")))?;
        Ok(Self {
            random: Random::new(seed, STEPS_STREAM),
            disk,
            node,
            clients,
            lines: Vec::new(),
            model: Model::default(),
            history: History::default(),
            now,
            client_limits: Arc::default(),
            crashes: 0,
            calm,
            trace,
        })
    }

    fn note(&mut self, text: fmt::Arguments<'_>) {
        let step = self.model.step;
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_STEPS {
                trace.pop_front();
            }
            trace.push_back(format!("{step}: {text}"));
        }
    }

    fn live(&mut self) -> Result<Summary, Violation> {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.disk.set_fault(None);
        self.disk.set_capacity(usize::MAX);
        if self.random.one_in(2) {
            self.crash(Crash::Power)?;
        }
        self.rest()?;
        self.check_end()?;
        // And it is all there for whoever comes next.
        self.crash(Crash::Power)?;
        Ok(Summary {
            publishes: self.model.messages.len(),
            crashes: self.crashes,
            records: self.history.next(),
        })
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.model.step += 1;
        self.now += Duration::from_millis(1);
        match self.random.below(1_000) {
            0..320 => {
                let client = self.random.below(self.clients.len());
                self.act(client)
            }
            320..360 => self.keep(),
            360..480 => self.at_line(|line| !line.to_broker.is_empty(), Self::carry_to_broker),
            480..600 => self.at_line(|line| line.connection.is_some(), Self::transmit),
            600..750 => {
                self.at_line(|line| !line.to_client.is_empty() || line.broker_gone, Self::carry_to_client)
            }
            750..790 => self.at_line(|line| !line.wanted.is_empty(), |world, at| world.fetch(at).map(drop)),
            790..880 => self.write(),
            880..940 => {
                self.hear();
                Ok(())
            }
            940..955 => self.follow(),
            955..965 => self.at_line(|line| !line.client_gone, Self::cut),
            965..980 => self.at_line(|line| line.client_gone, Self::close),
            980..985 => {
                self.now += Duration::from_secs(self.random.below(5) as u64);
                self.node.broker.tick(self.now);
                Ok(())
            }
            _ if !self.random.one_in(self.calm) => Ok(()),
            985..995 => self.trouble(),
            _ => {
                let crash = *self.random.pick(&[Crash::Process, Crash::Power]);
                self.crash(crash)
            }
        }
    }

    /// Does something with a connection that it can be done with, if there is one.
    fn at_line(
        &mut self,
        can: impl Fn(&Line) -> bool,
        step: impl FnOnce(&mut Self, usize) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let lines: Vec<usize> = (0..self.lines.len()).filter(|at| can(&self.lines[*at])).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let at = *self.random.pick(&lines);
        step(self, at)
    }

    /// Something goes wrong with the disk, now or soon, or is mended.
    fn trouble(&mut self) -> Result<(), Violation> {
        let soon = self.random.below(8) as u64;
        match self.random.below(8) {
            0 | 1 => self.disk.cut_power_after(1 + soon),
            2 => self.disk.set_fault(Some((Fault::Sync, soon / 2))),
            3 => self.disk.set_fault(Some((Fault::Write, soon))),
            4 => self.disk.set_fault(Some((Fault::Preallocate, 0))),
            5 => self.disk.set_capacity(self.disk.used_bytes() + 6_000),
            _ => {
                self.disk.set_fault(None);
                self.disk.set_capacity(usize::MAX);
                return Ok(());
            }
        }
        self.note(format_args!("trouble with the disk"));
        Ok(())
    }

    /// A client does something of its own.
    fn act(&mut self, client: usize) -> Result<(), Violation> {
        let Some(at) = self.line_of(client) else { return self.connect(client) };
        if !self.clients[client].is_in {
            return Ok(());
        }
        let Self { clients, model, random, .. } = self;
        let acting = &mut clients[client];
        let packet = match random.below(20) {
            0 => {
                let packet = acting.leave(model);
                self.lines[at].to_broker.push(&packet, acting.version)?;
                self.lines[at].client_gone = true;
                self.note(format_args!("client {client} leaves"));
                return Ok(());
            }
            1..6 => Some(acting.ask(random)),
            _ => acting.publish(model, random),
        };
        let Some(packet) = packet else { return Ok(()) };
        let version = acting.version;
        self.lines[at].to_broker.push(&packet, version)?;
        self.note(format_args!("client {client} says {}", Brief(&packet)));
        Ok(())
    }

    /// The connection that a client has, as it knows.
    fn line_of(&self, client: usize) -> Option<usize> {
        self.lines.iter().position(|line| line.client == client && !line.client_gone)
    }

    fn connect(&mut self, client: usize) -> Result<(), Violation> {
        let clean = self.random.one_in(30);
        let connecting = &mut self.clients[client];
        let packet = connecting.connect(clean, &mut self.model, &mut self.random);
        let mut line = Line::new(client, connecting.version);
        line.to_broker.push(&packet, connecting.version)?;
        self.lines.push(line);
        self.note(format_args!("client {client} connects: {}", Brief(&packet)));
        Ok(())
    }

    /// Bytes reach the broker, and it takes what is whole.
    fn carry_to_broker(&mut self, at: usize) -> Result<(), Violation> {
        let Some(line) = self.lines.get_mut(at).filter(|line| !line.broker_gone) else { return Ok(()) };
        let bytes = if self.random.one_in(3) { self.random.below(100) } else { usize::MAX };
        line.to_broker.carry(bytes);
        while let Some(packet) = self.lines[at].to_broker.packet()? {
            self.receive(at, packet)?;
        }
        let line = &self.lines[at];
        if line.client_gone && line.to_broker.is_empty() && self.random.one_in(2) {
            self.end(at);
        }
        Ok(())
    }

    fn receive(&mut self, at: usize, packet: Packet) -> Result<(), Violation> {
        let client = self.lines[at].client;
        self.note(format_args!("the broker takes {} of client {client}", Brief(&packet)));
        let (now, line) = (self.now, &mut self.lines[at]);
        match (packet, line.connection) {
            (Packet::Connect(connect), None) => {
                self.clients[client].arrives(&connect, self.model.step);
                let request = ConnectRequest {
                    principal: Arc::from(format!("service:{}", connect.client_id)),
                    connect: *connect,
                    peer: Arc::from("10.0.0.7:5121"),
                    withheld: Arc::from([]),
                    limits: Arc::clone(&self.client_limits),
                    authentication_data: None,
                };
                let entered = self.node.broker.connect(request, &mut Policy, now);
                line.connection =
                    Some(entered.map_err(|refusal| Violation(format!("not let in: {refusal:?}")))?);
            }
            (packet, Some(id)) => self.node.broker.receive(id, packet, &mut Policy, now),
            (packet, None) => return Err(Violation(format!("{packet:?} before CONNECT"))),
        }
        let mut events = Vec::new();
        self.node.broker.take_events(&mut events);
        Ok(())
    }

    /// The broker writes what it may.
    fn transmit(&mut self, at: usize) -> Result<(), Violation> {
        let budget = if self.random.one_in(3) { 1 + self.random.below(300) } else { 4_096 };
        let Some(line) = self.lines.get_mut(at).filter(|line| !line.broker_gone) else { return Ok(()) };
        let Some(id) = line.connection else { return Ok(()) };
        let transmit = self.node.broker.transmit(id, line.to_client.end(), budget, self.now);
        if line.wanted.is_empty() {
            self.node.broker.wanted(id, &mut line.wanted);
            if !line.wanted.is_empty() {
                let (client, wanted) = (line.client, line.wanted.clone());
                self.note(format_args!("client {client} is to be brought {wanted:?}"));
            }
        }
        if transmit == Transmit::Close {
            self.end(at);
        }
        Ok(())
    }

    /// What a client is owed comes from the journal; whether there was something.
    fn fetch(&mut self, at: usize) -> Result<bool, Violation> {
        let Some(line) = self.lines.get_mut(at).filter(|line| !line.wanted.is_empty()) else {
            return Ok(false);
        };
        let wanted = std::mem::take(&mut line.wanted);
        let Some(id) = line.connection else { return Ok(false) };
        if wanted.iter().any(|offset| *offset < self.node.journal.first_offset()) {
            // Released since it was asked for, because a snapshot carries it: it must not be asked for again.
            self.node.broker.wanted(id, &mut line.wanted);
            let again = line.wanted.iter().all(|offset| *offset >= self.node.journal.first_offset());
            ensure!(again, "what is released is wanted: {:?}", line.wanted);
            return Ok(true);
        }
        let records = fetch(&self.node.journal, &wanted)?;
        self.node.broker.supply(id, &records);
        Ok(true)
    }

    /// Bytes reach a client, and it takes what is whole and answers.
    fn carry_to_client(&mut self, at: usize) -> Result<(), Violation> {
        let Some(line) = self.lines.get_mut(at).filter(|line| !line.client_gone) else { return Ok(()) };
        let bytes = if self.random.one_in(3) { self.random.below(100) } else { usize::MAX };
        line.to_client.carry(bytes);
        self.take(at)?;
        let line = &self.lines[at];
        if line.broker_gone && line.to_client.is_empty() {
            self.hang_up(at);
        }
        Ok(())
    }

    /// A client takes what has arrived whole.
    fn take(&mut self, at: usize) -> Result<(), Violation> {
        while let Some(packet) = self.lines[at].to_client.packet()? {
            let client = self.lines[at].client;
            self.note(format_args!("client {client} hears {}", Brief(&packet)));
            let answers = self.clients[client].hear(packet, &mut self.model)?;
            for answer in answers {
                self.lines[at].to_broker.push(&answer, self.clients[client].version)?;
            }
        }
        Ok(())
    }

    /// The network loses a connection; the client notices first.
    fn cut(&mut self, at: usize) -> Result<(), Violation> {
        let Some(line) = self.lines.get_mut(at).filter(|line| !line.client_gone) else { return Ok(()) };
        line.to_client.cut(&mut self.random);
        line.to_client.carry(usize::MAX);
        self.take(at)?;
        self.lines[at].to_broker.cut(&mut self.random);
        let client = self.lines[at].client;
        self.note(format_args!("client {client} is cut off"));
        self.hang_up(at);
        Ok(())
    }

    /// The client's end of a connection is gone.
    fn hang_up(&mut self, at: usize) {
        let line = &mut self.lines[at];
        line.client_gone = true;
        line.to_client.clear();
        self.clients[line.client].lost(&mut self.model);
        self.forget(at);
    }

    /// The broker notices that a client is gone.
    fn close(&mut self, at: usize) -> Result<(), Violation> {
        let gone = self.lines.get(at).is_some_and(|line| line.client_gone && !line.broker_gone);
        if gone {
            self.lines[at].to_broker.cut(&mut self.random);
            self.carry_to_broker(at)?;
            if self.lines.get(at).is_some_and(|line| line.client_gone && !line.broker_gone) {
                self.end(at);
            }
        }
        Ok(())
    }

    /// The broker's end of a connection is gone.
    fn end(&mut self, at: usize) {
        let line = &mut self.lines[at];
        line.broker_gone = true;
        if let Some(id) = line.connection {
            self.node.broker.end(id, "the connection is lost", self.now);
        }
        self.forget(at);
    }

    fn forget(&mut self, at: usize) {
        if self.lines[at].client_gone && self.lines[at].broker_gone {
            self.lines.swap_remove(at);
        }
    }

    /// The writer does what there is to do.
    fn write(&mut self) -> Result<(), Violation> {
        if self.node.write() {
            return Ok(());
        }
        self.note(format_args!("the journal has failed: {:?}", self.node.journal.failure()));
        let crash = if self.disk.is_dead() { Crash::Power } else { Crash::Process };
        self.crash(crash)
    }

    fn hear(&mut self) -> bool {
        self.node.hear()
    }

    /// The audit store reads on.
    fn follow(&mut self) -> Result<(), Violation> {
        let entries = 1 + self.random.below(20);
        self.history.follow(&mut self.node.follower, entries, &mut self.model).map(drop)
    }

    /// A snapshot, and what follows from it.
    fn keep(&mut self) -> Result<(), Violation> {
        let kept = self.node.keep()?;
        let released = self.node.release(self.history.next());
        for text in kept.into_iter().chain(released) {
            self.note(format_args!("{text}"));
        }
        Ok(())
    }

    /// The process ends without warning, and another takes its place.
    fn crash(&mut self, crash: Crash) -> Result<(), Violation> {
        /// A disk that is mended lets the broker start at the latest then.
        const STARTS_MAX: usize = 8;
        self.note(format_args!("crash: {crash:?}"));
        self.crashes += 1;
        for at in (0..self.lines.len()).rev() {
            self.lines[at].broker_gone = true;
            if !self.lines[at].client_gone {
                self.lines[at].to_client.cut(&mut self.random);
                self.lines[at].to_client.carry(usize::MAX);
                self.take(at)?;
                self.hang_up(at);
            } else {
                self.forget(at);
            }
        }
        if crash == Crash::Power {
            self.disk.cut_power();
        }
        for _ in 0..STARTS_MAX {
            match Node::start(&self.disk, self.now) {
                Ok(node) => {
                    self.node = node;
                    return self.check_recovered();
                }
                Err(StartError::Violation(violation)) => return Err(violation),
                Err(StartError::Disk(error)) => {
                    self.note(format_args!("no start: {error}"));
                    if self.disk.is_dead() {
                        self.disk.cut_power();
                    }
                    // Somebody mends it.
                    self.disk.set_fault(None);
                    self.disk.set_capacity(usize::MAX);
                }
            }
        }
        Err(Violation(format!("no start after {STARTS_MAX} attempts")))
    }

    /// Right after a start: the record has what was acknowledged and what was seen, and what is retained follows from it.
    fn check_recovered(&mut self) -> Result<(), Violation> {
        let before = self.history.next();
        self.history.follow(&mut self.node.follower, usize::MAX, &mut self.model)?;
        let there = self.node.journal.durable().0;
        ensure!(there >= before, "the follower saw {before} records, and {there} are there");
        self.model.check_recorded()?;
        let retained = probe::retained(&self.node.journal, self.now)?;
        ensure!(
            retained == self.history.retained,
            "retained {retained:?}, recorded {:?}",
            self.history.retained
        );
        Ok(())
    }

    /// Nothing goes wrong any more: everybody connects and goes on until nothing is left to do.
    fn rest(&mut self) -> Result<(), Violation> {
        self.note(format_args!("nothing goes wrong any more"));
        for _ in 0..ROUNDS_MAX {
            self.model.step += 1;
            self.node.broker.tick(self.now);
            let mut moved = false;
            for client in 0..self.clients.len() {
                if self.line_of(client).is_none() {
                    self.connect(client)?;
                    moved = true;
                }
            }
            for at in (0..self.lines.len()).rev() {
                moved |= self.run_line(at)?;
            }
            moved |= self.node.has_backlog();
            self.write()?;
            moved |= self.hear();
            if !moved {
                return Ok(());
            }
        }
        Err(Violation("it never comes to rest".to_owned()))
    }

    /// Everything that can be done with a connection now; whether there was something.
    fn run_line(&mut self, at: usize) -> Result<bool, Violation> {
        let line = &mut self.lines[at];
        if line.client_gone {
            self.close(at)?;
            return Ok(true);
        }
        let mut moved = line.to_broker.carry(usize::MAX);
        while let Some(packet) = self.lines[at].to_broker.packet()? {
            self.receive(at, packet)?;
        }
        self.transmit(at)?;
        let Some(line) = self.lines.get_mut(at) else { return Ok(true) };
        moved |= line.to_client.carry(usize::MAX);
        let broker_gone = line.broker_gone;
        self.take(at)?;
        if broker_gone {
            self.hang_up(at);
            return Ok(true);
        }
        Ok(moved | self.fetch(at)?)
    }

    /// At rest everything that was promised has come.
    fn check_end(&mut self) -> Result<(), Violation> {
        self.history.follow(&mut self.node.follower, usize::MAX, &mut self.model)?;
        self.model.check_recorded()?;
        for client in &self.clients {
            ensure!(client.is_settled(), "{} waits for answers: {client:?}", client.name());
        }
        for (number, message) in self.model.messages.iter().enumerate() {
            ensure!(
                !message.is_promised() || message.accepted > 0,
                "message {number} was promised and is not recorded: {message:?}"
            );
            if !message.is_promised() || message.qos == QoS::AtMostOnce {
                continue;
            }
            for client in self.clients.iter().filter(|client| client.role == Role::Durable) {
                let since = client.subscribed_since(&message.topic);
                let owed = since.is_some_and(|since| since < message.sent_at)
                    && client.granted(message.qos) != QoS::AtMostOnce
                    && client.recognizes(message);
                ensure!(
                    !owed || client.times_heard(number) > 0,
                    "message {number} never reached {}: {message:?}",
                    client.name()
                );
            }
            self.check_members(number)?;
        }
        Ok(())
    }

    /// One member of the group has a publish that came after one of them had subscribed.
    fn check_members(&self, number: usize) -> Result<(), Violation> {
        let message = self.model.message(number)?;
        let members = || self.clients.iter().filter(|client| client.role == Role::Member);
        let since = members().filter_map(|client| client.subscribed_since(&message.topic)).min();
        if !topic::matches("t/#", &message.topic) || since.is_none_or(|since| since >= message.sent_at) {
            return Ok(());
        }
        let heard: u32 = members().map(|client| client.times_heard(number)).sum();
        let once = members().all(|client| client.granted(message.qos) == QoS::ExactlyOnce);
        ensure!(heard > 0, "message {number} reached nobody of the group: {message:?}");
        ensure!(heard == 1 || !once, "message {number} reached the group {heard} times: {message:?}");
        Ok(())
    }
}
