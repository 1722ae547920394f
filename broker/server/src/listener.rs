//! A listening socket: accepts, upgrades to TLS and WebSocket, and hands each client to a task of its own.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{connection, door::Door, node::Node, websocket};

/// Connections the kernel may hold that we have not accepted yet.
const BACKLOG: i32 = 1_024;
/// Rest after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// First probe of a silent peer, and the pause between probes: a dead pager is known within a minute even without keep-alive.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// Binds a listening socket; a port that was in use a moment ago can be used again at once.
///
/// # Errors
/// What the system says, as for a port in use.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the task is dropped. Each connection holds one of `places` while it lasts.
pub async fn run(
    listener: TcpListener,
    websocket: bool,
    door: Arc<Door>,
    node: Arc<Node>,
    places: Arc<Semaphore>,
) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = &*door.name, %error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Beyond the limit the socket is closed at once: a queue of the waiting would only hide it.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            node.metrics().refused.inc();
            continue;
        };
        let (door, node) = (Arc::clone(&door), Arc::clone(&node));
        tokio::spawn(async move {
            let _place = place;
            serve(stream, peer, websocket, door, node).await;
        });
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, websocket: bool, door: Arc<Door>, node: Arc<Node>) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%peer, %error, "cannot set socket options");
    }
    let limit = door.connect_timeout;
    let Some(tls) = door.locks.borrow().tls.clone() else {
        if !websocket {
            return connection::run(stream, peer, Vec::new(), door, node).await;
        }
        match timeout(limit, websocket::accept(stream, door.packet_bytes_max as usize)).await {
            Ok(Ok(stream)) => connection::run(stream, peer, Vec::new(), door, node).await,
            Ok(Err(error)) => refused(&node, &door, peer, &format!("WebSocket handshake: {error}")),
            Err(_) => refused(&node, &door, peer, "WebSocket handshake took too long"),
        }
        return;
    };
    let stream = match timeout(limit, tls.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return refused(&node, &door, peer, &format!("TLS handshake: {error}")),
        Err(_) => return refused(&node, &door, peer, "TLS handshake took too long"),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    if !websocket {
        return connection::run(stream, peer, chain, door, node).await;
    }
    match timeout(limit, websocket::accept(stream, door.packet_bytes_max as usize)).await {
        Ok(Ok(stream)) => connection::run(stream, peer, chain, door, node).await,
        Ok(Err(error)) => refused(&node, &door, peer, &format!("WebSocket handshake: {error}")),
        Err(_) => refused(&node, &door, peer, "WebSocket handshake took too long"),
    }
}

fn refused(node: &Node, door: &Door, peer: SocketAddr, text: &str) {
    tracing::info!(listener = &*door.name, %peer, reason = text, "refused");
    node.refused_early(&peer.to_string(), &door.name, text);
}

/// No waiting for more to send, and a peer that is gone is noticed.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
