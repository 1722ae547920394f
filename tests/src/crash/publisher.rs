//! A device with a session of its own: what is not acknowledged it sends again, in order, until it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use wardline_wire::{Packet, Publish, QoS, Version};

use super::faults::{Fault, Faults};
use super::ledger::{Content, Ledger};
use super::link;
use super::stage::{Act, Stage};
use crate::{DEADLINE, Dice, Heard, RawClient, ack, packet_id};

/// Publishes under way at any time.
const WINDOW: u64 = 20;
/// The longest rest between two bursts.
const REST_MAX: Duration = Duration::from_millis(60);

/// A publisher.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) id: String,
    pub(super) version: Version,
    /// The streams that it publishes.
    pub(super) streams: std::ops::Range<usize>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) stage: Arc<Stage>,
    pub(super) dice: Dice,
    /// In the order in which they were begun.
    pub(super) open: VecDeque<Open>,
    /// The broker has answered something on an earlier connection, so it has the session.
    pub(super) is_known: bool,
    pub(super) faults: Faults,
}

/// A publish that is not acknowledged to the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    id: u16,
    stream: usize,
    seq: usize,
    /// PUBREC has come: only PUBREL is sent again [MQTT-4.3.3-5].
    received: bool,
}

impl Publisher {
    /// Publishes for the whole run; gives what it found wrong.
    pub(super) fn run(mut self) -> Faults {
        while let Some(address) = self.stage.broker() {
            let Some((client, had_session)) = link::open(address, self.version, &self.id) else {
                self.stage.rest();
                continue;
            };
            if self.is_known && !had_session {
                self.faults.add(Fault::Session, || format!("of the publisher {}", self.id));
            }
            if self.converse(client) {
                break;
            }
        }
        self.faults
    }

    /// One connection. True when there is nothing left to do, false when the broker is gone.
    fn converse(&mut self, mut client: RawClient) -> bool {
        for open in &mut self.open.clone() {
            self.send(&mut client, *open, true);
        }
        loop {
            if self.stage.act() == Act::Load {
                self.burst(&mut client);
            } else if self.open.is_empty() {
                return true;
            }
            while !self.open.is_empty() {
                match link::listen(&mut client, DEADLINE) {
                    Heard::Packet(packet) => self.answered(&mut client, packet),
                    Heard::End => return false,
                    Heard::Silence => panic!("{}: no answer in time to {:?}", self.id, self.open),
                }
                self.is_known = true;
                if self.dice.chance(10) {
                    break;
                }
            }
            self.stage.stay_away(self.dice.up_to(REST_MAX));
        }
    }

    /// Fills the window up to a place that chance decides.
    fn burst(&mut self, client: &mut RawClient) {
        let wanted = self.dice.within(1..WINDOW + 1);
        while (self.open.len() as u64) < wanted {
            let stream = self.dice.within(self.streams.start as u64..self.streams.end as u64) as usize;
            let seq = self.ledger.begin(stream);
            let open = Open { id: self.free_id(), stream, seq, received: false };
            self.open.push_back(open);
            self.send(client, open, false);
        }
    }

    /// The lowest that is free: an identifier that is used again at once tells most about who forgets what.
    fn free_id(&self) -> u16 {
        (1..).find(|id| self.open.iter().all(|open| open.id != *id)).expect("the window is small")
    }

    fn send(&self, client: &mut RawClient, open: Open, dup: bool) {
        if open.received {
            return client.send(&Packet::PubRel(ack(open.id)));
        }
        self.ledger.send(open.stream, open.seq);
        let stream = &self.ledger.streams()[open.stream];
        client.send(&Packet::Publish(Publish {
            dup,
            qos: stream.qos,
            retain: stream.content == Content::Retained,
            topic: stream.topic(open.seq).into(),
            packet_id: Some(packet_id(open.id)),
            payload: stream.payload(open.stream, open.seq).into(),
            ..Publish::default()
        }));
    }

    fn answered(&mut self, client: &mut RawClient, packet: Packet) {
        let (Packet::PubAck(answer) | Packet::PubRec(answer) | Packet::PubComp(answer)) = &packet else {
            panic!("{}: {packet:?}", self.id);
        };
        let place = self.open.iter().position(|open| open.id == answer.packet_id.0.get());
        let place = place.unwrap_or_else(|| panic!("{}: answer to nothing: {packet:?}", self.id));
        let open = &mut self.open[place];
        let qos = self.ledger.streams()[open.stream].qos;
        match packet {
            Packet::PubAck(answer) if qos == QoS::AtLeastOnce && !answer.reason.is_error() => {
                self.ledger.acknowledge(open.stream, open.seq);
                self.open.remove(place);
            }
            Packet::PubRec(answer) if qos == QoS::ExactlyOnce && !answer.reason.is_error() => {
                open.received = true;
                self.ledger.acknowledge(open.stream, open.seq);
                client.send(&Packet::PubRel(ack(open.id)));
            }
            // Where the PUBCOMP was lost with the broker, the identifier is not known any more: reason 0x92.
            Packet::PubComp(_) if open.received => {
                self.open.remove(place);
            }
            other => panic!("{}: {other:?} to {open:?}", self.id),
        }
    }
}
