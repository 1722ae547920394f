//! Retained messages, looked at while nobody publishes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use wardline_wire::{Packet, Version};

use super::faults::{Fault, Faults};
use super::ledger::{Content, Ledger, clears};
use crate::{Heard, RawClient};

/// After so long nothing more comes that was there.
const SILENCE: Duration = Duration::from_millis(200);

/// Holds what the broker retains against what it has acknowledged, and against what it was sent.
pub(super) fn inspect(broker: SocketAddr, ledger: &Ledger) -> Faults {
    let retained = read(broker);
    let mut faults = Faults::default();
    for (number, stream) in ledger.streams().iter().enumerate() {
        if stream.content != Content::Retained {
            continue;
        }
        let sent = ledger.of(number);
        // The broker takes a publisher's publishes in their order: the last acknowledged, or a later one that was sent.
        let first = sent.iter().rposition(|sent| sent.acknowledged);
        let last = sent.iter().rposition(|sent| sent.times > 0).map_or(0, |last| last + 1);
        let mut possible = first.unwrap_or(0)..last;
        let holds = match retained.get(&stream.topic) {
            None => first.is_none() || possible.any(clears),
            Some(payload) => ledger
                .identify(&stream.topic, payload)
                .is_some_and(|(of, seq)| of == number && possible.contains(&seq)),
        };
        if !holds {
            faults.add(Fault::Retained, || {
                let found =
                    retained.get(&stream.topic).map(|payload| payload.chars().take(20).collect::<String>());
                format!("{}: {found:?}, but one of the numbers {possible:?} is right", stream.topic)
            });
        }
    }
    faults
}

fn read(broker: SocketAddr) -> BTreeMap<String, String> {
    let mut client = RawClient::connected(broker, Version::V311, "inspector");
    client.subscribe("crash/retained/#");
    let mut retained = BTreeMap::new();
    while let Heard::Packet(packet) = client.listen(SILENCE) {
        let Packet::Publish(publish) = packet else { panic!("inspector: {packet:?}") };
        client.acknowledge(&publish);
        retained.insert(publish.topic.to_string(), String::from_utf8_lossy(&publish.payload).into_owned());
    }
    retained
}
