//! One socket: bytes in to the node, bytes out from it.
//!
//! Reading and writing go on side by side, so that a client that sends without listening is slowed, never deadlocked. What a
//! slow client is owed waits in its lanes, where alerts can pass telemetry, not in a buffer here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use wardline_acl::Grants;
use wardline_core::{ConnectRequest, ConnectionId, Transmit};
use wardline_journal::Origin;
use wardline_wire::{
    ConnAck, ConnAckProperties, Connect, DecodeError, Decoder, Packet, ReasonCode, Version, encode,
};

use crate::{
    clock,
    door::{Admitted, Door},
    node::{self, Node, seconds},
};

/// Bytes taken from a socket at once, at most.
const READ_BYTES: usize = 16 * 1_024;
/// Bytes on their way to a socket, about at most. Small, because an alert cannot pass what is in here.
const WRITE_BYTES: usize = 16 * 1_024;
/// Packets handed to the node under one lock: few enough that an alert waits less than a millisecond for the rest.
const BATCH_PACKETS_MAX: usize = 64;
/// A client that takes no byte for so long is gone.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// How long a last DISCONNECT or CONNACK may take to be written.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// Timers do not reach further; a token that lasts longer is looked at again by then.
const TOKEN_WATCH_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long what was read waits before it is looked at again, when the disk or the client's own reading is behind.
const CONGESTION_PAUSE: Duration = Duration::from_millis(2);

/// Serves a connected socket until it ends.
pub async fn run<S>(
    mut stream: S,
    peer: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    door: Arc<Door>,
    node: Arc<Node>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let peer: Arc<str> = peer.to_string().into();
    let mut input = BytesMut::new();
    let mut decoder = Decoder::server_side(door.packet_bytes_max);
    let first = timeout(door.connect_timeout, read_connect(&mut stream, &mut decoder, &mut input)).await;
    let connect = match first {
        Ok(Ok(Some(connect))) => connect,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return refuse_undecoded(stream, &error, decoder.version(), &peer, &node).await,
        Err(_) => {
            node.metrics().refused.inc();
            let text = format!("no CONNECT within {} s", door.connect_timeout.as_secs_f32());
            node.refuse(Origin { peer: &peer, ..Origin::default() }, ReasonCode::MaximumConnectTime, &text);
            return;
        }
    };
    let version = connect.version;
    let client = connect.client_id.clone();
    let mut admitted = match door.admit(&connect, chain, clock::now()) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            node.metrics().refused.inc();
            let origin = Origin { client: &client, principal: &refusal.principal, peer: &peer };
            let connack = node.refuse(origin, refusal.reason, &refusal.text);
            return farewell(stream, &Packet::ConnAck(told(connack, &connect)), version).await;
        }
    };
    let waker = Arc::new(Notify::new());
    let principal = Arc::from(admitted.grants().principal().as_str());
    let wants_reasons = connect.properties.request_problem_information != Some(false);
    let withheld = node::withheld(admitted.grants());
    let request = ConnectRequest { connect: *connect, principal, peer: Arc::clone(&peer), withheld };
    let id = match node.connect(request, admitted.grants(), &waker, clock::now()) {
        Ok(id) => id,
        Err(mut connack) => {
            node.metrics().refused.inc();
            if !wants_reasons {
                connack.properties.reason_string = None;
            }
            return farewell(stream, &Packet::ConnAck(connack), version).await;
        }
    };
    let (reader, writer) = tokio::io::split(stream);
    let mut socket = Socket {
        reader,
        writer,
        input,
        decoder,
        batch: Vec::new(),
        output: BytesMut::new(),
        alerts: Vec::new(),
        progress: Instant::now(),
    };
    let ended = socket.serve(id, &door, &mut admitted, &waker, &node).await;
    node.end(id, ended);
    // A proper end of TLS and TCP; a dead peer must not hold the task.
    let _ = timeout(FAREWELL_MAX, socket.writer.shutdown()).await;
}

struct Socket<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    input: BytesMut,
    decoder: Decoder,
    /// Decoded and on its way to the node.
    batch: Vec<Packet>,
    output: BytesMut,
    /// When what led to the alerts in `output` was received.
    alerts: Vec<Timestamp>,
    /// When the client last took a byte, or was last owed none.
    progress: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    async fn serve(
        &mut self,
        id: ConnectionId,
        door: &Door,
        admitted: &mut Admitted,
        waker: &Notify,
        node: &Node,
    ) -> &'static str {
        let mut locks = door.locks.clone();
        let mut token_end = admitted.expires().map(|at| {
            let left = Duration::try_from(at.duration_since(clock::now())).unwrap_or_default();
            Instant::now() + left.min(TOKEN_WATCH_MAX)
        });
        // What came in the same segment as CONNECT.
        let mut unread = !self.input.is_empty();
        loop {
            // A client that does not take its acknowledgements is not heard; when the disk is behind, nobody is, while what is
            // on its way to clients goes on.
            let hearing = self.output.len() < WRITE_BYTES && !node.is_congested();
            if unread && hearing {
                unread = self.packets(id, admitted.grants(), node);
            }
            let transmit = if self.output.len() < WRITE_BYTES {
                node.transmit(id, &mut self.output, WRITE_BYTES, &mut self.alerts)
            } else {
                Transmit::More
            };
            if transmit == Transmit::Close {
                let _ = timeout(FAREWELL_MAX, self.flush()).await;
                return "closed by the server";
            }
            let writing = !self.output.is_empty();
            if unread && hearing && !writing {
                // More than one batch was waiting; others get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            let reading = !unread && self.output.len() < WRITE_BYTES;
            if reading && self.input.capacity() - self.input.len() < READ_BYTES / 4 {
                self.input.reserve(READ_BYTES);
            }
            if !writing {
                self.progress = Instant::now();
            }
            let stalled = self.progress + WRITE_STALL_MAX;
            tokio::select! {
                // What may end the connection comes first: a client that never pauses must not outrun it.
                biased;
                Ok(()) = locks.changed() => match door.readmit(admitted, clock::now()) {
                    Ok(()) => node.regrant(id, admitted.grants()),
                    Err(text) => node.disconnect(id, ReasonCode::NotAuthorized, &text),
                },
                () = sleep_until(token_end.unwrap_or(stalled)), if token_end.is_some() => {
                    token_end = None;
                    node.disconnect(id, ReasonCode::NotAuthorized, "the token has expired");
                }
                written = self.writer.write_buf(&mut self.output), if writing => {
                    if !matches!(written, Ok(1..)) {
                        return "write failed";
                    }
                    self.progress = Instant::now();
                    if self.output.is_empty() {
                        if self.writer.flush().await.is_err() {
                            return "write failed";
                        }
                        let now = clock::now();
                        for received_at in self.alerts.drain(..) {
                            node.metrics().received_to_alert.observe(seconds(now, received_at));
                        }
                    }
                },
                () = sleep_until(stalled), if writing => return "the client stopped reading",
                read = self.reader.read_buf(&mut self.input), if reading => match read {
                    Ok(0) => return "connection closed by the client",
                    Ok(_) => unread = true,
                    Err(_) => return "connection lost",
                },
                () = waker.notified() => {}
                () = tokio::time::sleep(CONGESTION_PAUSE), if unread => {}
            }
        }
    }

    /// Hands what has been read to the node. True: there may be more.
    fn packets(&mut self, id: ConnectionId, grants: &Grants, node: &Node) -> bool {
        let read_at = clock::now();
        let mut failure = None;
        while self.batch.len() < BATCH_PACKETS_MAX {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(packet)) => self.batch.push(packet),
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let full = self.batch.len() == BATCH_PACKETS_MAX;
        if !self.batch.is_empty() {
            node.receive(id, self.batch.drain(..), grants, read_at);
        }
        if let Some(error) = failure {
            node.metrics().malformed.inc();
            node.malformed(id, error.reason(), &error.to_string());
            self.input.clear();
            return false;
        }
        full
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        self.writer.write_all(&self.output).await?;
        self.writer.flush().await
    }
}

async fn read_connect<S: AsyncRead + Unpin>(
    stream: &mut S,
    decoder: &mut Decoder,
    input: &mut BytesMut,
) -> Result<Option<Box<Connect>>, DecodeError> {
    loop {
        match decoder.decode(input)? {
            Some(Packet::Connect(connect)) => return Ok(Some(connect)),
            // The decoder lets nothing else be first.
            Some(_) => return Ok(None),
            None => match stream.read_buf(input).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            },
        }
    }
}

/// A CONNECT that cannot be read is answered as far as its version is known.
async fn refuse_undecoded<S: AsyncWrite + Unpin>(
    stream: S,
    error: &DecodeError,
    version: Option<Version>,
    peer: &str,
    node: &Node,
) {
    node.metrics().refused.inc();
    node.metrics().malformed.inc();
    let connack = node.refuse(Origin { peer, ..Origin::default() }, error.reason(), &error.to_string());
    let version = match error {
        DecodeError::UnsupportedProtocolVersion { answer, .. } => Some(*answer),
        _ => version,
    };
    if let Some(version) = version {
        farewell(stream, &Packet::ConnAck(connack), version).await;
    }
}

/// The reason string stays away from a client that declined it [MQTT-3.1.2-29], and details of identity from everybody.
fn told(mut connack: Box<ConnAck>, connect: &Connect) -> Box<ConnAck> {
    if connect.properties.request_problem_information == Some(false) {
        connack.properties = ConnAckProperties::default();
    }
    connack
}

async fn farewell<S: AsyncWrite + Unpin>(mut stream: S, packet: &Packet, version: Version) {
    let mut output = BytesMut::new();
    if encode(packet, version, &mut output).is_ok() {
        let _ = timeout(FAREWELL_MAX, async {
            stream.write_all(&output).await?;
            stream.flush().await?;
            stream.shutdown().await
        })
        .await;
    }
}
