//! Wills are in the journal and in snapshots: wherever the journal is cut, whoever reads it publishes what its writer would
//! have, once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test asserts, and shares its harness"
)]

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use support::*;
use wardline_core::{ConnectionId, Denial, Gate, Open};
use wardline_journal::{Body, Entry, Mark, Outcome, Record, decode};
use wardline_wire::{Disconnect, Packet, Publish, PublishProperties, QoS, ReasonCode, Will};

const CLIENTS: [&str; 3] = ["a", "b", "c"];
const SPANS_S: [u32; 5] = [0, 1, 10, 40, 5_000];
const REASONS: [ReasonCode; 3] =
    [ReasonCode::Success, ReasonCode::DisconnectWithWill, ReasonCode::UnspecifiedError];

#[derive(Clone, Debug)]
enum Step {
    Connect {
        client: usize,
        clean: bool,
        expiry: u32,
        delay: Option<u32>,
    },
    Lose(usize),
    Disconnect {
        client: usize,
        reason: ReasonCode,
        expiry: Option<u32>,
    },
    /// A reload takes back what the client was allowed to publish.
    Regrant(usize),
    Pass(u32),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS.len();
    let span = || prop::sample::select(&SPANS_S[..]);
    prop_oneof![
        6 => (client(), prop::bool::weighted(0.2), span(), prop::option::weighted(0.8, span()))
            .prop_map(|(client, clean, expiry, delay)| Step::Connect { client, clean, expiry, delay }),
        3 => client().prop_map(Step::Lose),
        3 => (client(), prop::sample::select(&REASONS[..]), prop::option::of(span()))
            .prop_map(|(client, reason, expiry)| Step::Disconnect { client, reason, expiry }),
        1 => client().prop_map(Step::Regrant),
        4 => span().prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

impl Step {
    /// The clients whose connections it ends, if they have one.
    fn loses(&self) -> std::ops::Range<usize> {
        match *self {
            Self::Connect { client, .. } | Self::Lose(client) | Self::Disconnect { client, .. } => {
                client..client + 1
            }
            Self::Restart => 0..CLIENTS.len(),
            Self::Regrant(_) | Self::Pass(_) => 0..0,
        }
    }
}

/// Nothing is allowed.
struct Shut;

impl Gate for Shut {
    fn publish(&mut self, _client: &Arc<str>, _publish: &Publish) -> Result<(), Denial> {
        Err(Denial { reason: ReasonCode::NotAuthorized, text: "shut".to_owned() })
    }

    fn subscribe(&mut self, _client: &Arc<str>, _filter: &str) -> Result<(), Denial> {
        Ok(())
    }
}

fn will(payload: &str, delay: Option<u32>) -> Will {
    Will {
        topic: "wills/device".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay,
        properties: PublishProperties::default(),
    }
}

fn leave(reason: ReasonCode, session_expiry: Option<u32>) -> Packet {
    Packet::Disconnect(Disconnect {
        reason,
        session_expiry,
        reason_string: None,
        user: Vec::new(),
        server_reference: None,
    })
}

/// What became of the wills whose records a journal holds, by payload: each time one was published or taken back.
type Fates = BTreeMap<String, Vec<(Timestamp, bool)>>;

fn fates(ward: &Ward) -> Fates {
    let mut fates = Fates::new();
    ward.broker.log().for_each(|entry| {
        if let Entry::Record(_, Record::Publish(publish)) = entry {
            assert!(CLIENTS.contains(&publish.origin.client) && publish.topic == "wills/device");
            let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
            fates
                .entry(payload)
                .or_default()
                .push((publish.received_at, publish.outcome == Outcome::Accepted));
        }
    });
    fates
}

struct World {
    ward: Ward,
    connections: [Option<ConnectionId>; CLIENTS.len()],
    wills: u32,
}

impl World {
    fn after(steps: &[Step]) -> Self {
        let mut world = Self { ward: Ward::new(), connections: [None; CLIENTS.len()], wills: 0 };
        steps.iter().for_each(|step| world.take(step));
        world
    }

    fn take(&mut self, step: &Step) {
        let Self { ward, connections, wills } = self;
        match *step {
            Step::Connect { client, clean, expiry, delay } => {
                let mut connect = connect(CLIENTS[client]);
                connect.clean_start = clean;
                connect.properties.session_expiry = Some(expiry);
                *wills += 1;
                connect.will = delay.map(|delay| will(&wills.to_string(), Some(delay)));
                connections[client] = Some(ward.connect(connect).0);
            }
            Step::Lose(client) => {
                connections[client].take().into_iter().for_each(|id| ward.lose(id));
            }
            Step::Disconnect { client, reason, expiry } => {
                if let Some(id) = connections[client].take() {
                    ward.send(id, leave(reason, expiry));
                    ward.lose(id);
                }
            }
            Step::Regrant(client) => {
                if let Some(id) = connections[client] {
                    ward.broker.regrant(id, Arc::from([]), &mut Shut, ward.now);
                }
            }
            Step::Pass(seconds) => ward.pass(Duration::from_secs(seconds.into())),
            Step::Restart => {
                *ward = ward.restart();
                *connections = [None; CLIENTS.len()];
            }
        }
    }

    fn pass_until(&mut self, now: Timestamp) {
        self.ward.pass(Duration::try_from(now.duration_since(self.ward.now)).unwrap());
    }

    /// What becomes of all wills if everybody is lost at `now` and nobody comes back.
    fn end(mut self, now: Timestamp) -> Fates {
        self.pass_until(now);
        for client in 0..CLIENTS.len() {
            self.take(&Step::Lose(client));
        }
        run_out(self.ward)
    }
}

/// What becomes of all wills in time.
fn run_out(mut ward: Ward) -> Fates {
    while let Some(deadline) = ward.broker.next_deadline() {
        ward.now = ward.now.max(deadline);
        ward.broker.tick(ward.now);
    }
    fates(&ward)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wherever_the_journal_is_cut_each_will_meets_its_fate_once(
        steps in prop::collection::vec(step(), 1..20),
        away_s in prop::sample::select(&SPANS_S[..]),
    ) {
        let all = World::after(&steps).ward;
        let mut from = 0;
        for (done, step) in steps.iter().enumerate() {
            let before = World::after(&steps[..done]);
            let after = World::after(&steps[..=done]);
            // The step may have lost connections and done no more.
            let mut lost = World::after(&steps[..done]);
            let at = after.ward.now;
            lost.pass_until(at);
            step.loses().for_each(|client| lost.take(&Step::Lose(client)));
            let now = at + Duration::from_secs(away_s.into());
            let until = after.ward.broker.log().entries.len();
            let restored = World::after(&steps[..=done]).ward.restore(now);
            let [before, lost, after] = [before, lost, after].map(|world| world.end(now));
            prop_assert_eq!(run_out(restored), after.clone(), "from a snapshot");
            // Nor published what was due: that is made up for at the restart.
            let mut late = after.clone();
            for (time, _) in late.values_mut().flatten().filter(|(time, _)| *time == at) {
                *time = now;
            }
            for kept in from..=until {
                let found = run_out(all.crash_until(kept, now));
                let allowed = match kept {
                    _ if kept == until => vec![&after],
                    _ if kept == from => vec![&before],
                    _ => vec![&before, &lost, &late, &after],
                };
                let payloads = allowed.iter().flat_map(|fates| fates.keys()).chain(found.keys());
                for payload in payloads {
                    let fate = found.get(payload);
                    let allowed: Vec<_> = allowed.iter().map(|fates| fates.get(payload)).collect();
                    prop_assert!(
                        allowed.contains(&fate),
                        "will {payload}: {fate:?} instead of {allowed:?}, {kept} entries of {from} to {until}, {step:?}",
                    );
                    prop_assert!(fate.is_none_or(|fate| fate.len() == 1), "will {payload}: {fate:?}");
                }
            }
            from = until;
        }
    }
}

#[test]
fn a_will_comes_out_of_the_journal_with_all_that_its_sender_gave_it() {
    let mut ward = Ward::new();
    let (pager, _) = ward.connect(resume("pager"));
    ward.ask(pager, subscribe("wills/#", 2));
    let mut connect = connect("device");
    let properties = PublishProperties {
        payload_format: Some(1),
        message_expiry: Some(60),
        response_topic: Some("answers".into()),
        correlation_data: Some(Bytes::from_static(b"\0\xff")),
        user: vec![("b".into(), "1".into()), ("a".into(), "2".into()), ("b".into(), "1".into())],
        content_type: Some("text/plain".into()),
        ..PublishProperties::default()
    };
    let left = Will {
        qos: QoS::ExactlyOnce,
        retain: true,
        properties: properties.clone(),
        ..will("gone", Some(30))
    };
    connect.will = Some(left);
    connect.properties.session_expiry = Some(60);
    ward.connect_as(connect, "device:mon-12", &mut Open).unwrap();

    let mut ward = ward.restart();
    let (pager, _) = ward.connect(resume("pager"));
    assert_eq!(ward.publishes(pager), [], "the delay is counted from the restart");
    ward.pass(Duration::from_secs(30));
    let heard = ward.publishes(pager);
    let Publish { qos, payload, topic, .. } = &heard[0];
    assert_eq!(
        (&**topic, &payload[..], *qos, &*heard[0].properties),
        ("wills/device", &b"gone"[..], QoS::ExactlyOnce, &properties)
    );
    let mut principals = Vec::new();
    ward.broker.log().for_each(|entry| {
        if let Entry::Record(_, Record::Publish(publish)) = entry {
            principals.push((publish.origin.principal.to_owned(), publish.retain));
        }
    });
    assert_eq!(principals, [("device:mon-12".to_owned(), true)]);
}

/// CONNACK says that the will is kept, so nothing is said before it is on disk.
#[test]
fn a_client_hears_that_it_is_in_once_its_will_is_durable() {
    let mut ward = Ward::new();
    ward.sync = false;
    let mut connect = connect("device");
    connect.will = Some(will("gone", None));
    let device = ward.connect_unheard(connect);
    ward.send(device, Packet::PingReq);
    assert_eq!(ward.hear(device).0, []);
    ward.broker.take_woken(&mut Vec::new());
    ward.sync();
    let mut woken = Vec::new();
    ward.broker.take_woken(&mut woken);
    assert_eq!(woken, [device]);
    assert!(matches!(&ward.hear(device).0[..], [Packet::ConnAck(_), Packet::PingResp]));

    // Also one that is sent away meanwhile.
    let mut connect = support::connect("device");
    connect.will = Some(will("gone", None));
    let device = ward.connect_unheard(connect);
    ward.broker.disconnect_with(device, ReasonCode::ServerShuttingDown, "");
    assert_eq!(ward.hear(device), (Vec::new(), false));
    ward.sync();
    let (said, closed) = ward.hear(device);
    assert!(matches!(&said[..], [Packet::ConnAck(_), Packet::Disconnect(_)]) && closed, "{said:?}");
}

#[test]
fn a_will_whose_connect_was_cut_off_is_not_that_of_the_next() {
    let mut ward = Ward::new();
    let mut connect = connect("device");
    connect.will = Some(will("cut off", None));
    ward.connect(connect);
    let announced = |entry: &Vec<u8>| matches!(decode(entry), Ok(Body::Mark(Mark::Will { .. })));
    let at = ward.broker.log().entries.iter().position(announced).unwrap();
    let mut ward = ward.crash(at + 1);
    ward.connect(support::connect("device"));
    assert_eq!(run_out(ward.restart()), Fates::new());
}
