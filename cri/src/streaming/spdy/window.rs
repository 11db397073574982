//! How much may still be sent in a stream, or on the whole connection. SPDY has flow control, but the client that everybody uses
//! (Go's spdystream) neither obeys nor feeds it: held to its first window it would stall for ever. So windows bind only
//! towards a peer that has shown that it speaks of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The largest window there is.
const MAX_CREDIT_BYTES: i64 = 0x7fff_ffff;

/// Credit of one stream or connection.
#[derive(Debug)]
pub(super) struct Window {
    credit_bytes: Mutex<i64>,
    grown: Notify,
}

impl Window {
    pub(super) fn new(initial_bytes: i64) -> Self {
        Self { credit_bytes: Mutex::new(initial_bytes), grown: Notify::new() }
    }

    /// Takes credit for up to `wanted` bytes (not 0), and waits until there is some.
    pub(super) async fn take(&self, wanted: usize, binding: &AtomicBool) -> usize {
        loop {
            let mut grown = std::pin::pin!(self.grown.notified());
            grown.as_mut().enable();
            if let Some(taken) = self.try_take(wanted, binding.load(Ordering::Acquire)) {
                return taken;
            }
            grown.await;
        }
    }

    fn try_take(&self, wanted: usize, binding: bool) -> Option<usize> {
        let mut credit = lock(&self.credit_bytes);
        let most = if binding { usize::try_from(*credit).unwrap_or(0).min(wanted) } else { wanted };
        *credit -= i64::try_from(most).unwrap_or(i64::MAX);
        (most > 0).then_some(most)
    }

    /// Gives credit; less than none after the peer made its windows smaller.
    pub(super) fn grow(&self, bytes: i64) {
        let mut credit = lock(&self.credit_bytes);
        *credit = credit.saturating_add(bytes).min(MAX_CREDIT_BYTES);
        drop(credit);
        self.grown.notify_waiters();
    }
}

/// A lock that a panic elsewhere does not close.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_without_flow_control_is_not_held_to_it() {
        let window = Window::new(10);
        assert_eq!(window.take(100, &AtomicBool::new(false)).await, 100);
    }

    #[tokio::test]
    async fn a_peer_with_flow_control_gets_what_it_allows() {
        let (window, binding) = (Window::new(10), AtomicBool::new(true));
        assert_eq!(window.take(100, &binding).await, 10);
        let (taken, ()) = tokio::join!(window.take(100, &binding), async {
            tokio::task::yield_now().await;
            window.grow(-5);
            window.grow(7);
        });
        assert_eq!(taken, 2, "what is owed comes first");
    }
}
