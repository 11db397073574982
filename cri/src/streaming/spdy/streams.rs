//! The open streams of a connection, and what both of its sides share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, DuplexStream, WriteHalf};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Control;
use super::frame::StreamId;
use super::window::{Window, lock};
use crate::streaming::limits::{BULK_WINDOW_BYTES, WINDOW_BYTES};
use crate::streaming::shortcut::Shortcut;

/// The way to a stream's user.
pub(super) struct User {
    pub(super) io: WriteHalf<DuplexStream>,
    pub(super) shortcut: Shortcut,
}

impl User {
    /// Gives it pieces, in order.
    ///
    /// # Errors
    /// It wants no more.
    pub(super) async fn give(&mut self, pieces: &mut VecDeque<Bytes>) -> std::io::Result<Pace> {
        let mut waited = false;
        loop {
            self.shortcut.write(pieces);
            let Some(piece) = pieces.front() else {
                let pace = if self.shortcut.is_open() { Pace::Fast } else { Pace::Behind };
                return Ok(if waited { Pace::Waited } else { pace });
            };
            if self.shortcut.is_worth_waiting(piece.len()) {
                waited = true;
                self.shortcut.caught_up().await;
            } else {
                self.shortcut.fall_behind(piece.len());
                self.io.write_all(piece).await?;
                pieces.pop_front();
            }
        }
    }
}

/// How a stream's user takes what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// At once.
    Fast,
    /// Later.
    Behind,
    /// So late that the connection had to wait.
    Waited,
}

/// One open stream.
pub(super) struct Entry {
    /// Towards the stream's user; `None` while it is written to, and when the user wants no more.
    pub(super) user: Option<User>,
    pub(super) window: Arc<Window>,
    pub(super) ended: CancellationToken,
    credit: Credit,
    peer_done: bool,
    user_done: bool,
}

/// What the peer may send, of a stream or of all.
struct Credit {
    window_bytes: u32,
    /// Less than none while a window that was made smaller is larger than it should be.
    uncredited_bytes: i64,
}

impl Default for Credit {
    fn default() -> Self {
        Self { window_bytes: WINDOW_BYTES, uncredited_bytes: 0 }
    }
}

impl Credit {
    /// Notes bytes that have a place; what the peer is to be told, when that is worth a frame. Who sends much that is taken at once gets a
    /// larger window with the first word: a frame for each half of the small one would be as many as the client's own. Where the
    /// connection had to wait it is small again: what is in it is in front of all other frames.
    fn consumed(&mut self, bytes: u32, pace: Pace) -> Option<u32> {
        self.uncredited_bytes = self.uncredited_bytes.saturating_add(bytes.into());
        if pace == Pace::Waited {
            self.resize(WINDOW_BYTES);
        }
        if self.uncredited_bytes < i64::from(self.window_bytes / 2) {
            return None;
        }
        if pace == Pace::Fast {
            self.resize(BULK_WINDOW_BYTES);
        }
        u32::try_from(std::mem::take(&mut self.uncredited_bytes)).ok()
    }

    fn resize(&mut self, bytes: u32) {
        self.uncredited_bytes += i64::from(bytes) - i64::from(self.window_bytes);
        self.window_bytes = bytes;
    }
}

/// What reader, writer and pumps of a connection share.
pub(super) struct Shared {
    streams: Mutex<HashMap<StreamId, Entry>>,
    max_streams: usize,
    /// Highest stream that the peer has opened.
    pub(super) last: AtomicU32,
    pub(super) control: Control,
    /// Credit of the connection.
    pub(super) window: Window,
    /// The peer speaks of windows.
    pub(super) windows_bind: AtomicBool,
    initial_bytes: AtomicI64,
    credit: Mutex<Credit>,
    /// The connection is over; whatever belongs to it ends.
    pub(super) ended: CancellationToken,
    /// What is queued is written, then the connection ends.
    pub(super) finish: CancellationToken,
    /// The peer broke the protocol.
    pub(super) broken: AtomicBool,
    pub(super) pumps: TaskTracker,
    /// The reader waits for a stream's user.
    pub(super) paused: AtomicBool,
    started: Instant,
    touched_millis: AtomicU64,
}

impl Shared {
    pub(super) fn new(max_streams: usize, ended: CancellationToken) -> Self {
        Self {
            streams: Mutex::default(),
            max_streams,
            last: AtomicU32::new(0),
            control: Control::default(),
            window: Window::new(WINDOW_BYTES.into()),
            windows_bind: AtomicBool::new(false),
            initial_bytes: AtomicI64::new(WINDOW_BYTES.into()),
            credit: Mutex::default(),
            ended,
            finish: CancellationToken::new(),
            broken: AtomicBool::new(false),
            pumps: TaskTracker::new(),
            paused: AtomicBool::new(false),
            started: Instant::now(),
            touched_millis: AtomicU64::new(0),
        }
    }

    /// Notes that something moved.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touched_millis.store(now, Ordering::Relaxed);
    }

    /// How long nothing has moved.
    pub(super) fn idle(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.touched_millis.load(Ordering::Relaxed)))
    }

    /// Adds a stream; `None` if there are too many.
    pub(super) fn add(&self, stream: StreamId, user: User) -> Option<(Arc<Window>, CancellationToken)> {
        let mut streams = lock(&self.streams);
        if streams.len() >= self.max_streams {
            return None;
        }
        let window = Arc::new(Window::new(self.initial_bytes.load(Ordering::Relaxed)));
        let ended = self.ended.child_token();
        let entry = Entry {
            user: Some(user),
            window: Arc::clone(&window),
            ended: ended.clone(),
            credit: Credit::default(),
            peer_done: false,
            user_done: false,
        };
        streams.insert(stream, entry);
        Some((window, ended))
    }

    /// Takes the way to a stream's user, to write to it. The first `None`: there is no such stream; the second: its user wants no
    /// more.
    pub(super) fn take_user(&self, stream: StreamId) -> Option<Option<User>> {
        lock(&self.streams).get_mut(&stream).map(|entry| entry.user.take())
    }

    /// Gives it back.
    pub(super) fn return_user(&self, stream: StreamId, user: User) {
        if let Some(entry) = lock(&self.streams).get_mut(&stream) {
            entry.user = Some(user);
        }
    }

    /// The peer sends no more in a stream.
    pub(super) fn peer_done(&self, stream: StreamId) {
        self.done(stream, |entry| entry.peer_done = true);
    }

    /// The stream's user sends no more.
    pub(super) fn user_done(&self, stream: StreamId) {
        self.done(stream, |entry| entry.user_done = true);
    }

    fn done(&self, stream: StreamId, note: impl FnOnce(&mut Entry)) {
        let mut streams = lock(&self.streams);
        let Some(entry) = streams.get_mut(&stream) else { return };
        note(entry);
        if entry.peer_done && entry.user_done {
            streams.remove(&stream);
            drop(streams);
            self.control.forget(stream);
        }
    }

    /// Drops a stream that the peer gave up.
    pub(super) fn reset(&self, stream: StreamId) {
        let entry = lock(&self.streams).remove(&stream);
        self.control.forget(stream);
        if let Some(entry) = entry {
            entry.ended.cancel();
        }
    }

    /// The peer allows more bytes in a stream, or with 0 on the connection.
    pub(super) fn allow(&self, stream: StreamId, bytes: u32) {
        self.windows_bind.store(true, Ordering::Release);
        let window = match stream {
            0 => None,
            stream => match lock(&self.streams).get(&stream) {
                Some(entry) => Some(Arc::clone(&entry.window)),
                None => return,
            },
        };
        window.as_deref().unwrap_or(&self.window).grow(bytes.into());
    }

    /// The peer changes the window that streams begin with, and so that of all streams.
    pub(super) fn set_initial_window(&self, bytes: u32) {
        self.windows_bind.store(true, Ordering::Release);
        let change = i64::from(bytes) - self.initial_bytes.swap(bytes.into(), Ordering::Relaxed);
        for entry in lock(&self.streams).values() {
            entry.window.grow(change);
        }
    }

    /// Notes that bytes of a stream have a place, and tells the peer when it is worth a frame.
    pub(super) fn consumed(&self, stream: StreamId, bytes: usize, pace: Pace) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // The connection's window is that of its fast streams.
        if let Some(credit) = lock(&self.credit).consumed(bytes, Pace::Fast) {
            self.control.credit(0, credit);
        }
        let mut streams = lock(&self.streams);
        let Some(entry) = streams.get_mut(&stream).filter(|entry| !entry.peer_done) else { return };
        if let Some(credit) = entry.credit.consumed(bytes, pace) {
            self.control.credit(stream, credit);
        }
    }

    /// Whether anything moved since the first millisecond.
    #[cfg(test)]
    pub(super) fn has_moved(&self) -> bool {
        self.touched_millis.load(Ordering::Relaxed) > 0
    }

    /// Streams that are open.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.streams).len()
    }

    /// Ends everything.
    pub(super) fn end(&self) {
        self.ended.cancel();
        lock(&self.streams).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_sends_much_gets_a_larger_window_and_fewer_words() {
        let mut credit = Credit::default();
        assert_eq!(credit.consumed(WINDOW_BYTES / 2 - 1, Pace::Fast), None);
        let first = credit.consumed(1, Pace::Fast).unwrap();
        // It has sent half of what it could, and can now have the larger window under way.
        assert_eq!(WINDOW_BYTES - WINDOW_BYTES / 2 + first, BULK_WINDOW_BYTES);
        let told = (0..1000).filter_map(|_| credit.consumed(32 << 10, Pace::Fast)).collect::<Vec<_>>();
        assert_eq!(told.len(), 1000 * (32 << 10) / (BULK_WINDOW_BYTES as usize / 2));
        assert!(told.iter().all(|bytes| *bytes == BULK_WINDOW_BYTES / 2));
    }
    #[test]
    fn a_stream_that_held_up_the_connection_gets_the_small_window_again() {
        let (mut credit, mut peer) = (Credit::default(), i64::from(WINDOW_BYTES));
        let mut send = |bytes: u32, pace: Pace| {
            peer += i64::from(credit.consumed(bytes, pace).unwrap_or(0)) - i64::from(bytes);
            peer
        };
        assert_eq!(send(WINDOW_BYTES, Pace::Behind), i64::from(WINDOW_BYTES), "not larger");
        assert_eq!(send(WINDOW_BYTES, Pace::Fast), i64::from(BULK_WINDOW_BYTES));
        // It has what it was told; only then less.
        let mut left = send(4096, Pace::Waited);
        while left > i64::from(WINDOW_BYTES) {
            left = send(4096, Pace::Behind);
        }
        for _ in 0..100 {
            let left = send(4096, Pace::Behind);
            assert!(left > 0 && left <= i64::from(WINDOW_BYTES), "{left}");
        }
        for _ in 0..WINDOW_BYTES / 8192 {
            left = send(4096, Pace::Fast);
        }
        assert!(left > i64::from(BULK_WINDOW_BYTES / 2), "it is fast again: {left}");
    }
}
