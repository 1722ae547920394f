//! Bytes to and from a socket, and waiting for what comes first.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, sleep_until},
};
use wardline_core::Stored;

use super::Socket;
use crate::{buffers, refill::FetchError};

/// What a connection waited for.
pub(super) enum Event {
    /// Some of the output is written. True: a layer on the way to the socket holds bytes that the socket has not taken.
    Written(io::Result<bool>),
    /// Publishes were read back from the journal.
    Fetched(Result<Vec<Arc<Stored>>, FetchError>),
    /// So many bytes were read; none: the end.
    Read(io::Result<usize>),
    /// It is time, or the node has something.
    Woken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Waits for the first of what there is to wait for.
    pub(super) async fn event(&mut self, reading: bool, writing: bool, until: Option<Instant>) -> Event {
        poll_fn(|cx| {
            if writing
                && let Poll::Ready(written) =
                    pin!(push(&mut self.stream, &mut self.output, self.held)).poll(cx)
            {
                return Poll::Ready(Event::Written(written));
            }
            if self.refill.is_reading()
                && let Poll::Ready(fetched) = pin!(self.refill.done()).poll(cx)
            {
                return Poll::Ready(Event::Fetched(fetched));
            }
            if reading && let Poll::Ready(read) = poll_pull(&mut self.stream, &mut self.input, cx) {
                return Poll::Ready(Event::Read(read));
            }
            if self.signal.poll_raised(cx).is_ready() || self.timer.poll_until(until, cx).is_ready() {
                return Poll::Ready(Event::Woken);
            }
            Poll::Pending
        })
        .await
    }
}

/// Reads what there is into `input`, whose memory is borrowed only while there is something in it.
fn poll_pull<R: AsyncRead + Unpin>(
    reader: &mut R,
    input: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    buffers::lend(input);
    let read = pin!(reader.read_buf(input)).poll(cx);
    if read.is_pending() {
        buffers::take_back(input);
    }
    read
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

/// The one timer of a connection; none while nothing has a time.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready at `until`. May be ready earlier, where that was asked for before: to set a timer anew costs more than to look.
    fn poll_until(&mut self, until: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = until else {
            self.0 = None;
            return Poll::Pending;
        };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if until < sleep.deadline() {
            sleep.as_mut().reset(until);
        }
        ready!(sleep.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Waker, time::Duration};

    use tokio::{io::duplex, time::timeout};

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

    #[tokio::test]
    async fn who_sends_nothing_has_no_buffer_and_what_has_begun_is_kept() {
        let (mut client, mut server) = duplex(64);
        let mut input = BytesMut::new();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(poll_pull(&mut server, &mut input, cx).is_pending() && input.capacity() == 0);
        client.write_all(b"begun").await.unwrap();
        assert!(matches!(poll_pull(&mut server, &mut input, cx), Poll::Ready(Ok(5))));
        assert!(poll_pull(&mut server, &mut input, cx).is_pending());
        assert!(input == "begun" && input.capacity() < buffers::BUFFER_BYTES / 8);
        client.write_all(b" and done").await.unwrap();
        assert!(poll_pull(&mut server, &mut input, cx).is_ready() && input == "begun and done");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_put_off_may_go_off_early_but_never_late() {
        let (mut timer, begun) = (Timer::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(timer.poll_until(Some(at(9)), cx).is_pending());
        poll_fn(|cx| timer.poll_until(Some(at(3)), cx)).await;
        assert_eq!(Instant::now(), at(3));
        assert!(timer.poll_until(Some(at(6)), cx).is_pending());
        poll_fn(|cx| timer.poll_until(Some(at(9)), cx)).await;
        assert_eq!(Instant::now(), at(6));
        poll_fn(|cx| timer.poll_until(Some(at(9)), cx)).await;
        assert_eq!(Instant::now(), at(9));
        assert!(timer.poll_until(None, cx).is_pending() && timer.0.is_none());
    }
}
