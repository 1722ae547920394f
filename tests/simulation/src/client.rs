//! A client: publisher and subscriber in one, which remembers what MQTT has it remember, and asserts what it hears.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU16,
};

use wardline_test_disk::Random;
use wardline_wire::{
    Ack, ConnAck, Connect, ConnectProperties, Packet, PacketId, Publish, QoS, ReasonCode, Subscribe,
    SubscribeFilter, SubscribeOptions, Unsubscribe, Version, Will, topic,
};

use crate::{
    Violation, ensure,
    model::{self, DENIED_ROOT, Model, Number, WillState},
};

/// Publishes that a client has open at a time; few, so that identifiers are used again soon.
const OPEN_MAX: usize = 5;
/// Identifiers of subscribing and unsubscribing begin here.
const ASKING_FROM: u16 = 100;
/// How long a session outlives its connection, in seconds: longer than any simulation.
const SESSION_SECONDS: u32 = 36_000;
/// The group that members of a shared subscription are in.
pub(crate) const SHARED: &str = "$share/group/t/#";

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Keeps its session.
    Durable,
    /// Keeps it, and subscribes to nothing but as a member of a group.
    Member,
    /// Has a new session with each connection.
    Volatile,
}

/// A publish that was sent and is not settled.
#[derive(Clone, Debug)]
struct Open {
    id: u16,
    number: Number,
    released: bool,
}

/// A filter that was asked for.
#[derive(Clone, Copy, Debug)]
enum Subscription {
    Asked,
    /// SUBACK was heard at this step.
    Granted(u64),
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) version: Version,
    pub(crate) role: Role,
    /// Of all its subscriptions.
    qos: QoS,
    filters: &'static [&'static str],
    /// CONNACK was heard on the connection that there is.
    pub(crate) is_in: bool,
    /// A clean start was asked for, and not heard of.
    starts_clean: bool,
    /// The session was acknowledged something, so that it must be there again.
    rooted: bool,
    open: VecDeque<Open>,
    /// QoS 2 identifiers that were received and not released.
    received: BTreeSet<u16>,
    subscriptions: BTreeMap<&'static str, Subscription>,
    ever_asked: BTreeSet<&'static str>,
    asking: BTreeMap<u16, (&'static str, bool)>,
    will: Option<Number>,
    /// When the broker took another CONNECT of this client, and with it perhaps ended the connection that the will is for.
    taken_over_at: Option<u64>,
    next_id: u16,
    /// How often each publish was heard, not counting what was retained.
    heard: BTreeMap<Number, u32>,
    /// The same when its session began. Exactly once is a promise to a session: to another one what a crash took back comes again.
    heard_before: BTreeMap<Number, u32>,
    /// The last first hearing on each topic.
    last: BTreeMap<String, Number>,
}

const FILTERS: [&[&str]; 4] =
    [&["t/#", "alerts/#"], &["#"], &["t/+/0", "r/#", "w/#"], &["r/+", "alerts/+", "t/0/#", "t/#"]];

fn packet_id(number: u16) -> PacketId {
    PacketId(NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN))
}

fn success(number: u16) -> Ack {
    Ack { packet_id: packet_id(number), reason: ReasonCode::Success, reason_string: None, user: Vec::new() }
}

fn quality(number: usize) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number]
}

impl Client {
    pub(crate) fn new(index: usize, random: &mut Random) -> Self {
        let role = match index {
            0 | 1 => Role::Durable,
            2 | 3 => Role::Member,
            _ => *random.pick(&[Role::Durable, Role::Volatile]),
        };
        Self {
            index,
            version: *random.pick(&[Version::V5, Version::V5, Version::V311]),
            role,
            qos: quality(random.below(5).min(2).max(usize::from(index < 4))),
            filters: FILTERS[random.below(FILTERS.len())],
            is_in: false,
            starts_clean: false,
            rooted: false,
            open: VecDeque::new(),
            received: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            ever_asked: BTreeSet::new(),
            asking: BTreeMap::new(),
            will: None,
            taken_over_at: None,
            next_id: 0,
            heard: BTreeMap::new(),
            heard_before: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    pub(crate) fn name(&self) -> String {
        format!("client-{}", self.index)
    }

    /// Nothing is open: all that it sent is settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty() && self.asking.is_empty()
    }

    /// The CONNECT of a new connection.
    pub(crate) fn connect(&mut self, clean: bool, model: &mut Model, random: &mut Random) -> Packet {
        if clean && self.role == Role::Durable && self.version == Version::V5 {
            self.starts_clean = true;
            self.subscriptions.clear();
        }
        self.asking.clear();
        let clean_start = self.role == Role::Volatile || self.starts_clean;
        let keeps = self.role != Role::Volatile && self.version == Version::V5;
        let will = random.one_in(3).then(|| self.new_will(model));
        let properties = ConnectProperties {
            session_expiry: keeps.then_some(SESSION_SECONDS),
            receive_maximum: NonZeroU16::new(random.below(5) as u16).filter(|_| self.version == Version::V5),
            ..ConnectProperties::default()
        };
        Packet::Connect(Box::new(Connect {
            version: self.version,
            clean_start,
            keep_alive: 0,
            client_id: self.name().into(),
            will,
            username: None,
            password: None,
            properties,
        }))
    }

    fn new_will(&mut self, model: &mut Model) -> Will {
        let number = model.send(format!("w/{}", self.index), QoS::AtLeastOnce, false, false);
        if let Some(message) = model.messages.last_mut() {
            message.will = Some(WillState::Possible);
        }
        (self.will, self.taken_over_at) = (Some(number), None);
        let (payload, properties) = model::content(number, false);
        let topic = format!("w/{}", self.index).into();
        Will { topic, payload, qos: QoS::AtLeastOnce, retain: false, delay: None, properties }
    }

    /// The broker takes a CONNECT of it, of which it may hear much later that it ended another connection.
    pub(crate) fn arrives(&mut self, connect: &Connect, step: u64) {
        let brought =
            connect.will.as_ref().and_then(|will| model::number(&will.payload, &will.properties).ok());
        if brought != self.will {
            self.taken_over_at.get_or_insert(step);
        }
    }

    /// Its connection is gone, and it did not say goodbye.
    pub(crate) fn lost(&mut self, model: &mut Model) {
        self.is_in = false;
        let step = self.taken_over_at.take().unwrap_or(model.step);
        let will = self.will.take().and_then(|number| model.messages.get_mut(number));
        if let Some(message) = will.filter(|message| message.will == Some(WillState::Kept)) {
            message.will = Some(WillState::Due);
            message.sent_at = step;
        }
    }

    /// It says goodbye.
    pub(crate) fn leave(&mut self, model: &mut Model) -> Packet {
        self.is_in = false;
        // Whether the broker hears it in time is the network's to say.
        if let Some(message) = self.will.take().and_then(|number| model.messages.get_mut(number)) {
            message.will = Some(WillState::Possible);
        }
        Packet::Disconnect(wardline_wire::Disconnect {
            reason: ReasonCode::Success,
            session_expiry: None,
            reason_string: None,
            user: Vec::new(),
            server_reference: None,
        })
    }

    /// Publishes something of its own, unless too much is open.
    pub(crate) fn publish(&mut self, model: &mut Model, random: &mut Random) -> Option<Packet> {
        let qos = quality(random.below(7).div_ceil(3));
        if qos != QoS::AtMostOnce && self.open.len() >= OPEN_MAX {
            return None;
        }
        let own = self.index;
        let (topic, retain) = match random.below(12) {
            0..6 => (format!("t/{own}/{}", random.below(2)), false),
            6..8 => (format!("alerts/{own}"), false),
            // MQTT 3.1.1 has no other answer to what is denied than to close.
            8 if self.version == Version::V5 => (format!("{DENIED_ROOT}{own}"), false),
            _ => (format!("r/{own}"), true),
        };
        let is_empty = retain && self.version == Version::V5 && random.one_in(4);
        let number = model.send(topic, qos, retain, is_empty);
        let id = (qos != QoS::AtMostOnce).then(|| {
            let id = (1..).find(|id| self.open.iter().all(|open| open.id != *id)).unwrap_or(1);
            self.open.push_back(Open { id, number, released: false });
            id
        });
        publish_packet(model, number, id, false)
    }

    /// Asks for one of its filters, or ends it.
    pub(crate) fn ask(&mut self, random: &mut Random) -> Packet {
        self.next_id = self.next_id % 100 + 1;
        let id = ASKING_FROM + self.next_id;
        let filter = if self.role == Role::Member { SHARED } else { random.pick(self.filters) };
        let ends = self.role != Role::Member && self.subscriptions.contains_key(filter) && random.one_in(4);
        self.asking.insert(id, (filter, ends));
        if ends {
            self.subscriptions.remove(filter);
            return Packet::Unsubscribe(Unsubscribe {
                packet_id: packet_id(id),
                user: Vec::new(),
                filters: vec![filter.into()],
            });
        }
        self.ever_asked.insert(filter);
        self.subscriptions.entry(filter).or_insert(Subscription::Asked);
        let options = SubscribeOptions { qos: self.qos, ..SubscribeOptions::default() };
        Packet::Subscribe(Subscribe {
            packet_id: packet_id(id),
            subscription_id: None,
            user: Vec::new(),
            filters: vec![SubscribeFilter { filter: filter.into(), options }],
        })
    }

    /// Takes a packet; gives its answers.
    pub(crate) fn hear(&mut self, packet: Packet, model: &mut Model) -> Result<Vec<Packet>, Violation> {
        ensure!(self.is_in || matches!(packet, Packet::ConnAck(_)), "{packet:?} before CONNACK");
        Ok(match packet {
            Packet::ConnAck(connack) => self.enter(&connack, model)?,
            Packet::Publish(publish) => self.take(&publish, model)?.into_iter().collect(),
            Packet::PubAck(ack) => {
                let open = self.settle(ack.packet_id, false)?;
                self.answered(open.number, &ack, model)?;
                Vec::new()
            }
            Packet::PubRec(ack) => self.take_receipt(&ack, model)?.into_iter().collect(),
            Packet::PubComp(ack) => {
                self.rooted = true;
                self.settle(ack.packet_id, true)?;
                Vec::new()
            }
            Packet::PubRel(release) => {
                let id = release.packet_id.0.get();
                self.received.remove(&id);
                vec![Packet::PubComp(success(id))]
            }
            Packet::SubAck(suback) => {
                let asked = self.asking.remove(&suback.packet_id.0.get());
                let Some((filter, false)) = asked else {
                    return Err(Violation(format!("unasked {suback:?}")));
                };
                ensure!(suback.reasons.iter().all(|reason| !reason.is_error()), "refused: {suback:?}");
                self.rooted = true;
                // What is still asked may end it before it begins again.
                let last = self.asking.values().all(|(other, _)| *other != filter);
                if last && let Some(subscription @ Subscription::Asked) = self.subscriptions.get_mut(filter) {
                    *subscription = Subscription::Granted(model.step);
                }
                Vec::new()
            }
            Packet::UnsubAck(unsuback) => {
                let asked = self.asking.remove(&unsuback.packet_id.0.get());
                ensure!(matches!(asked, Some((_, true))), "unasked {unsuback:?}");
                self.rooted = true;
                Vec::new()
            }
            Packet::Disconnect(disconnect) => {
                // The only reason there can be: another connection of its own, seen by the broker after this one.
                ensure!(disconnect.reason == ReasonCode::SessionTakenOver, "disconnected: {disconnect:?}");
                Vec::new()
            }
            other => return Err(Violation(format!("not for a broker to say: {other:?}"))),
        })
    }

    fn enter(&mut self, connack: &ConnAck, model: &mut Model) -> Result<Vec<Packet>, Violation> {
        ensure!(!self.is_in && !connack.reason.is_error(), "{connack:?}");
        self.is_in = true;
        if let Some(message) = self.will.and_then(|number| model.messages.get_mut(number)) {
            message.will = Some(WillState::Kept);
        }
        let clean = std::mem::take(&mut self.starts_clean) || self.role == Role::Volatile;
        ensure!(!(clean && connack.session_present), "a clean start found a session");
        if !connack.session_present {
            ensure!(
                clean || !self.rooted,
                "{} was acknowledged something, and its session is gone",
                self.name()
            );
            self.rooted = false;
            self.open.clear();
            self.received.clear();
            self.subscriptions.clear();
            self.heard_before.clone_from(&self.heard);
            return Ok(Vec::new());
        }
        // [MQTT-4.4.0-1]
        let again = |open: &Open| {
            if open.released {
                return Some(Packet::PubRel(success(open.id)));
            }
            publish_packet(model, open.number, Some(open.id), true)
        };
        Ok(self.open.iter().filter_map(again).collect())
    }

    fn take(&mut self, publish: &Publish, model: &Model) -> Result<Option<Packet>, Violation> {
        if publish.payload.is_empty() && self.version != Version::V5 {
            return Ok(self.take_nameless(publish));
        }
        let number = model::number(&publish.payload, &publish.properties)?;
        let message = model.message(number)?;
        ensure!(*message.topic == *publish.topic, "message {number} arrives on {}", publish.topic);
        ensure!(!message.denied, "message {number} was denied, and arrives");
        let wanted = self.ever_asked.iter().any(|filter| topic::matches(plain(filter), &publish.topic));
        ensure!(wanted, "message {number} on {} was never asked for", publish.topic);
        ensure!(publish.qos == message.qos.min(self.qos), "message {number} arrives with {:?}", publish.qos);
        let Some(PacketId(id)) = publish.packet_id else {
            self.count(number, publish, model)?;
            return Ok(None);
        };
        if publish.qos == QoS::AtLeastOnce {
            self.count(number, publish, model)?;
            return Ok(Some(Packet::PubAck(success(id.get()))));
        }
        if self.received.insert(id.get()) {
            self.count(number, publish, model)?;
        }
        Ok(Some(Packet::PubRec(success(id.get()))))
    }

    /// Nothing says which publish it is: MQTT 3.1.1 has no properties.
    fn take_nameless(&mut self, publish: &Publish) -> Option<Packet> {
        let id = publish.packet_id?.0.get();
        if publish.qos == QoS::AtLeastOnce {
            return Some(Packet::PubAck(success(id)));
        }
        self.received.insert(id);
        Some(Packet::PubRec(success(id)))
    }

    /// Whether it can tell this publish from others.
    pub(crate) fn recognizes(&self, message: &model::Message) -> bool {
        !message.is_empty || self.version == Version::V5
    }

    fn count(&mut self, number: Number, publish: &Publish, model: &Model) -> Result<(), Violation> {
        if publish.retain {
            return Ok(());
        }
        let count = self.heard.entry(number).or_default();
        *count += 1;
        let count = *count;
        let in_session = count - self.heard_before.get(&number).copied().unwrap_or(0);
        let message = model.message(number)?;
        // At a lower quality than its own it may be sent before it is durable, and again when a crash has lost it.
        let once = message.qos == QoS::AtMostOnce || publish.qos == QoS::ExactlyOnce;
        ensure!(
            in_session == 1 || !once,
            "message {number} reaches {} {in_session} times at {:?}: {message:?}",
            self.name(),
            publish.qos
        );
        // Of what was sent before, a subscription may have missed the first of two copies.
        let since = self.subscribed_since(&publish.topic);
        let all_seen = since.is_some_and(|since| since < message.sent_at);
        if count == 1 && publish.qos != QoS::AtMostOnce && self.role != Role::Member && all_seen {
            let last = self.last.insert(publish.topic.to_string(), number);
            ensure!(
                last.is_none_or(|last| last < number),
                "message {number} after {last:?} on {}",
                publish.topic
            );
        }
        Ok(())
    }

    fn take_receipt(&mut self, ack: &Ack, model: &mut Model) -> Result<Option<Packet>, Violation> {
        let found = self.open.iter_mut().find(|open| open.id == ack.packet_id.0.get() && !open.released);
        let Some(open) = found else { return Err(Violation(format!("PUBREC for nothing: {ack:?}"))) };
        let number = open.number;
        open.released = true;
        self.answered(number, ack, model)?;
        if ack.reason.is_error() {
            self.open.retain(|open| open.number != number);
            return Ok(None);
        }
        Ok(Some(Packet::PubRel(success(ack.packet_id.0.get()))))
    }

    /// What was open under an identifier.
    fn settle(&mut self, id: PacketId, released: bool) -> Result<Open, Violation> {
        let at = self.open.iter().position(|open| open.id == id.0.get() && open.released == released);
        let open = at.and_then(|at| self.open.remove(at));
        open.ok_or_else(|| Violation(format!("{} is answered {id:?}, which is not open", self.name())))
    }

    fn answered(&mut self, number: Number, ack: &Ack, model: &mut Model) -> Result<(), Violation> {
        self.rooted = true;
        let message = model.message_mut(number)?;
        ensure!(ack.reason.is_error() == message.denied, "message {number} is answered {:?}", ack.reason);
        if message.denied {
            message.refused = true;
        } else {
            message.acknowledged = true;
        }
        Ok(())
    }

    /// How often it heard a publish.
    pub(crate) fn times_heard(&self, number: Number) -> u32 {
        self.heard.get(&number).copied().unwrap_or(0)
    }

    /// Since when it has been subscribed, without a break, to something that matches.
    pub(crate) fn subscribed_since(&self, name: &str) -> Option<u64> {
        let since = |(filter, subscription): (&&str, &Subscription)| match subscription {
            Subscription::Granted(step) if topic::matches(plain(filter), name) => Some(*step),
            _ => None,
        };
        self.subscriptions.iter().filter_map(since).min()
    }

    /// The quality that a publish reaches it at.
    pub(crate) fn granted(&self, qos: QoS) -> QoS {
        self.qos.min(qos)
    }
}

/// The filter within, of a shared subscription.
fn plain(filter: &str) -> &str {
    if filter == SHARED { "t/#" } else { filter }
}

fn publish_packet(model: &Model, number: Number, id: Option<u16>, dup: bool) -> Option<Packet> {
    let message = model.messages.get(number)?;
    let (payload, properties) = model::content(number, message.is_empty);
    Some(Packet::Publish(Publish {
        dup,
        qos: message.qos,
        retain: message.retain,
        topic: message.topic.clone().into(),
        packet_id: id.map(packet_id),
        properties: properties.into(),
        payload,
    }))
}
