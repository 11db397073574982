//! Clients that send much of what is hardly anything.

use std::io::{self, IoSlice};
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::super::client::{Sender, data};
use super::*;
use crate::streaming::shortcut::{Sink, carry};

/// Enough for a cost that grows with the square to be seen.
const MANY: usize = 100_000;

/// Takes nothing until it is told to, then all; counts what it is asked.
#[derive(Default)]
struct Shut {
    state: Mutex<Asked>,
    opened: Notify,
}

#[derive(Default)]
struct Asked {
    is_open: bool,
    taken: Vec<u8>,
    writes: usize,
    slices: usize,
}

impl Shut {
    fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.opened.notify_waiters();
    }
}

impl Sink for Shut {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        state.writes += 1;
        state.slices += pieces.len();
        if !state.is_open {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pieces.iter().for_each(|piece| state.taken.extend_from_slice(piece));
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            let mut opened = std::pin::pin!(self.opened.notified());
            opened.as_mut().enable();
            if !self.state.lock().unwrap().is_open {
                opened.await;
            }
            Ok(())
        })
    }
}

/// A reader that has stream 1, and its user's side.
async fn reader() -> (Reader, Opened, mpsc::Receiver<Piece>) {
    let shared = Arc::new(Shared::new(1, CancellationToken::new()));
    let (opened, mut users) = mpsc::channel(1);
    let (pieces, written) = mpsc::channel(1);
    let mut reader = Reader { shared, accept: Box::new(|_| true), opened, pieces, going_away: false };
    let mut open = Sender::new().open(1, false, &[]);
    let frame = Decoder::default().decode(&mut open).unwrap().unwrap();
    reader.take(frame).await.unwrap();
    (reader, users.recv().await.unwrap(), written)
}

fn frames(payload: impl Iterator<Item = u8>) -> BytesMut {
    payload.flat_map(|byte| data(1, false, &[byte])).collect()
}

#[tokio::test]
async fn the_smallest_frames_are_given_on_in_runs_and_cost_what_they_are() {
    let (mut reader, opened, _written) = reader().await;
    let sent = (0..MANY).map(|number| u8::try_from(number % 251).unwrap()).collect::<Vec<_>>();
    let mut input = frames(sent.iter().copied());
    let (sink, mut stream) = (Arc::new(Shut::default()), opened.stream);
    let (to, way) = (Arc::clone(&sink), stream.shortcut.clone());
    let carried = tokio::spawn(async move { carry(&mut stream.io, &stream.shortcut, to).await });
    // So that the short way is open, and shut.
    tokio::task::yield_now().await;
    let reading = tokio::spawn(async move {
        let (mut decoder, mut run) = (Decoder::default(), Run::default());
        reader.take_all(&mut decoder, &mut input, &mut run).await.unwrap();
        let longest = run.pieces.len();
        reader.end_run(&mut run).await.unwrap();
        reader.data(1, &mut VecDeque::new(), true).await.unwrap();
        longest
    });
    // The stream's buffer is full and the reader waits for who takes nothing.
    while !way.is_worth_waiting(1) {
        tokio::task::yield_now().await;
    }
    sink.open();
    assert!(reading.await.unwrap() <= MAX_RUN_PIECES, "a run without end");
    carried.await.unwrap().unwrap();
    let state = sink.state.lock().unwrap();
    assert!(state.taken == sent, "{} bytes of {MANY}", state.taken.len());
    // A refused one, those that empty the buffer, and full ones.
    assert!(state.writes <= 100 + MANY / 64 + MANY / MAX_RUN_PIECES, "{} writes", state.writes);
    assert!(state.slices <= 2 * MANY, "{} slices", state.slices);
}

#[tokio::test]
async fn frames_with_nothing_in_them_are_neither_kept_nor_counted_as_life() {
    let (mut reader, _opened, _written) = reader().await;
    let mut input: BytesMut = (0..MANY).flat_map(|_| data(1, false, &[])).collect();
    let (mut decoder, mut run) = (Decoder::default(), Run::default());
    let quiet = std::time::Duration::from_millis(5);
    while reader.shared.idle() < quiet {
        tokio::task::yield_now().await;
    }
    reader.take_all(&mut decoder, &mut input, &mut run).await.unwrap();
    assert!(run.pieces.is_empty() && input.is_empty(), "{} pieces", run.pieces.len());
    assert!(reader.shared.idle() >= quiet, "nothing moved");
    input.extend_from_slice(&data(3, false, &[]));
    reader.take_all(&mut decoder, &mut input, &mut run).await.unwrap();
    let mut answers = BytesMut::new();
    reader.shared.control.take(&mut answers);
    // The reply of the first stream, then why there is no third.
    let mut told = Vec::new();
    let mut theirs = Decoder::default();
    while let Some(frame) = theirs.decode(&mut answers).unwrap() {
        told.push(frame);
    }
    assert_eq!(told.last(), Some(&Frame::Reset(3)));
}
