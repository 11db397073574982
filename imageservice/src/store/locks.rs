//! One worker at a time for each blob and each layer, so that nothing is fetched or removed twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use podwright_types::Digest;
use tokio::sync::OwnedMutexGuard;

/// What is locked. A blob of an uncompressed layer has the digest of the layer, so they are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    Blob(Digest),
    Layer(Digest),
}

/// Locks by key, which exist while somebody uses them. Who needs both locks the blob first.
#[derive(Debug, Default)]
pub(super) struct KeyLocks {
    locks: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
}

/// Ends the work on one key when dropped.
pub(super) struct KeyGuard(#[expect(dead_code, reason = "held for its drop")] OwnedMutexGuard<()>);

impl KeyLocks {
    pub(super) async fn lock(&self, key: Key) -> KeyGuard {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that only the map knows are free.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(key).or_default())
        };
        KeyGuard(lock.lock_owned().await)
    }
}
