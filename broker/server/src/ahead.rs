//! Reads much at once for a layer that asks for little: TLS takes 4 KiB at a time and WebSocket as much as it keeps a buffer for,
//! and each time would be a system call.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::buffers;

/// A socket that is read ahead of who reads it, into a buffer that it has only while something is in there.
#[derive(Debug)]
pub struct Ahead<S> {
    stream: S,
    rest: BytesMut,
}

impl<S> Ahead<S> {
    /// Reads `stream` ahead.
    pub fn new(stream: S) -> Self {
        Self { stream, rest: BytesMut::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, rest } = &mut *self;
        let read = if rest.is_empty() {
            buffers::lend(rest);
            pin!(stream.read_buf(rest)).poll(cx).map_ok(drop)
        } else {
            Poll::Ready(Ok(()))
        };
        let taken = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..taken]);
        rest.advance(taken);
        if rest.is_empty() {
            buffers::take_back(rest);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    /// Reads up to four bytes; `None` while there are none.
    fn poll(socket: &mut (impl AsyncRead + Unpin)) -> Option<io::Result<Vec<u8>>> {
        let (mut bytes, cx) = ([0; 4], &mut Context::from_waker(Waker::noop()));
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(socket).poll_read(cx, &mut buf) {
            Poll::Ready(read) => Some(read.map(|()| buf.filled().to_vec())),
            Poll::Pending => None,
        }
    }

    /// Gives its bytes, then is reset.
    struct Reset(&'static [u8]);

    impl AsyncRead for Reset {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            buf.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn all_there_is_is_taken_at_once_handed_over_in_order_and_then_there_is_no_buffer() {
        let (mut peer, socket) = duplex(64);
        let mut ahead = Ahead::new(socket);
        assert!(poll(&mut ahead).is_none() && ahead.rest.capacity() == 0);
        peer.write_all(b"abcdefghij").await.unwrap();
        assert_eq!(poll(&mut ahead).unwrap().unwrap(), b"abcd");
        assert!(poll(&mut ahead.stream).is_none(), "nothing is left in the socket");
        peer.write_all(b"kl").await.unwrap();
        drop(peer);
        for expected in [&b"efgh"[..], b"ij", b"kl", b""] {
            assert_eq!(poll(&mut ahead).unwrap().unwrap(), expected);
        }
        assert_eq!(ahead.rest.capacity(), 0);
    }

    #[tokio::test]
    async fn a_failure_comes_behind_what_was_read_before_it() {
        let mut ahead = Ahead::new(Reset(b"lasts"));
        assert_eq!(poll(&mut ahead).unwrap().unwrap(), b"last");
        assert_eq!(poll(&mut ahead).unwrap().unwrap(), b"s");
        assert_eq!(poll(&mut ahead).unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
