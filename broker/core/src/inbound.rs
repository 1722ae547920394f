//! Packets from a client.

use std::sync::Arc;

use bytestring::ByteString;
use jiff::Timestamp;
use wardline_journal::{AccessEvent, Log, Mark, Offset, Origin, Outcome, Record};
use wardline_wire::{
    Ack, Disconnect, Packet, PacketId, PacketType, Publish, QoS, ReasonCode, SubAck, Subscribe,
    SubscribeFilter, Unsubscribe, Version, encode_properties,
};

use crate::{
    broker::{Broker, Event, Held, HeldPacket},
    connection::ConnectionId,
    gate::{Denial, Gate},
    lane::Outgoing,
    limits::Limit,
    routes::Route,
    session::{InFlight, SessionId, Subscription},
    source::Source,
    state,
    stored::Stored,
};

/// Answers that may wait for the disk on one connection. More are due to nobody who uses each packet identifier once at a time,
/// in either direction. What the journal has yet to write stops the server from reading, but an answer to a repeat adds
/// nothing to that.
const ANSWERS_HELD_MAX: usize = 2 * u16::MAX as usize;

impl<L: Log> Broker<L> {
    /// Takes one packet of a connected client.
    pub fn receive(&mut self, id: ConnectionId, packet: Packet, gate: &mut impl Gate, now: Timestamp) {
        let Self { connections, counters, .. } = self;
        let Some(connection) = id.of_mut(connections).filter(|connection| !connection.closing) else {
            return;
        };
        counters.packets_received += 1;
        connection.last_received = now;
        if connection.answers_held >= ANSWERS_HELD_MAX {
            return self.disconnect_with(id, ReasonCode::QuotaExceeded, "too many answers are due");
        }
        match packet {
            Packet::Publish(publish) => self.publish_received(id, publish, gate, now),
            Packet::PubAck(ack) => self.puback(id, &ack, now),
            Packet::PubRec(ack) => self.pubrec(id, &ack, now),
            Packet::PubRel(ack) => self.pubrel(id, ack.packet_id),
            Packet::PubComp(ack) => self.pubcomp(id, ack.packet_id),
            Packet::Subscribe(subscribe) => self.subscribe(id, &subscribe, gate, now),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(id, &unsubscribe, now),
            Packet::PingReq => {
                // [MQTT-3.12.4-1]
                connection.send(Packet::PingResp);
                self.wake(id);
            }
            Packet::Disconnect(disconnect) => self.disconnected(id, &disconnect, now),
            // Of a client that has begun with a method, AUTH goes by way of its `Authentication` [MQTT-4.12.0-7].
            Packet::Auth(_) => self.protocol_error(id, "AUTH without enhanced authentication"),
            Packet::Connect(_) => self.protocol_error(id, "second CONNECT"), // [MQTT-3.1.0-2]
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.protocol_error(id, "packet that only a server sends");
            }
        }
    }

    /// The client is sending, and is not heard: it is slowed down, or the disk is. That must not count as silence.
    pub fn unheard(&mut self, id: ConnectionId, now: Timestamp) {
        if let Some(connection) = self.connection_mut(id) {
            connection.last_received = now;
        }
    }

    fn protocol_error(&mut self, id: ConnectionId, text: &str) {
        self.disconnect_with(id, ReasonCode::ProtocolError, text);
    }

    /// Takes a publish and answers as its QoS demands [MQTT-3.3.4-1].
    fn publish_received(
        &mut self,
        id: ConnectionId,
        mut publish: Publish,
        gate: &mut impl Gate,
        now: Timestamp,
    ) {
        let Self { connections, sessions, counters, reached, .. } = self;
        counters.publishes_received += 1;
        counters.publish_bytes_received += publish.payload.len() as u64;
        let Some(connection) = id.of_mut(connections) else { return };
        let limits = &connection.limits;
        if let Some(alias) = publish.properties.take_topic_alias() {
            let maximum = limits.topic_alias_max;
            match connection.aliases.resolve(alias, &publish.topic, maximum) {
                Ok(topic) => publish.topic = topic,
                Err(reason) => {
                    let mut text = "topic alias is not defined";
                    if alias.get() > maximum {
                        reached.count(limits, Limit::TopicAliasMax);
                        text = "topic alias is above the maximum that CONNACK told";
                    }
                    return self.disconnect_with(id, reason, text);
                }
            }
        }
        if publish.packet_id.is_some() {
            connection.unacknowledged += 1;
            // [MQTT-3.3.4-7] for MQTT 5; older clients were never told a maximum.
            if connection.version == Version::V5 && connection.unacknowledged > u32::from(limits.receive_max)
            {
                reached.count(limits, Limit::ReceiveMax);
                let reason = ReasonCode::ReceiveMaximumExceeded;
                return self.disconnect_with(id, reason, "receive maximum exceeded");
            }
        }
        let exactly_once = publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce);
        if let Some(packet_id) = exactly_once
            && let Some(session) = connection.session.of(sessions)
            && session.received.contains(packet_id)
        {
            // A repeat: it was taken, perhaps on an earlier connection [MQTT-4.3.3-10].
            return self.hold(id, HeldPacket::Success(PacketType::PubRec, packet_id));
        }

        let (source, publisher) = (Arc::clone(&connection.source), connection.session);
        let checked = limits.check_name(&publish.topic).map_err(|(limit, denial)| {
            reached.count(limits, limit);
            denial
        });
        if let Err(denial) = checked.and_then(|()| check_payload(&publish)) {
            let (reason, text) = (denial.reason, denial.text.clone());
            self.deny(id, &publish, source.origin(), denial, now);
            if publish.packet_id.is_none() {
                // At QoS 0 there is no acknowledgement to say it in.
                self.disconnect_with(id, reason, &text);
            }
            return;
        }
        if let Err(denial) = gate.publish(&source.client, &publish) {
            return self.deny(id, &publish, source.origin(), denial, now);
        }
        if let Err((limit, denial)) = self.retained.check(&publish, &self.limits, now) {
            if let Some(connection) = id.of(&self.connections) {
                self.reached.count(&connection.limits, limit);
            }
            return self.deny(id, &publish, source.origin(), denial, now);
        }
        let recorded_id = exactly_once.map_or(0, |packet_id| packet_id.0.get());
        self.accept(&publish, source, Some(publisher), recorded_id, now);
        // [MQTT-2.2.1-5]
        let Some(packet_id) = publish.packet_id else { return };
        if exactly_once.is_some() {
            // [MQTT-4.3.3-8]; what is refused is not remembered [MQTT-4.3.3-9]
            if let Some(session) = self.session_mut(publisher) {
                session.received.insert(packet_id);
            }
            self.hold(id, HeldPacket::Success(PacketType::PubRec, packet_id));
        } else {
            // And nothing is remembered: the identifier is free [MQTT-4.3.2-4] [MQTT-4.3.2-5].
            self.hold(id, HeldPacket::Success(PacketType::PubAck, packet_id));
        }
    }

    /// Journals an accepted publish, keeps it if retained, and routes it. The one way for clients, wills and plugins alike.
    pub(crate) fn accept(
        &mut self,
        publish: &Publish,
        source: Arc<Source>,
        publisher: Option<SessionId>,
        packet_id: u16,
        now: Timestamp,
    ) -> Offset {
        let offset = self.record(publish, source.origin(), packet_id, Outcome::Accepted, "", now);
        self.counters.publishes_accepted += 1;
        let route = self.routes.of(&publish.topic, publisher, &self.tree, &self.limits);
        let publish = publish.detached_under(route.topic.clone());
        let stored = Arc::new(Stored::new(Some(offset), now, publish, source));
        self.distribute(&stored, &route, now);
        offset
    }

    pub(crate) fn distribute(&mut self, stored: &Arc<Stored>, route: &Route, now: Timestamp) {
        // [MQTT-3.3.1-5] [MQTT-3.3.1-8]
        if stored.publish.retain {
            self.retained.keep(stored);
        }
        self.route(stored, route, now);
        // Plugins hear what the journal has, so that a restart tells them the same.
        if stored.offset.is_some() {
            self.events.push(Event::Published(Arc::clone(stored)));
        }
    }

    /// A publish of a plugin or of the node itself, by the same way as a client's.
    pub fn publish(&mut self, principal: Arc<str>, publish: &Publish, now: Timestamp) -> Offset {
        self.accept(publish, Source::within(principal), None, 0, now)
    }

    /// A publish that is not recorded: the node's own counters. QoS 0, never in the journal, never audited.
    pub fn publish_unrecorded(&mut self, principal: Arc<str>, publish: Publish, now: Timestamp) {
        let route = self.routes.of(&publish.topic, None, &self.tree, &self.limits);
        let stored = Arc::new(Stored::new(None, now, publish, Source::within(principal)));
        self.distribute(&stored, &route, now);
    }

    pub(crate) fn record(
        &mut self,
        publish: &Publish,
        origin: Origin<'_>,
        packet_id: u16,
        outcome: Outcome,
        reason: &str,
        now: Timestamp,
    ) -> Offset {
        self.encoded.clear();
        if !publish.properties.is_empty() {
            let encoded = encode_properties(&publish.properties, &mut self.encoded);
            debug_assert!(
                encoded.is_ok(),
                "a client's came in a block that fitted, a plugin's are a few short ones"
            );
        }
        self.log.append(&Record::Publish(wardline_journal::Publish {
            received_at: now,
            origin,
            topic: &publish.topic,
            qos: publish.qos as u8,
            retain: publish.retain,
            packet_id,
            properties: &self.encoded,
            payload: &publish.payload,
            outcome,
            reason,
        }))
    }

    fn deny(
        &mut self,
        id: ConnectionId,
        publish: &Publish,
        origin: Origin<'_>,
        denial: Denial,
        now: Timestamp,
    ) {
        self.record(publish, origin, 0, Outcome::Denied, &denial.text, now);
        self.counters.publishes_denied += 1;
        let (Some(packet_id), Some(connection)) = (publish.packet_id, self.connection(id)) else { return };
        let packet = if connection.version == Version::V5 {
            let text = connection.wants_reasons.then(|| ByteString::from(denial.text)); // [MQTT-3.1.2-29]
            let answer = ack(packet_id, denial.reason, text);
            HeldPacket::Answer(Box::new(if publish.qos == QoS::ExactlyOnce {
                Packet::PubRec(answer)
            } else {
                Packet::PubAck(answer)
            }))
        } else {
            // 3.1.1 can acknowledge or close [MQTT3-3.3.5-2]; an acknowledgement would say that we have what we have not.
            HeldPacket::Close
        };
        self.hold(id, packet);
    }

    /// A packet that could be read only so far: recorded as refused, so that the record shows the attempt.
    pub fn malformed(&mut self, id: ConnectionId, reason: ReasonCode, text: &str, now: Timestamp) {
        let Some(connection) = self.connection(id) else { return };
        let source = Arc::clone(&connection.source);
        self.access(AccessEvent::Refuse, source.origin(), "", text, &[], now);
        self.disconnect_with(id, reason, text);
    }

    /// Keeps an answer back until all that is in the journal now is durable.
    pub(crate) fn hold(&mut self, id: ConnectionId, packet: HeldPacket) {
        let Some(connection) = self.connection_mut(id) else { return };
        if packet.is_answer() {
            connection.answers_held += 1;
        } else if std::mem::replace(&mut connection.wake_held, true) {
            return; // Whoever is woken looks whether there is more to wait for.
        }
        self.held.push_back(Held { after: self.log.entries(), connection: id, packet });
        self.release_held();
    }

    /// The journal's first `entries` entries since it was opened are durable: what waited for them may leave.
    pub fn durable(&mut self, entries: u64) {
        self.durable = self.durable.max(entries);
        self.release_held();
    }

    fn release_held(&mut self) {
        while self.held.front().is_some_and(|held| held.after <= self.durable) {
            let Some(Held { connection: id, packet, .. }) = self.held.pop_front() else { return };
            let Some(connection) = self.connection_mut(id) else { continue };
            connection.answers_held -= usize::from(packet.is_answer());
            match packet {
                HeldPacket::Wake => connection.wake_held = false,
                _ if connection.closing => continue,
                HeldPacket::Success(packet, packet_id) => {
                    // A PUBREC ends nothing yet, and a PUBREL nothing of the client's.
                    if matches!(packet, PacketType::PubAck | PacketType::PubComp) {
                        connection.unacknowledged = connection.unacknowledged.saturating_sub(1);
                    }
                    connection.send_success(packet, packet_id);
                }
                HeldPacket::Answer(packet) => {
                    // A PUBCOMP for what is unknown ends nothing that was counted.
                    if matches!(*packet, Packet::PubAck(_) | Packet::PubRec(_)) {
                        connection.unacknowledged = connection.unacknowledged.saturating_sub(1);
                    }
                    if matches!(*packet, Packet::SubAck(_)) {
                        connection.subacks_held -= 1;
                    }
                    connection.send(*packet);
                }
                HeldPacket::Close => connection.closing = true,
            }
            self.wake(id);
        }
    }

    /// Settles a QoS 1 publish, until then it is owed [MQTT-4.3.2-3].
    fn puback(&mut self, id: ConnectionId, ack_received: &Ack, now: Timestamp) {
        let packet_id = ack_received.packet_id;
        let Some(session) = self.session_of(id) else { return };
        // An unknown identifier may be a late answer to what a new session never sent.
        let Some(at) = session.sent_at(packet_id) else { return };
        if session.in_flight[at].outgoing.qos != QoS::AtLeastOnce {
            return self.protocol_error(id, "PUBACK for a QoS 2 publish");
        }
        let Some(flight) = session.settle(at) else { return };
        let more = session.has_more();
        if ack_received.reason.is_error() {
            self.declined(id, packet_id, &flight.outgoing, now);
        } else {
            self.confirmed(id, packet_id, &flight.outgoing, now);
        }
        if more {
            self.wake(id);
        }
    }

    /// Answers with PUBREL; until then the publish is owed [MQTT-4.3.3-3].
    fn pubrec(&mut self, id: ConnectionId, ack_received: &Ack, now: Timestamp) {
        let packet_id = ack_received.packet_id;
        let Some(session) = self.session_of(id) else { return };
        let Some(at) = session.sent_at(packet_id) else {
            if !ack_received.reason.is_error() && !session.is_to_be_sent(packet_id) {
                self.answer(id, Packet::PubRel(ack(packet_id, ReasonCode::PacketIdentifierNotFound, None)));
            }
            return;
        };
        if session.in_flight[at].outgoing.qos != QoS::ExactlyOnce {
            return self.protocol_error(id, "PUBREC for a QoS 1 publish");
        }
        if ack_received.reason.is_error() {
            if session.in_flight[at].received {
                return self.protocol_error(id, "PUBREC refuses what an earlier one took");
            }
            if let Some(flight) = session.settle(at) {
                self.declined(id, packet_id, &flight.outgoing, now);
                self.completed(id, &flight);
            }
            return self.wake(id);
        }
        // From here on only PUBREL is repeated [MQTT-4.3.3-4] [MQTT-4.3.3-6].
        let first = !std::mem::replace(&mut session.in_flight[at].received, true);
        let outgoing = session.in_flight[at].outgoing.clone();
        if first {
            self.confirmed(id, packet_id, &outgoing, now);
        }
        // Were it sent before the confirmation is durable, a crash would repeat to the client what it has let go of; that holds
        // on another connection too.
        let durable_at = self.log.entries();
        if first && let Some(session) = self.session_of(id) {
            session.in_flight[at].after = durable_at;
        }
        self.hold(id, HeldPacket::Success(PacketType::PubRel, packet_id));
    }

    /// Answers with PUBCOMP, whatever became of the message [MQTT-4.3.3-11] [MQTT-4.3.3-13]; the identifier is free
    /// [MQTT-4.3.3-12].
    fn pubrel(&mut self, id: ConnectionId, packet_id: PacketId) {
        let Some(connection) = self.connection(id) else { return };
        let session = connection.session;
        let Self { sessions, log, .. } = self;
        let Some(session) = session.of_mut(sessions) else { return };
        // Were it sent before the release is durable, a crash would take the identifier's next publish for a repeat.
        let answer = if session.received.remove(packet_id) {
            log.mark(&Mark::Released { client: &session.client, packet_id: packet_id.0.get() });
            HeldPacket::Success(PacketType::PubComp, packet_id)
        } else {
            let unknown = ack(packet_id, ReasonCode::PacketIdentifierNotFound, None);
            HeldPacket::Answer(Box::new(Packet::PubComp(unknown)))
        };
        self.hold(id, answer);
    }

    /// Settles a QoS 2 exchange, until then its PUBREL is owed [MQTT-4.3.3-5].
    fn pubcomp(&mut self, id: ConnectionId, packet_id: PacketId) {
        let Some(session) = self.session_of(id) else { return };
        let Some(at) = session.sent_at(packet_id) else { return };
        if !session.in_flight[at].received {
            return self.protocol_error(id, "PUBCOMP without PUBREC");
        }
        let Some(flight) = session.settle(at) else { return };
        self.completed(id, &flight);
        self.wake(id);
    }

    /// The client will not have a publish, or cannot be sent it: it counts as acknowledged and is sent neither to it again [MQTT-4.4.0-2] nor to
    /// another member of a group [MQTT-4.8.2-6].
    pub(crate) fn declined(
        &mut self,
        id: ConnectionId,
        packet_id: PacketId,
        outgoing: &Outgoing,
        now: Timestamp,
    ) {
        self.settled(id, packet_id, outgoing);
        self.alert_abandoned(id, outgoing, now);
    }

    /// A QoS 2 exchange with a subscriber is over.
    pub(crate) fn completed(&mut self, id: ConnectionId, flight: &InFlight) {
        let session = self.session_of(id).filter(|session| session.is_recorded(&flight.outgoing));
        let Some(client) = session.map(|session| Arc::clone(&session.client)) else { return };
        self.log.mark(&Mark::Completed { client: &client, packet_id: flight.packet_id.0.get() });
    }

    fn answer(&mut self, id: ConnectionId, packet: Packet) {
        if let Some(connection) = self.connection_mut(id) {
            connection.send(packet);
            self.wake(id);
        }
    }

    /// Subscribes one filter after the other [MQTT-3.8.4-5], and answers with one SUBACK [MQTT-3.8.4-1] that has a reason
    /// for each, in their order [MQTT-3.8.4-6] [MQTT-3.9.3-1].
    fn subscribe(&mut self, id: ConnectionId, subscribe: &Subscribe, gate: &mut impl Gate, now: Timestamp) {
        let reasons = subscribe
            .filters
            .iter()
            .map(|wish| self.subscribe_one(id, wish, subscribe.subscription_id, gate, now))
            .collect();
        let Some(connection) = self.connection_mut(id) else { return };
        connection.subacks_held += 1;
        // [MQTT-2.2.1-6] [MQTT-3.8.4-2]
        let suback =
            SubAck { packet_id: subscribe.packet_id, reason_string: None, user: Vec::new(), reasons };
        self.hold(id, HeldPacket::Answer(Box::new(Packet::SubAck(suback))));
    }

    /// The QoS that was granted, or why there is none [MQTT-3.8.4-7].
    fn subscribe_one(
        &mut self,
        id: ConnectionId,
        wish: &SubscribeFilter,
        subscription_id: Option<u32>,
        gate: &mut impl Gate,
        now: Timestamp,
    ) -> ReasonCode {
        let Some(connection) = self.connection(id) else { return ReasonCode::UnspecifiedError };
        let session_id = connection.session;
        let source = Arc::clone(&connection.source);
        let origin = source.origin();
        let filter: &str = &wish.filter;
        let limits = Arc::clone(&connection.limits);
        let maximum = limits.subscriptions;
        let full = self.session(session_id).is_none_or(|session| {
            session.subscriptions.len() >= maximum && !session.subscriptions.contains_key(filter)
        });
        let within = if full {
            let text = format!("the session has its {maximum} subscriptions");
            Err((Limit::Subscriptions, Denial { reason: ReasonCode::QuotaExceeded, text }))
        } else {
            limits.check_filter(filter)
        };
        let permitted = within.map_err(|(limit, denial)| {
            self.reached.count(&limits, limit);
            denial
        });
        if let Err(denial) = permitted.and_then(|()| gate.subscribe(&source.client, filter)) {
            self.access(AccessEvent::Subscribe, origin, filter, &denial.text, &[], now);
            return denial.reason;
        }
        let subscription = Subscription { options: wish.options, id: subscription_id };
        let state = state::subscribe(&subscription);
        self.access(AccessEvent::Subscribe, origin, filter, "", &state, now);
        let new = self.add_subscription(session_id, filter, subscription);
        // [MQTT-3.8.4-4]
        if subscription.wants_retained(new) {
            self.queue_retained(session_id, filter, subscription, now);
        }
        match wish.options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// Unsubscribes one filter after the other [MQTT-3.10.4-6], and answers with one UNSUBACK, whether there was anything
    /// to end or not [MQTT-3.10.4-4] [MQTT-3.10.4-5], with a reason for each in their order [MQTT-3.11.3-1].
    fn unsubscribe(&mut self, id: ConnectionId, unsubscribe: &Unsubscribe, now: Timestamp) {
        let Some(connection) = self.connection(id) else { return };
        let session_id = connection.session;
        let source = Arc::clone(&connection.source);
        let origin = source.origin();
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let existed = self.remove_subscription(session_id, filter);
            let reason = if existed { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted };
            let text = if existed { "" } else { reason.text() };
            self.access(AccessEvent::Unsubscribe, origin, filter, text, &[], now);
            reasons.push(reason);
        }
        let unsuback =
            SubAck { packet_id: unsubscribe.packet_id, reason_string: None, user: Vec::new(), reasons };
        self.hold(id, HeldPacket::Answer(Box::new(Packet::UnsubAck(unsuback))));
    }

    fn disconnected(&mut self, id: ConnectionId, disconnect: &Disconnect, now: Timestamp) {
        let Some(connection) = self.connection(id) else { return };
        let expiry_max = connection.limits.session_expiry_max;
        let Some(session) = self.session_of(id) else { return };
        if let Some(expiry) = disconnect.session_expiry {
            if session.expiry == 0 && expiry > 0 {
                // A session that was to end with its connection cannot be kept after all [3.14.2.2.2].
                return self.protocol_error(id, "session expiry cannot be raised from 0");
            }
            session.expiry = expiry.min(expiry_max);
        }
        if disconnect.reason == ReasonCode::Success {
            session.will = None; // [MQTT-3.14.4-3]
        }
        if let Some(connection) = self.connection_mut(id) {
            connection.closing = true;
        }
        self.wake(id);
        self.detach(id, disconnect.reason.text(), now);
    }
}

/// The payload format indicator of a text (section 3.3.2.3.2).
const TEXT: u8 = 1;

/// Whether a payload that is called text is text (section 3.3.2.3.2): its readers are not to find out that it is not.
pub(crate) fn check_payload(publish: &Publish) -> Result<(), Denial> {
    if publish.properties.payload_format == Some(TEXT) && std::str::from_utf8(&publish.payload).is_err() {
        let text = "the payload format indicator says UTF-8, and the payload is not".to_owned();
        return Err(Denial { reason: ReasonCode::PayloadFormatInvalid, text });
    }
    Ok(())
}

fn ack(packet_id: PacketId, reason: ReasonCode, reason_string: Option<ByteString>) -> Ack {
    Ack { packet_id, reason, reason_string, user: Vec::new() }
}
