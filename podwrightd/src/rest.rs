//! Freed memory goes back to the kernel: after the start and after bursts of work the allocator keeps much of it.

use std::time::Duration;

/// How often. A look at a heap from which nothing can be given takes well under a millisecond.
const EVERY: Duration = Duration::from_secs(30);
/// The first time: the start has just ended.
const FIRST: Duration = Duration::from_secs(1);

/// Gives freed memory back now and then, for ever.
pub(crate) async fn give_memory_back() {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = EVERY;
        let _ = tokio::task::spawn_blocking(podwright_sys::trim_heap).await;
    }
}
