//! A publish through the core, to its subscribers.

use std::{num::NonZeroU16, sync::Arc};

use bytes::BytesMut;
use jiff::Timestamp;
use wardline_core::{Broker, ClientLimits, ConnectRequest, ConnectionId, Event, Limits, Open, Transmit};
use wardline_journal::{Journal, Log};
use wardline_wire::{
    Ack, Packet, PacketId, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscribeOptions,
};

use super::{
    disk::Recorder,
    topics::subscribed,
    wire::{Inbox, TOPIC, bytes_of, connect, publish},
};
use crate::operation::Operation;

const PAYLOAD_BYTES: usize = 64;
/// What a connection writes at once.
const BUDGET_BYTES: usize = 64 << 10;
/// Subscriptions that the publishes do not reach, so that the tree is not empty.
const BYSTANDERS: usize = 1_000;
/// The first of them: of another unit than the publishes.
const ELSEWHERE: usize = 1_000;
/// For as long a session outlives its connection, in seconds.
const DURABLE: Option<u32> = Some(3_600);

/// A core with clients, as the server drives it, but for sockets and plugins.
struct Ward {
    broker: Broker<Journal>,
    recorder: Recorder,
    now: Timestamp,
    events: Vec<Event>,
    woken: Vec<ConnectionId>,
    out: BytesMut,
}

impl Ward {
    fn new() -> Self {
        let recorder = Recorder::new();
        let mut ward = Self {
            broker: Broker::new(1, Limits::default(), recorder.journal.clone()),
            recorder,
            now: Timestamp::UNIX_EPOCH,
            events: Vec::new(),
            woken: Vec::new(),
            out: BytesMut::with_capacity(BUDGET_BYTES),
        };
        let bystander = ward.connect("bystander", None);
        for number in 0..BYSTANDERS {
            ward.subscribe(bystander, &subscribed(ELSEWHERE + number), QoS::AtMostOnce);
        }
        ward
    }

    fn connect(&mut self, client: &str, session_expiry: Option<u32>) -> ConnectionId {
        let request = ConnectRequest {
            connect: connect(client, session_expiry),
            principal: format!("device:{client}").into(),
            peer: "10.20.3.117:51234".into(),
            withheld: Arc::default(),
            limits: Arc::new(ClientLimits { subscriptions: BYSTANDERS, ..ClientLimits::default() }),
            authentication_data: None,
        };
        let id = self.broker.connect(request, &mut Open, self.now).expect("everybody is let in");
        self.sync();
        self.drain(id);
        id
    }

    fn subscribe(&mut self, id: ConnectionId, filter: &str, qos: QoS) {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let filters = vec![SubscribeFilter { filter: filter.into(), options }];
        let packet_id = PacketId(NonZeroU16::MIN);
        let subscribe = Subscribe { packet_id, subscription_id: None, user: Vec::new(), filters };
        self.broker.receive(id, Packet::Subscribe(subscribe), &mut Open, self.now);
        self.sync();
        assert!(self.drain(id) > 0, "the subscription was not answered");
    }

    /// So many clients that take the readings of one topic.
    fn subscribers(&mut self, count: usize, qos: QoS, session_expiry: Option<u32>) -> Vec<ConnectionId> {
        let subscriber = |number| {
            let id = self.connect(&format!("station-{number}"), session_expiry);
            self.subscribe(id, TOPIC, qos);
            id
        };
        (0..count).map(subscriber).collect()
    }

    fn receive(&mut self, id: ConnectionId, packet: Packet) {
        self.broker.receive(id, packet, &mut Open, self.now);
        self.broker.take_events(&mut self.events);
        self.events.clear();
        self.broker.take_woken(&mut self.woken);
        self.woken.clear();
    }

    fn transmit(&mut self, id: ConnectionId) {
        let transmit = self.broker.transmit(id, &mut self.out, BUDGET_BYTES, self.now);
        debug_assert_eq!(transmit, Transmit::Idle, "everything fits");
    }

    /// What was appended is durable; the disk itself is another matter.
    fn sync(&mut self) {
        self.broker.durable(self.broker.log().entries());
    }

    /// What the client is sent, in bytes; it goes nowhere.
    fn drain(&mut self, id: ConnectionId) -> usize {
        self.out.clear();
        self.transmit(id);
        let bytes = self.out.len();
        self.out.clear();
        self.broker.take_woken(&mut self.woken);
        self.woken.clear();
        self.recorder.write_when_due();
        bytes
    }
}

struct Route {
    ward: Ward,
    publish: Publish,
    principal: Arc<str>,
    subscribers: Vec<ConnectionId>,
}

/// A publish into the lanes of its subscribers, and nowhere else.
pub(super) fn route(subscribers: usize) -> Box<dyn Operation> {
    let mut ward = Ward::new();
    let subscribers = ward.subscribers(subscribers, QoS::AtMostOnce, None);
    let publish = publish(TOPIC, QoS::AtMostOnce, PAYLOAD_BYTES);
    Box::new(Route { ward, publish, principal: "service:wardline".into(), subscribers })
}

impl Operation for Route {
    fn run(&mut self) -> usize {
        let Ward { broker, now, woken, .. } = &mut self.ward;
        broker.publish_unrecorded(Arc::clone(&self.principal), self.publish.clone(), *now);
        broker.take_woken(woken);
        woken.len()
    }

    fn restore(&mut self) {
        assert_eq!(self.ward.woken.len(), self.subscribers.len(), "each subscriber has something to send");
        for &subscriber in &self.subscribers {
            assert!(self.ward.drain(subscriber) > PAYLOAD_BYTES, "the publish did not come");
        }
    }
}

/// A publish from its publisher's read buffer to its subscribers' write buffers, with all that is acknowledged on the way.
struct Deliver {
    ward: Ward,
    packet: BytesMut,
    publisher: ConnectionId,
    from_publisher: Inbox,
    subscribers: Vec<ConnectionId>,
    /// Of one subscriber at QoS 1: its acknowledgements.
    from_subscriber: Option<Inbox>,
    last_id: NonZeroU16,
    sent_bytes: usize,
}

/// At QoS 0.
pub(super) fn deliver_qos0(subscribers: usize) -> Box<dyn Operation> {
    deliver(QoS::AtMostOnce, subscribers, None)
}

/// At QoS 1, to one subscriber whose session ends with its connection.
pub(super) fn deliver_qos1() -> Box<dyn Operation> {
    deliver(QoS::AtLeastOnce, 1, None)
}

/// At QoS 1, to one subscriber whose session is durable: the journal has what it was sent and has confirmed.
pub(super) fn deliver_durably() -> Box<dyn Operation> {
    deliver(QoS::AtLeastOnce, 1, DURABLE)
}

fn deliver(qos: QoS, subscribers: usize, session_expiry: Option<u32>) -> Box<dyn Operation> {
    let mut ward = Ward::new();
    let publisher = ward.connect("mon-12", None);
    let subscribers = ward.subscribers(subscribers, qos, session_expiry);
    let mut deliver = Deliver {
        ward,
        packet: bytes_of(&Packet::Publish(publish(TOPIC, qos, PAYLOAD_BYTES))),
        publisher,
        from_publisher: Inbox::new(),
        subscribers,
        from_subscriber: (qos == QoS::AtLeastOnce).then(Inbox::new),
        last_id: NonZeroU16::MAX,
        sent_bytes: 0,
    };
    deliver.arrive();
    Box::new(deliver)
}

impl Deliver {
    fn arrive(&mut self) {
        self.from_publisher.arrive(&self.packet);
        if let Some(inbox) = &mut self.from_subscriber {
            // The core gives identifiers in turn.
            self.last_id = self.last_id.checked_add(1).unwrap_or(NonZeroU16::MIN);
            let packet_id = PacketId(self.last_id);
            let ack = Ack { packet_id, reason: ReasonCode::Success, reason_string: None, user: Vec::new() };
            inbox.arrive(&bytes_of(&Packet::PubAck(ack)));
        }
    }
}

impl Operation for Deliver {
    fn run(&mut self) -> usize {
        let Self { ward, from_publisher, from_subscriber, .. } = self;
        ward.receive(self.publisher, from_publisher.take());
        for &subscriber in &self.subscribers {
            ward.transmit(subscriber);
        }
        self.sent_bytes = ward.out.len();
        if let (Some(inbox), Some(&subscriber)) = (from_subscriber, self.subscribers.first()) {
            ward.sync();
            ward.transmit(self.publisher);
            ward.receive(subscriber, inbox.take());
        }
        ward.out.len()
    }

    fn restore(&mut self) {
        assert_eq!(self.sent_bytes, self.subscribers.len() * self.packet.len(), "everybody gets the publish");
        let answers = usize::from(self.from_subscriber.is_some());
        assert_eq!(self.ward.out.len() > self.sent_bytes, answers > 0, "at QoS 1 the publisher is answered");
        for &subscriber in &self.subscribers {
            assert_eq!(self.ward.broker.owed(subscriber), 0, "what was sent is settled");
        }
        self.ward.out.clear();
        self.ward.recorder.write_when_due();
        self.arrive();
    }
}
