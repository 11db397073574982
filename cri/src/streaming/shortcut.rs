//! The short way of a client's bytes: from the reader of its connection into the file that they are for, with no task and no buffer
//! between. It is open while all that went the long way, through the stream's buffer, is written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use podwright_podsandbox::session::Input;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use super::limits::{PIECE_BYTES, STREAM_BUFFER_BYTES};

/// Pieces of one write.
const SLICES_AT_ONCE: usize = 64;

/// A file that bytes are for.
pub(super) trait Sink: Send + Sync + 'static {
    /// Writes what it takes at once; `WouldBlock` if that is nothing.
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Returns when it may take more.
    fn writable(&self) -> BoxFuture<'_, io::Result<()>>;
}

impl Sink for OwnedWriteHalf {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_vectored(pieces)
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(Self::writable(self))
    }
}

impl Sink for Input {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::try_write(self, pieces)
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(Self::writable(self))
    }
}

/// The short way into one stream's file. Clones are the same way.
#[derive(Clone, Default)]
pub(super) struct Shortcut(Arc<State>);

#[derive(Default)]
struct State {
    sink: OnceLock<Weak<dyn Sink>>,
    /// Bytes that went the long way and are not written.
    behind_bytes: AtomicUsize,
    caught_up: Notify,
    closed: AtomicBool,
}

impl std::fmt::Debug for Shortcut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shortcut").field("behind_bytes", &self.0.behind_bytes).finish_non_exhaustive()
    }
}

/// The reader's side.
impl Shortcut {
    /// Writes of the pieces what goes the short way, and leaves the rest. An error is left to who writes what goes the long way.
    pub(super) fn write(&self, pieces: &mut VecDeque<Bytes>) {
        if self.0.behind_bytes.load(Ordering::Acquire) > 0 {
            return;
        }
        let Some(sink) = self.sink() else { return };
        let mut failed = false;
        while !failed && !pieces.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                pieces.iter().take(SLICES_AT_ONCE).map(|piece| IoSlice::new(piece)).collect();
            let written = sink.try_write(&slices);
            failed = !matches!(written, Ok(1..));
            skip(pieces, written.unwrap_or_default());
        }
    }

    /// What comes now goes the short way.
    pub(super) fn is_open(&self) -> bool {
        self.0.behind_bytes.load(Ordering::Acquire) == 0 && self.sink().is_some()
    }

    fn sink(&self) -> Option<Arc<dyn Sink>> {
        let sink = self.0.sink.get().filter(|_| !self.0.closed.load(Ordering::Acquire))?;
        sink.upgrade()
    }

    /// Notes bytes that go the long way.
    pub(super) fn fall_behind(&self, bytes: usize) {
        self.0.behind_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Whether the long way has no room for these, and the short one will be open again.
    pub(super) fn is_worth_waiting(&self, bytes: usize) -> bool {
        let behind = self.0.behind_bytes.load(Ordering::Acquire);
        behind > 0 && behind + bytes > STREAM_BUFFER_BYTES && self.sink().is_some()
    }

    /// Returns when all that went the long way is written, or the short one is closed for good.
    pub(super) async fn caught_up(&self) {
        loop {
            let mut caught_up = std::pin::pin!(self.0.caught_up.notified());
            caught_up.as_mut().enable();
            if self.0.behind_bytes.load(Ordering::Acquire) == 0 || self.sink().is_none() {
                return;
            }
            caught_up.await;
        }
    }
}

/// Takes bytes off the front, with the pieces that they empty.
fn skip(pieces: &mut VecDeque<Bytes>, mut bytes: usize) {
    while let Some(piece) = pieces.front_mut() {
        let taken = bytes.min(piece.len());
        piece.advance(taken);
        bytes -= taken;
        if !piece.is_empty() {
            break;
        }
        pieces.pop_front();
    }
}

/// Closes it.
struct Open<'a>(&'a State);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.caught_up.notify_waiters();
    }
}

/// Opens the short way into a file and writes what comes the long one, to its end.
///
/// # Errors
/// Those of reading and writing.
pub(super) async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    shortcut: &Shortcut,
    to: Arc<impl Sink>,
) -> io::Result<()> {
    let sink: Arc<dyn Sink> = to;
    let state = &*shortcut.0;
    let _open = Open(state);
    // There is one user of a stream.
    let _ = state.sink.set(Arc::downgrade(&sink));
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE_BYTES);
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let bytes = buffer.len();
        while !buffer.is_empty() {
            match sink.try_write(&[IoSlice::new(&buffer)]) {
                Ok(written) => buffer.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sink.writable().await?,
                Err(error) => return Err(error),
            }
        }
        // What came some other way was not counted.
        let behind = state.behind_bytes.load(Ordering::Acquire);
        if state.behind_bytes.fetch_sub(bytes.min(behind), Ordering::AcqRel) <= bytes {
            state.caught_up.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
