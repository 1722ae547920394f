//! From an accepted socket to a client at the door: what the proxy says, TLS, WebSocket, in this order and within one
//! deadline that CONNECT shares.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use wardline_core::Limit;

use crate::{
    clock,
    config::Listener,
    connection,
    door::Door,
    network,
    node::Node,
    proxy::{self, Source},
    tls,
    turns::InTurn,
    websocket,
};

/// A client at the door, as its transport brought it.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Where it comes from: the source that a trusted proxy named, else the socket's other end.
    pub peer: SocketAddr,
    /// The chain that TLS has verified, the client's own certificate first; empty without one.
    pub chain: Vec<CertificateDer<'static>>,
    /// By when its CONNECT must be complete.
    pub deadline: Instant,
}

/// Takes an accepted socket up to MQTT, over TCP, TLS or WebSocket [MQTT-4.2.0-1], and serves it until it ends.
pub async fn serve(
    mut stream: TcpStream,
    socket_peer: SocketAddr,
    listener: &Listener,
    door: Arc<Door>,
    node: Arc<Node>,
) {
    let deadline = Instant::now() + door.limits.connect_timeout;
    let mut arrival = Arrival { peer: network::canonical(socket_peer), chain: Vec::new(), deadline };
    if let Some(trusted) = &listener.proxies {
        if !trusted.iter().any(|network| network.contains(arrival.peer.ip())) {
            let text = "not a trusted proxy; name it in proxy_trusted if it should be";
            return refused(&node, &door, &arrival, text);
        }
        match within(deadline, "PROXY protocol", proxy::read_source(&mut stream)).await {
            Ok(Source::Behind(address)) => arrival.peer = address,
            Ok(Source::Socket) => {}
            Err(text) => return refused(&node, &door, &arrival, &text),
        }
    }
    let stream = InTurn::new(stream, node.turns());
    let Some(lock) = door.locks.borrow().tls.clone() else {
        return carry(stream, arrival, listener, door, node).await;
    };
    match within(deadline, "TLS handshake", tls::accept(&lock, stream, clock::now)).await {
        Ok((stream, chain)) => carry(stream, Arrival { chain, ..arrival }, listener, door, node).await,
        Err(text) => refused(&node, &door, &arrival, &text),
    }
}

/// Serves a stream of bytes, or of WebSocket frames.
async fn carry<S>(stream: S, arrival: Arrival, listener: &Listener, door: Arc<Door>, node: Arc<Node>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !listener.transport.is_websocket() {
        return connection::run(stream, arrival, door, node).await;
    }
    let accepted = websocket::accept(stream, &listener.origins, door.limits.client.max_packet);
    match within(arrival.deadline, "WebSocket handshake", accepted).await {
        Ok(stream) => connection::run(stream, arrival, door, node).await,
        Err(text) => refused(&node, &door, &arrival, &text),
    }
}

async fn within<T, E: Display>(
    deadline: Instant,
    what: &str,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match timeout_at(deadline, step).await {
        Ok(outcome) => outcome.map_err(|error| format!("{what}: {error}")),
        Err(_) => Err(format!("{what} took too long")),
    }
}

fn refused(node: &Node, door: &Door, arrival: &Arrival, text: &str) {
    if Instant::now() >= arrival.deadline {
        node.metrics().limit_reached(Limit::ConnectTimeout, &door.name);
    }
    tracing::info!(listener = &*door.name, peer = %arrival.peer, reason = text, "refused");
    node.refused_early(&arrival.peer.to_string(), &door.name, text);
}
