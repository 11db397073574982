//! Telling the operator's own parts of the life of pods and containers: what is told once, in which order, and whose error counts.

use std::sync::Arc;

use crate::container::Container;
use crate::error::EngineError;
use crate::ladder::{Climb, Outcome};
use crate::model::ContainerState;
use crate::ports::{Moment, Turn};
use crate::sandbox::{Sandbox, steps};
use crate::util::lock;

/// What was told of one pod or container.
#[derive(Default)]
pub(crate) struct Told {
    /// Its making was begun to be told, so its end is.
    pub(crate) begun: std::sync::atomic::AtomicBool,
    stopped: tokio::sync::OnceCell<()>,
    removed: tokio::sync::OnceCell<()>,
    /// Held from the telling of its making until it can be seen.
    turn: std::sync::Mutex<Option<Turn>>,
}

impl Told {
    pub(crate) fn begin(&self, turn: Turn) {
        self.begun.store(true, std::sync::atomic::Ordering::Relaxed);
        *lock(&self.turn) = Some(turn);
    }

    /// It was told to a daemon before this one.
    pub(crate) fn found(&self, stopped: bool) {
        self.begun.store(true, std::sync::atomic::Ordering::Relaxed);
        if stopped {
            // The cell is new.
            let _ = self.stopped.set(());
        }
    }

    /// It can be seen, or never will be.
    pub(crate) fn end_turn(&self) {
        drop(lock(&self.turn).take());
    }

    fn has_begun(&self) -> bool {
        self.begun.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Sandbox {
    fn listened_to(&self) -> bool {
        self.shared.ports.extensions.listens()
    }

    /// It was told by a daemon before this one.
    pub(crate) fn found_before(&self) {
        self.told.found(!self.progress(|p| p.begun(steps::EXTENSIONS)));
    }

    /// All of it is made. The turn is kept until it can be seen.
    pub(crate) async fn tell_made(&self) -> Outcome {
        let extensions = &self.shared.ports.extensions;
        // Also when nobody listens: who joins is told of it then, and of its end.
        self.told.begin(extensions.turn().await);
        if !self.listened_to() {
            return Ok(());
        }
        Ok(extensions.tell(Moment::SandboxMade, &self.snapshot(), None).await?)
    }

    async fn tell(&self, moment: Moment) {
        let extensions = &self.shared.ports.extensions;
        let _turn = extensions.turn().await;
        if let Err(error) = extensions.tell(moment, &self.snapshot(), None).await {
            tracing::warn!(sandbox = %self.id, ?moment, %error, "a pod's change was not told to all that follow it");
        }
    }

    pub(crate) async fn tell_limited(&self) {
        if self.listened_to() {
            self.tell(Moment::SandboxLimited).await;
        }
    }

    /// Once its containers have ended.
    pub(crate) async fn tell_stopped(&self) {
        if self.listened_to() && self.told.has_begun() {
            self.told.stopped.get_or_init(|| self.tell(Moment::SandboxStopped)).await;
        }
    }

    pub(crate) async fn tell_removed(&self) {
        if self.listened_to() && self.told.has_begun() {
            self.told.removed.get_or_init(|| self.tell(Moment::SandboxRemoved)).await;
        }
    }
}

impl Container {
    fn listened_to(&self) -> bool {
        self.shared().ports.extensions.listens()
    }

    /// It was told by a daemon before this one.
    pub(crate) fn found_before(&self) {
        let has_ended = matches!(self.live().durable.state, ContainerState::Exited { .. });
        self.told.found(has_ended);
    }

    async fn tell(&self, moment: Moment) -> Outcome {
        let extensions = &self.shared().ports.extensions;
        let _turn = extensions.turn().await;
        Ok(extensions.tell(moment, &self.sandbox.snapshot(), Some(&self.snapshot())).await?)
    }

    async fn tell_or_log(&self, moment: Moment) {
        if let Err(error) = self.tell(moment).await {
            tracing::warn!(container = %self.id, ?moment, %error, "a container's change was not told to all that follow it");
        }
    }

    /// It can be seen; the turn of its making goes on.
    pub(crate) async fn tell_made(&self) {
        if self.listened_to() {
            let extensions = &self.shared().ports.extensions;
            let told = extensions.tell(Moment::ContainerMade, &self.sandbox.snapshot(), Some(&self.snapshot())).await;
            if let Err(error) = told {
                tracing::warn!(container = %self.id, %error, "a container's making was not told to all that follow it");
            }
        }
    }

    pub(crate) async fn tell_starting(&self) -> Outcome {
        if !self.listened_to() {
            return Ok(());
        }
        self.tell(Moment::ContainerStarting)
            .await
            .map_err(|e: EngineError| e.within(format!("start {}", self.describe())))
    }

    pub(crate) async fn tell_started(&self) {
        if self.listened_to() {
            self.tell_or_log(Moment::ContainerStarted).await;
        }
    }

    pub(crate) async fn tell_limited(&self) {
        if self.listened_to() {
            self.tell_or_log(Moment::ContainerLimited).await;
        }
    }

    /// Nothing of it runs.
    pub(crate) async fn tell_stopped(&self) {
        if self.listened_to() && self.told.has_begun() {
            self.told.stopped.get_or_init(|| self.tell_or_log(Moment::ContainerStopped)).await;
        }
    }

    /// The same, while nobody waits for it.
    pub(crate) fn tell_stopped_soon(self: &Arc<Self>) {
        if self.listened_to() {
            let container = self.clone();
            tokio::spawn(async move { container.tell_stopped().await });
        }
    }

    pub(crate) async fn tell_removed(&self) {
        if self.listened_to() && self.told.has_begun() {
            self.tell_stopped().await;
            self.told.removed.get_or_init(|| self.tell_or_log(Moment::ContainerRemoved)).await;
        }
    }
}
