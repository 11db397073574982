//! Making, stopping and removing a sandbox. Each is joined by whoever asks again, and goes on when its caller is gone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use podwright_types::SandboxId;

use super::{Making, Sandbox, steps};
use crate::container;
use crate::error::EngineError;
use crate::events::Change;
use crate::ladder::{Climb, Goal, Outcome, climb, descend, save_or_later};
use crate::model::SandboxConfig;
use crate::shared::{Claim, Shared, detached};
use crate::util::random_bytes;

/// First wait before an unfinished tear-down is tried again; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait before it is tried again.
const RETRY_MOST: Duration = Duration::from_secs(60);

/// Makes a sandbox, or finds the one that was made for the same request.
pub(crate) async fn run(shared: Arc<Shared>, config: SandboxConfig) -> Result<SandboxId, EngineError> {
    crate::validate::sandbox(&config).map_err(|e| e.within("make a pod sandbox"))?;
    let (config, id) = (Arc::new(config), SandboxId::from_random(random_bytes()?));
    let key = config.as_ref().into();
    let claim = shared.sandboxes.find_or_insert(key, || {
        let sandbox = Arc::new(Sandbox::new(shared.clone(), id.clone(), config.clone()));
        // Before anybody can find it, so that all who do join.
        let _ = sandbox.making.set(making(sandbox.clone()));
        (id, sandbox)
    });
    match claim {
        Claim::New(sandbox) => join(&sandbox).await,
        Claim::Held(sandbox) => join_equal(&sandbox, &config).await,
    }
}

fn making(sandbox: Arc<Sandbox>) -> Making {
    detached(make(sandbox)).boxed().shared()
}

async fn join(sandbox: &Arc<Sandbox>) -> Result<SandboxId, EngineError> {
    if let Some(making) = sandbox.making.get().cloned() {
        // In a task of its own from here on, even if this caller goes away before its first turn.
        detached(making).await?;
    }
    Ok(sandbox.id.clone())
}

async fn join_equal(sandbox: &Arc<Sandbox>, config: &SandboxConfig) -> Result<SandboxId, EngineError> {
    let taken = |how: &str| {
        EngineError::AlreadyExists(format!(
            "make a pod sandbox: {} has the same name, namespace, uid and attempt, {how}; remove it or raise the attempt",
            sandbox.describe()
        ))
    };
    if sandbox.config.as_ref() != config {
        return Err(taken("and another configuration"));
    }
    let id = join(sandbox).await?;
    match sandbox.state() {
        crate::model::SandboxState::Ready => Ok(id),
        crate::model::SandboxState::NotReady => Err(taken("and is not ready any more")),
    }
}

async fn make(sandbox: Arc<Sandbox>) -> Outcome {
    let _operation = sandbox.operation.lock().await;
    match make_ready(&sandbox).await {
        Ok(()) => {
            sandbox.announce();
            sandbox.told.end_turn();
            Ok(())
        }
        Err(error) => {
            sandbox.told.end_turn();
            sandbox.live().durable.progress.goal = Goal::Removed;
            if let Err(undo) = unmake(&sandbox).await {
                tracing::warn!(sandbox = %sandbox.id, error = %undo, "a failed sandbox could not be undone; it is tried again");
                sandbox.retry_later();
            }
            sandbox.shared.past.failed(&sandbox, &error);
            sandbox.shared.sandboxes.free_key(&sandbox.key(), &sandbox.id);
            Err(error)
        }
    }
}

async fn make_ready(sandbox: &Arc<Sandbox>) -> Outcome {
    climb(sandbox, steps::TOP).await?;
    sandbox.set_ready()?;
    sandbox.save().await
}

/// Stops a sandbox: kills its containers, gives back its network and all else but the record.
pub(crate) async fn stop(sandbox: Arc<Sandbox>) -> Outcome {
    detached(async move {
        sandbox.aim(Goal::Stopped);
        let _operation = sandbox.operation.lock().await;
        match sandbox.go_to_goal().await {
            // It is stopped; what is recorded of its network is taken away when that can be written.
            Err(EngineError::ReadOnly(why)) if sandbox.has_only_files() => {
                tracing::warn!(sandbox = %sandbox.id, why, "a stopped sandbox's files are changed later");
                Ok(())
            }
            outcome => outcome,
        }
    })
    .await
}

/// Stops a sandbox and removes it and its containers.
pub(crate) async fn remove(sandbox: Arc<Sandbox>) -> Outcome {
    detached(async move {
        sandbox.aim(Goal::Removed);
        sandbox.shared.sandboxes.free_key(&sandbox.key(), &sandbox.id);
        let _operation = sandbox.operation.lock().await;
        match sandbox.go_to_goal().await {
            Err(error @ EngineError::ReadOnly(_)) if sandbox.has_only_files() => {
                put_off(&sandbox, &error);
                Ok(())
            }
            outcome => outcome,
        }
    })
    .await
}

/// As [`container::put_off`], with its containers.
fn put_off(sandbox: &Arc<Sandbox>, why: &EngineError) {
    for container in sandbox.all_containers() {
        container::put_off(&container, why);
    }
    let _history = sandbox.history();
    let mut live = sandbox.live();
    live.hidden = true;
    let tell = std::mem::take(&mut live.announced);
    drop(live);
    if tell {
        tracing::warn!(sandbox = %sandbox.id, %why, "a removed sandbox's files are deleted later");
        sandbox.emit(Change::Deleted);
    }
}

impl Sandbox {
    /// Nothing that the kernel holds is left of it: no process, namespace, mount or cgroup, nor of its containers.
    fn has_only_files(&self) -> bool {
        let is_done = self.progress(|p| !steps::OF_THE_KERNEL.iter().any(|step| p.begun(step)));
        is_done && self.all_containers().iter().all(|container| container.has_only_files())
    }

    fn set_ready(&self) -> Outcome {
        let what = self.describe();
        let mut live = self.live();
        if live.goal() != Goal::Up {
            return Err(EngineError::FailedPrecondition(format!("{what}: it was stopped while it was made")));
        }
        if live.shim.is_none() {
            return Err(EngineError::Unavailable(format!("{what}: its shim ended while it was made; repeat")));
        }
        live.durable.made = true;
        live.durable.ready = true;
        Ok(())
    }

    /// Sets where it is to go; never back up.
    fn aim(self: &Arc<Self>, goal: Goal) {
        let _history = self.history();
        let mut live = self.live();
        if live.goal() != Goal::Removed {
            live.durable.progress.goal = goal;
        }
        let tell = self.end_readiness(&mut live) && live.announced;
        drop(live);
        if tell {
            self.emit(Change::Stopped);
        }
    }

    /// Shows it in lists and tells its making. What ended its readiness in the meantime was not told yet.
    fn announce(&self) {
        let _history = self.history();
        let mut live = self.live();
        live.announced = true;
        let now = if live.durable.ready { Change::Started } else { Change::Stopped };
        drop(live);
        self.emit(Change::Created);
        self.emit(now);
    }

    /// Goes on with whatever the goal asks for; what can not be done now is tried again later. The operation is locked.
    async fn go_to_goal(self: &Arc<Self>) -> Outcome {
        let outcome = self.try_goal().await;
        if outcome.is_err() {
            self.retry_later();
        }
        outcome
    }

    async fn try_goal(self: &Arc<Self>) -> Outcome {
        let goal = self.live().goal();
        match goal {
            Goal::Up => Ok(()),
            Goal::Stopped => {
                give_back(self).await?;
                save_or_later(self).await;
                Ok(())
            }
            Goal::Removed => unmake(self).await,
        }
    }

    /// Goes on after a restart of the daemon.
    pub(crate) async fn resume(self: &Arc<Self>) -> Outcome {
        let _operation = self.operation.lock().await;
        self.go_to_goal().await
    }

    /// Tries the tear-down again and again, with growing pauses, until it is done.
    pub(crate) fn retry_later(self: &Arc<Self>) {
        if std::mem::replace(&mut self.live().retrying, true) {
            return;
        }
        let sandbox = self.clone();
        tokio::spawn(async move {
            let mut pause = RETRY_FIRST;
            loop {
                tokio::time::sleep(pause).await;
                let _operation = sandbox.operation.lock().await;
                match sandbox.try_goal().await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(sandbox = %sandbox.id, %error, "the tear-down failed again"),
                }
                pause = (pause * 2).min(RETRY_MOST);
            }
            sandbox.live().retrying = false;
        });
    }
}

/// Descends to the record and the pod's files.
async fn give_back(sandbox: &Arc<Sandbox>) -> Outcome {
    if sandbox.live().durable.progress.begun_above(steps::FILES) {
        save_or_later(sandbox).await;
        descend(sandbox, Some(steps::FILES)).await?;
    }
    Ok(())
}

/// Descends to nothing, with all containers.
async fn unmake(sandbox: &Arc<Sandbox>) -> Outcome {
    if sandbox.shared.sandboxes.get(&sandbox.id).is_none() {
        return Ok(());
    }
    give_back(sandbox).await?;
    let containers = sandbox.all_containers();
    for outcome in join_all(containers.iter().map(container::remove_wholly)).await {
        outcome?;
    }
    sandbox.tell_removed().await;
    descend(sandbox, None).await?;
    let _history = sandbox.history();
    let (announced, hidden) = {
        let live = sandbox.live();
        (live.announced, live.hidden)
    };
    if sandbox.shared.sandboxes.remove(&sandbox.key(), &sandbox.id) {
        if announced || hidden {
            sandbox.shared.past.removed(sandbox);
        }
        if announced {
            sandbox.emit(Change::Deleted);
        }
    }
    Ok(())
}
