//! Looks at the host that may never end: how many may be under way, and how long a caller waits for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::Status;

/// Looks under way, those that hang included: each has a thread.
const MAX_LOOKS: usize = 4;
/// A look at the host takes milliseconds, unless a file system hangs.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// The places of looks.
pub(super) struct Looks(Arc<Semaphore>);

impl Looks {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOOKS)))
    }

    /// Looks in a thread. It goes on, and keeps its place, when the caller does not wait any more.
    pub(super) async fn look<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else {
            let text = format!(
                "check the host: {MAX_LOOKS} looks are under way; try again when one has ended, or find what hangs"
            );
            return Err(Status::resource_exhausted(text));
        };
        let looking = tokio::task::spawn_blocking(move || {
            let seen = work();
            drop(place);
            seen
        });
        match tokio::time::timeout(LOOK_LIMIT, looking).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(error)) => Err(Status::internal(format!("check the host: the look at it ended early: {error}"))),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "check the host: it took longer than {} s; a file system may hang",
                LOOK_LIMIT.as_secs()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn looks_that_hang_keep_their_places() {
        let looks = Arc::new(Looks::new());
        let (begins, mut begun) = tokio::sync::mpsc::channel(MAX_LOOKS);
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(std::sync::Mutex::new(hang));
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..MAX_LOOKS {
            let (looks, begins, hang) = (Arc::clone(&looks), begins.clone(), Arc::clone(&hang));
            let work = move || {
                begins.blocking_send(()).unwrap();
                let _ = hang.lock().unwrap().recv();
            };
            hanging.spawn(async move { looks.look(work).await });
            begun.recv().await.unwrap();
        }
        let refused = looks.look(|| ()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        drop(release);
        assert!(hanging.join_all().await.into_iter().all(|seen| seen.is_ok()));
        looks.look(|| ()).await.unwrap();
    }
}
