//! WebSocket: commands, whose streams are channels of messages, and a tunnel for SPDY.

pub(super) mod channel;
mod command;
mod tunnel;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::limits::MAX_MESSAGE_BYTES;

pub(super) use command::serve as serve_command;
pub(super) use tunnel::dig as tunnel;

/// A WebSocket of a client.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Speaks WebSocket on an upgraded connection.
pub(super) async fn socket(io: TokioIo<Upgraded>) -> Socket {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).max_frame_size(Some(MAX_MESSAGE_BYTES));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}
