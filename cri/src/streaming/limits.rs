//! The bounds of the streaming server, each with its reason.

use std::time::Duration;

/// Connections whose request has not been read and answered. They have at most [`HEADER_TIMEOUT`]; when there is one more, the
/// oldest makes way.
pub(super) const MAX_HANDSHAKES: usize = 256;
/// Sessions at once. As many as tokens: kubelet has no limit of its own.
pub(super) const MAX_SESSIONS: usize = 1000;
/// Tokens that wait for their client, as other runtimes have it.
pub(super) const MAX_TOKENS: usize = 1000;
/// How long a token waits for its client, as other runtimes have it.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// How often tokens that expired are dropped; their requests may hold long command lines.
pub(super) const TOKEN_SWEEP: Duration = Duration::from_secs(10);
/// How long a client may take to send its request's headers. It is on the same host.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's headers. API servers pass their client's headers on, so there can be some.
pub(super) const MAX_HEADER_BYTES: usize = 64 << 10;
/// Headers of a request.
pub(super) const MAX_HEADERS: usize = 128;
/// How long a client may take to open the streams that it asked for, as other runtimes have it.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// A session in which nothing moves ends after this, as other runtimes have it.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// Streams of one connection that forwards ports: two for each of 1,000 forwarded connections.
pub(super) const MAX_FORWARD_STREAMS: usize = 2000;
/// Streams of one connection of Exec or Attach: five are known.
pub(super) const MAX_COMMAND_STREAMS: usize = 5;
/// Bytes that wait in a stream for its reader, each way. Memory of a connection is bounded by this times its streams.
pub(super) const STREAM_BUFFER_BYTES: usize = 64 << 10;
/// Bytes of one DATA frame or message: small enough that streams take turns.
pub(super) const PIECE_BYTES: usize = 32 << 10;
/// Pieces that wait to be written to one connection.
pub(super) const MAX_QUEUED_PIECES: usize = 16;
/// Answers (replies, pings, resets) that wait for a peer that does not read. One that makes more necessary is cut off.
pub(super) const MAX_QUEUED_ANSWERS: usize = 4096;
/// Bytes that a peer may send in a stream before it hears that more may come: what SPDY has when nothing else is said.
pub(super) const WINDOW_BYTES: u32 = 64 << 10;
/// The same in a stream in which much is sent, while that is taken at once. No memory stands behind it: what has no place is not read,
/// and what comes after it on the connection waits with it.
pub(super) const BULK_WINDOW_BYTES: u32 = 1 << 20;
/// While a stream is full nothing is read from its connection; then the client is asked this often whether it is still there.
pub(super) const PAUSED_PING: Duration = Duration::from_secs(15);
/// How long a closed connection is read on, so that the client gets the last bytes before a reset can overtake them.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Longest message of a WebSocket client. Known clients send 32 KiB.
pub(super) const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Longest document about a terminal's size.
pub(super) const MAX_RESIZE_BYTES: usize = 1024;
/// Bytes of an error that are told to a client in a stream.
pub(super) const MAX_ERROR_BYTES: usize = 16 << 10;
