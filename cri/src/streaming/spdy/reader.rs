//! The reading side of a connection: frames from the client, to the streams they belong to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::{Accept, Opened};
use super::control::Answer;
use super::frame::{Decoder, Frame, ProtocolError, Reset, StreamId};
use super::headers::Headers;
use super::streams::{Pace, Shared, User};
use super::writer::{Outlet, Piece, pump};
use crate::streaming::limits::STREAM_BUFFER_BYTES;
use crate::streaming::shortcut::Shortcut;
use crate::streaming::stream::Stream;

/// Bytes that are read at a time, and kept for that.
const READ_BYTES: usize = 64 << 10;
/// The same from a client that sends more than that at a time.
const BULK_READ_BYTES: usize = 256 << 10;
/// Pieces that are given on together. Those of known clients have 32 KiB; a read of the smallest would make 29,000.
const MAX_RUN_PIECES: usize = 256;

/// Data of one stream that arrived together.
#[derive(Default)]
struct Run {
    stream: StreamId,
    pieces: VecDeque<Bytes>,
}

impl Run {
    /// A piece of this stream may be added.
    fn takes(&self, stream: StreamId) -> bool {
        self.pieces.is_empty() || (self.stream == stream && self.pieces.len() < MAX_RUN_PIECES)
    }
}

/// The reading side.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) accept: Accept,
    pub(super) opened: mpsc::Sender<Opened>,
    pub(super) pieces: mpsc::Sender<Piece>,
    /// The peer said that it opens no more streams.
    pub(super) going_away: bool,
}

impl Reader {
    /// Reads to the end of the connection.
    pub(super) async fn run(&mut self, mut io: impl AsyncRead + Unpin) -> Result<(), ProtocolError> {
        let (mut decoder, mut input, mut run) = (Decoder::default(), BytesMut::new(), Run::default());
        let mut read_bytes = READ_BYTES;
        loop {
            let decoded = self.take_all(&mut decoder, &mut input, &mut run).await;
            // Also what came before a broken frame.
            self.end_run(&mut run).await?;
            decoded?;
            if read_bytes == READ_BYTES && input.capacity() >= BULK_READ_BYTES {
                input = BytesMut::from(&input[..]);
            }
            input.reserve(read_bytes);
            // A failed connection has no more to say than one that was closed.
            let arrived = io.read_buf(&mut input).await.unwrap_or(0);
            if arrived == 0 {
                return Ok(());
            }
            read_bytes = if arrived >= READ_BYTES { BULK_READ_BYTES } else { READ_BYTES };
        }
    }

    /// Takes all frames that are there, but for the data of the last run.
    async fn take_all(
        &mut self,
        decoder: &mut Decoder,
        input: &mut BytesMut,
        run: &mut Run,
    ) -> Result<(), ProtocolError> {
        while let Some(frame) = decoder.decode(input)? {
            match frame {
                // Nothing, for which a full stream has always room: it must neither be kept nor keep a session alive.
                Frame::Data { stream, piece, fin: false } if piece.is_empty() => self.look_for(stream)?,
                Frame::Data { stream, piece, fin: false } => {
                    if !run.takes(stream) {
                        self.end_run(run).await?;
                    }
                    run.stream = stream;
                    run.pieces.push_back(piece);
                }
                frame => {
                    self.end_run(run).await?;
                    self.take(frame).await?;
                }
            }
        }
        Ok(())
    }

    async fn end_run(&mut self, run: &mut Run) -> Result<(), ProtocolError> {
        if run.pieces.is_empty() {
            return Ok(());
        }
        self.data(run.stream, &mut run.pieces, false).await
    }

    async fn take(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        match frame {
            Frame::SynStream { stream, fin, headers } => self.open(stream, fin, headers).await,
            Frame::Data { stream, piece, fin } => self.data(stream, &mut VecDeque::from([piece]), fin).await,
            Frame::Headers { stream, fin: true } => self.data(stream, &mut VecDeque::new(), true).await,
            Frame::Reset(stream) => {
                self.shared.reset(stream);
                Ok(())
            }
            Frame::WindowUpdate { stream, delta } => {
                self.shared.allow(stream, delta);
                Ok(())
            }
            Frame::Settings(Some(bytes)) => {
                self.shared.set_initial_window(bytes);
                Ok(())
            }
            // Odd numbers are the client's own, by which it says that it wants to go on; even ones are answers to ours.
            Frame::Ping(id) if id % 2 == 1 => {
                self.shared.touch();
                self.shared.control.push(Answer::Ping(id))
            }
            Frame::GoAway => {
                self.going_away = true;
                Ok(())
            }
            Frame::Ping(_)
            | Frame::SynReply(_)
            | Frame::Settings(None)
            | Frame::Headers { fin: false, .. }
            | Frame::Unknown(_) => Ok(()),
        }
    }

    async fn open(&mut self, stream: StreamId, fin: bool, headers: Headers) -> Result<(), ProtocolError> {
        self.shared.touch();
        if stream.is_multiple_of(2) || stream <= self.shared.last.load(Ordering::Relaxed) {
            return self.refuse(stream, Reset::ProtocolError);
        }
        self.shared.last.store(stream, Ordering::Relaxed);
        if self.going_away || !(self.accept)(&headers) {
            return self.refuse(stream, Reset::Refused);
        }
        let (ours, users) = tokio::io::duplex(STREAM_BUFFER_BYTES);
        let (from_user, to_user) = tokio::io::split(ours);
        let shortcut = Shortcut::default();
        let user = User { io: to_user, shortcut: shortcut.clone() };
        let Some((window, ended)) = self.shared.add(stream, user) else {
            return self.refuse(stream, Reset::Refused);
        };
        let placed = CancellationToken::new();
        let outlet = Outlet {
            shared: Arc::clone(&self.shared),
            stream,
            window,
            ended: ended.clone(),
            pieces: self.pieces.clone(),
        };
        let user = Stream { io: users, ended, placed: placed.clone(), shortcut, outlet: Some(outlet.clone()) };
        let opened = Opened { id: stream, headers, stream: user };
        if self.opened.try_send(opened).is_err() {
            self.shared.reset(stream);
            return self.refuse(stream, Reset::Refused);
        }
        // Known clients drop data that comes before the reply.
        self.shared.control.push(Answer::Reply(stream))?;
        let pump = pump(outlet, from_user);
        self.shared.pumps.spawn(async move {
            let _tells = placed.drop_guard();
            pump.await;
        });
        if fin { self.data(stream, &mut VecDeque::new(), true).await } else { Ok(()) }
    }

    fn refuse(&self, stream: StreamId, why: Reset) -> Result<(), ProtocolError> {
        self.shared.control.push(Answer::Reset(stream, why))
    }

    /// Data may cross the end of its stream; a stream that never was is an error.
    fn look_for(&self, stream: StreamId) -> Result<(), ProtocolError> {
        let never_was = stream > self.shared.last.load(Ordering::Relaxed);
        if never_was { self.refuse(stream, Reset::InvalidStream) } else { Ok(()) }
    }

    /// Leaves no pieces.
    async fn data(&mut self, stream: StreamId, pieces: &mut VecDeque<Bytes>, fin: bool) -> Result<(), ProtocolError> {
        self.shared.touch();
        let bytes = pieces.iter().map(Bytes::len).sum();
        let Some(user) = self.shared.take_user(stream) else {
            pieces.clear();
            self.shared.consumed(stream, bytes, Pace::Behind);
            return self.look_for(stream);
        };
        let mut pace = Pace::Behind;
        if let Some(mut user) = user {
            // A full stream stops the reading of the connection: the client's own network buffers fill up then.
            self.shared.paused.store(true, Ordering::Relaxed);
            let written = user.give(pieces).await;
            self.shared.paused.store(false, Ordering::Relaxed);
            pace = *written.as_ref().unwrap_or(&pace);
            match (written, fin) {
                (Ok(_), false) => self.shared.return_user(stream, user),
                (Ok(_), true) => drop(user.io.shutdown().await),
                (Err(_), _) => {}
            }
        }
        if fin {
            self.shared.peer_done(stream);
        }
        pieces.clear();
        self.shared.consumed(stream, bytes, pace);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
