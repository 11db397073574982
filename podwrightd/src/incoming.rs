//! Connections as they come in, and a rest where none can be taken: a client that finds no room waits in the socket's queue, and those
//! that are connected go on.

use std::io;
use std::time::{Duration, Instant};

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::net::{UnixListener, UnixStream};

/// Files that the calls of connected clients may still open: taking pods down needs some. New connections wait for more.
const KEPT_DESCRIPTORS: u64 = 32;
/// Rest after a connection that could not be taken: its cause (too many open files) does not pass by itself at once.
const REST: Duration = Duration::from_millis(100);

/// How often it is told that clients wait.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The connections of a listener, without end.
pub(crate) fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> + Send + 'static {
    unfold((listener, None), |(listener, mut told)| async move {
        let stream = next(&listener, &mut told).await;
        Some((Ok(stream), (listener, told)))
    })
}

async fn next(listener: &UnixListener, told: &mut Option<Instant>) -> UnixStream {
    loop {
        let failed = match podwright_sys::spare_descriptors() {
            Some(spare) if spare < KEPT_DESCRIPTORS => format!("only {spare} more files can be opened"),
            Some(_) | None => match listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => error.to_string(),
            },
        };
        if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(error = failed, "a client has to wait: no connection can be taken; raise LimitNOFILE");
        }
        tokio::time::sleep(REST).await;
    }
}
