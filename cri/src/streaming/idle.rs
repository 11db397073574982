//! Ends a connection on which nothing moves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Watches one connection.
#[derive(Debug, Clone)]
pub(super) struct Idle(Arc<Notify>);

impl Idle {
    /// Cancels `connection` once it was not touched for `limit`.
    pub(super) fn start(connection: CancellationToken, limit: Duration) -> Self {
        let touched = Arc::new(Notify::new());
        tokio::spawn(watch(Arc::clone(&touched), connection, limit));
        Self(touched)
    }

    /// Notes that something moved.
    pub(super) fn touch(&self) {
        self.0.notify_one();
    }
}

async fn watch(touched: Arc<Notify>, connection: CancellationToken, limit: Duration) {
    loop {
        tokio::select! {
            () = connection.cancelled() => return,
            moved = tokio::time::timeout(limit, touched.notified()) => if moved.is_err() {
                tracing::debug!("a streaming connection was idle for too long");
                connection.cancel();
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_move_ends() {
        let connection = CancellationToken::new();
        let _idle = Idle::start(connection.clone(), Duration::from_millis(5));
        connection.cancelled().await;
    }

    #[tokio::test]
    async fn the_watch_ends_with_the_connection() {
        let connection = CancellationToken::new();
        let idle = Idle::start(connection.clone(), Duration::from_secs(3600));
        idle.touch();
        connection.cancel();
        while Arc::strong_count(&idle.0) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
