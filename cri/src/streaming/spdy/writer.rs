//! The writing side of a connection: one task that writes, and one for each stream that takes what its user sends.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::{self, StreamId};
use super::streams::Shared;
use super::window::Window;
use crate::streaming::limits::PIECE_BYTES;

/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 256 << 10;
/// Memory for what is written beside data.
const HEADS_BYTES: usize = 4 << 10;
/// Slices of one write.
const SLICES_AT_ONCE: usize = 64;

/// A piece of a stream's data on its way out.
#[derive(Debug)]
pub(super) struct Piece {
    stream: StreamId,
    bytes: Bytes,
    fin: bool,
}

/// Where data of one stream goes out. A session may keep it, and with it the connection's queue: the writer ends by `ended` or `finish`,
/// not when nobody can send any more.
#[derive(Clone)]
pub(in crate::streaming) struct Outlet {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: StreamId,
    pub(super) window: Arc<Window>,
    pub(super) ended: CancellationToken,
    pub(super) pieces: mpsc::Sender<Piece>,
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Outlet {
    /// Sends bytes, after those that were sent before by this way.
    ///
    /// # Errors
    /// `BrokenPipe` if the client gave the stream up or is gone.
    pub(in crate::streaming) async fn send(&self, bytes: Bytes) -> std::io::Result<()> {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(std::io::ErrorKind::BrokenPipe.into()),
            sent = self.send_all(bytes) => sent,
        }
    }

    async fn send_all(&self, mut bytes: Bytes) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let room = self.window.take(bytes.len().min(PIECE_BYTES), &self.shared.windows_bind).await;
            let taken = self.shared.window.take(room, &self.shared.windows_bind).await;
            self.window.grow(i64::try_from(room - taken).unwrap_or(0));
            self.put(bytes.split_to(taken), false).await?;
        }
        Ok(())
    }

    async fn put(&self, bytes: Bytes, fin: bool) -> std::io::Result<()> {
        let piece = Piece { stream: self.stream, bytes, fin };
        self.pieces.send(piece).await.map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

/// Takes what the user of a stream sends, until its end.
pub(super) async fn pump(outlet: Outlet, from_user: ReadHalf<DuplexStream>) {
    tokio::select! {
        () = outlet.ended.cancelled() => (),
        _ = pump_to_end(&outlet, from_user) => (),
    }
    outlet.shared.user_done(outlet.stream);
}

async fn pump_to_end(outlet: &Outlet, mut from_user: ReadHalf<DuplexStream>) -> std::io::Result<()> {
    loop {
        let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
        if from_user.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return outlet.put(Bytes::new(), true).await;
        }
        outlet.send_all(bytes.freeze()).await?;
    }
}

/// Writes until the connection fails or is to be finished.
pub(super) async fn write(
    shared: &Shared,
    mut io: impl AsyncWrite + Unpin,
    mut pieces: mpsc::Receiver<Piece>,
) -> std::io::Result<()> {
    let mut out = Batch::default();
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
        shared.control.take(&mut out.heads);
        let moved = gather(&mut out, first, &mut pieces);
        if last && out.bytes < WRITE_BYTES {
            let broken = shared.broken.load(Ordering::Relaxed);
            frame::put_goaway(&mut out.heads, shared.last.load(Ordering::Relaxed), broken);
            out.write(&mut io).await?;
            return io.shutdown().await;
        }
        out.write(&mut io).await?;
        io.flush().await?;
        // Our pings and what else the protocol itself wants keep no session alive in which nothing moves.
        if moved {
            shared.touch();
        }
    }
}

/// What is written at once.
#[derive(Default)]
struct Batch {
    slices: VecDeque<Bytes>,
    /// Bytes of the slices.
    bytes: usize,
    /// What comes after them.
    heads: BytesMut,
}

impl Batch {
    fn add(&mut self, piece: Piece) {
        frame::put_data_head(&mut self.heads, piece.stream, piece.bytes.len(), piece.fin);
        if !piece.bytes.is_empty() {
            self.add_heads();
            self.bytes += piece.bytes.len();
            self.slices.push_back(piece.bytes);
        }
    }

    fn add_heads(&mut self) {
        if !self.heads.is_empty() {
            self.bytes += self.heads.len();
            self.slices.push_back(self.heads.split().freeze());
        }
    }

    /// Writes all of it, and leaves it empty.
    async fn write(&mut self, io: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        self.add_heads();
        while !self.slices.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.slices.iter().take(SLICES_AT_ONCE).map(|slice| IoSlice::new(slice)).collect();
            let mut written = io.write_vectored(&slices).await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            while let Some(slice) = self.slices.front_mut().filter(|_| written > 0) {
                let taken = written.min(slice.len());
                slice.advance(taken);
                written -= taken;
                if slice.is_empty() {
                    self.slices.pop_front();
                }
            }
        }
        self.bytes = 0;
        self.heads.reserve(HEADS_BYTES);
        Ok(())
    }
}

/// Gathers pieces to be written at once; whether there were any.
fn gather(out: &mut Batch, first: Option<Piece>, pieces: &mut mpsc::Receiver<Piece>) -> bool {
    let mut next = first;
    let mut any = false;
    loop {
        if let Some(piece) = next {
            out.add(piece);
            any = true;
        }
        if out.bytes >= WRITE_BYTES {
            return any;
        }
        next = match pieces.try_recv() {
            Ok(piece) => Some(piece),
            Err(_) => return any,
        };
    }
}
