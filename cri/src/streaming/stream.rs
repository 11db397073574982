//! A stream of a client, whatever carries it.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::limits::PIECE_BYTES;
use super::shortcut::Shortcut;
use super::spdy::Outlet;

/// Bytes that are read at once to be sent. A block of memory of this size comes from a heap and not from the kernel.
const READ_BYTES: usize = 3 * PIECE_BYTES;

/// Bytes from and to a client. Its end of input is the client's; shutting it down or dropping it ends our side.
#[derive(Debug)]
pub(super) struct Stream {
    /// The bytes.
    pub(super) io: DuplexStream,
    /// Told when the client gave the stream up, or is gone.
    pub(super) ended: CancellationToken,
    /// Told when all that was sent in it has its place in the order in which the client gets things.
    pub(super) placed: CancellationToken,
    /// The way of the client's bytes past `io`, where the connection knows it.
    pub(super) shortcut: Shortcut,
    /// The way to the client past `io`, where there is one.
    pub(super) outlet: Option<Outlet>,
}

impl Stream {
    /// Sends all that a source says, to its end, by the shortest way.
    ///
    /// # Errors
    /// Those of reading, and of a client that takes no more.
    pub(super) async fn send_all(
        outlet: Option<&Outlet>,
        io: &mut (impl AsyncWrite + Unpin),
        from: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<()> {
        let mut bytes = BytesMut::new();
        loop {
            if bytes.capacity() < PIECE_BYTES / 2 {
                bytes.reserve(READ_BYTES);
            }
            if from.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            match outlet {
                Some(outlet) => outlet.send(bytes.split().freeze()).await?,
                None => io.write_all_buf(&mut bytes).await?,
            }
        }
    }

    /// Ends our side. What other streams send afterwards comes to the client after all of this one: some clients take the word
    /// in the error stream for the end of everything.
    pub(super) async fn finish(&mut self) {
        let _ = self.io.shutdown().await;
        tokio::select! {
            () = self.placed.cancelled() => (),
            () = self.ended.cancelled() => (),
        }
    }
}
