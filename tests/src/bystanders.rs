//! Clients that do nothing wrong while others do.

use wardline_wire::{Packet, Version};

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
        self.publisher.deliver("bystander/1", &payload, self.sent);
        match self.subscriber.receive() {
            Packet::Publish(publish) => {
                assert_eq!(publish.payload, payload);
                self.subscriber.acknowledge(&publish);
            }
            other => panic!("{other:?}"),
        }
    }
}
