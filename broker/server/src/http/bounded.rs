//! Connections of the HTTP listener: few at a time, and none for longer than it makes use of.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// From the start of a connection, or its last answer, to the next answer. Bytes of a request win no time: they could come
/// one by one for ever.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// A listener that accepts as long as there are places; who comes then waits in the kernel's backlog, until a place is
/// free again, which is soon.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Bounded {
    /// With so many connections at a time.
    pub(super) fn new(listener: TcpListener, connections_max: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections_max)) }
    }
}

impl Listener for Bounded {
    type Io = Brief<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // Nobody closes it; were it closed, connections would merely be unbounded.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Brief::new(stream, place), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream that fails when it waits for longer than [`IDLE_MAX`] after its start or the last bytes written.
pub(super) struct Brief<S> {
    stream: S,
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Brief<S> {
    fn new(stream: S, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { stream, end: Box::pin(sleep(IDLE_MAX)), _place: place }
    }

    /// What was polled, unless it waits and there is no time left.
    fn in_time<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_pending() && self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Brief<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.in_time(read, context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Brief<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(_))) {
            self.end.as_mut().reset(Instant::now() + IDLE_MAX);
        }
        self.in_time(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const ALMOST: Duration = IDLE_MAX.saturating_sub(Duration::from_millis(1));

    fn is_late<T: std::fmt::Debug>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_ends_is_cut_however_it_trickles() {
        let (mut client, stream) = duplex(64);
        let mut stream = Brief::new(stream, None);
        let began = Instant::now();
        let trickle = async {
            while client.write_all(b"G").await.is_ok() {
                sleep(Duration::from_secs(3)).await;
            }
        };
        let read = async {
            while let Ok(byte) = stream.read_u8().await {
                assert_eq!(byte, b'G');
            }
            drop(stream);
        };
        tokio::join!(trickle, read);
        assert!((IDLE_MAX..IDLE_MAX * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_gives_time_for_the_next_request_and_no_more() {
        let (mut client, stream) = duplex(64);
        let mut stream = Brief::new(stream, None);
        for _ in 0..3 {
            sleep(ALMOST).await;
            client.write_all(b"?").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'?');
            stream.write_all(b"!").await.unwrap();
        }
        let began = Instant::now();
        assert!(is_late(stream.read_u8().await));
        // The timer counts in milliseconds.
        assert!((IDLE_MAX..IDLE_MAX + Duration::from_millis(2)).contains(&began.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let (_client, stream) = duplex(64);
        let mut stream = Brief::new(stream, None);
        assert!(is_late(stream.write_all(&[b'x'; 65]).await));
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::new(listener, 1);
        let _clients =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let (first, _) = bounded.accept().await;
        let second = tokio::spawn(async move { bounded.accept().await });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap();
    }
}
