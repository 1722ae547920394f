//! Bytes out and in: what is to be written gathers in one buffer, what comes is scanned where it was read.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Interval, MissedTickBehavior, interval};
use wardline_wire::{PacketType, ReasonCode, Version};

use crate::scan::{ScanError, Scanner};

/// Read at once: what a socket's buffer gives under load.
const READ_BYTES: usize = 128 << 10;
/// What a connection keeps of its write buffer for the next batch.
const OUTPUT_KEPT_BYTES: usize = 256 << 10;

const PINGREQ: [u8; 2] = [(PacketType::PingReq as u8) << 4, 0];
/// In MQTT 5 too a DISCONNECT without a reason is a normal one [3.14.2.1].
const DISCONNECT: [u8; 2] = [(PacketType::Disconnect as u8) << 4, 0];

thread_local! {
    /// All connections of a thread read into it in turn; what is left of a packet is kept by its connection.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// TCP or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the broker closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
    #[error("the broker ended the connection: {}", reason_text(*.0))]
    ByBroker(u8),
    #[error(transparent)]
    NotMqtt(#[from] ScanError),
    #[error("the broker answered publish {packet_id}, which is not under way, with a {packet:?}")]
    Unexpected { packet: PacketType, packet_id: u16 },
    #[error("the broker has taken nothing, and answered nothing, for {} seconds", .0.as_secs())]
    Silent(Duration),
}

fn reason_text(code: u8) -> String {
    ReasonCode::from_u8(code)
        .map_or_else(|| format!("reason 0x{code:02X}"), |reason| reason.text().to_owned())
}

/// For so long a broker may take the last acknowledgements, and to let a connection go.
pub(crate) const LEAVE: Duration = Duration::from_secs(1);

/// A connection that was let in.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    version: Version,
    /// The beginning of a packet of which more is to come.
    rest: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    /// Whether there may be something between `output` and the socket, as TLS may have.
    flushed: bool,
    ping: Option<Interval>,
}

impl Connection {
    /// `rest` was read already; `keep_alive` is in seconds, 0 is none.
    pub(crate) fn new(stream: Box<dyn Stream>, version: Version, rest: Vec<u8>, keep_alive: u16) -> Self {
        let ping = (keep_alive > 0).then(|| {
            let mut ping = interval(Duration::from_secs(u64::from(keep_alive)) / 2);
            ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick is at once, and needs no ping.
            ping.reset();
            ping
        });
        Self { stream, version, rest, output: Vec::new(), written: 0, flushed: true, ping }
    }

    /// What [`Self::write`] writes next.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Returns when all of the output is written; gives `take` what comes meanwhile, so that two ends that both write
    /// do not wait for each other.
    pub(crate) async fn write(&mut self, mut take: impl Take) -> Result<(), Ended> {
        poll_fn(|context| {
            loop {
                if self.poll_write(context)?.is_ready() {
                    return Poll::Ready(Ok(()));
                }
                ready!(self.poll_read(context, &mut take))?;
            }
        })
        .await
    }

    /// Writes what is to be written, and returns when something came, which `take` was given with the output to answer in.
    pub(crate) async fn read(&mut self, mut take: impl Take) -> Result<(), Ended> {
        poll_fn(|context| {
            self.poll_ping(context);
            let _ = self.poll_write(context)?;
            self.poll_read(context, &mut take)
        })
        .await
    }

    /// Waits for `event`, and reads nothing, but keeps the connection alive. That it has ended is noticed by the next use.
    pub(crate) async fn stall_until<T>(&mut self, event: impl Future<Output = T>) -> T {
        let mut event = std::pin::pin!(event);
        poll_fn(|context| {
            self.poll_ping(context);
            let _ = self.poll_write(context);
            event.as_mut().poll(context)
        })
        .await
    }

    /// Says that it goes, and goes.
    pub(crate) async fn leave(mut self) -> Result<(), Ended> {
        self.output.extend_from_slice(&DISCONNECT);
        poll_fn(|context| self.poll_write(context)).await?;
        Ok(poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await?)
    }

    fn poll_ping(&mut self, context: &mut Context<'_>) {
        let Some(ping) = &mut self.ping else { return };
        while ping.poll_tick(context).is_ready() {
            self.output.extend_from_slice(&PINGREQ);
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while self.written < self.output.len() {
            let written =
                ready!(Pin::new(&mut self.stream).poll_write(context, &self.output[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(Ended::Closed));
            }
            self.written += written;
            self.flushed = false;
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.flushed = true;
            self.written = 0;
            self.output.clear();
            self.output.shrink_to(OUTPUT_KEPT_BYTES);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, context: &mut Context<'_>, take: &mut impl Take) -> Poll<Result<(), Ended>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let kept = self.rest.len();
            if buffer.len() < kept + READ_BYTES {
                buffer.resize(kept + READ_BYTES, 0);
            }
            let mut room = ReadBuf::new(&mut buffer[kept..]);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut room))?;
            let filled = kept + room.filled().len();
            if filled == kept {
                return Poll::Ready(Err(Ended::Closed));
            }
            buffer[..kept].copy_from_slice(&self.rest);
            let mut scanner = Scanner::new(&buffer[..filled], self.version);
            take(&mut scanner, &mut self.output)?;
            self.rest.clear();
            self.rest.extend_from_slice(scanner.rest());
            Poll::Ready(Ok(()))
        })
    }
}

/// Takes all whole packets that were read, and writes what they are answered with.
pub(crate) trait Take: FnMut(&mut Scanner<'_>, &mut Vec<u8>) -> Result<(), Ended> {}
impl<F: FnMut(&mut Scanner<'_>, &mut Vec<u8>) -> Result<(), Ended>> Take for F {}

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP of success, which is the same in all versions.
pub(crate) fn answer(output: &mut Vec<u8>, packet: PacketType, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    // [MQTT-3.6.1-1]: of these only a PUBREL has a flag.
    let flags = if packet == PacketType::PubRel { 0b0010 } else { 0 };
    output.extend_from_slice(&[(packet as u8) << 4 | flags, 2, high, low]);
}

/// Takes what needs no answer, and notices the end.
pub(crate) fn ignore(packets: &mut Scanner<'_>, _output: &mut Vec<u8>) -> Result<(), Ended> {
    packets.try_for_each(|packet| match packet? {
        crate::scan::Scanned::Disconnect { reason } => Err(Ended::ByBroker(reason)),
        _ => Ok(()),
    })
}
