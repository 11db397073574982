//! A container in memory and in its record.
//!
//! ```text
//!            create             start             its program ended
//!   nothing ───────> Created ──────────> Running ───────────────────> Exited ──remove──> nothing
//!                       └── start failed, or stopped before start ───────^
//! ```
//!
//! Its table is in `steps`, operations are in `operations`, `stop`, `exec` and `session`.

pub(crate) mod checkpoint;
pub(crate) mod exec;
mod operations;
pub(crate) mod session;
mod steps;
mod stop;
mod stuck;
pub(crate) mod update;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use podwright_types::{ContainerId, SandboxId};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use crate::error::EngineError;
use crate::events::{Change, Subject};
use crate::extend::Told;
use crate::failpoints::FailPoints;
use crate::ladder::{Climb, Goal, Outcome, Progress, Step};
use crate::model::{ContainerConfig, ContainerSnapshot, ContainerState, Exit, ResolvedUser, Resources};
use crate::ports::{ContainerReport, LayerCount, ProcessEnd, StartFailure, Started};
use crate::record;
use crate::sandbox::{Making, Sandbox};
use crate::shared::{ContainerKey, Shared, blocking};
use crate::stats::Rate;
use crate::util::{lock, now_nanos};

pub(crate) use operations::{create, put_off, remove, remove_wholly, start, stop};
pub(crate) use steps::SPECIFICATION_FILE;

/// What is on disk about a container, beside its specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: ContainerId,
    pub(crate) sandbox: SandboxId,
    pub(crate) boot_id: String,
    pub(crate) created_at_nanos: i64,
    pub(crate) config: Arc<ContainerConfig>,
    pub(crate) durable: Durable,
}

/// The part of a container that changes and is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Durable {
    pub(crate) progress: Progress,
    pub(crate) state: ContainerState,
    pub(crate) image_id: String,
    pub(crate) image_ref: String,
    /// Unpacked layers, the topmost first.
    pub(crate) layers: Vec<PathBuf>,
    /// Ids of the images that are mounted as volumes, in the order of those mounts.
    #[serde(default)]
    pub(crate) volume_images: Vec<String>,
    pub(crate) user: Option<ResolvedUser>,
    pub(crate) resources: Arc<Resources>,
    pub(crate) stop_signal: i32,
    /// Somebody asked for its end; a start that comes after that is not the retry of the first one.
    #[serde(default)]
    pub(crate) stop_asked: bool,
    /// Its cgroup, where an adjustment chose another than ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<String>,
    /// Its system call filter is the one in its directory, where an adjustment gave it one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) own_filter: bool,
    /// Its namespaces are those of its specification, where an adjustment chose others than ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) own_namespaces: bool,
}

/// The part of a container that changes.
pub(crate) struct Live {
    pub(crate) durable: Durable,
    pub(crate) spec: Arc<str>,
    /// A start was sent and not answered.
    pub(crate) starting: bool,
    /// The end that was told before the answer to the start.
    pub(crate) early_end: Option<ProcessEnd>,
    /// Why the last start failed.
    pub(crate) start_failure: StartFailure,
    /// Its making was told to listeners, so its removal is too.
    pub(crate) announced: bool,
    /// It was removed but for files that can not be deleted now; nobody is told of it any more.
    pub(crate) hidden: bool,
    pub(crate) retrying: bool,
}

/// A container.
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) config: Arc<ContainerConfig>,
    pub(crate) created_at_nanos: i64,
    boot_id: String,
    live: Mutex<Live>,
    /// Rises with each change of state, for those who wait for one.
    changed: watch::Sender<u64>,
    /// Held by the one operation that climbs or descends.
    operation: tokio::sync::Mutex<()>,
    /// Held while limits are written, and by a start from its specification to its answer. Nobody is asked while it is held.
    limits: tokio::sync::Mutex<()>,
    /// Held while the record is written; true once it was deleted.
    record_gone: tokio::sync::Mutex<bool>,
    saving: AtomicBool,
    /// What another release recorded of it.
    unknown: record::Unknown,
    making: OnceLock<Making>,
    /// The last count of what it wrote.
    pub(crate) layer_count: Arc<LayerCount>,
    /// Its CPU time of late.
    pub(crate) rate: Rate,
    /// Places for clients that attach.
    pub(crate) attached: Arc<Semaphore>,
    /// What the operator's own parts were told of it.
    pub(crate) told: Told,
}

impl Container {
    /// A container of which nothing exists yet.
    pub(crate) fn new(sandbox: Arc<Sandbox>, id: ContainerId, config: Arc<ContainerConfig>) -> Self {
        let record = ContainerRecord {
            id,
            sandbox: sandbox.id.clone(),
            boot_id: sandbox.shared.boot_id.clone(),
            created_at_nanos: now_nanos(),
            durable: Durable {
                progress: Progress::new(),
                state: ContainerState::Created,
                image_id: String::new(),
                image_ref: String::new(),
                layers: Vec::new(),
                volume_images: Vec::new(),
                user: None,
                resources: Arc::new(config.resources.clone()),
                stop_signal: 0,
                stop_asked: false,
                cgroup: None,
                own_filter: false,
                own_namespaces: false,
            },
            config,
        };
        Self::from_record(sandbox, record, record::Unknown::default(), "".into())
    }

    /// A container as its record and its specification have it.
    pub(crate) fn from_record(
        sandbox: Arc<Sandbox>,
        record: ContainerRecord,
        unknown: record::Unknown,
        spec: Arc<str>,
    ) -> Self {
        let layer_count = LayerCount::new(sandbox.shared.container_dir(&record.id).join("rw/upper"));
        Self {
            id: record.id,
            sandbox,
            config: record.config,
            created_at_nanos: record.created_at_nanos,
            boot_id: record.boot_id,
            live: Mutex::new(Live {
                durable: record.durable,
                spec,
                starting: false,
                early_end: None,
                start_failure: StartFailure::Setup,
                announced: false,
                hidden: false,
                retrying: false,
            }),
            changed: watch::Sender::new(0),
            operation: tokio::sync::Mutex::new(()),
            limits: tokio::sync::Mutex::default(),
            record_gone: tokio::sync::Mutex::new(false),
            saving: AtomicBool::new(false),
            unknown,
            making: OnceLock::new(),
            layer_count: Arc::new(layer_count),
            rate: Rate::default(),
            attached: Arc::new(Semaphore::new(session::MAX_ATTACHED)),
            told: Told::default(),
        }
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    pub(crate) fn key(&self) -> ContainerKey {
        ContainerKey::new(&self.sandbox.id, &self.config)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.sandbox.shared
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.shared().container_dir(&self.id)
    }

    /// `linux.cgroupsPath`.
    pub(crate) fn cgroup_path(&self) -> Result<String, EngineError> {
        match self.live().durable.cgroup.clone() {
            Some(path) => Ok(path),
            None => self.planned_cgroup_path(),
        }
    }

    fn planned_cgroup_path(&self) -> Result<String, EngineError> {
        Ok(self.shared().ports.cgroups.container_path(&self.sandbox.cgroup_parent()?, &self.id))
    }

    /// Whether a process of it may be alive.
    pub(crate) fn may_run(&self) -> bool {
        let live = self.live();
        match live.durable.state {
            ContainerState::Running { .. } | ContainerState::Unknown => true,
            ContainerState::Created => live.starting || live.durable.progress.begun(steps::PROCESS),
            ContainerState::Exited { .. } => false,
        }
    }

    /// Whether a start of it was answered.
    pub(crate) fn was_started(&self) -> bool {
        self.live().durable.state != ContainerState::Created
    }

    /// Whether lists show it: from its first success on, or once it was found on disk.
    pub(crate) fn visible(&self) -> bool {
        self.live().announced
    }

    /// Keeps its images after a restart of the daemon.
    pub(crate) fn hold_again(&self) {
        if !self.progress(|p| p.begun("image")) {
            return;
        }
        let durable = self.live().durable.clone();
        for image in durable.volume_images.iter().chain([&durable.image_id]).filter(|image| !image.is_empty()) {
            self.shared().ports.images.hold(image, self.id.as_str());
        }
    }

    pub(crate) fn log_path(&self) -> Option<PathBuf> {
        let (directory, file) = (&self.sandbox.config.log_directory, &self.config.log_path);
        let logs = !directory.as_os_str().is_empty() && !file.as_os_str().is_empty();
        logs.then(|| directory.join(file))
    }

    pub(crate) fn snapshot(&self) -> ContainerSnapshot {
        let live = self.live();
        let durable = &live.durable;
        ContainerSnapshot {
            id: self.id.clone(),
            sandbox: self.sandbox.id.clone(),
            config: self.config.clone(),
            resources: durable.resources.clone(),
            state: durable.state.clone(),
            created_at_nanos: self.created_at_nanos,
            image_id: durable.image_id.clone(),
            image_ref: durable.image_ref.clone(),
            volume_images: durable.volume_images.clone(),
            user: durable.user.clone(),
            log_path: self.log_path(),
            stop_signal: durable.stop_signal,
            runtime_spec: live.spec.clone(),
        }
    }

    /// Tells a change. The sandbox's history is held by the caller.
    fn emit(&self, change: Change) {
        self.shared().events.emit(change, Subject::Container(self.id.clone()), || self.sandbox.pod());
    }

    /// Told of each change of state.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn notify(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn save_soon(self: &Arc<Self>) {
        crate::ladder::save_soon(self);
    }

    async fn delete_record(&self) -> Outcome {
        let mut gone = self.record_gone.lock().await;
        blocking("delete the container's directory", &self.dir(), record::delete_dir).await?;
        *gone = true;
        Ok(())
    }
}

/// Changes of state that come from the shim.
impl Container {
    /// A start is about to be sent.
    fn begin_start(&self) -> Outcome {
        let mut live = self.live();
        if live.durable.state != ContainerState::Created {
            return Err(EngineError::FailedPrecondition("it was stopped before it was started; make a new one".into()));
        }
        live.starting = true;
        live.early_end = None;
        Ok(())
    }

    /// The answer to a start.
    pub(crate) fn started(self: &Arc<Self>, started: &Started) {
        let history = self.sandbox.history();
        let mut live = self.live();
        live.starting = false;
        if live.durable.state != ContainerState::Created {
            return;
        }
        live.durable.user = Some(started.user.clone());
        live.durable.state = ContainerState::Running { pid: started.pid, started_at_nanos: started.started_at_nanos };
        // What ended before this start was of one that was undone.
        let early_end = live.early_end.take().filter(|end| end.at_nanos >= started.started_at_nanos);
        drop(live);
        self.notify();
        self.emit(Change::Started);
        drop(history);
        if let Some(end) = early_end {
            self.ended(&end);
        }
    }

    /// The shim told of its end.
    pub(crate) fn ended(self: &Arc<Self>, end: &ProcessEnd) {
        let mut live = self.live();
        if live.starting {
            live.early_end = Some(end.clone());
            return;
        }
        if live.durable.state == ContainerState::Created {
            // The process of a start that is undone; the container can be started again.
            return;
        }
        drop(live);
        self.exit(exit_of(end));
    }

    /// The shim's own list has it, after a restart of the daemon.
    pub(crate) fn found(self: &Arc<Self>, report: &ContainerReport) {
        if matches!(self.live().durable.state, ContainerState::Exited { .. }) {
            return;
        }
        self.live().durable.progress.settle();
        if !matches!(self.live().durable.state, ContainerState::Running { .. }) || report.end.is_none() {
            self.started_before(&report.started);
        }
        if let Some(end) = &report.end {
            self.ended(end);
        }
    }

    fn started_before(&self, started: &Started) {
        let _history = self.sandbox.history();
        let mut live = self.live();
        live.durable.user = Some(started.user.clone());
        let ran = matches!(live.durable.state, ContainerState::Running { .. });
        live.durable.state = ContainerState::Running { pid: started.pid, started_at_nanos: started.started_at_nanos };
        drop(live);
        self.notify();
        if !ran {
            // Nobody heard the answer to its start, or nothing could be said of it for a while.
            self.emit(Change::Started);
        }
    }

    /// Nobody saw its end, and nothing of it lives.
    pub(crate) fn lost(self: &Arc<Self>, exit: Exit) {
        self.exit(exit);
    }

    /// Nothing can be said of it: `error` kept it from being asked for or killed.
    pub(crate) fn unknown(self: &Arc<Self>, error: &EngineError) {
        tracing::error!(container = %self.id, %error, "nothing can be said of a container");
        let _history = self.sandbox.history();
        let mut live = self.live();
        live.starting = false;
        match live.durable.state {
            ContainerState::Exited { .. } | ContainerState::Unknown => return,
            ContainerState::Created | ContainerState::Running { .. } => live.durable.state = ContainerState::Unknown,
        }
        drop(live);
        self.notify();
        self.emit(Change::Stopped);
        self.save_soon();
    }

    /// Makes it Exited, once.
    pub(crate) fn exit(self: &Arc<Self>, exit: Exit) {
        let _history = self.sandbox.history();
        let mut live = self.live();
        let started_at_nanos = match live.durable.state {
            ContainerState::Exited { .. } => return,
            ContainerState::Running { started_at_nanos, .. } => Some(started_at_nanos),
            ContainerState::Created | ContainerState::Unknown => None,
        };
        live.starting = false;
        live.durable.state = ContainerState::Exited { started_at_nanos, exit };
        drop(live);
        self.notify();
        self.emit(Change::Stopped);
        self.save_soon();
        self.tell_stopped_soon();
    }
}

fn exit_of(end: &ProcessEnd) -> Exit {
    // The kernel kills for want of memory with SIGKILL; an OOM kill of a child alone leaves the program's own code.
    let reason = match (end.oom_killed, end.code) {
        (true, _) => "OOMKilled",
        (false, 0) => "Completed",
        (false, _) => "Error",
    };
    Exit {
        code: end.code,
        finished_at_nanos: end.at_nanos,
        oom_killed: end.oom_killed,
        message: String::new(),
        reason: reason.into(),
    }
}

impl Climb for Container {
    const KIND: &'static str = "container";
    const STEPS: &'static [Step<Self>] = steps::TABLE;

    fn describe(&self) -> String {
        format!(
            "container {} ({} of pod {}/{})",
            self.id, self.config.name, self.sandbox.config.namespace, self.sandbox.config.name
        )
    }

    fn progress<R>(&self, edit: impl FnOnce(&mut Progress) -> R) -> R {
        edit(&mut self.live().durable.progress)
    }

    async fn save(&self) -> Outcome {
        let gone = self.record_gone.lock().await;
        if *gone {
            return Ok(());
        }
        let now = self.live().durable.clone();
        let record = ContainerRecord {
            id: self.id.clone(),
            sandbox: self.sandbox.id.clone(),
            boot_id: self.boot_id.clone(),
            created_at_nanos: self.created_at_nanos,
            config: self.config.clone(),
            durable: now,
        };
        let bytes = record::encode_with(&record, &self.unknown)
            .map_err(|e| EngineError::Internal(format!("{}: encode its record: {e}", self.describe())))?;
        blocking("write the container's record in", &self.dir(), move |dir: &Path| {
            record::private_dir(dir)?;
            record::replace(&dir.join(record::FILE), &bytes, 0o600, false)
        })
        .await
    }

    fn saving(&self) -> &AtomicBool {
        &self.saving
    }

    fn failpoints(&self) -> &FailPoints {
        &self.shared().failpoints
    }
}

impl Live {
    pub(crate) fn goal(&self) -> Goal {
        self.durable.progress.goal
    }
}
