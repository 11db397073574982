//! Looks at the paths of volumes, whose file systems may never answer. One look at a path at a time, however many ask for it: a
//! dead path costs one thread, and not one more with each try of the caller.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use tokio::time::timeout;

use crate::error::EngineError;
use crate::ladder::Outcome;
use crate::shared::blocking;
use crate::util::lock;

/// Longest wait for a look.
const LIMIT: Duration = Duration::from_secs(5);

/// The result of a look, for all who wait for it.
type Look = SharedFuture<BoxFuture<'static, Outcome>>;

/// Looks under way.
#[derive(Default)]
pub(crate) struct Volumes {
    looks: Mutex<HashMap<PathBuf, Look>>,
}

impl Volumes {
    /// Makes an empty directory where nothing is, as other runtimes do it.
    pub(crate) async fn make_missing(self: &Arc<Self>, path: &Path) -> Outcome {
        self.within_limit(path, make_missing).await
    }

    async fn within_limit(self: &Arc<Self>, path: &Path, work: fn(&Path) -> std::io::Result<()>) -> Outcome {
        let text = || format!("volume {}: its file system does not answer; see what is mounted there", path.display());
        timeout(LIMIT, self.look(path, work)).await.map_err(|_| EngineError::TimedOut(text()))?
    }

    fn look(self: &Arc<Self>, path: &Path, work: fn(&Path) -> std::io::Result<()>) -> Look {
        let mut looks = lock(&self.looks);
        if let Some(look) = looks.get(path) {
            return look.clone();
        }
        let (volumes, at) = (self.clone(), path.to_owned());
        let task = tokio::spawn(async move {
            let made = blocking("make the missing volume", &at, work).await;
            lock(&volumes.looks).remove(&at);
            made
        });
        let lost = |e| Err(EngineError::Internal(format!("look at a volume: the task ended early: {e}")));
        let look = task.map(move |made| made.unwrap_or_else(lost)).boxed().shared();
        looks.insert(path.to_owned(), look.clone());
        look
    }
}

fn make_missing(path: &Path) -> std::io::Result<()> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => std::fs::create_dir_all(path),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    /// Whether the file system answers.
    static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    fn dead(_: &Path) -> std::io::Result<()> {
        LOOKS.fetch_add(1, Ordering::Relaxed);
        drop(GATE.1.wait_while(lock(&GATE.0), |open| !*open).unwrap());
        Ok(())
    }

    #[tokio::test]
    async fn many_who_ask_cost_one_thread() {
        let volumes = Arc::new(Volumes::default());
        let path = Path::new("/dead");
        for _ in 0..20 {
            let gave_up = timeout(Duration::from_millis(1), volumes.within_limit(path, dead)).await;
            assert_ne!(gave_up, Ok(Ok(())));
        }
        *lock(&GATE.0) = true;
        GATE.1.notify_all();
        // The one look is finished, and who asks for it has no limit here.
        let look = lock(&volumes.looks).get(path).cloned();
        if let Some(look) = look {
            assert_eq!(look.await, Ok(()));
        }
        assert_eq!(LOOKS.load(Ordering::Relaxed), 1);
        assert!(lock(&volumes.looks).is_empty());
    }

    #[tokio::test]
    async fn what_is_missing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        Arc::new(Volumes::default()).make_missing(&path).await.unwrap();
        assert!(path.is_dir());
    }
}
