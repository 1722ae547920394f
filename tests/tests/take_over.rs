//! A client whose place is taken by itself.

use wardline_tests::{Broker, RawClient, Site, connect};
use wardline_wire::{Disconnect, Packet, ReasonCode, Version, Will};

/// Enough that a race shows, wherever it is.
const ROUNDS: usize = 200;

#[test]
fn a_client_that_leaves_and_comes_back_at_once_has_left() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let address = broker.address("lab");
    let mut watcher = RawClient::connected(address, Version::V5, "watcher");
    watcher.subscribe("gone/#");
    let mut coming = connect(Version::V5, "restless");
    coming.clean_start = false;
    coming.properties.session_expiry = Some(60);
    coming.will = Some(Will {
        topic: "gone/restless".into(),
        payload: "without a word".into(),
        qos: wardline_wire::QoS::AtLeastOnce,
        retain: false,
        delay: None,
        properties: wardline_wire::PublishProperties::default(),
    });
    for _ in 0..ROUNDS {
        let mut client = RawClient::connected_by(address, coming.clone());
        client.send(&Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            session_expiry: None,
            reason_string: None,
            user: Vec::new(),
            server_reference: None,
        }));
    }
    // Whatever was published before this has been heard before it.
    RawClient::connected(address, Version::V5, "last").publish("gone/nobody", b"", 1);
    match watcher.receive() {
        Packet::Publish(publish) => assert_eq!(publish.topic, "gone/nobody"),
        other => panic!("{other:?}"),
    }
}
