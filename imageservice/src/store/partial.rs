//! Downloads that were given up: what there is of them waits a while to be continued by another pull. Age, bytes and number are
//! bounded, and whoever frees space frees them too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use podwright_types::Digest;

use super::locks::Key;
use super::{Inner, blocking};
use crate::error::{ErrorKind, Result};

/// Most downloads that are kept.
const MAX_KEPT: usize = 64;

/// Whether what came before such a failure may be right. It is hashed from its first byte on when it is continued, so this decides
/// only whether that is worth a try.
pub(super) fn is_worth_keeping(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Cancelled
        | ErrorKind::RegistryUnavailable
        | ErrorKind::TooManyRequests
        | ErrorKind::Unauthorized => true,
        ErrorKind::NotFound
        | ErrorKind::Corrupt
        | ErrorKind::Untrusted
        | ErrorKind::LimitExceeded
        | ErrorKind::NoSpace
        | ErrorKind::Invalid
        | ErrorKind::Io => false,
    }
}

/// What is kept, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Partials {
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    digest: Digest,
    since: Instant,
}

impl Partials {
    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Keeps what there is of a download, whose lock the caller has.
    pub(super) fn keep_partial(self: &Arc<Self>, digest: &Digest) {
        let kept = Kept { digest: digest.clone(), since: Instant::now() };
        {
            let mut all = self.partials.kept();
            all.retain(|other| other.digest != *digest);
            all.push(kept.clone());
        }
        let (inner, age) = (Arc::downgrade(self), self.config.limits.partial_age);
        tokio::spawn(async move {
            tokio::time::sleep(age).await;
            let Some(inner) = inner.upgrade() else { return };
            let is_due = inner.partials.kept().contains(&kept);
            if is_due {
                inner.drop_partial(&kept).await;
            }
        });
    }

    /// Drops the oldest ones until the rest is within the bounds. No lock of a key may be held.
    pub(super) async fn bound_partials(self: &Arc<Self>) {
        let all = self.partials.kept().clone();
        let mut left = self.config.limits.partial_bytes;
        // The newest are counted first.
        for (position, kept) in all.iter().rev().enumerate() {
            let bytes = std::fs::metadata(self.content.partial_blob(&kept.digest)).map_or(0, |file| file.len());
            left = left.saturating_sub(bytes);
            if position >= MAX_KEPT || left == 0 {
                self.drop_partial(kept).await;
            }
        }
    }

    /// Drops all that no pull is continuing. No lock of a key may be held.
    pub(super) async fn drop_partials(self: &Arc<Self>) {
        let all = self.partials.kept().clone();
        for kept in all {
            self.drop_partial(&kept).await;
        }
    }

    async fn drop_partial(self: &Arc<Self>, kept: &Kept) {
        let key = Key::Blob(kept.digest.clone());
        let _guard = self.locks.lock(key.clone()).await;
        self.partials.kept().retain(|other| other != kept);
        // A pull that continues it brings it to its end, or keeps it anew.
        if self.catalog().is_wanted(&key) {
            return;
        }
        if let Err(error) = self.discard_partial(&kept.digest).await {
            tracing::warn!(%error, "a part of a cancelled pull stays until the next start");
        }
    }

    async fn discard_partial(self: &Arc<Self>, digest: &Digest) -> Result<()> {
        let (inner, digest) = (Arc::clone(self), digest.clone());
        blocking("discard", move || inner.content.discard_partial_blob(&digest)).await
    }
}
