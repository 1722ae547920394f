//! Clients that do nothing wrong while others do.

use wardline_wire::{Ack, Packet, ReasonCode, Version};

use crate::{Broker, RawClient};

/// A publisher and a subscriber on the listener `lab`, connected before anything goes wrong.
#[derive(Debug)]
pub struct Bystanders {
    publisher: RawClient,
    subscriber: RawClient,
    sent: u16,
}

impl Bystanders {
    /// Connects them.
    pub fn of(broker: &Broker) -> Self {
        let mut subscriber = RawClient::connected(broker.address("lab"), Version::V311, "bystander-sub");
        subscriber.subscribe("bystander/#");
        let publisher = RawClient::connected(broker.address("lab"), Version::V5, "bystander-pub");
        Self { publisher, subscriber, sent: 0 }
    }

    /// Demands that they still hear each other, on the connections they had.
    ///
    /// # Panics
    /// If they do not.
    pub fn are_undisturbed(&mut self) {
        self.sent += 1;
        let payload = format!("message {}", self.sent);
        let answer = self.publisher.publish("bystander/1", payload.as_bytes(), self.sent);
        assert!(matches!(&answer, Packet::PubAck(ack) if !ack.reason.is_error()), "{answer:?}");
        match self.subscriber.receive() {
            Packet::Publish(publish) => {
                assert_eq!(publish.payload, payload);
                let ack = Ack {
                    packet_id: publish.packet_id.expect("QoS 1"),
                    reason: ReasonCode::Success,
                    reason_string: None,
                    user: Vec::new(),
                };
                self.subscriber.send(&Packet::PubAck(ack));
            }
            other => panic!("{other:?}"),
        }
    }
}
