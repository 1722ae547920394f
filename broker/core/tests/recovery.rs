//! The state is a function of the journal: after whatever has happened, a broker that reads the journal owes everybody what
//! the one that wrote it does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::{collections::BTreeMap, num::NonZeroU16, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use support::*;
use wardline_core::{ConnectionId, Limits, QueueFull};
use wardline_wire::{Packet, PacketId, Publish, PublishProperties, QoS, SubscribeOptions, Unsubscribe, Will};

const CLIENTS: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 3] = ["t/1", "t/2", "alerts/1"];
const FILTERS: [&str; 6] = ["t/#", "t/1", "alerts/#", "#", "$share/g/t/#", "$share/h/#"];

#[derive(Clone, Debug)]
enum Step {
    Connect {
        clean: bool,
        lasting: bool,
        window: u16,
        will: Option<(usize, u32)>,
    },
    Lose,
    Disconnect,
    Subscribe {
        filter: usize,
        qos: u8,
        no_local: bool,
    },
    Unsubscribe(usize),
    Publish {
        topic: usize,
        qos: u8,
        retain: bool,
    },
    Hear,
    /// The client gives one of the answers that are due.
    Answer(prop::sample::Index),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let will = prop::option::weighted(0.3, (0..TOPICS.len(), prop_oneof![Just(0), 1..100u32]));
    let connect = (prop::bool::weighted(0.1), prop::bool::weighted(0.9), 0..7u16, will);
    prop_oneof![
        2 => connect.prop_map(|(clean, lasting, window, will)| Step::Connect { clean, lasting, window, will }),
        1 => Just(Step::Lose),
        1 => Just(Step::Disconnect),
        3 => (0..FILTERS.len(), 0..3u8, prop::bool::weighted(0.3))
            .prop_map(|(filter, qos, no_local)| Step::Subscribe { filter, qos, no_local }),
        1 => (0..FILTERS.len()).prop_map(Step::Unsubscribe),
        8 => (0..TOPICS.len(), 1..3u8, prop::bool::weighted(0.1))
            .prop_map(|(topic, qos, retain)| Step::Publish { topic, qos, retain }),
        4 => Just(Step::Hear),
        6 => any::<prop::sample::Index>().prop_map(Step::Answer),
        1 => (0..60u64).prop_map(Step::Pass),
    ]
}

struct Client {
    connection: Option<ConnectionId>,
    answers: Vec<Packet>,
}

struct World {
    ward: Ward,
    clients: Vec<Client>,
    published: u16,
}

impl World {
    fn take(&mut self, at: usize, step: &Step) {
        let Self { ward, clients, published } = self;
        let client = &mut clients[at];
        match (step, client.connection) {
            (&Step::Connect { clean, lasting, window, will }, _) => {
                let mut connect = resume(CLIENTS[at]);
                connect.clean_start = clean;
                connect.properties.session_expiry = Some(if lasting { 3_600 } else { 0 });
                connect.properties.receive_maximum = NonZeroU16::new(window);
                connect.will = will.map(|(topic, delay)| Will {
                    topic: TOPICS[topic].into(),
                    payload: Bytes::from_static(b"will"),
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    delay: Some(delay),
                    properties: PublishProperties::default(),
                });
                client.answers.clear();
                client.connection = Some(ward.connect(connect).0);
            }
            (Step::Lose | Step::Disconnect, Some(id)) => {
                if matches!(step, Step::Disconnect) {
                    ward.send(id, disconnect());
                }
                ward.lose(id);
                client.connection = None;
            }
            (&Step::Subscribe { filter, qos, no_local }, Some(id)) => {
                let shared = FILTERS[filter].starts_with("$share/");
                let options = SubscribeOptions {
                    qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)],
                    no_local: no_local && !shared,
                    ..SubscribeOptions::default()
                };
                ward.send(id, subscribe_with(FILTERS[filter], options, None));
            }
            (&Step::Unsubscribe(filter), Some(id)) => {
                let filters = vec![FILTERS[filter].into()];
                let unsubscribe = Unsubscribe { packet_id: support::id(9), user: Vec::new(), filters };
                ward.send(id, Packet::Unsubscribe(unsubscribe));
            }
            (&Step::Publish { topic, qos, retain }, Some(id)) => {
                *published += 1;
                let publish = publish(TOPICS[topic], &published.to_string(), qos, *published);
                ward.send(id, Packet::Publish(Publish { retain, ..publish }));
            }
            (Step::Hear, Some(id)) => {
                client.answers.extend(ward.hear(id).0.iter().filter_map(answer));
            }
            (Step::Answer(which), Some(id)) if !client.answers.is_empty() => {
                let packet = client.answers.remove(which.index(client.answers.len()));
                ward.send(id, packet);
            }
            (&Step::Pass(seconds), _) => ward.pass(Duration::from_secs(seconds)),
            _ => {}
        }
    }
}

fn answer(packet: &Packet) -> Option<Packet> {
    match packet {
        Packet::Publish(Publish { qos: QoS::AtLeastOnce, packet_id: Some(PacketId(number)), .. }) => {
            Some(Packet::PubAck(ack(number.get())))
        }
        Packet::Publish(Publish { packet_id: Some(PacketId(number)), .. }) => {
            Some(Packet::PubRec(ack(number.get())))
        }
        Packet::PubRec(receipt) => Some(Packet::PubRel(ack(receipt.packet_id.0.get()))),
        Packet::PubRel(release) => Some(Packet::PubComp(ack(release.packet_id.0.get()))),
        _ => None,
    }
}

/// What everybody still gets, sorted, for each whether it has a session.
fn owed(ward: &mut Ward) -> BTreeMap<(&'static str, bool), Vec<String>> {
    let connected = CLIENTS.map(|client| {
        let (id, connack) = ward.connect(resume(client));
        (client, id, connack.session_present)
    });
    let hear = |(client, id, present)| {
        let mut payloads = ward.payloads(id);
        payloads.sort();
        ((client, present), payloads)
    };
    connected.into_iter().map(hear).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn who_reads_the_journal_owes_what_who_wrote_it_does(
        // None: any number may wait. What a full queue drops may come again from a group, so that then there are none.
        full in prop::option::of(prop_oneof![Just(QueueFull::DropNewest), Just(QueueFull::DropOldest)]),
        steps in prop::collection::vec((0..CLIENTS.len(), step()), 1..120),
    ) {
        let mut limits = Limits { head_messages_max: 2, ..Limits::default() };
        if let Some(queue_full) = full {
            limits = Limits { queued_messages_max: 6, queue_full, ..limits };
        }
        let clients = CLIENTS.map(|_| Client { connection: None, answers: Vec::new() }).into();
        let mut world = World { ward: Ward::with_limits(limits), clients, published: 0 };
        for (at, step) in &steps {
            let shared = matches!(step, Step::Subscribe { filter, .. } if FILTERS[*filter].starts_with("$share/"));
            if full.is_none() || !shared {
                world.take(*at, step);
            }
        }
        for at in 0..CLIENTS.len() {
            world.take(at, &Step::Lose);
        }
        world.ward.sync();
        let mut again = world.ward.restart();
        prop_assert_eq!(owed(&mut again), owed(&mut world.ward));
    }
}
