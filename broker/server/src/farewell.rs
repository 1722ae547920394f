//! The end of a connection from this side, so that what was said last is heard.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// How long the end may take; a dead peer must not hold its task and its place.
pub const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// A peer that sends nothing for so long is not in the middle of a packet.
const QUIET_MAX: Duration = Duration::from_millis(100);
/// What is still taken from a peer that does not stop sending.
const DISCARDED_BYTES_MAX: usize = 1_024 * 1_024;
const CHUNK_BYTES: usize = 4 * 1_024;

/// Closes every layer towards the peer, as by a close frame, `close_notify` and FIN, and discards what it was just sending: a socket
/// that is closed over unread bytes is reset, and with some systems the last packet or alert is lost with it.
pub async fn close<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    // Whatever fails in here has ended the connection as well.
    let _ = timeout(FAREWELL_MAX, async {
        stream.shutdown().await?;
        let (mut chunk, mut discarded) = (vec![0; CHUNK_BYTES], 0);
        while discarded < DISCARDED_BYTES_MAX {
            match timeout(QUIET_MAX, stream.read(&mut chunk)).await {
                Ok(Ok(bytes @ 1..)) => discarded += bytes,
                _ => break,
            }
        }
        Ok::<_, io::Error>(())
    })
    .await;
}
