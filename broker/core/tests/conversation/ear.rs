//! The client's end of a connection: hears what the broker says and asserts that it may say so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use wardline_core::ClientLimits;
use wardline_wire::{Ack, Connect, Decoder, Packet, PacketId, Publish, QoS, ReasonCode, Version, topic};

use super::other::by_the_other;

/// Filters that a client has ever asked for, over all its connections.
pub(crate) type Asked = BTreeSet<String>;

/// What a client sent and is to be answered, by identifier: how often.
type Awaited = BTreeMap<u16, u32>;

pub(crate) struct Ear {
    pub(crate) client: String,
    pub(crate) version: Version,
    decoder: Decoder,
    bytes: BytesMut,
    packet_bytes_max: usize,
    /// QoS 1 and 2 publishes it takes before acknowledging.
    receive_maximum: usize,
    topic_alias_maximum: u16,
    aliases: BTreeMap<u16, String>,
    continued: Option<bool>,
    farewell: bool,
    /// Publishes it was sent and has not acknowledged.
    unacknowledged: BTreeMap<u16, QoS>,
    /// What it would answer to what it heard, oldest first.
    pub(crate) answers: VecDeque<Packet>,
    pubacks: Awaited,
    pubrecs: Awaited,
    pubrels: Awaited,
    pubcomps: Awaited,
    /// PUBRELs for publishes that it was not sent.
    unasked: Awaited,
    subacks: BTreeMap<u16, VecDeque<usize>>,
    unsubacks: BTreeMap<u16, VecDeque<usize>>,
    pingresps: u32,
    /// PUBRELs that an earlier connection was owed.
    released: BTreeSet<u16>,
}

fn number(id: PacketId) -> u16 {
    id.0.get()
}

fn success(packet_id: PacketId) -> Ack {
    Ack { packet_id, reason: ReasonCode::Success, reason_string: None, user: Vec::new() }
}

/// One more is to come.
fn expect(awaited: &mut Awaited, id: PacketId) {
    *awaited.entry(number(id)).or_default() += 1;
}

/// One of them has come.
fn settle(awaited: &mut Awaited, id: PacketId) -> bool {
    let Some(count) = awaited.get_mut(&number(id)) else { return false };
    *count -= 1;
    if *count == 0 {
        awaited.remove(&number(id));
    }
    true
}

impl Ear {
    pub(crate) fn new(client: String, connect: &Connect, limits: &ClientLimits) -> Self {
        let properties = &connect.properties;
        let packet_bytes_max = properties.maximum_packet_size.unwrap_or(u32::MAX);
        let own = properties.receive_maximum.map_or(u16::MAX, |maximum| maximum.get());
        Self {
            client,
            version: connect.version,
            decoder: Decoder::client_side(connect.version, u32::MAX),
            bytes: BytesMut::new(),
            packet_bytes_max: packet_bytes_max as usize,
            receive_maximum: usize::from(own.min(limits.in_flight)),
            topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            aliases: BTreeMap::new(),
            continued: None,
            farewell: false,
            unacknowledged: BTreeMap::new(),
            answers: VecDeque::new(),
            pubacks: Awaited::new(),
            pubrecs: Awaited::new(),
            pubrels: Awaited::new(),
            pubcomps: Awaited::new(),
            unasked: Awaited::new(),
            subacks: BTreeMap::new(),
            unsubacks: BTreeMap::new(),
            pingresps: 0,
            released: BTreeSet::new(),
        }
    }

    /// The broker is about to be given this packet of the client.
    pub(crate) fn said(&mut self, packet: &Packet) {
        match packet {
            Packet::Publish(Publish { qos: QoS::AtLeastOnce, packet_id: Some(id), .. }) => {
                expect(&mut self.pubacks, *id);
            }
            Packet::Publish(Publish { qos: QoS::ExactlyOnce, packet_id: Some(id), .. }) => {
                expect(&mut self.pubrecs, *id);
            }
            Packet::PubRel(release) => expect(&mut self.pubcomps, release.packet_id),
            Packet::PubRec(receipt) if !receipt.reason.is_error() => {
                let sent = self.unacknowledged.contains_key(&number(receipt.packet_id));
                // What it was not sent on this connection may be answered or not.
                expect(if sent { &mut self.pubrels } else { &mut self.unasked }, receipt.packet_id);
            }
            Packet::PubAck(ack) | Packet::PubComp(ack) | Packet::PubRec(ack) => {
                self.unacknowledged.remove(&number(ack.packet_id));
            }
            Packet::Subscribe(subscribe) => {
                let asked = self.subacks.entry(number(subscribe.packet_id)).or_default();
                asked.push_back(subscribe.filters.len());
            }
            Packet::Unsubscribe(unsubscribe) => {
                let asked = self.unsubacks.entry(number(unsubscribe.packet_id)).or_default();
                asked.push_back(unsubscribe.filters.len());
            }
            Packet::PingReq => self.pingresps += 1,
            _ => {}
        }
    }

    /// Room for what the broker writes; [`Self::hear`] reads it.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Everything the broker said arrives whole, and may be said here and now.
    pub(crate) fn hear(&mut self, asked: &Asked) {
        while !self.bytes.is_empty() {
            let before = self.bytes.clone();
            let packet = match self.decoder.decode(&mut self.bytes) {
                Ok(Some(packet)) => packet,
                other => panic!("{other:?} of {before:02x?}"),
            };
            let frame = &before[..before.len() - self.bytes.len()];
            self.check_bytes(frame, &packet);
            self.take(packet, asked);
        }
    }

    fn check_bytes(&self, frame: &[u8], packet: &Packet) {
        assert!(frame.len() <= self.packet_bytes_max, "{} bytes: {packet:?}", frame.len());
        if self.version != Version::V31 {
            let theirs = by_the_other(frame, self.version);
            assert!(theirs.as_deref() == Ok(frame), "{packet:?}: {frame:02x?}, theirs {theirs:02x?}");
        }
    }

    fn take(&mut self, packet: Packet, asked: &Asked) {
        assert!(!self.farewell, "after DISCONNECT: {packet:?}");
        if let Packet::ConnAck(connack) = &packet {
            assert!(self.continued.is_none() && !connack.reason.is_error(), "{connack:?}");
            // MQTT 3.1 does not tell.
            self.continued = Some(connack.session_present || self.version == Version::V31);
            return;
        }
        assert!(self.continued.is_some(), "before CONNACK: {packet:?}");
        match packet {
            Packet::Publish(publish) => self.take_publish(&publish, asked),
            Packet::PubAck(ack) => assert!(settle(&mut self.pubacks, ack.packet_id), "{ack:?}"),
            Packet::PubRec(receipt) => {
                assert!(settle(&mut self.pubrecs, receipt.packet_id), "{receipt:?}");
                if !receipt.reason.is_error() {
                    self.answers.push_back(Packet::PubRel(success(receipt.packet_id)));
                }
            }
            Packet::PubComp(ack) => assert!(settle(&mut self.pubcomps, ack.packet_id), "{ack:?}"),
            Packet::PubRel(release) => self.take_release(&release),
            Packet::SubAck(suback) => {
                let filters = self.subacks.get_mut(&number(suback.packet_id)).and_then(VecDeque::pop_front);
                assert_eq!(filters, Some(suback.reasons.len()), "{suback:?}");
            }
            Packet::UnsubAck(unsuback) => {
                let filters =
                    self.unsubacks.get_mut(&number(unsuback.packet_id)).and_then(VecDeque::pop_front);
                let reasons = unsuback.reasons.len();
                assert!(filters.is_some_and(|filters| self.version != Version::V5 || filters == reasons));
            }
            Packet::PingResp => {
                assert!(self.pingresps > 0, "PINGRESP that nobody asked for");
                self.pingresps -= 1;
            }
            Packet::Disconnect(disconnect) => {
                assert!(self.version == Version::V5 && disconnect.reason.is_error(), "{disconnect:?}");
                self.farewell = true;
            }
            other => panic!("not for a broker to say: {other:?}"),
        }
    }

    fn take_publish(&mut self, publish: &Publish, asked: &Asked) {
        let name = self.resolve(publish);
        let wanted = |filter: &String| {
            let within =
                topic::Shared::parse(filter).and_then(Result::ok).map_or(&**filter, |shared| shared.filter);
            topic::matches(within, &name)
        };
        assert!(asked.iter().any(wanted), "{name} was never subscribed, only {asked:?}");
        assert!(!publish.dup || self.continued == Some(true), "DUP without a session that went before");
        let Some(id) = publish.packet_id else { return };
        let before = self.unacknowledged.insert(number(id), publish.qos);
        assert_eq!(before, None, "identifier {} is in use", number(id)); // [MQTT-2.2.1-4]
        // [MQTT-3.3.4-9]
        assert!(self.unacknowledged.len() <= self.receive_maximum, "{} in flight", self.unacknowledged.len());
        self.answers.push_back(match publish.qos {
            QoS::ExactlyOnce => Packet::PubRec(success(id)),
            _ => Packet::PubAck(success(id)),
        });
    }

    /// The topic, by its alias if it has one [MQTT-3.1.2-26].
    fn resolve(&mut self, publish: &Publish) -> String {
        let Some(alias) = publish.properties.topic_alias.map(|alias| alias.get()) else {
            return publish.topic.to_string();
        };
        assert!(alias <= self.topic_alias_maximum, "alias {alias}");
        if !publish.topic.is_empty() {
            self.aliases.insert(alias, publish.topic.to_string());
        }
        let name = self.aliases.get(&alias).cloned();
        name.unwrap_or_else(|| panic!("alias {alias} stands for nothing"))
    }

    fn take_release(&mut self, release: &Ack) {
        let id = release.packet_id;
        if !settle(&mut self.pubrels, id) && !settle(&mut self.unasked, id) {
            // From before; once in a connection [MQTT-4.4.0-1].
            let first = self.released.insert(number(release.packet_id));
            assert!(first && self.continued == Some(true), "{release:?}");
        }
        self.answers.push_back(Packet::PubComp(success(release.packet_id)));
    }

    /// Asserts that there is nothing that the broker has yet to answer.
    pub(crate) fn is_answered(&self) {
        assert!(self.continued.is_some(), "no CONNACK");
        for (what, awaited) in [
            ("PUBACK", &self.pubacks),
            ("PUBREC", &self.pubrecs),
            ("PUBREL", &self.pubrels),
            ("PUBCOMP", &self.pubcomps),
        ] {
            assert!(awaited.is_empty(), "{what} did not come for {awaited:?}");
        }
        assert!(self.subacks.values().all(VecDeque::is_empty), "SUBACK did not come");
        assert!(self.unsubacks.values().all(VecDeque::is_empty), "UNSUBACK did not come");
        assert_eq!(self.pingresps, 0, "PINGRESP did not come");
    }
}
