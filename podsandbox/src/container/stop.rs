//! Stopping a container: its signal, a grace period, SIGKILL, and the truth about what even that does not end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{Container, stuck};
use crate::error::EngineError;
use crate::ladder::{Climb, Outcome};
use crate::model::{ContainerState, Exit};
use crate::ports::{PortError, Shim};
use crate::util::now_nanos;

/// Longest wait for an end after SIGKILL. What lives longer hangs in the kernel.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for the news of an end when the shim can not be reached.
const NEWS_WAIT: Duration = Duration::from_secs(1);

pub(super) const SIGKILL: i32 = 9;

impl Container {
    /// Stops it, and returns when that was told too.
    pub(crate) async fn stop_and_tell(self: &Arc<Self>, grace: Duration) -> Outcome {
        self.stop(grace).await?;
        self.tell_stopped().await;
        Ok(())
    }

    /// Stops it: at once with a `grace` of zero. Returns when it has ended, or with an error that names what holds it.
    /// Several stops at a time are fine; the shortest grace wins.
    pub(crate) async fn stop(self: &Arc<Self>, grace: Duration) -> Outcome {
        if self.live().starting {
            // Its start ends soon; if not, it is killed while it starts.
            drop(timeout(grace.min(KILL_WAIT), self.wait(|live| !live.starting)).await);
        }
        let (state, starting) = {
            let live = self.live();
            (live.durable.state.clone(), live.starting)
        };
        if !matches!(state, ContainerState::Exited { .. }) {
            // Recorded with the end that it leads to.
            self.live().durable.stop_asked = true;
        }
        match state {
            ContainerState::Exited { .. } => Ok(()),
            ContainerState::Created if !starting => {
                self.exit(never_started());
                Ok(())
            }
            ContainerState::Created => self.end(Duration::ZERO, 0).await,
            ContainerState::Running { pid, .. } => self.end(grace, pid).await,
            ContainerState::Unknown => self.end_without_shim().await,
        }
    }

    async fn end(self: &Arc<Self>, grace: Duration, pid: i32) -> Outcome {
        let shim = self.sandbox.live().shim.clone();
        let Some(shim) = shim else { return self.end_without_shim().await };
        if !grace.is_zero() {
            let signal = self.live().durable.stop_signal;
            if self.signal(&shim, signal, false).await? || self.exited_within(grace).await {
                return Ok(());
            }
        }
        if self.signal(&shim, SIGKILL, true).await? || self.exited_within(KILL_WAIT).await {
            return Ok(());
        }
        Err(EngineError::TimedOut(format!("stop {}: {}", self.describe(), stuck::explain(pid, KILL_WAIT))))
    }

    /// True if the container has ended.
    async fn signal(self: &Arc<Self>, shim: &Arc<dyn Shim>, signal: i32, all: bool) -> Result<bool, EngineError> {
        match shim.signal_container(&self.id, signal, all).await {
            Ok(()) => Ok(self.exited()),
            Err(PortError::NotFound(_)) => self.end_without_shim().await.map(|()| true),
            // The shim may just have ended, and with it the container.
            Err(_) if self.exited_within(NEWS_WAIT).await => Ok(true),
            Err(error) => {
                Err(EngineError::from(error).within(format!("stop {}: send signal {signal}", self.describe())))
            }
        }
    }

    /// Where no shim can be asked, the cgroup tells what is left.
    async fn end_without_shim(self: &Arc<Self>) -> Outcome {
        self.kill_cgroup().await?;
        self.lost(Exit {
            code: 128 + SIGKILL,
            finished_at_nanos: now_nanos(),
            oom_killed: false,
            message: "its shim is gone; what was left of it was killed".into(),
            reason: "ShimGone".into(),
        });
        Ok(())
    }

    fn exited(&self) -> bool {
        matches!(self.live().durable.state, ContainerState::Exited { .. })
    }

    async fn exited_within(&self, limit: Duration) -> bool {
        timeout(limit, self.wait(|live| matches!(live.durable.state, ContainerState::Exited { .. }))).await.is_ok()
    }

    /// Returns when the condition holds.
    async fn wait(&self, holds: impl Fn(&super::Live) -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds(&self.live()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

fn never_started() -> Exit {
    Exit {
        code: 128 + SIGKILL,
        finished_at_nanos: now_nanos(),
        oom_killed: false,
        message: "it was stopped before it was started".into(),
        reason: "Error".into(),
    }
}
