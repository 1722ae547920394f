//! A broker and its clients.

use wardline_tests::{Broker, Site};

use crate::bytes::{ACCEPTED, CLEAN, connect};
use crate::peer::Peer;

/// A broker whose clients on `lab` are all `service:lab`, which may publish and subscribe anything but `secret/#`.
pub(crate) struct Lab {
    pub(crate) broker: Broker,
    pub(crate) site: Site,
}

impl Lab {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Self {
        let site = Site::new();
        let broker = Broker::start_with(&site, environment);
        Self { broker, site }
    }

    /// A connection on which nothing has been said.
    pub(crate) fn open(&self) -> Peer {
        Peer::open(self.broker.address("lab"))
    }

    /// A client with a clean session.
    pub(crate) fn client(&self, id: &str) -> Peer {
        let mut peer = self.open();
        peer.ask(&connect(CLEAN, &[id.as_bytes()]), &ACCEPTED);
        peer
    }

    /// A client that keeps its session; `connack` says whether it had one.
    pub(crate) fn keeper(&self, id: &str, connack: [u8; 4]) -> Peer {
        let mut peer = self.open();
        peer.ask(&connect(0, &[id.as_bytes()]), &connack);
        peer
    }

    /// A client with a clean session and one subscription.
    pub(crate) fn subscriber(&self, id: &str, filter: &str, qos: u8) -> Peer {
        let mut peer = self.client(id);
        peer.subscribe(filter, qos);
        peer
    }

    /// Demands that `bytes`, the first of a connection, are answered with nothing but its end.
    pub(crate) fn closes_on(&self, bytes: &[u8], why: &str) {
        let mut peer = self.open();
        peer.send(bytes);
        peer.expect_closed(why);
    }

    /// Demands that `bytes` from a connected client are answered with nothing but the end of the connection.
    pub(crate) fn closes_client_on(&self, bytes: &[u8], why: &str) {
        let mut peer = self.client("careless");
        peer.send(bytes);
        peer.expect_closed(why);
    }
}
