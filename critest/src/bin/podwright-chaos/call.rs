//! Calls as kubelet makes them: repeated until they succeed, whatever happens to the daemon meanwhile. Owns which failures
//! may happen; all others are faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use podwright_critest::Cri;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::Code;

/// Longest time in which repeated calls must succeed once, from the last kill that cut one short.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time in all: on a loaded machine a call may be cut short again and again.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(300);
/// Longest time for one call; kubelet's is two minutes.
const ONE_CALL: Duration = Duration::from_secs(40);
/// Pause before a call is repeated.
const PAUSE: Duration = Duration::from_millis(20);
/// How long after a failure it may turn out that the daemon was killed.
const NEWS_WITHIN: Duration = Duration::from_millis(250);

/// The daemon as its callers know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    /// Counts its starts.
    pub(crate) generation: u64,
    /// Clients of the one that serves; `None` while none does.
    pub(crate) cri: Option<Cri>,
}

/// What was killed that makes calls fail though the daemon serves.
#[derive(Debug, Default)]
pub(crate) struct Disturbances {
    /// Plugins.
    pub(crate) plugins: AtomicU64,
    /// The registry, and its starts: odd while it is down.
    pub(crate) registry: AtomicU64,
}

/// Makes calls.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) life: watch::Receiver<Life>,
    pub(crate) disturbances: Arc<Disturbances>,
}

/// How a call failed that may be repeated.
enum Failure {
    /// By the death of the daemon or of something else that was killed on purpose.
    Excused,
    /// By the daemon's own word.
    Refused(anyhow::Error),
}

impl Caller {
    /// Calls until it succeeds.
    ///
    /// # Errors
    /// The daemon refused, and nothing that was killed explains that; or it did not succeed for too long.
    pub(crate) async fn call<T>(&self, what: &str, call: impl AsyncFn(Cri) -> Result<T>) -> Result<T> {
        let last_end = Instant::now() + PATIENCE_IN_ALL;
        let mut end = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < end {
            let (generation, cri) = self.serving().await.with_context(|| what.to_owned())?;
            let before = self.disturbed();
            let outcome = timeout(ONE_CALL, call(cri)).await;
            let error = match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) if self.is_current(generation).await => bail!("{what}: no answer within {ONE_CALL:?}"),
                Err(_) => anyhow!("no answer"),
            };
            match self.judge(error, generation, before).await {
                Failure::Excused => {
                    last = None;
                    end = last_end.min(Instant::now() + PATIENCE);
                }
                Failure::Refused(error) if code_of(&error) == Some(Code::Unavailable) => last = Some(error),
                Failure::Refused(error) => return Err(error.context(what.to_owned())),
            }
            sleep(PAUSE).await;
        }
        let last = last.unwrap_or_else(|| anyhow!("the daemon was killed each time"));
        Err(last
            .context(format!("{what}: no success within {PATIENCE:?} of the last kill, or {PATIENCE_IN_ALL:?} in all")))
    }

    async fn judge(&self, error: anyhow::Error, generation: u64, before: (u64, u64)) -> Failure {
        let registry_is_down = before.1 % 2 == 1;
        let excused = never_answered(&error) || self.disturbed() != before || registry_is_down;
        if excused || !self.is_current(generation).await {
            return Failure::Excused;
        }
        Failure::Refused(error)
    }

    /// Whether the daemon of that generation still serves, after the news of its death had time to come.
    async fn is_current(&self, generation: u64) -> bool {
        let mut life = self.life.clone();
        let other = |life: &Life| life.generation != generation || life.cri.is_none();
        timeout(NEWS_WITHIN, life.wait_for(other)).await.is_err()
    }

    async fn serving(&self) -> Result<(u64, Cri)> {
        let mut life = self.life.clone();
        let up = timeout(PATIENCE, life.wait_for(|life| life.cri.is_some())).await;
        let up = up.context("the daemon did not come back")?.context("the arena has ended")?;
        Ok((up.generation, up.cri.clone().context("no clients")?))
    }

    fn disturbed(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (of(&self.disturbances.plugins), of(&self.disturbances.registry))
    }
}

/// Whether the connection broke, as it does when the daemon is killed. A daemon that ends by itself is found by its arena.
fn never_answered(error: &anyhow::Error) -> bool {
    use std::error::Error as _;
    error.chain().filter_map(|cause| cause.downcast_ref::<tonic::Status>()).any(|status| status.source().is_some())
}

/// The gRPC code behind an error.
pub(crate) fn code_of(error: &anyhow::Error) -> Option<Code> {
    error.chain().find_map(|cause| cause.downcast_ref::<tonic::Status>()).map(tonic::Status::code)
}
