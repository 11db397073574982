//! A stream of a client, whatever carries it.

use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;

/// Bytes from and to a client. Its end of input is the client's; shutting it down or dropping it ends our side.
#[derive(Debug)]
pub(super) struct Stream {
    /// The bytes.
    pub(super) io: DuplexStream,
    /// Told when the client gave the stream up, or is gone.
    pub(super) ended: CancellationToken,
}
