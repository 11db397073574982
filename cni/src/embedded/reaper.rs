//! Gives addresses back when the links of pods that left are gone, and removes links that outstay. Looks now and then whether the
//! table is still there: others flush all tables of a host when they write their own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use podwright_types::SandboxId;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::book::Phase;
use super::{Inner, links};
use crate::netlink::LinkEvents;

/// How long a link may outlive its pod's teardown.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// Between two looks at the table, while there are pods.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// Subscribes to links that go away.
#[expect(
    deprecated,
    reason = "its successor is an unsafe function; LinkEvents owns its descriptor, so this use is sound"
)]
pub(super) fn listen() -> std::io::Result<AsyncFd<LinkEvents>> {
    AsyncFd::with_interest(LinkEvents::open()?, Interest::READABLE)
}

/// Waits for links to go away.
pub(super) async fn reap(inner: Arc<Inner>, events: AsyncFd<LinkEvents>) {
    let mut since: HashMap<SandboxId, Instant> = HashMap::new();
    let mut next_look = Instant::now() + LOOK;
    loop {
        {
            let book = inner.book();
            since.retain(|sandbox, _| book.get(sandbox).is_some_and(|(_, phase)| *phase == Phase::Leaving));
            for (lease, phase) in book.leases() {
                if phase == Phase::Leaving && !since.contains_key(&lease.sandbox) {
                    since.insert(lease.sandbox.clone(), Instant::now());
                }
            }
        }
        let deadline = since.values().min().map(|start| *start + LINGER);
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // The link of the first pod wakes this loop up.
        let has_table = inner.book().base.is_some();
        let look = async {
            match has_table {
                true => tokio::time::sleep_until(next_look).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = events.readable() => match ready {
                Ok(mut guard) => match guard.try_io(|events| events.get_ref().gone()) {
                    Ok(Ok(names)) => {
                        for name in names.iter().filter(|name| name.starts_with(&inner.link_prefix)) {
                            inner.released_link(name).await;
                        }
                    }
                    // Events were lost: look for oneself.
                    Ok(Err(_)) => inner.sweep(&HashSet::new()).await,
                    Err(_would_block) => {}
                },
                Err(error) => {
                    tracing::error!(%error, "links that go away are not noticed any more");
                    return;
                }
            },
            () = inner.leaving.notified() => {}
            () = look => {
                inner.look_after_table().await;
                next_look = Instant::now() + LOOK;
            }
            () = timer => {
                let now = Instant::now();
                let forced: HashSet<SandboxId> = since.iter().filter(|(_, start)| **start + LINGER <= now).map(|(sandbox, _)| sandbox.clone()).collect();
                inner.sweep(&forced).await;
                // What could not be freed is tried again after another while.
                since.retain(|sandbox, _| !forced.contains(sandbox));
            }
        }
    }
}

impl Inner {
    /// Releases pods that left and whose links went away, and removes links that outstay.
    async fn sweep(self: &Arc<Self>, forced: &HashSet<SandboxId>) {
        let leaving: Vec<(SandboxId, String)> = {
            let book = self.book();
            book.leases()
                .filter(|(_, phase)| *phase == Phase::Leaving)
                .map(|(lease, _)| (lease.sandbox.clone(), lease.link.clone()))
                .collect()
        };
        for (sandbox, link) in leaving {
            let outcome = if forced.contains(&sandbox) {
                self.finish(&sandbox).await
            } else {
                match self.host.run(move |net| links::link_exists(&net.route, &link)).await {
                    Ok(true) => Ok(()),
                    Ok(false) => self.release(&sandbox).await,
                    Err(error) => Err(error),
                }
            };
            if let Err(error) = outcome {
                tracing::warn!(%sandbox, error = %error, "the network of a removed pod is not freed yet");
            }
        }
    }

    /// Writes the table anew if rules of it are missing.
    async fn look_after_table(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        if let Err(error) = self.host.run(move |net| inner.restore_table(net)).await {
            tracing::warn!(error = %error, "the nftables table of the embedded network can not be looked after");
        }
    }

    async fn released_link(self: &Arc<Self>, link: &str) {
        let holder = {
            let book = self.book();
            book.holder_of_link(link)
                .and_then(|holder| book.get(holder))
                .filter(|(_, phase)| *phase == Phase::Leaving)
                .map(|(lease, _)| lease.sandbox.clone())
        };
        if let Some(sandbox) = holder
            && let Err(error) = self.release(&sandbox).await
        {
            tracing::warn!(%sandbox, error = %error, "the network of a removed pod is not freed yet");
        }
    }
}
