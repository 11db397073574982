//! The writing side of a connection: one task that writes, and one for each stream that takes what its user sends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::{self, StreamId};
use super::streams::Shared;
use super::window::Window;
use crate::streaming::limits::PIECE_BYTES;

/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 64 << 10;

/// A piece of a stream's data on its way out.
#[derive(Debug)]
pub(super) struct Piece {
    stream: StreamId,
    bytes: Bytes,
    fin: bool,
}

/// Takes what the user of a stream sends, until its end.
pub(super) async fn pump(
    shared: Arc<Shared>,
    stream: StreamId,
    from_user: ReadHalf<DuplexStream>,
    window: Arc<Window>,
    ended: CancellationToken,
    pieces: mpsc::Sender<Piece>,
) {
    tokio::select! {
        () = ended.cancelled() => (),
        () = pump_to_end(&shared, stream, from_user, &window, &pieces) => (),
    }
    shared.user_done(stream);
}

async fn pump_to_end(
    shared: &Shared,
    stream: StreamId,
    mut from_user: ReadHalf<DuplexStream>,
    window: &Window,
    pieces: &mpsc::Sender<Piece>,
) {
    loop {
        let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
        if from_user.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            let _ = pieces.send(Piece { stream, bytes: Bytes::new(), fin: true }).await;
            return;
        }
        let mut bytes = bytes.freeze();
        while !bytes.is_empty() {
            let room = window.take(bytes.len(), &shared.windows_bind).await;
            let taken = shared.window.take(room, &shared.windows_bind).await;
            window.grow(i64::try_from(room - taken).unwrap_or(0));
            let piece = Piece { stream, bytes: bytes.split_to(taken), fin: false };
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    }
}

/// Writes until the connection fails or is to be finished.
pub(super) async fn write(
    shared: &Shared,
    mut io: impl AsyncWrite + Unpin,
    mut pieces: mpsc::Receiver<Piece>,
) -> std::io::Result<()> {
    let mut out = BytesMut::with_capacity(WRITE_BYTES);
    loop {
        let mut last = false;
        let first = tokio::select! {
            biased;
            () = shared.control.changed() => None,
            piece = pieces.recv() => piece,
            () = shared.finish.cancelled() => {
                last = true;
                None
            }
        };
        // Before the data: a reply must not come after what it makes possible.
        shared.control.take(&mut out);
        let moved = gather(&mut out, first, &mut pieces);
        if last && out.len() < WRITE_BYTES {
            let broken = shared.broken.load(Ordering::Relaxed);
            frame::put_goaway(&mut out, shared.last.load(Ordering::Relaxed), broken);
            io.write_all(&out).await?;
            return io.shutdown().await;
        }
        io.write_all(&out).await?;
        io.flush().await?;
        out.clear();
        // Our pings and what else the protocol itself wants keep no session alive in which nothing moves.
        if moved {
            shared.touch();
        }
    }
}

/// Gathers pieces to be written at once; whether there were any.
fn gather(out: &mut BytesMut, first: Option<Piece>, pieces: &mut mpsc::Receiver<Piece>) -> bool {
    let mut next = first;
    let mut any = false;
    loop {
        if let Some(piece) = next {
            frame::put_data_head(out, piece.stream, piece.bytes.len(), piece.fin);
            out.put_slice(&piece.bytes);
            any = true;
        }
        if out.len() >= WRITE_BYTES {
            return any;
        }
        next = match pieces.try_recv() {
            Ok(piece) => Some(piece),
            Err(_) => return any,
        };
    }
}
