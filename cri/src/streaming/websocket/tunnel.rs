//! A byte stream in the binary messages of a WebSocket, for the SPDY of port forwarding.

use bytes::BytesMut;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::Socket;
use crate::streaming::limits::{LINGER, STREAM_BUFFER_BYTES};

/// Makes the tunnel and gives our end of it. It falls in when that end is dropped, or with `stop`.
pub(in crate::streaming) fn dig(socket: Socket, stop: CancellationToken) -> DuplexStream {
    let (users, ours) = tokio::io::duplex(2 * STREAM_BUFFER_BYTES);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => (),
            () = carry(socket, ours) => (),
        }
    });
    users
}

async fn carry(socket: Socket, ours: DuplexStream) {
    let (mut sink, mut stream) = socket.split();
    let (mut from_user, mut to_user) = tokio::io::split(ours);
    let inward = async {
        while let Some(Ok(message)) = stream.next().await {
            let written = match message {
                Message::Binary(bytes) => to_user.write_all(&bytes).await,
                Message::Close(_) | Message::Text(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
            };
            if written.is_err() {
                break;
            }
        }
        let _ = to_user.shutdown().await;
    };
    let outward = async {
        let mut bytes = BytesMut::with_capacity(STREAM_BUFFER_BYTES);
        while from_user.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
            if sink.send(Message::Binary(bytes.split().freeze())).await.is_err() {
                return false;
            }
            bytes.reserve(STREAM_BUFFER_BYTES);
        }
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        sink.send(Message::Close(Some(goodbye))).await.is_ok()
    };
    let mut inward = std::pin::pin!(inward);
    let said_goodbye = tokio::select! {
        () = &mut inward => return,
        said = outward => said,
    };
    if said_goodbye {
        let _ = tokio::time::timeout(LINGER, inward).await;
    }
}
