//! A client's connection to a broker that may be gone at any instant.

use std::net::SocketAddr;
use std::time::Duration;

use wardline_wire::{Connect, Packet, ReasonCode, Version};

use crate::{DEADLINE, Heard, RawClient, connect, try_tcp};

/// Longer than any run, in seconds.
const SESSION_EXPIRY: u32 = 86_400;

/// Opens a connection for a durable session; tells too whether the broker had the session. `None` if the broker is gone.
///
/// # Panics
/// If it is refused.
pub(super) fn open(address: SocketAddr, version: Version, id: &str) -> Option<(RawClient, bool)> {
    let mut client = RawClient::over(try_tcp(address).ok()?, version);
    client.send(&Packet::Connect(Box::new(durable(version, id))));
    match listen(&mut client, DEADLINE) {
        Heard::Packet(Packet::ConnAck(answer)) if !answer.reason.is_error() => {
            Some((client, answer.session_present))
        }
        Heard::End => None,
        other => panic!("{id} is refused: {other:?}"),
    }
}

/// What comes within `wait`. A broker that says that it stops has ended the connection.
pub(super) fn listen(client: &mut RawClient, wait: Duration) -> Heard {
    match client.listen(wait) {
        Heard::Packet(Packet::Disconnect(goodbye)) if goodbye.reason == ReasonCode::ServerShuttingDown => {
            Heard::End
        }
        heard => heard,
    }
}

fn durable(version: Version, id: &str) -> Connect {
    let mut connect = connect(version, id);
    connect.clean_start = false;
    connect.properties.session_expiry = (version == Version::V5).then_some(SESSION_EXPIRY);
    connect
}
