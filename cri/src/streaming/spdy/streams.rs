//! The open streams of a connection, and what both of its sides share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{DuplexStream, WriteHalf};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Control;
use super::frame::StreamId;
use super::window::{Window, lock};
use crate::streaming::limits::WINDOW_BYTES;

/// One open stream.
pub(super) struct Entry {
    /// Towards the stream's user; `None` while it is written to, and when the user wants no more.
    pub(super) user: Option<WriteHalf<DuplexStream>>,
    pub(super) window: Arc<Window>,
    pub(super) ended: CancellationToken,
    uncredited_bytes: u32,
    peer_done: bool,
    user_done: bool,
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
    uncredited_bytes: AtomicU32,
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
            uncredited_bytes: AtomicU32::new(0),
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
    pub(super) fn add(
        &self,
        stream: StreamId,
        user: WriteHalf<DuplexStream>,
    ) -> Option<(Arc<Window>, CancellationToken)> {
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
            uncredited_bytes: 0,
            peer_done: false,
            user_done: false,
        };
        streams.insert(stream, entry);
        Some((window, ended))
    }

    /// Takes the way to a stream's user, to write to it. The first `None`: there is no such stream; the second: its user wants no
    /// more.
    pub(super) fn take_user(&self, stream: StreamId) -> Option<Option<WriteHalf<DuplexStream>>> {
        lock(&self.streams).get_mut(&stream).map(|entry| entry.user.take())
    }

    /// Gives it back.
    pub(super) fn return_user(&self, stream: StreamId, user: WriteHalf<DuplexStream>) {
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
    pub(super) fn consumed(&self, stream: StreamId, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let whole = self.uncredited_bytes.load(Ordering::Relaxed).saturating_add(bytes);
        let due = whole >= WINDOW_BYTES / 2;
        self.uncredited_bytes.store(if due { 0 } else { whole }, Ordering::Relaxed);
        if due {
            self.control.credit(0, whole);
        }
        let mut streams = lock(&self.streams);
        let Some(entry) = streams.get_mut(&stream).filter(|entry| !entry.peer_done) else { return };
        entry.uncredited_bytes = entry.uncredited_bytes.saturating_add(bytes);
        if entry.uncredited_bytes >= WINDOW_BYTES / 2 {
            self.control.credit(stream, std::mem::take(&mut entry.uncredited_bytes));
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
