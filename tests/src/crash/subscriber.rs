//! A subscriber with a session of its own that comes and goes, and knows what it was given.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wardline_wire::{Packet, Publish, QoS, Version};

use super::faults::{Fault, Faults};
use super::ledger::Ledger;
use super::link;
use super::stage::{Act, Stage};
use crate::{Dice, Heard, RawClient, ack};

/// How long it listens before it looks what is asked of it.
const LISTEN: Duration = Duration::from_millis(20);
/// The longest that it thinks about a publish when it is slow.
const THOUGHT_MAX: Duration = Duration::from_millis(5);
/// The longest that it is away when it wanders.
const ABSENCE_MAX: Duration = Duration::from_millis(1_500);
/// The most publishes it reads before it goes, when it wanders.
const VISIT_MAX: u64 = 300;
/// Answers that it gathers before it sends them, at most.
const ANSWERS_MAX: u64 = 16;

/// How it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// As fast as it can.
    Prompt,
    /// With pauses.
    Slow,
    /// A few, and then it is away.
    Wandering,
}

/// Who it is, and what it wants.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) id: &'static str,
    pub(super) version: Version,
    pub(super) filter: &'static str,
    pub(super) qos: QoS,
    pub(super) manner: Manner,
    /// Each publish of a topic comes to it, in order; else others of its group have a share.
    pub(super) is_alone: bool,
}

/// A subscriber.
#[derive(Debug)]
pub(super) struct Subscriber {
    part: Part,
    ledger: Arc<Ledger>,
    stage: Arc<Stage>,
    dice: Dice,
    /// QoS 2 identifiers that are not released; what comes with one of them has come before [MQTT-4.3.3-10].
    unreleased: HashMap<u16, Publish>,
    got: Got,
}

/// What it was given.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) part: Part,
    /// By stream and number, how often.
    pub(super) times: Vec<Vec<u32>>,
    /// Topics and payloads of alerts.
    pub(super) alerts: BTreeSet<(String, String)>,
    pub(super) faults: Faults,
}

impl Subscriber {
    /// Makes its session and subscription at a broker that runs.
    pub(super) fn subscribed(
        part: Part,
        broker: SocketAddr,
        (ledger, stage): (Arc<Ledger>, Arc<Stage>),
        dice: Dice,
    ) -> Self {
        let (mut client, _) = link::open(broker, part.version, part.id).expect("the broker runs");
        let reasons = client.try_subscribe(&[(part.filter, part.qos)]);
        assert!(!reasons.iter().any(|reason| reason.is_error()), "{}: {reasons:?}", part.id);
        Self::new(part, ledger, stage, dice)
    }

    /// One that has been given nothing.
    pub(super) fn new(part: Part, ledger: Arc<Ledger>, stage: Arc<Stage>, dice: Dice) -> Self {
        let times = vec![Vec::new(); ledger.streams().len()];
        let got = Got { part: part.clone(), times, alerts: BTreeSet::new(), faults: Faults::default() };
        Self { part, ledger, stage, dice, unreleased: HashMap::new(), got }
    }

    /// What it was given.
    pub(super) fn into_got(self) -> Got {
        self.got
    }

    /// Reads for the whole run; gives what it got.
    pub(super) fn run(mut self) -> Got {
        while let Some(address) = self.stage.broker() {
            let Some((client, had_session)) = link::open(address, self.part.version, self.part.id) else {
                self.stage.rest();
                continue;
            };
            if !had_session {
                self.got.faults.add(Fault::Session, || format!("of the subscriber {}", self.part.id));
                self.unreleased.clear();
            }
            self.converse(client);
            if self.part.manner == Manner::Wandering && self.stage.act() == Act::Load {
                self.stage.stay_away(self.dice.up_to(ABSENCE_MAX));
            }
        }
        self.into_got()
    }

    /// One connection, until it, the broker or the run ends.
    fn converse(&mut self, mut client: RawClient) {
        let visit = self.dice.within(1..VISIT_MAX);
        let mut read = 0;
        let mut answers = Vec::new();
        while self.stage.act() != Act::Over {
            let in_hurry = self.stage.act() == Act::Settle;
            match link::listen(&mut client, LISTEN) {
                Heard::End => return,
                Heard::Silence => flush(&mut client, &mut answers),
                Heard::Packet(Packet::Publish(publish)) => {
                    read += 1;
                    answers.extend(self.take(publish));
                    if self.part.manner == Manner::Slow && !in_hurry {
                        self.stage.stay_away(self.dice.up_to(THOUGHT_MAX));
                    }
                    if answers.len() as u64 >= self.dice.within(1..ANSWERS_MAX) {
                        flush(&mut client, &mut answers);
                    }
                    if self.part.manner == Manner::Wandering && read >= visit && !in_hurry {
                        // What it has not answered comes again.
                        return;
                    }
                }
                Heard::Packet(Packet::PubRel(release)) => {
                    self.unreleased.remove(&release.packet_id.0.get());
                    answers.push(Packet::PubComp(ack(release.packet_id.0.get())));
                }
                Heard::Packet(other) => panic!("{}: {other:?}", self.part.id),
            }
        }
        flush(&mut client, &mut answers);
    }

    /// Takes a publish; gives the answer to it.
    pub(super) fn take(&mut self, publish: Publish) -> Option<Packet> {
        let id = publish.packet_id.map(|id| id.0.get());
        match (publish.qos, id) {
            (QoS::ExactlyOnce, Some(id)) => {
                if let Some(before) = self.unreleased.get(&id) {
                    // To a client the identifier is all there is, so another publish with it would be lost.
                    if before.payload != publish.payload || before.topic != publish.topic {
                        self.got.faults.add(Fault::Lost2, || {
                            format!(
                                "{}: identifier {id} given to another publish before its release",
                                self.part.id
                            )
                        });
                    }
                } else {
                    self.note(&publish);
                    self.unreleased.insert(id, publish);
                }
                Some(Packet::PubRec(ack(id)))
            }
            (_, id) => {
                self.note(&publish);
                id.map(|id| Packet::PubAck(ack(id)))
            }
        }
    }

    fn note(&mut self, publish: &Publish) {
        let payload = String::from_utf8_lossy(&publish.payload);
        if publish.topic.starts_with("alerts/") {
            self.got.alerts.insert((publish.topic.to_string(), payload.into_owned()));
            return;
        }
        if payload.is_empty() {
            // A retained message is cleared; which of the clearings it is cannot be told.
            return;
        }
        let Some((stream, seq)) = self.ledger.identify(&publish.topic, &payload) else {
            self.got.faults.add(Fault::Strange, || {
                let start: String = payload.chars().take(40).collect();
                format!("{}: {} {start:?}", self.part.id, publish.topic)
            });
            return;
        };
        let times = &mut self.got.times[stream];
        if times.len() <= seq {
            times.resize(seq + 1, 0);
        } else if self.part.is_alone && times[seq] == 0 {
            let later = times.len() - 1;
            self.got.faults.add(Fault::Order, || {
                format!("{}: {} number {seq} after {later}", self.part.id, publish.topic)
            });
        }
        times[seq] += 1;
    }
}

fn flush(client: &mut RawClient, answers: &mut Vec<Packet>) {
    for answer in answers.drain(..) {
        client.send(&answer);
    }
}
