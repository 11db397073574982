//! What a sandbox learns from its shim: exits, and that the shim itself is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Sandbox;
use crate::error::EngineError;
use crate::events::Change;
use crate::ladder::Climb;
use crate::model::Exit;
use crate::ports::{Shim, ShimEvent, ShimState};
use crate::util::now_nanos;

/// How often a shim that does not answer is tried again.
const RECONNECTS: u32 = 3;
/// Wait between two tries.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Ends what nobody asks for.
const SIGKILL: i32 = 9;
/// Exit code of a container whose shim died: it was killed.
const KILLED: i32 = 128 + SIGKILL;

impl Sandbox {
    /// Takes a shim and listens to it.
    pub(crate) fn adopt_shim(self: &Arc<Self>, shim: Arc<dyn Shim>, events: mpsc::Receiver<ShimEvent>) {
        let mut live = self.live();
        live.shim = Some(shim);
        live.shim_ends = false;
        drop(live);
        tokio::spawn(watch(self.clone(), events));
    }

    /// Connects to the shim that an earlier daemon, or a lost connection, left behind, and takes over what it knows.
    /// False if there is none.
    pub(crate) async fn reconnect(self: &Arc<Self>) -> Result<bool, EngineError> {
        let Some((shim, events)) = self.shared.ports.shims.connect(&self.id).await? else { return Ok(false) };
        let state = shim.state().await?;
        self.adopt_shim(shim, events);
        self.apply(state).await;
        Ok(true)
    }

    async fn apply(self: &Arc<Self>, state: ShimState) {
        {
            let mut live = self.live();
            live.shim_pid = state.pid;
            live.pause_pid = state.pod.as_ref().and_then(|pod| pod.pause_pid);
        }
        for container in self.all_containers() {
            match state.containers.iter().find(|report| report.container == container.id) {
                Some(report) => container.found(report),
                // A start that did not reach the shim is undone by the container itself.
                None if container.may_run() && container.was_started() => {
                    self.lose(&container, "its shim does not know it").await;
                }
                None => {}
            }
        }
        self.end_unknown(&state).await;
    }

    /// Ends what nobody can ask for any more: commands whose callers went with an earlier daemon, containers without a record.
    async fn end_unknown(&self, state: &ShimState) {
        let Some(shim) = self.live().shim.clone() else { return };
        let (execs, containers) = {
            let live = self.live();
            let execs = state.execs.iter().filter(|(_, exec)| !live.execs.contains_key(exec));
            let unknown = state.containers.iter().filter(|report| !live.containers.contains_key(&report.container));
            let running = unknown.filter(|report| report.end.is_none()).map(|report| report.container.clone());
            (execs.cloned().collect::<Vec<_>>(), running.collect::<Vec<_>>())
        };
        for (container, exec) in execs {
            if let Err(error) = shim.kill_exec(&container, &exec).await {
                tracing::warn!(sandbox = %self.id, %container, %error, "a command without a caller could not be killed");
            }
        }
        for container in containers {
            match shim.signal_container(&container, SIGKILL, true).await {
                Ok(()) => tracing::warn!(sandbox = %self.id, %container, "a container without a record was killed"),
                Err(error) => {
                    tracing::error!(sandbox = %self.id, %container, %error, "a container without a record runs")
                }
            }
        }
    }

    /// Kills what is left of a container that nobody can tell of any more, and says so.
    async fn lose(&self, container: &Arc<crate::container::Container>, why: &str) {
        match container.kill_cgroup().await {
            Ok(()) => container.lost(lost_exit(why)),
            Err(error) => container.unknown(&error),
        }
    }

    /// After the shim's wanted end: nothing of the pod runs.
    pub(super) fn forget_shim(&self) {
        let mut live = self.live();
        live.shim_pid = 0;
        live.pause_pid = None;
        live.execs.clear();
    }

    /// After the pod's processes were killed with their cgroups.
    pub(super) fn all_lost(&self, why: &str) {
        for container in self.all_containers() {
            if container.may_run() {
                container.lost(lost_exit(why));
            }
        }
    }

    fn no_longer_ready(self: &Arc<Self>, why: String) {
        let _history = self.history();
        let mut live = self.live();
        let (was_ready, announced) = (self.end_readiness(&mut live), live.announced);
        if was_ready {
            live.durable.message = why;
        }
        drop(live);
        if was_ready {
            tracing::warn!(sandbox = %self.id, "{}: {}", self.describe(), self.live().durable.message);
            self.save_soon();
        }
        if was_ready && announced {
            self.emit(Change::Stopped);
        }
    }

    /// The shim ended and nobody wanted that: what it owned is killed, so that nothing runs unseen.
    pub(crate) async fn shim_died(self: &Arc<Self>) {
        let pid = self.live().shim_pid;
        self.no_longer_ready(format!("its shim (pid {pid}) ended unexpectedly"));
        self.live().shim = None;
        self.forget_shim();
        for container in self.all_containers() {
            if container.may_run() {
                self.lose(&container, &format!("the shim of its pod (pid {pid}) ended unexpectedly")).await;
            }
        }
    }

    fn handle(self: &Arc<Self>, event: ShimEvent) {
        match event {
            ShimEvent::ContainerExited(id, end) => {
                let container = self.live().containers.get(&id).cloned();
                if let Some(container) = container {
                    container.ended(&end);
                }
            }
            ShimEvent::ExecExited(exit) => {
                let waiter = self.live().execs.remove(&exit.exec);
                if let Some(waiter) = waiter {
                    // Who gave up waiting needs no answer.
                    drop(waiter.send(exit.end));
                }
            }
            ShimEvent::PauseExited => self.no_longer_ready("its pause process ended unexpectedly".into()),
            ShimEvent::ShimGone => {}
        }
    }
}

fn lost_exit(why: &str) -> Exit {
    Exit {
        code: KILLED,
        finished_at_nanos: now_nanos(),
        oom_killed: false,
        message: format!("{why}; what was left of it was killed"),
        reason: "ShimGone".into(),
    }
}

async fn watch(sandbox: Arc<Sandbox>, mut events: mpsc::Receiver<ShimEvent>) {
    while let Some(event) = events.recv().await {
        if matches!(event, ShimEvent::ShimGone) {
            break;
        }
        sandbox.handle(event);
    }
    if !sandbox.live().shim_ends {
        Box::pin(sandbox.meet_shim()).await;
    }
}

impl Sandbox {
    /// Finds the shim after a restart of the daemon, or after the connection was lost. Says what is wrong, if anything.
    pub(crate) async fn meet_shim(self: &Arc<Self>) -> Option<String> {
        let mut tries = 0;
        loop {
            match self.reconnect().await {
                Ok(true) => return None,
                Ok(false) => {
                    self.shim_died().await;
                    return Some("its shim is gone".into());
                }
                Err(error) if tries == RECONNECTS => {
                    self.shim_unreachable(&error);
                    return Some(format!("its shim does not answer: {error}"));
                }
                Err(error) => tracing::warn!(sandbox = %self.id, %error, "the shim does not answer; trying again"),
            }
            tries += 1;
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// The shim lives and can not be talked to: nothing is killed for that, but nothing can be said either.
    fn shim_unreachable(self: &Arc<Self>, error: &EngineError) {
        self.no_longer_ready(format!("its shim does not answer: {error}; stop the pod to be rid of it"));
        self.live().shim = None;
        self.forget_shim();
        for container in self.all_containers() {
            if container.may_run() {
                container.unknown(error);
            }
        }
    }
}
