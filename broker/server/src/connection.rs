//! One socket: bytes in to the node, bytes out from it.
//!
//! Reading and writing go on side by side, so that a client that sends without listening is slowed, never deadlocked. What a
//! slow client is owed waits in its lanes, where alerts can pass telemetry, not in a buffer here.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use wardline_core::{Authentication, ConnectRequest, ConnectionId, Denial, Reply, Transmit};
use wardline_wire::{Auth, Decoder, Packet, Publish, ReasonCode};

use crate::{
    ace::{self, Ace},
    arrival::Arrival,
    clock,
    door::{Admitted, Door},
    entry::{self, Addressee, Entry},
    farewell::{self, FAREWELL_MAX},
    node::{self, Node, seconds},
    pace::{Pace, Rest},
    refill::Refill,
    restraint::{Restraint, Telemetry},
    tally::Tally,
    withheld::{WITHHELD_PAUSE, Withheld},
};

/// Bytes taken from a socket at once, at most.
const READ_BYTES: usize = 16 * 1_024;
/// Bytes on their way to a socket, about at most. Small, because an alert cannot pass what is in here.
const WRITE_BYTES: usize = 16 * 1_024;
/// Packets handed to the node under one lock: few enough that an alert waits less than a millisecond for the rest.
const BATCH_PACKETS_MAX: usize = 64;
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
pub async fn run<S>(stream: S, arrival: Arrival, door: Arc<Door>, node: Arc<Node>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let peer: Arc<str> = arrival.peer.to_string().into();
    let mut stream = Tally::new(stream, node.metrics());
    let mut input = BytesMut::new();
    let mut decoder = Decoder::server_side(door.limits.client.max_packet);
    let entry = entry::enter(&mut stream, &mut decoder, &mut input, arrival, &peer, &door, &node).await;
    let Some(Entry { connect, mut admitted, authentication, authentication_data }) = entry else { return };
    let addressee = Addressee::of(&connect);
    let_leave(&connect.client_id, &node).await;
    let waker = Arc::new(Notify::new());
    let request = ConnectRequest {
        connect: *connect,
        principal: Arc::from(admitted.grants().principal().as_str()),
        peer,
        withheld: node::withheld(admitted.grants()),
        limits: Arc::clone(&door.limits.client),
        authentication_data,
    };
    let id = match node.connect(request, admitted.grants(), &waker, clock::now()) {
        Ok(id) => id,
        Err(connack) => return entry::turn_away(&mut stream, connack, addressee).await,
    };
    let (reader, writer) = tokio::io::split(stream);
    let mut socket = Socket {
        reader,
        writer,
        input,
        decoder,
        authentication,
        token_end: None,
        batch: Vec::new(),
        telemetry: Telemetry::default(),
        withheld: Withheld::default(),
        output: BytesMut::new(),
        held: false,
        alerts: Vec::new(),
        refill: Refill::default(),
        progress: Instant::now(),
        pace: Pace::new(&door.limits, Instant::now()),
        rested: Instant::now(),
        excused: Instant::now(),
    };
    let ended = socket.serve(id, &door, &mut admitted, &waker, &node).await;
    node.end(id, ended);
    farewell::close(&mut socket.reader.unsplit(socket.writer)).await;
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
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    input: BytesMut,
    decoder: Decoder,
    /// Set where CONNECT named a method.
    authentication: Option<Authentication<Ace>>,
    /// When the token is looked at next.
    token_end: Option<Instant>,
    /// Decoded and on its way to the node.
    batch: Vec<Packet>,
    telemetry: Telemetry,
    withheld: Withheld,
    output: BytesMut,
    /// Whether a layer on the way to the socket, as TLS, has taken bytes that the socket has not.
    held: bool,
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
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    async fn serve(
        &mut self,
        id: ConnectionId,
        door: &Arc<Door>,
        admitted: &mut Admitted,
        waker: &Notify,
        node: &Node,
    ) -> &'static str {
        let mut locks = door.locks.clone();
        self.token_end = token_end(admitted);
        // What came in the same segment as CONNECT.
        let mut unread = !self.input.is_empty();
        loop {
            // A client that does not take its acknowledgements is not heard; when the disk is behind, nobody is, while what is
            // on its way to clients goes on.
            let congested = node.is_congested();
            let hearing = self.output.len() < WRITE_BYTES && !congested;
            let due = self.withheld.again().is_some_and(|again| again <= Instant::now());
            if (unread || due) && hearing {
                unread = self.packets(id, admitted, door, node);
            }
            let rest = self.rest(door, node);
            if congested || rest.is_some() {
                self.excuse(id, node);
            }
            let transmit = if self.output.len() < WRITE_BYTES {
                node.transmit(id, &mut self.output, WRITE_BYTES, &mut self.alerts, self.refill.wanted())
            } else {
                Transmit::More
            };
            self.refill.begin(node.fetcher());
            if transmit == Transmit::Close {
                let _ = timeout(FAREWELL_MAX, self.flush()).await;
                return "closed by the server";
            }
            let writing = !self.output.is_empty() || self.held;
            if unread && hearing && rest.is_none() && !writing {
                // More than one batch was waiting; others get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            let reading = !unread && rest.is_none() && self.output.len() < WRITE_BYTES;
            if reading && self.input.capacity() - self.input.len() < READ_BYTES / 4 {
                self.input.reserve(READ_BYTES);
            }
            if !writing {
                self.progress = Instant::now();
            }
            let stalled = self.progress + WRITE_STALL_MAX;
            let again = rest
                .or_else(|| (unread || due).then(|| Instant::now() + CONGESTION_PAUSE))
                .or(self.withheld.again());
            tokio::select! {
                // What may end the connection comes first: a client that never pauses must not outrun it.
                biased;
                Ok(()) = locks.changed() => match door.readmit(admitted, clock::now()) {
                    Ok(()) => node.regrant(id, admitted.grants()),
                    Err(text) => node.disconnect(id, ReasonCode::NotAuthorized, &text),
                },
                () = sleep_until(self.token_end.unwrap_or(stalled)), if self.token_end.is_some() => {
                    self.token_end = token_end(admitted);
                    if admitted.expires().is_some_and(|expires| expires <= clock::now()) {
                        self.token_end = None;
                        node.disconnect(id, ReasonCode::NotAuthorized, "the token has expired");
                    }
                }
                written = push(&mut self.writer, &mut self.output, self.held), if writing => {
                    let Ok(held) = written else { return "write failed" };
                    self.held = held;
                    self.progress = Instant::now();
                    if self.output.is_empty() && !held {
                        let now = clock::now();
                        for received_at in self.alerts.drain(..) {
                            node.metrics().received_to_alert.observe(seconds(now, received_at));
                        }
                    }
                },
                fetched = self.refill.done(), if self.refill.is_reading() => match fetched {
                    Ok(publishes) => node.supply(id, &publishes),
                    Err(error) => node.unreadable(id, &error.to_string()),
                },
                // What a layer holds is the kernel's to give up, which sees the single bytes go.
                () = sleep_until(stalled), if writing && !self.held => return "the client stopped reading",
                read = self.reader.read_buf(&mut self.input), if reading => match read {
                    Ok(0) => return "connection closed by the client",
                    Ok(_) => unread = true,
                    Err(error) if error.kind() == ErrorKind::InvalidData => {
                        return "the client broke the rules of TLS or WebSocket";
                    }
                    Err(_) => return "connection lost",
                },
                () = waker.notified() => {}
                () = sleep_until(again.unwrap_or(stalled)), if again.is_some() => {}
            }
        }
    }

    /// Hands what has been read to the node. True: there may be more.
    fn packets(&mut self, id: ConnectionId, admitted: &mut Admitted, door: &Arc<Door>, node: &Node) -> bool {
        let (read_at, now) = (clock::now(), Instant::now());
        let mut failure = None;
        let mut auth = None;
        let mut more = true;
        let restraint = node.restraint();
        self.withheld.wait(now);
        let mut slow = None;
        while self.batch.len() < BATCH_PACKETS_MAX && self.pace.rest(now).is_none() {
            let before = self.input.len();
            let first = if restraint == Restraint::Withhold { None } else { self.withheld.pop() };
            let decoded = match first {
                Some(first) => Ok(Some(first)),
                None if self.withheld.is_full() => {
                    slow = Some(WITHHELD_PAUSE);
                    break;
                }
                None => self
                    .decoder
                    .decode(&mut self.input)
                    .map(|packet| packet.map(|packet| (packet, before - self.input.len()))),
            };
            match decoded {
                Ok(Some((packet, bytes))) => {
                    let packet = match (packet, restraint) {
                        (packet, Restraint::None) => packet,
                        (Packet::Publish(publish), _) if self.is_telemetry(&publish, admitted, node) => {
                            if let Restraint::Slow(rest) = restraint {
                                slow = Some(rest);
                                Packet::Publish(publish)
                            } else {
                                node.metrics().telemetry_withheld.inc();
                                self.withheld.push(publish, bytes, now);
                                continue;
                            }
                        }
                        (packet, _) => packet,
                    };
                    self.pace.heard(&packet, bytes, now);
                    match packet {
                        // What follows it may be judged by other grants.
                        Packet::Auth(packet) if self.authentication.is_some() => {
                            auth = Some(packet);
                            break;
                        }
                        packet => self.batch.push(packet),
                    }
                }
                Ok(None) => {
                    more = false;
                    break;
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if let Some(rest) = slow {
            self.pace.pause(now + rest);
        }
        if !self.batch.is_empty() {
            node.receive(id, self.batch.drain(..), admitted.grants(), read_at);
        }
        if let Some(auth) = auth {
            self.reauthenticate(id, &auth, admitted, door, node);
        }
        if let Some(error) = failure {
            entry::count_unreadable(&error, door, node);
            node.malformed(id, error.reason(), &error.to_string());
            self.input.clear();
            return false;
        }
        more
    }

    /// Whether a publish may wait when the journal has little room.
    fn is_telemetry(&mut self, publish: &Publish, admitted: &Admitted, node: &Node) -> bool {
        self.telemetry.includes(publish, admitted.grants().principal().as_str(), node.limits())
    }

    /// Takes an AUTH packet of a client that is in. Its old grants hold until it has proved again who it is.
    fn reauthenticate(
        &mut self,
        id: ConnectionId,
        auth: &Auth,
        admitted: &mut Admitted,
        door: &Arc<Door>,
        node: &Node,
    ) {
        let Some(authentication) = &mut self.authentication else { return };
        let now = clock::now();
        let (identity, data) =
            match authentication.receive(auth, || Ace::renewing(door, admitted.identity()), now) {
                Ok(Reply::Done(identity, data)) => (identity, data),
                Ok(Reply::Ask(question)) => return node.authenticate(id, question),
                Err(denial) => return node.reauthentication_failed(id, &denial),
            };
        admitted.renewed(identity);
        if let Err(text) = door.readmit(admitted, now) {
            return node.reauthentication_failed(id, &Denial { reason: ReasonCode::NotAuthorized, text });
        }
        self.token_end = token_end(admitted);
        let until = admitted.expires().map_or_else(String::new, |expires| format!(", until {expires}"));
        let success = authentication.success(data);
        node.reauthenticated(id, admitted.grants(), success, &format!("{}{until}", ace::METHOD));
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
    fn excuse(&mut self, id: ConnectionId, node: &Node) {
        if self.excused.elapsed() >= EXCUSE_EVERY {
            self.excused = Instant::now();
            node.unheard(id);
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.output).await?;
        self.writer.flush().await
    }
}

/// Writes what it can of `output`, once the layers on the way have let go of what they `held`: an alert cannot pass what is in
/// there. Says whether they hold something now. May be dropped and called again.
async fn push<W: AsyncWrite + Unpin>(writer: &mut W, output: &mut BytesMut, held: bool) -> io::Result<bool> {
    if held {
        writer.flush().await?;
    }
    if output.is_empty() {
        return Ok(false);
    }
    if writer.write_buf(output).await? == 0 {
        return Err(ErrorKind::WriteZero.into());
    }
    // Not waited for: a client that is slow to read is heard meanwhile.
    poll_fn(|cx| match Pin::new(&mut *writer).poll_flush(cx) {
        Poll::Ready(flushed) => Poll::Ready(flushed.map(|()| false)),
        Poll::Pending => Poll::Ready(Ok(true)),
    })
    .await
}

/// When to look at somebody's token, if they came with one: at its end, or as far ahead as a timer reaches.
fn token_end(admitted: &Admitted) -> Option<Instant> {
    admitted.expires().map(|expires| {
        let left = Duration::try_from(expires.duration_since(clock::now())).unwrap_or_default();
        Instant::now() + left.min(TOKEN_WATCH_MAX)
    })
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;

    /// Takes all at once, and is rid of it when it may.
    #[derive(Default)]
    struct Layer {
        taken: Vec<u8>,
        may_flush: bool,
    }

    impl AsyncWrite for Layer {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.taken.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.may_flush { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_a_layer_holds_is_not_waited_for_and_nothing_is_put_behind_it() {
        let (mut layer, mut output) = (Layer::default(), BytesMut::from("first"));
        assert!(push(&mut layer, &mut output, false).await.unwrap());
        output.extend_from_slice(b"second");
        let waiting = timeout(Duration::from_millis(20), push(&mut layer, &mut output, true)).await;
        assert!(waiting.is_err() && layer.taken == b"first" && output == "second");
        layer.may_flush = true;
        assert!(!push(&mut layer, &mut output, true).await.unwrap());
        assert!(layer.taken == b"firstsecond" && output.is_empty());
    }
}
