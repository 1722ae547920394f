//! A listening socket: accepts, and hands each client to a task of its own [MQTT3-7.1.1-1].

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use wardline_core::Limit;

use crate::{arrival, bucket::Bucket, config::Listener, door::Door, node::Node};

/// Connections the kernel may hold that we have not accepted yet: a ward that comes back at once after a power cut. Linux
/// takes no more than its `net.core.somaxconn`, which is as much.
const BACKLOG: i32 = 4_096;
/// Rest after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// First probe of a silent peer, the pause between probes, and how many: a dead pager is known within a minute even without
/// MQTT's keep-alive.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// How long bytes, or a probe, may go without an answer. Without it the kernel sends again for a quarter of an hour and
/// more, while alerts go to somebody who is not there.
#[cfg(target_os = "linux")]
const UNANSWERED_MAX: Duration = Duration::from_secs(30);
/// Bytes that the kernel may hold without having sent them. An alert cannot pass what is in there: unlimited, that is up to
/// four megabytes of telemetry, half a minute on a pager's poor radio link.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 16 * 1_024;

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

/// Accepts until the task is dropped. Each connection holds one of the node's `places` while it lasts, and one of the
/// listener's own.
pub async fn run(
    listener: TcpListener,
    config: Arc<Listener>,
    door: Arc<Door>,
    node: Arc<Node>,
    places: Arc<Semaphore>,
) {
    let own_places = Arc::new(Semaphore::new(door.limits.connections));
    let mut rate = door.limits.connections_per_second.map(|rate| Bucket::new(rate, Instant::now()));
    loop {
        if let Some(rate) = &rate {
            let wait = rate.wait(Instant::now());
            if !wait.is_zero() {
                // Those who come meanwhile wait in the kernel's backlog, not refused: they would only come again.
                node.metrics().limit_reached(Limit::ConnectionsPerSecond, &door.name);
                tokio::time::sleep(wait).await;
            }
        }
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = &*door.name, %error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        node.metrics().sockets.inc();
        if let Some(rate) = &mut rate {
            rate.take(1, Instant::now());
        }
        // Beyond the limit the socket is closed at once: a queue of the waiting would only hide it.
        let taken = [&places, &own_places].map(|places| Arc::clone(places).try_acquire_owned());
        let [Ok(place), Ok(own_place)] = taken else {
            node.metrics().refused.inc();
            node.metrics().limit_reached(Limit::Connections, &door.name);
            continue;
        };
        if let Err(error) = tune(&stream) {
            tracing::debug!(%peer, %error, "cannot set socket options");
        }
        let (config, door, node) = (Arc::clone(&config), Arc::clone(&door), Arc::clone(&node));
        tokio::spawn(async move {
            let _places = (place, own_place);
            arrival::serve(stream, peer, &config, door, node).await;
        });
    }
}

/// No waiting for more to send, little in front of an alert, and a peer that is gone is noticed.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(UNANSWERED_MAX))?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_accepted_socket_has_the_options_that_latency_and_dead_peers_need() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let _client = client.unwrap();
        let (stream, _) = accepted.unwrap();
        tune(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNANSWERED_MAX));
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
        }
    }
}
