//! The engine: what front ends call. Looks objects up and hands over to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use podwright_types::{ContainerId, SandboxId};
use tokio::sync::broadcast;

use crate::config::{EngineConfig, Ports};
use crate::container::{self, Container};
use crate::error::EngineError;
use crate::events::{Event, Events, PodSnapshot};
use crate::explain::{Explanation, Past};
use crate::failpoints::FailPoints;
use crate::filter::{ContainerFilter, ContainerStateKind, SandboxFilter, has_labels};
use crate::ladder::Climb;
use crate::model::{
    ContainerConfig, ContainerSnapshot, ContainerStats, LayersUsage, PodLimits, Resources, SandboxConfig,
    SandboxSnapshot, SandboxStats,
};
use crate::recover;
use crate::sandbox::{self, Sandbox};
use crate::session::{PodConnection, Session, StreamChoice};
use crate::shared::{Registry, Shared};
use crate::stats;
use crate::timeline::TimelineEntry;

/// Files that only the taking down of pods may open.
const KEPT_DESCRIPTORS: u64 = 64;

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, cut after 16 MiB; the rest is read and dropped.
    pub stdout: Vec<u8>,
    /// Standard error, cut in the same way.
    pub stderr: Vec<u8>,
    /// Exit code; 128 + n after signal n.
    pub code: i32,
}

/// What [`Engine::recover`] found and did; each line is for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Sandboxes that are known now.
    pub sandboxes: usize,
    /// Containers that are known now.
    pub containers: usize,
    /// Containers that were found running and taken over.
    pub running: usize,
    /// Records that were put aside, operations that were undone, and what could not be cleaned yet.
    pub notes: Vec<String>,
}

/// Runs pods and containers. Cheap to clone; all clones are the same engine.
///
/// Every operation runs in a task of its own: a caller that goes away changes nothing. A repeated call joins the operation in
/// flight or gets its result. The engine needs a tokio runtime with time and I/O.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// Builds an engine. Call [`Engine::recover`] before anything else.
    #[must_use]
    pub fn new(config: EngineConfig, ports: Ports) -> Self {
        Self::with_boot_id(config, ports, crate::util::boot_id())
    }

    pub(crate) fn with_boot_id(config: EngineConfig, ports: Ports, boot_id: String) -> Self {
        let shared = Shared {
            config,
            ports,
            events: Events::new(),
            past: Past::default(),
            failpoints: FailPoints::default(),
            boot_id,
            volumes: Arc::default(),
            sandboxes: Registry::new(),
            containers: Registry::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes the directories, reads the records, takes over what runs, and finishes or undoes what was in flight.
    ///
    /// # Errors
    /// Only if the directories can not be made or read. What is wrong with a single pod is in the report.
    pub async fn recover(&self) -> Result<RecoveryReport, EngineError> {
        recover::recover(self.shared.clone()).await
    }

    /// Makes a sandbox and returns when it is ready. The same request again gets the same id; another one under the same
    /// name, namespace, uid and attempt is `AlreadyExists`. A failure leaves nothing.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, EngineError> {
        self.admit("make a pod sandbox")?;
        sandbox::run(self.shared.clone(), config).await
    }

    /// Kills the containers of a sandbox, gives back its network and all else but its record. Unknown is success.
    ///
    /// # Errors
    /// What could not be given back; it is tried again in the background, and by the next call.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), EngineError> {
        match self.shared.sandboxes.get(id) {
            Some(sandbox) => sandbox::stop(sandbox).await,
            None => Ok(()),
        }
    }

    /// Stops a sandbox, and removes it and its containers. Unknown is success.
    ///
    /// # Errors
    /// As [`Engine::stop_sandbox`].
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), EngineError> {
        match self.shared.sandboxes.get(id) {
            Some(sandbox) => sandbox::remove(sandbox).await,
            None => Ok(()),
        }
    }

    /// A sandbox as it is now, from memory.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn sandbox(&self, id: &SandboxId) -> Result<SandboxSnapshot, EngineError> {
        self.find_sandbox(id).map(|sandbox| sandbox.snapshot())
    }

    /// A sandbox with its containers as they are at one time, from memory.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn pod(&self, id: &SandboxId) -> Result<PodSnapshot, EngineError> {
        let sandbox = self.find_sandbox(id)?;
        let _history = sandbox.history();
        Ok(sandbox.pod())
    }

    /// Sandboxes as they are now, from memory.
    #[must_use]
    pub fn sandboxes(&self, filter: &SandboxFilter) -> Vec<SandboxSnapshot> {
        let snapshots = self.matching_sandboxes(filter).into_iter().map(|s| s.snapshot());
        snapshots.filter(|s| filter.state.is_none_or(|state| s.state == state)).collect()
    }

    /// What sandboxes and their containers use, read now; the filter's state does not count.
    pub async fn sandbox_stats(&self, filter: &SandboxFilter) -> Vec<SandboxStats> {
        stats::of_sandboxes(&self.shared, self.matching_sandboxes(filter), false).await
    }

    /// As [`Engine::sandbox_stats`], with the details that collectors of metrics ask for; this costs many times as much.
    pub async fn sandbox_details(&self, filter: &SandboxFilter) -> Vec<SandboxStats> {
        stats::of_sandboxes(&self.shared, self.matching_sandboxes(filter), true).await
    }

    /// Those that fit all but the state.
    fn matching_sandboxes(&self, filter: &SandboxFilter) -> Vec<Arc<Sandbox>> {
        let mut candidates = match &filter.id {
            Some(id) => self.shared.sandboxes.get(id).into_iter().collect(),
            None => self.shared.sandboxes.all(),
        };
        candidates.retain(|s| s.visible() && has_labels(&s.config.labels, &filter.labels));
        candidates
    }

    /// Makes a container in a ready sandbox; nothing of it runs yet. The same request again gets the same id.
    ///
    /// # Errors
    /// See [`EngineError`]. A failure leaves nothing.
    pub async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, EngineError> {
        self.admit("make a container")?;
        container::create(self.find_sandbox(sandbox)?, config).await
    }

    /// Starts a container and returns after its program was executed. Repeated it has the result of the first time, also when the
    /// program has ended since; after a stop it is an error.
    ///
    /// # Errors
    /// See [`EngineError`]. After a failure the container is Exited with reason `StartError` and the code 127 (no such
    /// program), 126 (not executable) or 128.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.admit("start a container")?;
        container::start(self.find_container(id)?).await
    }

    /// Stops a container with its signal and, after `timeout`, SIGKILL; with a timeout of zero SIGKILL comes at once. Ended
    /// or unknown is success.
    ///
    /// # Errors
    /// `TimedOut`, naming the process, if even SIGKILL does not end it.
    pub async fn stop_container(&self, id: &ContainerId, timeout: Duration) -> Result<(), EngineError> {
        match self.shared.containers.get(id) {
            Some(container) => container::stop(container, timeout).await,
            None => Ok(()),
        }
    }

    /// Removes a container, killing it first if it runs. Unknown is success.
    ///
    /// # Errors
    /// What could not be removed; it is tried again in the background, and by the next call.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        match self.shared.containers.get(id) {
            Some(container) => container::remove(&container).await,
            None => Ok(()),
        }
    }

    /// A container as it is now, from memory.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn container(&self, id: &ContainerId) -> Result<ContainerSnapshot, EngineError> {
        self.find_container(id).map(|container| container.snapshot())
    }

    /// Containers as they are now, from memory.
    #[must_use]
    pub fn containers(&self, filter: &ContainerFilter) -> Vec<ContainerSnapshot> {
        let snapshots = self.matching_containers(filter).into_iter().map(|c| c.snapshot());
        snapshots.filter(|c| filter.state.is_none_or(|state| ContainerStateKind::from(&c.state) == state)).collect()
    }

    /// What containers use, read now; the filter's state does not count. Those that do not run are told with what they wrote.
    pub async fn container_stats(&self, filter: &ContainerFilter) -> Vec<ContainerStats> {
        stats::of_containers(&self.shared, self.matching_containers(filter)).await
    }

    /// What all containers wrote over their images, by the counts that [`Engine::container_stats`] tells too.
    pub async fn layers_usage(&self) -> LayersUsage {
        stats::of_layers(&self.shared, self.matching_containers(&ContainerFilter::default())).await
    }

    /// Those that fit all but the state.
    fn matching_containers(&self, filter: &ContainerFilter) -> Vec<Arc<Container>> {
        let mut candidates = match (&filter.id, &filter.sandbox) {
            (Some(id), _) => self.shared.containers.get(id).into_iter().collect(),
            (None, Some(id)) => self.shared.sandboxes.get(id).map(|s| s.all_containers()).unwrap_or_default(),
            (None, None) => self.shared.containers.all(),
        };
        candidates.retain(|c| {
            c.visible()
                && filter.sandbox.as_ref().is_none_or(|id| *id == c.sandbox.id)
                && has_labels(&c.config.labels, &filter.labels)
        });
        candidates
    }

    /// Executes a command in a running container to its end. Output beyond 16 MiB of each stream is dropped. With a
    /// `timeout` the command is killed when it passes; without one it may run for ever. It is killed too when the caller
    /// drops the future.
    ///
    /// # Errors
    /// `TimedOut` after the command was killed; see [`EngineError`].
    pub async fn exec_sync(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, EngineError> {
        self.admit("execute a command")?;
        container::exec::sync(self.find_container(id)?, argv, timeout).await
    }

    /// Executes a command in a running container with live streams, and returns when its program runs. Dropping the
    /// session's control kills the command.
    ///
    /// # Errors
    /// `FailedPrecondition` if the container does not run; see [`EngineError`].
    pub async fn exec(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        choice: StreamChoice,
    ) -> Result<Session, EngineError> {
        self.admit("execute a command")?;
        container::session::exec(self.find_container(id)?, argv, choice).await
    }

    /// Attaches to the streams of a running container. A client that does not read is cut off: its outputs end while the
    /// container runs on. Dropping the session only detaches; if it was the first with an input and the container was made
    /// so, its stdin ends.
    ///
    /// # Errors
    /// `FailedPrecondition` if it does not run, `Exhausted` if too many clients are attached; see [`EngineError`].
    pub async fn attach(&self, id: &ContainerId, choice: StreamChoice) -> Result<Session, EngineError> {
        self.admit("attach to a container")?;
        container::session::attach(self.find_container(id)?, choice).await
    }

    /// Connects to a port on the loopback of a ready pod, by IPv4, then IPv6.
    ///
    /// # Errors
    /// `FailedPrecondition` if the pod is not ready, `Unavailable` if nobody listens there; see [`EngineError`].
    pub async fn port_forward(&self, id: &SandboxId, port: u16) -> Result<PodConnection, EngineError> {
        self.admit("forward a port")?;
        sandbox::forward::connect(self.find_sandbox(id)?, port).await
    }

    /// Opens a container's log file anew, after a rotation.
    ///
    /// # Errors
    /// `FailedPrecondition` if it does not run; see [`EngineError`].
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), EngineError> {
        container::update::reopen_log(&*self.find_container(id)?).await
    }

    /// Writes a running container to the file `archive`, from which another can go on
    /// ([`ContainerConfig::restore_from`]). It stands still for a moment and goes on, whatever comes of it.
    ///
    /// # Errors
    /// `FailedPrecondition` if it does not run or this host can not; see [`EngineError`]. A failure leaves no archive.
    pub async fn checkpoint_container(
        &self,
        id: &ContainerId,
        archive: PathBuf,
        within: Duration,
    ) -> Result<(), EngineError> {
        self.admit("checkpoint a container")?;
        container::checkpoint::write(self.find_container(id)?, archive, within).await
    }

    /// Changes limits: zero, empty and absent mean unchanged. A container that is not started yet will start with them.
    ///
    /// # Errors
    /// `FailedPrecondition` if it has ended; see [`EngineError`].
    pub async fn update_container(&self, id: &ContainerId, resources: Resources) -> Result<(), EngineError> {
        container::update::update(self.find_container(id)?, resources).await
    }

    /// As [`Engine::update_container`], for the parts behind [`Extensions`](crate::ports::Extensions), which are not asked again.
    ///
    /// # Errors
    /// As [`Engine::update_container`].
    pub async fn update_container_quietly(&self, id: &ContainerId, resources: Resources) -> Result<(), EngineError> {
        container::update::update_quietly(self.find_container(id)?, resources).await
    }

    /// Takes the limits of a pod as a whole. They are written to the pod's cgroup where that is our own; a cgroup that the caller
    /// named is the caller's, who writes it in its own order. Zero, empty and absent mean unchanged.
    ///
    /// # Errors
    /// `FailedPrecondition` if the sandbox is not ready; see [`EngineError`].
    pub async fn update_sandbox(&self, id: &SandboxId, limits: PodLimits) -> Result<(), EngineError> {
        sandbox::limits::update(self.find_sandbox(id)?, limits).await
    }

    /// All changes from now on, each pod's in their order. A listener that lags behind by more than [`EVENTS_KEPT`] misses some
    /// and is told how many.
    ///
    /// [`EVENTS_KEPT`]: crate::EVENTS_KEPT
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// The steps that were done for a sandbox and its containers, in order of their beginning.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn timeline(&self, id: &SandboxId) -> Result<Vec<TimelineEntry>, EngineError> {
        let sandbox = self.find_sandbox(id)?;
        let mut entries = sandbox.progress(|p| p.timeline.entries());
        for container in sandbox.all_containers() {
            entries.extend(container.progress(|p| p.timeline.entries()).into_iter().map(|entry| TimelineEntry {
                step: format!("container {}: {}", container.config.name, entry.step),
                ..entry
            }));
        }
        entries.sort_by_key(|entry| entry.started_at_nanos);
        Ok(entries)
    }

    /// Every sandbox with its steps: those that are being made or removed too, and the newest that could not be made.
    #[must_use]
    pub fn explain(&self) -> Vec<Explanation> {
        let known = self.shared.sandboxes.all();
        let mut all = self.shared.past.all();
        // One that could not be undone yet is still known.
        all.retain(|past| known.iter().all(|sandbox| sandbox.id != past.id));
        all.extend(known.iter().map(|sandbox| Explanation::of(sandbox)));
        all
    }

    /// Ids of all containers that there are, those that are being made or removed too.
    #[must_use]
    pub fn container_ids(&self) -> Vec<ContainerId> {
        self.shared.containers.all().iter().map(|container| container.id.clone()).collect()
    }

    /// Ids of all sandboxes that there are, those that are being made or removed too.
    #[must_use]
    pub fn sandbox_ids(&self) -> Vec<SandboxId> {
        self.shared.sandboxes.all().iter().map(|sandbox| sandbox.id.clone()).collect()
    }

    /// Sandboxes that have not given their network back. Those that have are not asked to again, even if a part of it was still
    /// on its way when an earlier daemon ended.
    #[must_use]
    pub fn network_holders(&self) -> Vec<SandboxId> {
        self.shared.sandboxes.all().iter().filter(|s| s.holds_network()).map(|s| s.id.clone()).collect()
    }

    /// Whether pods can be connected to a network now.
    ///
    /// # Errors
    /// The reason in words.
    pub fn network_ready(&self) -> Result<(), String> {
        self.shared.ports.network.ready()
    }

    /// Names of all fail points, as the tables of steps have them.
    #[cfg(any(test, feature = "failpoints"))]
    #[must_use]
    pub fn all_fail_points() -> Vec<String> {
        let mut points = crate::failpoints::of_table::<Sandbox>();
        points.extend(crate::failpoints::of_table::<Container>());
        points
    }

    /// Fail points of this engine.
    #[cfg(any(test, feature = "failpoints"))]
    #[must_use]
    pub fn failpoints(&self) -> &FailPoints {
        &self.shared.failpoints
    }

    /// Refuses what opens files for long while few are left: taking pods down needs some for moments.
    fn admit(&self, what: &str) -> Result<(), EngineError> {
        match podwright_sys::spare_descriptors() {
            Some(spare) if spare < KEPT_DESCRIPTORS => Err(EngineError::Exhausted(format!(
                "{what}: the daemon can open only {spare} more files, which are kept for taking pods down; remove pods or raise its \
                 limit of open files (LimitNOFILE)"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn find_sandbox(&self, id: &SandboxId) -> Result<Arc<Sandbox>, EngineError> {
        let text = || format!("pod sandbox {id}: there is none; list the sandboxes for their ids");
        let found = self.shared.sandboxes.get(id).filter(|sandbox| !sandbox.live().hidden);
        found.ok_or_else(|| EngineError::NotFound(text()))
    }

    fn find_container(&self, id: &ContainerId) -> Result<Arc<Container>, EngineError> {
        let text = || format!("container {id}: there is none; list the containers for their ids");
        // One that is being made is nobody's yet: those who may change it know its id.
        let is_shown = |container: &Arc<Container>| !container.live().hidden && container.visible();
        let found = self.shared.containers.get(id).filter(is_shown);
        found.ok_or_else(|| EngineError::NotFound(text()))
    }
}
