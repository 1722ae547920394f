//! From an accepted socket to a client at the door: what the proxy says, TLS, WebSocket, in this order and within one
//! deadline that CONNECT shares.

use std::{fmt::Display, net::SocketAddr, pin::Pin, sync::Arc};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use wardline_core::Limit;

use crate::{
    ahead::Ahead,
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
        match within(deadline, "PROXY protocol", Box::pin(proxy::read_source(&mut stream))).await {
            Ok(Source::Behind(address)) => arrival.peer = address,
            Ok(Source::Socket) => {}
            Err(text) => return refused(&node, &door, &arrival, &text),
        }
    }
    let stream = InTurn::new(stream, node.turns());
    let Some(lock) = door.locks.borrow().tls.clone() else {
        return carry(stream, arrival, listener, door, node).await;
    };
    let handshake = Box::pin(tls::accept(&lock, Ahead::new(stream), clock::now));
    let served = match within(deadline, "TLS handshake", handshake).await {
        Ok((stream, chain)) => carry(stream, Arrival { chain, ..arrival }, listener, door, node),
        Err(text) => return refused(&node, &door, &arrival, &text),
    };
    served.await;
}

/// Serves a stream of bytes, or of WebSocket frames. In a box of its own, so that no connection takes the room of those that
/// come by another way.
fn carry<S>(
    stream: S,
    arrival: Arrival,
    listener: &Listener,
    door: Arc<Door>,
    node: Arc<Node>,
) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if !listener.transport.is_websocket() {
        return Box::pin(connection::run(stream, arrival, door, node));
    }
    Box::pin(async move {
        let accepted =
            websocket::accept(Ahead::new(stream), &listener.origins, door.limits.client.max_packet);
        let served = match within(arrival.deadline, "WebSocket handshake", Box::pin(accepted)).await {
            Ok(stream) => Box::pin(connection::run(stream, arrival, door, node)),
            Err(text) => return refused(&node, &door, &arrival, &text),
        };
        served.await;
    })
}

/// Each step is in a box, which is gone once it is done.
async fn within<T, E: Display>(
    deadline: Instant,
    what: &str,
    step: Pin<Box<impl Future<Output = Result<T, E>>>>,
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
