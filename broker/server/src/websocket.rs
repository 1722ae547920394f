//! MQTT over WebSocket (MQTT 5 section 6): binary frames as a stream of bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

mod handshake;

pub use handshake::{HandshakeError, Origins, OriginsError};

/// A message may carry many packets. It is held whole before its bytes are read, so this bounds memory where packets are
/// small; where they may be larger, a message may be as large as a packet.
const MESSAGE_BYTES_MIN: usize = 64 * 1_024;
/// What each connection keeps to read into. Small, as the stream below is read ahead where that costs a system call.
const READ_BYTES: usize = 2 * 1_024;
/// Bytes of a frame sent. One frame at most waits in here, and an alert cannot pass it.
const FRAME_BYTES: usize = 16 * 1_024;

/// A WebSocket as a byte stream. Packets may be split and joined across frames [MQTT-6.0.0-2].
#[derive(Debug)]
pub struct WebSocketBytes<S> {
    socket: WebSocketStream<S>,
    /// What of the last message has not been read yet.
    rest: Bytes,
    /// An answer to a ping waits to be written. Until it is, nothing more is read: who does not take answers would otherwise
    /// have them pile up here.
    answering: bool,
    /// Why nothing more is read.
    refusal: Option<&'static str>,
    /// Whether the closing handshake has been begun from here.
    closing: bool,
}

/// Takes the opening handshake from a client that is let in by `origins`; a message may be as large as a packet.
///
/// # Errors
/// Why it is none; the client has been told.
pub async fn accept<S>(
    mut stream: S,
    origins: &Origins,
    packet_bytes_max: u32,
) -> Result<WebSocketBytes<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let early = handshake::accept(&mut stream, origins).await?;
    let message_bytes_max = MESSAGE_BYTES_MIN.max(packet_bytes_max as usize);
    // Written at once: what waits in here stands in front of an alert.
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    let socket = WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config)).await;
    Ok(WebSocketBytes::new(socket))
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketBytes<S> {
    fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, rest: Bytes::new(), answering: false, refusal: None, closing: false }
    }

    /// Begins the closing handshake, once.
    fn close(&mut self, code: CloseCode, reason: &'static str) {
        if !self.closing {
            self.closing = true;
            let frame = CloseFrame { code, reason: reason.into() };
            // Fails where the client has begun it already, or is gone.
            let _ = Pin::new(&mut self.socket).start_send(Message::Close(Some(frame)));
        }
    }

    /// Bytes of the next message; `None` at the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if let Some(text) = self.refusal {
                let _ = ready!(Pin::new(&mut self.socket).poll_flush(cx));
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
            if self.answering {
                ready!(Pin::new(&mut self.socket).poll_flush(cx)).map_err(io::Error::other)?;
                self.answering = false;
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                None => return Poll::Ready(Ok(None)),
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => {}
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(Ok(Some(bytes))),
                Some(Ok(Message::Text(_))) => {
                    // [MQTT-6.0.0-1]
                    self.refuse(CloseCode::Unsupported, "MQTT comes in binary frames, not in text");
                }
                Some(Ok(Message::Ping(_))) => self.answering = true,
                // An answer to a closing frame is sent by the next turn of the loop.
                Some(Ok(Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {}
                Some(Err(tungstenite::Error::Capacity(_))) => {
                    self.refuse(CloseCode::Size, "a message larger than a packet may be");
                }
                Some(Err(tungstenite::Error::Utf8(_))) => {
                    self.refuse(CloseCode::Unsupported, "MQTT comes in binary frames, not in text");
                }
                Some(Err(tungstenite::Error::Protocol(
                    tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                ))) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Some(Err(tungstenite::Error::Protocol(_))) => {
                    self.refuse(CloseCode::Protocol, "a frame that breaks the WebSocket protocol");
                }
                Some(Err(tungstenite::Error::Io(error))) => return Poll::Ready(Err(error)),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
    }

    fn refuse(&mut self, code: CloseCode, reason: &'static str) {
        self.close(code, reason);
        self.refusal = Some(reason);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            match ready!(self.poll_message(cx))? {
                Some(bytes) => self.rest = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io::Error::other)?;
        let (frame, _) = buf.split_at(buf.len().min(FRAME_BYTES));
        let message = Message::Binary(Bytes::copy_from_slice(frame));
        Pin::new(&mut self.socket).start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close(CloseCode::Normal, "");
        // Closed by the client already is closed.
        let _ = ready!(Pin::new(&mut self.socket).poll_close(cx));
        Pin::new(self.socket.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::timeout,
    };

    use super::*;

    /// Bytes that may be in the pipe one way.
    const PIPE_BYTES: usize = 1_024;

    #[tokio::test]
    async fn pings_whose_answers_are_not_taken_are_not_read() {
        let (mut client, server) = duplex(PIPE_BYTES);
        let mut server =
            WebSocketBytes::new(WebSocketStream::from_raw_socket(server, Role::Server, None).await);
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            server.read(&mut byte).await.map(|read| (read, byte[0]))
        });
        // An empty one, masked.
        const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];
        let mut taken = 0;
        let next = |taken: usize| &PING[taken % PING.len()..];
        while let Ok(written) = timeout(Duration::from_millis(200), client.write(next(taken))).await {
            taken += written.unwrap();
            assert!(taken < 100 * PIPE_BYTES, "pings are taken without end");
        }
        // Once the answers are taken, what follows the pings is heard.
        let (mut answers, mut client) = tokio::io::split(client);
        let answered =
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await });
        client.write_all(next(taken)).await.unwrap();
        client.write_all(&[0x82, 0x81, 0, 0, 0, 0, 42]).await.unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), (1, 42));
        answered.abort();
    }
}
