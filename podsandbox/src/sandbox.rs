//! A pod sandbox in memory and in its record.
//!
//! ```text
//!            run            stop, or its shim died       remove
//!   nothing ─────> Ready ──────────────────────> NotReady ─────> nothing
//!      └──────────────── run failed: undone ────────────────────────┘
//! ```
//!
//! Its table is in `steps`, operations are in `operations`, what its shim tells is handled in `watch`.

mod files;
pub(crate) mod forward;
mod handler;
mod launch;
pub(crate) mod limits;
mod operations;
mod pin;
pub(crate) mod steps;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use futures_util::future::{BoxFuture, Shared as SharedFuture};
use podwright_types::{ContainerId, ExecId, SandboxId};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use crate::container::Container;
use crate::error::EngineError;
use crate::events::{Change, PodSnapshot, Subject};
use crate::explain::PastContainers;
use crate::extend::Told;
use crate::failpoints::FailPoints;
use crate::ladder::{Climb, Goal, Outcome, Progress, Step};
use crate::model::{Handler, NamespaceMode, NetworkStatus, PodLimits, SandboxConfig, SandboxSnapshot, SandboxState};
use crate::ports::{NetworkKind, ProcessEnd, Shim};
use crate::record;
use crate::shared::{SandboxKey, Shared, blocking};
use crate::stats::Rate;
use crate::timeline::TimelineEntry;
use crate::util::lock;

pub(crate) use operations::{remove, run, stop};

/// The result of making a sandbox or a container, for all who asked for it.
pub(crate) type Making = SharedFuture<BoxFuture<'static, Outcome>>;

/// What is on disk about a sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: SandboxId,
    pub(crate) boot_id: String,
    pub(crate) created_at_nanos: i64,
    pub(crate) config: Arc<SandboxConfig>,
    pub(crate) durable: Durable,
}

impl SandboxRecord {
    /// That of a sandbox of which nothing exists yet.
    pub(crate) fn new(id: SandboxId, boot_id: String, config: Arc<SandboxConfig>) -> Self {
        let durable = Durable {
            progress: Progress::new(),
            made: false,
            ready: false,
            message: String::new(),
            network_kind: None,
            network: NetworkStatus::default(),
            cgroup_parent: String::new(),
            limits: None,
            handler: None,
        };
        Self { id, boot_id, created_at_nanos: crate::util::now_nanos(), config, durable }
    }
}

/// The part of a sandbox that changes and is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Durable {
    pub(crate) progress: Progress,
    /// Everything was made once.
    pub(crate) made: bool,
    /// Everything was made, and nothing was lost since.
    pub(crate) ready: bool,
    /// Why it is not ready, where nobody asked for that.
    pub(crate) message: String,
    /// Its network; `None` on the host's, or before that was chosen.
    pub(crate) network_kind: Option<NetworkKind>,
    pub(crate) network: NetworkStatus,
    /// Cgroup of the pod; empty before that was chosen.
    pub(crate) cgroup_parent: String,
    /// Limits that were told after it was made.
    #[serde(default)]
    pub(crate) limits: Option<Arc<PodLimits>>,
    /// The runtime that its handler named when it was made; `None` for the built-in one.
    #[serde(default)]
    pub(crate) handler: Option<Arc<Handler>>,
}

/// The part of a sandbox that changes.
pub(crate) struct Live {
    pub(crate) durable: Durable,
    pub(crate) shim: Option<Arc<dyn Shim>>,
    /// Its end is wanted.
    pub(crate) shim_ends: bool,
    pub(crate) shim_pid: i32,
    pub(crate) pause_pid: Option<i32>,
    /// The start of its shim, from its beginning until it was waited for.
    pub(crate) launching: Option<Making>,
    /// Held only until the shim has it.
    pub(crate) netns: Option<Arc<OwnedFd>>,
    pub(crate) containers: BTreeMap<ContainerId, Arc<Container>>,
    pub(crate) execs: HashMap<ExecId, oneshot::Sender<ProcessEnd>>,
    pub(crate) retrying: bool,
    /// Its making was told to listeners, so its removal is too.
    pub(crate) announced: bool,
    /// It was removed but for files that can not be deleted now; nobody is told of it any more.
    pub(crate) hidden: bool,
}

/// A sandbox.
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) config: Arc<SandboxConfig>,
    pub(crate) created_at_nanos: i64,
    pub(crate) boot_id: String,
    pub(crate) shared: Arc<Shared>,
    live: Mutex<Live>,
    /// Held by the one operation that climbs or descends.
    operation: tokio::sync::Mutex<()>,
    /// Held while the record is written; true once it was deleted.
    record_gone: tokio::sync::Mutex<bool>,
    saving: AtomicBool,
    /// What another release recorded of it.
    unknown: record::Unknown,
    /// Set right after a sandbox is made; empty for those found on disk.
    making: OnceLock<Making>,
    /// See [`Sandbox::history`].
    history: Mutex<()>,
    /// Told when it stops being ready.
    unready: Notify,
    /// CPU time of its cgroup of late.
    pub(crate) rate: Rate,
    /// What was done for containers that are gone.
    past: PastContainers,
    /// What the operator's own parts were told of it.
    pub(crate) told: Told,
}

impl Sandbox {
    /// A sandbox of which nothing exists yet.
    pub(crate) fn new(shared: Arc<Shared>, id: SandboxId, config: Arc<SandboxConfig>) -> Self {
        let record = SandboxRecord::new(id, shared.boot_id.clone(), config);
        Self::from_record(shared, record, record::Unknown::default())
    }

    /// A sandbox as its record has it.
    pub(crate) fn from_record(shared: Arc<Shared>, record: SandboxRecord, unknown: record::Unknown) -> Self {
        Self {
            id: record.id,
            config: record.config,
            created_at_nanos: record.created_at_nanos,
            boot_id: record.boot_id,
            shared,
            live: Mutex::new(Live {
                durable: record.durable,
                shim: None,
                shim_ends: false,
                shim_pid: 0,
                launching: None,
                pause_pid: None,
                netns: None,
                containers: BTreeMap::new(),
                execs: HashMap::new(),
                retrying: false,
                announced: false,
                hidden: false,
            }),
            operation: tokio::sync::Mutex::new(()),
            record_gone: tokio::sync::Mutex::new(false),
            saving: AtomicBool::new(false),
            unknown,
            making: OnceLock::new(),
            history: Mutex::new(()),
            unready: Notify::new(),
            rate: Rate::default(),
            past: PastContainers::default(),
            told: Told::default(),
        }
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    pub(crate) fn key(&self) -> SandboxKey {
        SandboxKey::from(self.config.as_ref())
    }

    pub(crate) fn host_network(&self) -> bool {
        self.config.namespaces.network == NamespaceMode::Node
    }

    /// Whether plugins made its network.
    pub(crate) fn has_cni(&self) -> bool {
        self.live().durable.network_kind == Some(NetworkKind::Cni)
    }

    /// Whether addresses may still be its own.
    pub(crate) fn holds_network(&self) -> bool {
        self.progress(|p| p.begun(steps::ADDRESS))
    }

    pub(crate) fn all_containers(&self) -> Vec<Arc<Container>> {
        self.live().containers.values().cloned().collect()
    }

    /// Keeps what was done for a container that goes.
    pub(crate) fn remember(&self, container: &str, taken: Vec<TimelineEntry>) {
        self.past.add(container, taken);
    }

    /// What was done for containers that are gone, the newest last.
    pub(crate) fn past_containers(&self) -> Vec<(String, Vec<TimelineEntry>)> {
        self.past.all()
    }

    /// Whether lists show it: from its first success on, or once it was found on disk.
    pub(crate) fn visible(&self) -> bool {
        self.live().announced
    }

    /// Whether all of it was made once.
    pub(crate) fn is_made(&self) -> bool {
        self.live().durable.made
    }

    pub(crate) fn state(&self) -> SandboxState {
        if self.live().durable.ready { SandboxState::Ready } else { SandboxState::NotReady }
    }

    /// Ends its readiness; whether there was any. The history is held by the caller.
    fn end_readiness(&self, live: &mut Live) -> bool {
        let was_ready = std::mem::take(&mut live.durable.ready);
        self.unready.notify_waiters();
        was_ready
    }

    /// Returns when it is not ready. Cancel safe.
    pub(crate) async fn until_not_ready(&self) {
        loop {
            let mut told = std::pin::pin!(self.unready.notified());
            told.as_mut().enable();
            if self.state() == SandboxState::NotReady {
                return;
            }
            told.await;
        }
    }

    pub(crate) fn snapshot(&self) -> SandboxSnapshot {
        let live = self.live();
        let durable = &live.durable;
        let pinned = durable.network_kind == Some(NetworkKind::Cni) && durable.progress.done(steps::PIN);
        SandboxSnapshot {
            id: self.id.clone(),
            config: self.config.clone(),
            state: if durable.ready { SandboxState::Ready } else { SandboxState::NotReady },
            created_at_nanos: self.created_at_nanos,
            network: durable.network.clone(),
            netns_path: pinned.then(|| self.shared.pin_path(&self.id)),
            pid: live.pause_pid.unwrap_or(live.shim_pid),
            message: durable.message.clone(),
            limits: durable.limits.clone(),
            handler: durable.handler.clone(),
        }
    }

    /// Held while a change of the sandbox or of one of its containers is made and told. Taken before every other lock of them.
    pub(crate) fn history(&self) -> MutexGuard<'_, ()> {
        lock(&self.history)
    }

    /// The sandbox and its containers at one time. The history is held by the caller.
    pub(crate) fn pod(&self) -> PodSnapshot {
        let at_nanos = crate::util::now_nanos();
        let mut containers: Vec<_> =
            self.all_containers().iter().filter(|c| c.visible()).map(|container| container.snapshot()).collect();
        containers.sort_by_key(|container| container.created_at_nanos);
        PodSnapshot { at_nanos, sandbox: self.snapshot(), containers }
    }

    /// Tells a change of the sandbox itself. The history is held by the caller.
    fn emit(&self, change: Change) {
        self.shared.events.emit(change, Subject::Sandbox(self.id.clone()), || self.pod());
    }

    /// The hostname that containers see.
    pub(crate) fn hostname(&self) -> String {
        files::hostname(&self.config, &self.id)
    }

    /// The cgroup of the pod, chosen at the first call.
    pub(crate) fn cgroup_parent(&self) -> Result<String, EngineError> {
        let known = self.live().durable.cgroup_parent.clone();
        if !known.is_empty() {
            return Ok(known);
        }
        let parent = self.shared.ports.cgroups.pod_parent(&self.config.cgroup_parent, &self.id)?;
        self.live().durable.cgroup_parent.clone_from(&parent);
        Ok(parent)
    }

    /// The shim of a sandbox in which something can be run.
    pub(crate) fn ready_shim(&self, doing: &str) -> Result<Arc<dyn Shim>, EngineError> {
        let live = self.live();
        match (&live.shim, live.durable.ready) {
            (Some(shim), true) => Ok(shim.clone()),
            (Some(_) | None, _) => Err(EngineError::FailedPrecondition(format!(
                "{doing}: {} is not ready{}; make a new sandbox",
                self.describe(),
                Some(&live.durable.message).filter(|m| !m.is_empty()).map(|m| format!(" ({m})")).unwrap_or_default(),
            ))),
        }
    }

    /// Writes the record soon, without anybody waiting.
    pub(crate) fn save_soon(self: &Arc<Self>) {
        crate::ladder::save_soon(self);
    }

    /// Deletes the directory with the record; nothing is written after.
    async fn delete_record(&self) -> Outcome {
        let mut gone = self.record_gone.lock().await;
        let dir = self.shared.sandbox_dir(&self.id);
        blocking("delete the sandbox's directory", &dir, record::delete_dir).await?;
        *gone = true;
        Ok(())
    }
}

impl Climb for Sandbox {
    const KIND: &'static str = "sandbox";
    const STEPS: &'static [Step<Self>] = steps::TABLE;

    fn describe(&self) -> String {
        format!("pod sandbox {} ({}/{})", self.id, self.config.namespace, self.config.name)
    }

    fn progress<R>(&self, edit: impl FnOnce(&mut Progress) -> R) -> R {
        edit(&mut self.live().durable.progress)
    }

    async fn save(&self) -> Outcome {
        // Whoever writes last writes the newest state: it is read under this lock.
        let gone = self.record_gone.lock().await;
        if *gone {
            return Ok(());
        }
        let now = self.live().durable.clone();
        let record = SandboxRecord {
            id: self.id.clone(),
            boot_id: self.boot_id.clone(),
            created_at_nanos: self.created_at_nanos,
            config: self.config.clone(),
            durable: now,
        };
        let bytes = record::encode_with(&record, &self.unknown)
            .map_err(|e| EngineError::Internal(format!("{}: encode its record: {e}", self.describe())))?;
        let dir = self.shared.sandbox_dir(&self.id);
        blocking("write the sandbox's record in", &dir, move |dir| {
            record::private_dir(dir)?;
            record::replace(&dir.join(record::FILE), &bytes, 0o600, false)
        })
        .await
    }

    fn saving(&self) -> &AtomicBool {
        &self.saving
    }

    fn failpoints(&self) -> &FailPoints {
        &self.shared.failpoints
    }
}

impl Live {
    pub(crate) fn goal(&self) -> Goal {
        self.durable.progress.goal
    }
}
