//! One socket: bytes in to the node, bytes out from it.
//!
//! Reading and writing go on side by side, so that a client that sends without listening is slowed, never deadlocked. What a
//! slow client is owed waits in its lanes, where alerts can pass telemetry, not in a buffer here.

mod hearing;
mod traffic;

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use wardline_core::{Authentication, ConnectRequest, ConnectionId, Transmit};
use wardline_wire::{Decoder, ReasonCode};

use crate::{
    ace::Ace,
    arrival::Arrival,
    buffers, clock,
    door::{Admitted, Door},
    entry::{self, Addressee, Entry},
    farewell::{self, FAREWELL_MAX},
    node::{self, Node, Outlet, seconds},
    pace::{Pace, Rest},
    refill::Refill,
    restraint::Telemetry,
    signal::Signal,
    tally::Tally,
    withheld::Withheld,
};
use traffic::{Event, Timer};

/// Bytes on their way to a socket, about at most. Small, because an alert cannot pass what is in here.
const WRITE_BYTES: usize = 16 * 1_024;
/// A client that takes no byte for so long is gone.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Timers do not reach further; a token that lasts longer is looked at again by then.
const TOKEN_WATCH_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long what was read waits before it is looked at again, when the disk or the client's own reading is behind.
const CONGESTION_PAUSE: Duration = Duration::from_millis(2);

/// How often the node is told that a client is not silent but unheard: well below one and a half of the shortest keep-alive.
const EXCUSE_EVERY: Duration = Duration::from_millis(500);

/// How long a connection that is to be taken over is given to read a DISCONNECT that came before.
const LEAVING_MAX: Duration = Duration::from_millis(20);
/// How often it is looked whether it has.
const LEAVING_PAUSE: Duration = Duration::from_millis(1);

/// Serves a connected socket until it ends.
///
/// Letting the client in takes a box, which is gone while it is served: a silent connection takes as little as it can.
pub fn run<S>(stream: S, arrival: Arrival, door: Arc<Door>, node: Arc<Node>) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = Tally::new(stream, node.metrics());
    let opening = Box::pin(open(stream, arrival, Arc::clone(&door), Arc::clone(&node)));
    async move {
        let Some(mut socket) = opening.await else { return };
        let ended = socket.serve(&door, &node).await;
        node.end(socket.id, ended);
        Box::pin(farewell::close(&mut socket.stream)).await;
    }
}

/// Lets a client in. `None`: it was not, and has been told.
async fn open<S>(mut stream: S, arrival: Arrival, door: Arc<Door>, node: Arc<Node>) -> Option<Socket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let peer: Arc<str> = arrival.peer.to_string().into();
    let mut input = BytesMut::new();
    let mut decoder = Decoder::server_side(door.limits.client.max_packet);
    let entry = entry::enter(&mut stream, &mut decoder, &mut input, arrival, &peer, &door, &node).await;
    let Entry { connect, admitted, authentication, authentication_data } = entry?;
    let addressee = Addressee::of(&connect);
    let_leave(&connect.client_id, &node).await;
    let signal = Arc::new(Signal::default());
    let request = ConnectRequest {
        connect: *connect,
        principal: Arc::from(admitted.grants().principal().as_str()),
        peer,
        withheld: node::withheld(admitted.grants()),
        limits: Arc::clone(&door.limits.client),
        authentication_data,
    };
    let id = match node.connect(request, admitted.grants(), &signal, clock::now()) {
        Ok(id) => id,
        Err(connack) => {
            entry::turn_away(&mut stream, connack, addressee).await;
            return None;
        }
    };
    let now = Instant::now();
    Some(Socket {
        id,
        stream,
        signal,
        input,
        decoder,
        token_end: token_end(&admitted),
        admitted,
        authentication: authentication.map(Box::new),
        telemetry: Telemetry::default(),
        withheld: Withheld::default(),
        output: BytesMut::new(),
        held: false,
        is_gone: false,
        alerts: Vec::new(),
        refill: Refill::default(),
        progress: now,
        pace: Pace::new(&door.limits, now),
        rested: now,
        excused: now,
        timer: Timer::default(),
    })
}

/// A client that says goodbye and comes back at once is not to overtake its own DISCONNECT, which another task has yet to
/// read: its will would be published, and its session kept where it should have ended.
async fn let_leave(client: &str, node: &Node) {
    let until = Instant::now() + LEAVING_MAX;
    while node.is_connected(client) && Instant::now() < until {
        sleep(LEAVING_PAUSE).await;
    }
}

struct Socket<S> {
    id: ConnectionId,
    stream: S,
    /// Raised by the node.
    signal: Arc<Signal>,
    input: BytesMut,
    decoder: Decoder,
    admitted: Admitted,
    /// Set where CONNECT named a method.
    authentication: Option<Box<Authentication<Ace>>>,
    /// When the token is looked at next.
    token_end: Option<Instant>,
    telemetry: Telemetry,
    withheld: Withheld,
    output: BytesMut,
    /// Whether a layer on the way to the socket, as TLS, has taken bytes that the socket has not.
    held: bool,
    /// Whether the client takes no more. What it had sent before is still heard: its DISCONNECT may be among it.
    is_gone: bool,
    /// When what led to the alerts in `output` was received.
    alerts: Vec<Timestamp>,
    refill: Refill,
    /// When the client last took a byte, or was last owed none.
    progress: Instant,
    pace: Pace,
    /// The end of the client's last rest, each of which counts once.
    rested: Instant,
    /// When the node was last told that it is not the client who is silent.
    excused: Instant,
    timer: Timer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    async fn serve(&mut self, door: &Arc<Door>, node: &Node) -> &'static str {
        let id = self.id;
        let mut locks = door.locks.clone();
        // What came in the same segment as CONNECT.
        let mut unread = !self.input.is_empty();
        // Whether the core may have something to send; CONNACK is first.
        let mut owed = true;
        loop {
            let now = Instant::now();
            // What may end the connection comes first: a client that never pauses must not outrun it.
            if locks.has_changed().unwrap_or(false) {
                locks.mark_unchanged();
                match door.readmit(&mut self.admitted, clock::now()) {
                    Ok(()) => node.regrant(id, self.admitted.grants()),
                    Err(text) => node.disconnect(id, ReasonCode::NotAuthorized, &text),
                }
            }
            if self.token_end.is_some_and(|end| end <= now) {
                self.token_end = token_end(&self.admitted);
                if self.admitted.expires().is_some_and(|expires| expires <= clock::now()) {
                    self.token_end = None;
                    node.disconnect(id, ReasonCode::NotAuthorized, "the token has expired");
                }
            }
            // A client that does not take its acknowledgements is not heard; when the disk is behind, nobody is, while what is
            // on its way to clients goes on.
            let congested = node.is_congested();
            let hearing = self.output.len() < WRITE_BYTES && !congested;
            let due = self.withheld.again().is_some_and(|again| again <= now);
            owed |= self.signal.take();
            let mut transmit = Transmit::Idle;
            if (unread || due) && hearing {
                (unread, transmit) = self.packets(door, node);
                owed = transmit == Transmit::More;
            } else if owed && self.output.len() < WRITE_BYTES {
                transmit = self.transmit(node);
                owed = transmit == Transmit::More;
            }
            self.refill.begin(node.fetcher());
            if transmit == Transmit::Close {
                let _ = Box::pin(timeout(FAREWELL_MAX, self.flush())).await;
                return "closed by the server";
            }
            if self.is_gone {
                self.output.clear();
                self.alerts.clear();
            }
            if self.output.is_empty() {
                buffers::take_back(&mut self.output);
            }
            let rest = self.rest(door, node);
            if congested || rest.is_some() {
                self.excuse(node);
            }
            let writing = !self.output.is_empty() || self.held;
            if unread && hearing && rest.is_none() && !writing {
                // More than one batch was waiting; others get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            let reading = !unread && rest.is_none() && self.output.len() < WRITE_BYTES;
            if !writing && !self.is_gone {
                self.progress = now;
            }
            // What a layer holds is the kernel's to give up, which sees the single bytes go.
            let stalled = (self.is_gone || writing && !self.held).then(|| self.progress + WRITE_STALL_MAX);
            if stalled.is_some_and(|stalled| stalled <= now) {
                return "the client stopped reading";
            }
            let again =
                rest.or_else(|| (unread || due).then(|| now + CONGESTION_PAUSE)).or(self.withheld.again());
            let until = [stalled, again, self.token_end].into_iter().flatten().min();
            match self.event(reading, writing, until).await {
                Event::Written(Ok(held)) => {
                    self.held = held;
                    self.progress = Instant::now();
                    if self.output.is_empty() {
                        self.alerts_written(node);
                    }
                }
                // Who closes with something unread resets the connection, and may have said goodbye before.
                Event::Written(Err(_)) => (self.is_gone, self.held) = (true, false),
                Event::Fetched(Ok(publishes)) => {
                    node.supply(id, &publishes);
                    owed = true;
                }
                Event::Fetched(Err(error)) => node.unreadable(id, &error.to_string()),
                Event::Read(Ok(0)) => return "connection closed by the client",
                Event::Read(Ok(_)) => unread = true,
                Event::Read(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    return "the client broke the rules of TLS or WebSocket";
                }
                Event::Read(Err(_)) => return "connection lost",
                Event::Woken => {}
            }
        }
    }

    /// Takes what the client may be sent now.
    fn transmit(&mut self, node: &Node) -> Transmit {
        node.transmit(self.id, outlet(&mut self.output, &mut self.alerts, &mut self.refill))
    }

    /// Nothing is left in `output`: unless a layer holds it, the alerts are out.
    fn alerts_written(&mut self, node: &Node) {
        if !self.held && !self.alerts.is_empty() {
            let now = clock::now();
            for received_at in self.alerts.drain(..) {
                node.metrics().received_to_alert.observe(seconds(now, received_at));
            }
        }
    }

    /// When the client is heard again, if it was too fast.
    fn rest(&mut self, door: &Door, node: &Node) -> Option<Instant> {
        let Rest { until, limit } = self.pace.rest(Instant::now())?;
        if until > self.rested {
            self.rested = until;
            if let Some(limit) = limit {
                node.metrics().limit_reached(limit, &door.name);
            }
        }
        Some(until)
    }

    /// What is not read must not count as the client's silence.
    fn excuse(&mut self, node: &Node) {
        if self.excused.elapsed() >= EXCUSE_EVERY {
            self.excused = Instant::now();
            node.unheard(self.id);
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.stream.flush().await
    }
}

/// Where the core puts what the client may be sent.
fn outlet<'a>(
    output: &'a mut BytesMut,
    alerts: &'a mut Vec<Timestamp>,
    refill: &'a mut Refill,
) -> Outlet<'a> {
    buffers::lend(output);
    Outlet { bytes: output, bytes_max: WRITE_BYTES, alerts, wanted: refill.wanted() }
}

/// When to look at somebody's token, if they came with one: at its end, or as far ahead as a timer reaches.
fn token_end(admitted: &Admitted) -> Option<Instant> {
    admitted.expires().map(|expires| {
        let left = Duration::try_from(expires.duration_since(clock::now())).unwrap_or_default();
        Instant::now() + left.min(TOKEN_WATCH_MAX)
    })
}
