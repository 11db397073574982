//! One connection: its tasks and their orderly end.
//!
//! ```text
//! client ─> reader ─> stream's buffer ─> user      (a full buffer stops the reader, and so the client)
//! client <─ writer <─ queue <─ pump <─ stream's buffer <─ user
//!             └─ control: answers of the reader, before all data
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::control::Answer;
use super::frame::StreamId;
use super::headers::Headers;
use super::reader::Reader;
use super::streams::Shared;
use super::writer;
use crate::streaming::limits::{IDLE_TIMEOUT, LINGER, MAX_QUEUED_PIECES, PAUSED_PING};
use crate::streaming::stream::Stream;

/// Decides by its headers whether a stream is wanted.
pub(in crate::streaming) type Accept = Box<dyn FnMut(&Headers) -> bool + Send>;

/// A stream that the client opened.
pub(in crate::streaming) struct Opened {
    /// Its number.
    pub(in crate::streaming) id: StreamId,
    /// Its headers.
    pub(in crate::streaming) headers: Headers,
    /// Its bytes.
    pub(in crate::streaming) stream: Stream,
}

/// A connection. Dropping it ends it at once.
pub(in crate::streaming) struct Connection {
    shared: Arc<Shared>,
    opened: mpsc::Receiver<Opened>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Connection {
    /// Serves a connection. It ends with `parent` at the latest.
    pub(in crate::streaming) fn start(
        io: impl AsyncRead + AsyncWrite + Send + 'static,
        max_streams: usize,
        accept: Accept,
        parent: &CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared::new(max_streams, parent.child_token()));
        let (to_user, opened) = mpsc::channel(max_streams);
        let (to_writer, pieces) = mpsc::channel(MAX_QUEUED_PIECES);
        let (read, write) = tokio::io::split(io);
        let writer = tokio::spawn(run_writer(Arc::clone(&shared), write, pieces));
        let reader =
            Reader { shared: Arc::clone(&shared), accept, opened: to_user, pieces: to_writer, going_away: false };
        let reader = tokio::spawn(run_reader(reader, read));
        tokio::spawn(watch(Arc::clone(&shared)));
        Self { shared, opened, reader, writer }
    }

    /// The next stream; `None` when the connection is over. Cancel safe.
    pub(in crate::streaming) async fn next(&mut self) -> Option<Opened> {
        self.opened.recv().await
    }

    /// Told when the connection is over.
    pub(in crate::streaming) fn ended(&self) -> &CancellationToken {
        &self.shared.ended
    }

    /// Ends the connection after all that its streams' users have sent is written. They must have dropped or shut down their
    /// streams.
    pub(in crate::streaming) async fn close(mut self) {
        // Streams that nobody took are dropped, and so are over.
        self.opened.close();
        while self.opened.recv().await.is_some() {}
        self.shared.pumps.close();
        self.shared.pumps.wait().await;
        self.shared.finish.cancel();
        let _ = (&mut self.writer).await;
        let _ = tokio::time::timeout(LINGER, &mut self.reader).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.end();
    }
}

async fn run_writer(shared: Arc<Shared>, io: impl AsyncWrite + Unpin, pieces: mpsc::Receiver<writer::Piece>) {
    let written = tokio::select! {
        () = shared.ended.cancelled() => return,
        written = writer::write(&shared, io, pieces) => written,
    };
    if let Err(error) = written {
        tracing::debug!(%error, "a streaming client can not be written to");
        shared.end();
    }
}

async fn run_reader(mut reader: Reader, io: impl AsyncRead + Unpin) {
    let shared = Arc::clone(&reader.shared);
    let read = tokio::select! {
        () = shared.ended.cancelled() => Ok(()),
        read = reader.run(io) => read,
    };
    if let Err(error) = read {
        tracing::debug!(%error, "a streaming client broke the protocol");
        shared.broken.store(true, Ordering::Relaxed);
        shared.finish.cancel();
        tokio::time::sleep(LINGER).await;
    }
    shared.end();
}

/// Ends a connection on which nothing moves, and finds out clients that left while nothing is read from them.
async fn watch(shared: Arc<Shared>) {
    let mut ping_id = 0_u32;
    while !ended_within(&shared, PAUSED_PING).await {
        if shared.idle() >= IDLE_TIMEOUT {
            tracing::debug!("a streaming connection was idle for too long");
            shared.end();
        }
        if shared.paused.load(Ordering::Relaxed) {
            ping_id = ping_id.wrapping_add(2);
            let _ = shared.control.push(Answer::Ping(ping_id));
        }
    }
}

async fn ended_within(shared: &Shared, limit: Duration) -> bool {
    tokio::time::timeout(limit, shared.ended.cancelled()).await.is_ok()
}

#[cfg(test)]
mod tests;
