//! A stream of a client, whatever carries it.

use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;

/// Bytes from and to a client. Its end of input is the client's; shutting it down or dropping it ends our side.
#[derive(Debug)]
pub(super) struct Stream {
    /// The bytes.
    pub(super) io: DuplexStream,
    /// Told when the client gave the stream up, or is gone.
    pub(super) ended: CancellationToken,
    /// Told when all that was sent in it has its place in the order in which the client gets things.
    pub(super) placed: CancellationToken,
}

impl Stream {
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
