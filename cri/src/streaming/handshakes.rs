//! Connections whose request has not been read and answered. There are few places, and any user of the host can connect: when all
//! are taken the oldest one makes way, so that silence keeps nobody else out. An honest client needs its place for a moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::limits::MAX_HANDSHAKES;

/// The places.
#[derive(Clone)]
pub(super) struct Handshakes {
    places: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    count: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// A place. Dropping it gives it back.
pub(super) struct Handshake {
    number: u64,
    /// Told when it is to make way.
    pub(super) makes_way: CancellationToken,
    taken: Arc<Mutex<Taken>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Handshakes {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_HANDSHAKES)), taken: Arc::default() }
    }

    /// A place, after the oldest one has made way where that is necessary.
    pub(super) async fn begin(&self) -> Handshake {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => {
                if let Some((_, oldest)) = lock(&self.taken).by_age.pop_first() {
                    oldest.cancel();
                }
                // The semaphore is never closed.
                Arc::clone(&self.places).acquire_owned().await.ok()
            }
        };
        let mut taken = lock(&self.taken);
        taken.count += 1;
        let (number, makes_way) = (taken.count, CancellationToken::new());
        taken.by_age.insert(number, makes_way.clone());
        drop(taken);
        Handshake { number, makes_way, taken: Arc::clone(&self.taken), _place: place }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        lock(&self.taken).by_age.remove(&self.number);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_way() {
        let handshakes = Handshakes::new();
        let mut all = Vec::new();
        for _ in 0..MAX_HANDSHAKES {
            all.push(handshakes.begin().await);
        }
        assert!(all.iter().all(|one| !one.makes_way.is_cancelled()), "there is a place for each");
        // One that ended by itself is followed without harm to others.
        all.pop();
        all.push(handshakes.begin().await);
        assert!(all.iter().all(|one| !one.makes_way.is_cancelled()));

        let oldest = all.remove(0);
        let makes_way = oldest.makes_way.clone();
        let leaves = async {
            oldest.makes_way.cancelled().await;
            drop(oldest);
        };
        let (new, ()) = tokio::join!(handshakes.begin(), leaves);
        assert!(makes_way.is_cancelled() && !new.makes_way.is_cancelled());
        assert!(all.iter().all(|one| !one.makes_way.is_cancelled()), "only the oldest");
        assert_eq!(lock(&handshakes.taken).by_age.len(), MAX_HANDSHAKES);
    }
}
