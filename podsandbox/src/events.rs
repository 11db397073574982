//! What happens to sandboxes and containers, for those who want to hear of it. Bounded: a listener that is too slow misses
//! events, learns how many from the channel, and lists anew.
//!
//! Each event carries its pod as it is right after the change. That holds because all changes that are told are made and told
//! under one lock of the pod ([`Sandbox::history`](crate::sandbox::Sandbox::history)): events of a pod come in the order of
//! the changes, and no picture shows a change whose event is still to come.

use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

use podwright_types::{ContainerId, SandboxId};

use crate::model::{ContainerSnapshot, SandboxSnapshot};

/// Events that a listener may lag behind before it misses some: the start or end of 100 pods with some containers each. They
/// are kept once for all listeners, so more listeners cost nothing.
pub const EVENTS_KEPT: usize = 1024;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Created,
    /// It runs, or a sandbox is ready. Told again of a container of which nothing could be said for a while.
    Started,
    /// It ended, or a sandbox is no longer ready. Also of a container of which nothing can be said any more: its state is Unknown
    /// then, and its end is told when it is known.
    Stopped,
    /// It is gone. A sandbox is told a last time; a container is no longer among those of its pod.
    Deleted,
}

/// To which object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A sandbox.
    Sandbox(SandboxId),
    /// A container.
    Container(ContainerId),
}

/// A sandbox and its containers, all as they were at one time.
#[derive(Debug, Clone)]
pub struct PodSnapshot {
    /// Nanoseconds since the epoch.
    pub at_nanos: i64,
    /// The sandbox.
    pub sandbox: SandboxSnapshot,
    /// Its containers, in the order of their making.
    pub containers: Vec<ContainerSnapshot>,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Event {
    /// Rises by one with each event that anybody listens to.
    pub sequence: u64,
    /// What happened.
    pub change: Change,
    /// To which object.
    pub subject: Subject,
    /// The pod right after the change, with its time.
    pub pod: Arc<PodSnapshot>,
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

    /// Tells a change; the picture of its pod is taken only if somebody listens.
    pub(crate) fn emit(&self, change: Change, subject: Subject, pod: impl FnOnce() -> PodSnapshot) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        let pod = Arc::new(pod());
        // Sent under the lock, so that listeners see rising numbers.
        let mut next = crate::util::lock(&self.next);
        let event = Event { sequence: *next, change, subject, pod };
        *next += 1;
        // Nobody listening is no failure.
        drop(self.sender.send(event));
    }
}
