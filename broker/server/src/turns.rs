//! Who sent first is heard first, as far as a server can know.
//!
//! The kernel tells in order which sockets have something to read, but of what one look at it wakes, a worker of the runtime
//! runs the last first, taking it to be warm in the cache, while another worker may take the rest. So whoever subscribes and
//! does not wait for the SUBACK before somebody else publishes would miss that publish every third time.
//!
//! Each wake-up is numbered as the kernel told it. A reader that is run ahead of an earlier number goes back to the end of the
//! worker's queue, once: that puts a worker's own tasks in order, and nobody is ever waited for.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Numbers the wake-ups of all sockets that are to keep their order. The numbers only advise: none is lost where one of them is
/// skipped, as by a reader that does not want to read now.
#[derive(Debug, Default)]
pub struct Turns {
    /// The last number given.
    called: AtomicU64,
    /// The highest number that has been run.
    reached: AtomicU64,
}

/// A socket that is read in turn with others.
#[derive(Debug)]
pub struct InTurn<S> {
    stream: S,
    call: Arc<Call>,
    /// The same as `call`, for the socket.
    waker: Waker,
    stood_back: bool,
}

/// On the way from the kernel to the reader's task.
#[derive(Debug)]
struct Call {
    turns: Arc<Turns>,
    /// Of the last wake-up.
    number: AtomicU64,
    reader: AtomicWaker,
}

impl<S> InTurn<S> {
    /// Reads `stream` in turn with all others of the same `turns`.
    pub fn new(stream: S, turns: &Arc<Turns>) -> Self {
        let (turns, number) = (Arc::clone(turns), AtomicU64::new(0));
        let call = Arc::new(Call { turns, number, reader: AtomicWaker::new() });
        Self { stream, waker: Waker::from(Arc::clone(&call)), call, stood_back: false }
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.number.store(self.turns.called.fetch_add(1, Relaxed) + 1, Relaxed);
        // Which makes the number visible to the reader.
        self.reader.wake();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InTurn<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (turns, number) = (&this.call.turns, this.call.number.load(Relaxed));
        let early = number > turns.reached.load(Relaxed) + 1;
        this.stood_back = early && !this.stood_back;
        if this.stood_back {
            // A task that wakes itself is put at the end of the queue.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        turns.reached.fetch_max(number, Relaxed);
        this.call.reader.register(cx.waker());
        Pin::new(&mut this.stream).poll_read(&mut Context::from_waker(&this.waker), buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InTurn<S> {
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
    use std::{io::Write, os::unix::net::UnixStream, sync::mpsc};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        net,
        runtime::Builder,
    };

    use super::*;

    fn poll(socket: &mut InTurn<DuplexStream>) -> Poll<u8> {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        let read = Pin::new(socket).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
        read.map(|read| read.map(|()| buf.filled()[0]).unwrap())
    }

    #[tokio::test]
    async fn whoever_is_run_early_stands_back_once_and_is_not_held_up_by_who_does_not_read() {
        let turns = Arc::default();
        let (mut sockets, mut peers): (Vec<_>, Vec<_>) =
            (0..3).map(|_| duplex(8)).map(|(socket, peer)| (InTurn::new(socket, &turns), peer)).unzip();
        for socket in &mut sockets {
            assert!(poll(socket).is_pending());
        }
        for (said, peer) in (1..).zip(&mut peers) {
            peer.write_u8(said).await.unwrap();
        }
        assert!(poll(&mut sockets[2]).is_pending());
        assert_eq!(poll(&mut sockets[0]), Poll::Ready(1));
        assert_eq!(poll(&mut sockets[2]), Poll::Ready(3), "the second may not want to read");
        assert_eq!(poll(&mut sockets[1]), Poll::Ready(2));
    }

    #[test]
    fn sockets_that_one_look_at_the_kernel_finds_are_read_in_the_order_in_which_they_were_sent_to() {
        const SOCKETS: u8 = 3;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
        let (read, order) = mpsc::sync_channel(SOCKETS.into());
        let turns = Arc::<Turns>::default();
        let mut peers = Vec::new();
        for number in 0..SOCKETS {
            // Delivers before the write returns.
            let (socket, peer) = UnixStream::pair().unwrap();
            socket.set_nonblocking(true).unwrap();
            let (turns, read) = (Arc::clone(&turns), read.clone());
            runtime.spawn(async move {
                let mut socket = InTurn::new(net::UnixStream::from_std(socket).unwrap(), &turns);
                while socket.read_u8().await.is_ok() {
                    read.send(number).unwrap();
                }
            });
            peers.push(peer);
        }
        for round in 0..50 {
            // The only worker looks at the kernel when all have been sent to.
            let (hold, held) = mpsc::sync_channel(0);
            runtime.spawn(async move { while held.recv().is_ok() {} });
            hold.send(()).unwrap();
            for peer in &mut peers {
                peer.write_all(b"x").unwrap();
            }
            drop(hold);
            let order: Vec<u8> = order.iter().take(SOCKETS.into()).collect();
            // Before the first, the kernel has yet to say of some that they can be written to, and says both at once.
            assert!(round == 0 || order.is_sorted(), "{order:?}");
        }
    }
}
