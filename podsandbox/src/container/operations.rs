//! Making, starting and removing a container.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use podwright_types::ContainerId;

use super::{Container, steps};
use crate::error::EngineError;
use crate::events::Change;
use crate::ladder::{Climb, Goal, Outcome, climb, descend, save_or_later};
use crate::model::{ContainerConfig, ContainerState, Exit};
use crate::ports::StartFailure;
use crate::sandbox::Sandbox;
use crate::shared::{Claim, ContainerKey, detached};
use crate::util::{now_nanos, random_bytes};

/// First wait before an unfinished removal is tried again; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait before it is tried again.
const RETRY_MOST: Duration = Duration::from_secs(60);

/// Makes a container, or finds the one that was made for the same request.
pub(crate) async fn create(sandbox: Arc<Sandbox>, config: ContainerConfig) -> Result<ContainerId, EngineError> {
    crate::validate::container(&config, &sandbox.config).map_err(|e| e.within("make a container"))?;
    let (config, id) = (Arc::new(config), ContainerId::from_random(random_bytes()?));
    let key = ContainerKey::new(&sandbox.id, &config);
    let shared = sandbox.shared.clone();
    let claim = shared.containers.find_or_insert(key, || {
        let container = Arc::new(Container::new(sandbox, id.clone(), config.clone()));
        let _ = container.making.set(detached(make(container.clone())).boxed().shared());
        (id, container)
    });
    match claim {
        Claim::New(container) => join(&container).await,
        Claim::Held(container) if container.config == config => join(&container).await,
        Claim::Held(container) => Err(EngineError::AlreadyExists(format!(
            "make a container: {} has the same name and attempt and another configuration; remove it or raise the attempt",
            container.describe()
        ))),
    }
}

async fn join(container: &Arc<Container>) -> Result<ContainerId, EngineError> {
    if let Some(making) = container.making.get().cloned() {
        detached(making).await?;
    }
    Ok(container.id.clone())
}

async fn make(container: Arc<Container>) -> Outcome {
    let _operation = container.operation.lock().await;
    match make_all(&container).await {
        Ok(()) => {
            let history = container.sandbox.history();
            container.live().announced = true;
            container.emit(Change::Created);
            drop(history);
            container.tell_made().await;
            container.told.end_turn();
            Ok(())
        }
        Err(error) => {
            container.told.end_turn();
            container.live().durable.progress.goal = Goal::Removed;
            if let Err(undo) = unmake(&container).await {
                tracing::warn!(container = %container.id, error = %undo, "a failed container could not be undone; it is tried again");
                container.retry_later();
            }
            container.shared().containers.free_key(&container.key(), &container.id);
            Err(error)
        }
    }
}

async fn make_all(container: &Arc<Container>) -> Outcome {
    container.join_sandbox()?;
    climb(container, steps::MADE).await?;
    container.save().await
}

/// Starts a container. A start that is repeated has the result of the first one, also when the program has ended meanwhile: whoever
/// did not hear the answer asks again, and a short program is faster than that.
pub(crate) async fn start(container: Arc<Container>) -> Outcome {
    detached(async move {
        let _operation = container.operation.lock().await;
        let state = container.live().durable.state.clone();
        match state {
            ContainerState::Created => start_created(&container).await,
            ContainerState::Running { .. } => Ok(()),
            ContainerState::Exited { started_at_nanos, exit } => started_before(&container, started_at_nanos, &exit),
            ContainerState::Unknown => Err(not_again(&container, "nothing can be said of it since its shim is gone")),
        }
    })
    .await
}

/// What the start of a container came to that has ended since.
fn started_before(container: &Container, started_at_nanos: Option<i64>, exit: &Exit) -> Outcome {
    match started_at_nanos {
        _ if container.live().durable.stop_asked => Err(not_again(container, "it was stopped")),
        Some(_) => Ok(()),
        None => Err(not_again(container, &format!("it could not be started: {}", exit.message))),
    }
}

fn not_again(container: &Container, why: &str) -> EngineError {
    let text = format!("start {}: {why}; make a new one with a higher attempt", container.describe());
    EngineError::FailedPrecondition(text)
}

async fn start_created(container: &Arc<Container>) -> Outcome {
    // A pod that is not ready leaves the container as it is.
    container.sandbox.ready_shim(&format!("start {}", container.describe()))?;
    let started = match container.tell_starting().await {
        Ok(()) => climb(container, steps::PROCESS).await,
        refused => refused,
    };
    match started {
        Ok(()) => {
            // Until then the record says that a start is in flight, and the shim says how that ended.
            container.save_soon();
            container.tell_started().await;
            Ok(())
        }
        Err(error) => {
            start_failed(container, &error).await;
            Err(error)
        }
    }
}

async fn start_failed(container: &Arc<Container>, error: &EngineError) {
    container.live().starting = false;
    if let Err(undo) = descend(container, Some(steps::MADE)).await {
        container.unknown(&undo);
        return;
    }
    let failure = container.live().start_failure;
    container.exit(Exit {
        code: match failure {
            StartFailure::ProgramNotFound => 127,
            StartFailure::ProgramNotExecutable => 126,
            StartFailure::Setup => 128,
        },
        finished_at_nanos: now_nanos(),
        oom_killed: false,
        message: error.to_string(),
        reason: "StartError".into(),
    });
}

/// Stops a container; see [`Container::stop`].
pub(crate) async fn stop(container: Arc<Container>, grace: Duration) -> Outcome {
    detached(async move { container.stop_and_tell(grace).await }).await
}

/// Removes a container, killing it first if it runs. Files that can not be deleted now are deleted later.
pub(crate) async fn remove(container: &Arc<Container>) -> Outcome {
    match remove_wholly(container).await {
        Err(error @ EngineError::ReadOnly(_)) if container.has_only_files() => {
            put_off(container, &error);
            Ok(())
        }
        outcome => outcome,
    }
}

/// The same for a pod that is removed: its record goes after those of its containers.
pub(crate) async fn remove_wholly(container: &Arc<Container>) -> Outcome {
    let container = container.clone();
    detached(async move {
        container.live().durable.progress.goal = Goal::Removed;
        container.shared().containers.free_key(&container.key(), &container.id);
        container.resume().await
    })
    .await
}

/// Its files can not be deleted now, and nothing else is left of it: for callers it is gone. The deletion is tried again until it
/// succeeds; a daemon that is started before that tells of an exited container once more.
pub(crate) fn put_off(container: &Container, why: &EngineError) {
    let _history = container.sandbox.history();
    let mut live = container.live();
    live.hidden = true;
    let tell = std::mem::take(&mut live.announced);
    drop(live);
    if tell {
        tracing::warn!(container = %container.id, %why, "a removed container's files are deleted later");
        container.emit(Change::Deleted);
    }
}

async fn unmake(container: &Arc<Container>) -> Outcome {
    if container.shared().containers.get(&container.id).is_none() {
        return Ok(());
    }
    if container.progress(|p| p.begun("record")) {
        save_or_later(container).await;
    }
    descend(container, Some(steps::MADE)).await?;
    container.tell_removed().await;
    descend(container, None).await?;
    let _history = container.sandbox.history();
    container.sandbox.live().containers.remove(&container.id);
    container.sandbox.remember(&container.config.name, container.progress(|p| p.timeline.entries()));
    if container.shared().containers.remove(&container.key(), &container.id) && container.live().announced {
        container.emit(Change::Deleted);
    }
    Ok(())
}

impl Container {
    /// No process of it is left.
    pub(crate) fn has_only_files(&self) -> bool {
        let has_ended = matches!(self.live().durable.state, ContainerState::Exited { .. });
        has_ended || self.progress(|p| !p.begun(steps::PROCESS))
    }

    /// Puts it into its sandbox, while that takes members.
    fn join_sandbox(self: &Arc<Self>) -> Outcome {
        self.sandbox.ready_shim(&format!("make container {:?}", self.config.name))?;
        let mut live = self.sandbox.live();
        if live.goal() != Goal::Up {
            let text = format!("make container {:?}: {} is being stopped", self.config.name, self.sandbox.id);
            return Err(EngineError::FailedPrecondition(text));
        }
        live.containers.insert(self.id.clone(), self.clone());
        Ok(())
    }

    /// Goes on with a removal; what can not be done now is tried again later.
    pub(crate) async fn resume(self: &Arc<Self>) -> Outcome {
        let _operation = self.operation.lock().await;
        if self.live().goal() != Goal::Removed {
            return Ok(());
        }
        let outcome = unmake(self).await;
        if outcome.is_err() {
            self.retry_later();
        }
        outcome
    }

    /// Tries the removal again and again, with growing pauses, until it is done.
    fn retry_later(self: &Arc<Self>) {
        if std::mem::replace(&mut self.live().retrying, true) {
            return;
        }
        let container = self.clone();
        tokio::spawn(async move {
            let mut pause = RETRY_FIRST;
            loop {
                tokio::time::sleep(pause).await;
                let _operation = container.operation.lock().await;
                match unmake(&container).await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(container = %container.id, %error, "the removal failed again"),
                }
                pause = (pause * 2).min(RETRY_MOST);
            }
            container.live().retrying = false;
        });
    }

    /// Goes on after a restart of the daemon with a container that its shim does not run: a start that was in flight is
    /// undone, a making that was in flight too.
    pub(crate) async fn recover(self: &Arc<Self>) -> Outcome {
        let unmade = !self.progress(|p| p.done(steps::MADE));
        if unmade {
            self.live().durable.progress.goal = Goal::Removed;
        }
        if self.live().goal() == Goal::Removed {
            return self.resume().await;
        }
        let _operation = self.operation.lock().await;
        self.forget_checkpoint().await?;
        if !self.was_started() && self.progress(|p| p.in_flight() == Some(steps::PROCESS)) {
            descend(self, Some(steps::MADE)).await?;
            save_or_later(self).await;
        }
        Ok(())
    }
}
