//! A second broker that reads the same journal, and a client that asks it what is retained.

use std::{collections::BTreeMap, num::NonZeroU16, sync::Arc};

use bytes::BytesMut;
use jiff::Timestamp;
use wardline_core::{Broker, ConnectRequest, Limits, Open, Transmit};
use wardline_journal::{Journal, Log, Mark, Offset, Record};
use wardline_wire::{
    Connect, ConnectProperties, Decoder, Packet, PacketId, Subscribe, SubscribeFilter, SubscribeOptions,
    Version,
};

use crate::{
    Violation,
    model::{self, Number},
    snapshots::recover,
};

/// Counts, and keeps nothing.
#[derive(Debug, Default)]
struct Nowhere {
    next: u64,
    entries: u64,
}

impl Log for Nowhere {
    fn append(&mut self, _record: &Record<'_>) -> Offset {
        self.entries += 1;
        self.next += 1;
        Offset(self.next - 1)
    }

    fn mark(&mut self, _mark: &Mark<'_>) {
        self.entries += 1;
    }

    fn next_offset(&self) -> Offset {
        Offset(self.next)
    }

    fn readable(&self) -> Offset {
        Offset(self.next)
    }

    fn entries(&self) -> u64 {
        self.entries
    }
}

/// What a broker that reads this journal has retained.
pub(crate) fn retained(journal: &Journal, now: Timestamp) -> Result<BTreeMap<String, Number>, Violation> {
    let mut broker = Broker::new(1, Limits::default(), Nowhere { next: journal.next_offset().0, entries: 0 });
    recover(journal, &mut broker)?;
    broker.recovered(now);
    let request = ConnectRequest {
        connect: connect(),
        principal: Arc::from("service:probe"),
        peer: Arc::from("10.0.0.99:1"),
        withheld: Arc::from([]),
        limits: Arc::default(),
        authentication_data: None,
    };
    let refused = |connack| Violation(format!("the probe is refused: {connack:?}"));
    let id = broker.connect(request, &mut Open, now).map_err(refused)?;
    broker.receive(id, subscribe(), &mut Open, now);
    broker.durable(u64::MAX);
    let (mut bytes, mut decoder) = (BytesMut::new(), Decoder::client_side(Version::V5, u32::MAX));
    let mut retained = BTreeMap::new();
    while broker.transmit(id, &mut bytes, usize::MAX, now) == Transmit::More {}
    while let Some(packet) = decoder.decode(&mut bytes).map_err(|error| Violation(error.to_string()))? {
        if let Packet::Publish(publish) = packet {
            let number = model::number(&publish.payload, &publish.properties)?;
            retained.insert(publish.topic.to_string(), number);
        }
    }
    Ok(retained)
}

fn connect() -> Connect {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        client_id: "probe".into(),
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

fn subscribe() -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId(NonZeroU16::MIN),
        subscription_id: None,
        user: Vec::new(),
        filters: vec![SubscribeFilter { filter: "#".into(), options: SubscribeOptions::default() }],
    })
}
