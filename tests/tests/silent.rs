//! What a connection costs on which nothing is said.

use std::thread;

use wardline_tests::{Broker, RawClient, Site};
use wardline_wire::{Packet, Publish, Version};

const CONNECTIONS: usize = 400;
/// What a connection may take of memory beyond what it takes when it has just begun, in bytes: no buffer.
const GROWTH_BYTES_MAX: u64 = 4 * 1_024;

/// Neither a reload, which has each connection look at its grants, nor a publish that is not answered leaves it with a buffer.
#[test]
fn a_connection_that_is_owed_nothing_has_no_buffer() {
    let site = Site::new();
    let broker = Broker::start(&site);
    let connected =
        |number| RawClient::connected(broker.address("lab"), Version::V5, &format!("monitor-{number}"));
    let mut monitors: Vec<RawClient> = (0..CONNECTIONS).map(connected).collect();
    let before = broker.data_bytes();
    broker.reload();
    broker.wait_for_log("the reload", |line| line.contains("reloaded"));
    for monitor in &mut monitors {
        monitor.send(&unanswered());
    }
    while broker.metric::<usize>("wardline_publishes_accepted_total") < CONNECTIONS {
        thread::yield_now();
    }
    let each = broker.data_bytes().saturating_sub(before) / CONNECTIONS as u64;
    assert!(each < GROWTH_BYTES_MAX, "{each} bytes a connection");
}

fn unanswered() -> Packet {
    Packet::Publish(Publish { topic: "ward/b12/note".into(), payload: "well".into(), ..Publish::default() })
}
