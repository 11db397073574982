//! What happens to sandboxes and containers, for those who want to hear of it. Bounded: a listener that is too slow misses
//! events, learns how many from the channel, and lists anew.

use std::sync::Mutex;

use tokio::sync::broadcast;

use crate::model::{ContainerSnapshot, SandboxSnapshot};

/// Events that a listener may lag behind before it misses some.
const EVENTS_KEPT: usize = 1024;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Created,
    /// It runs, or a sandbox is ready.
    Started,
    /// It ended, or a sandbox is no longer ready.
    Stopped,
    /// It is gone; the snapshot is its last.
    Deleted,
}

/// To which object.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A sandbox, as it is after the change.
    Sandbox(SandboxSnapshot),
    /// A container, as it is after the change.
    Container(ContainerSnapshot),
}

/// One change.
#[derive(Debug, Clone)]
pub struct Event {
    /// Rises by one with each event of this daemon.
    pub sequence: u64,
    /// Nanoseconds since the epoch.
    pub at_nanos: i64,
    /// What happened.
    pub change: Change,
    /// To which object.
    pub subject: Subject,
}

/// Hands events to all listeners, in one order.
pub(crate) struct Events {
    next: Mutex<u64>,
    sender: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { next: Mutex::new(1), sender: broadcast::channel(EVENTS_KEPT).0 }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    pub(crate) fn emit(&self, change: Change, subject: Subject) {
        // Sent under the lock, so that listeners see rising numbers.
        let mut next = crate::util::lock(&self.next);
        let event = Event { sequence: *next, at_nanos: crate::util::now_nanos(), change, subject };
        *next += 1;
        // Nobody listening is no failure.
        drop(self.sender.send(event));
    }
}
