//! Serving: the sockets' server, the words to systemd, the orderly end.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use podwright_cri::Cri;
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tonic::transport::Server;

use crate::incoming::connections;
use crate::rest::give_memory_back;

/// Calls of one client that may be under way at once. A kubelet keeps to far fewer.
const CALLS_PER_CONNECTION: usize = 1024;

/// How long a thread for file system work waits for more of it before it ends.
pub(crate) const THREAD_IDLE: Duration = Duration::from_secs(20);

/// Serves until SIGTERM or SIGINT; then takes no more calls and waits for those in flight, for `drain` at most.
pub(crate) async fn serve(cri: Cri, listener: UnixListener, drain: Duration) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let server = cri
        .on(Server::builder().concurrency_limit_per_connection(CALLS_PER_CONNECTION))
        .serve_with_incoming_shutdown(Box::pin(connections(listener)), until_stopped(stopped));
    let mut server = tokio::spawn(server);
    let watchdog = tokio::spawn(feed_watchdog());
    let thread = tokio::spawn(keep_a_thread());
    let rest = tokio::spawn(give_memory_back());
    tell(&[NotifyState::Ready]);
    let ended = tokio::select! {
        ended = &mut server => Some(ended),
        () = asked_to_stop()? => None,
    };
    watchdog.abort();
    thread.abort();
    rest.abort();
    match ended {
        Some(ended) => ended?.context("the server ended by itself"),
        None => {
            tell(&[NotifyState::Stopping]);
            tracing::info!(limit_seconds = drain.as_secs(), "stopping: waiting for calls in flight");
            stop.send_replace(true);
            cri.end_streams();
            drained(server, drain).await
        }
    }
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // The sender is dropped only after the server.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn drained(
    mut server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    limit: Duration,
) -> anyhow::Result<()> {
    match tokio::time::timeout(limit, &mut server).await {
        Ok(ended) => ended?.context("the server failed while it stopped"),
        Err(_) => {
            // Pods live on, and the next daemon finishes what was in flight: nothing is lost by leaving now.
            tracing::warn!(limit_seconds = limit.as_secs(), "calls are still in flight; leaving them");
            server.abort();
            Ok(())
        }
    }
}

/// Returns at the first SIGTERM or SIGINT.
fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}

/// Feeds systemd's watchdog at half its period, from the runtime that serves: a runtime that hangs does not.
async fn feed_watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(period / 2);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Keeps one thread for file system work alive. Where no more threads can be made, that work waits for it; without any, tokio
/// panics.
async fn keep_a_thread() {
    loop {
        let _ = tokio::task::spawn_blocking(|| ()).await;
        tokio::time::sleep(THREAD_IDLE / 2).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd not told");
    }
}
