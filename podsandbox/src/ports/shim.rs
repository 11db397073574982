//! The process that owns a pod's containers.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use podwright_types::{ContainerId, ExecId, SandboxId};
use tokio::sync::mpsc;

use super::PortError;
use crate::model::{GroupsPolicy, Handler, ResolvedUser, Seccomp, UserNamespace};
use crate::session::TerminalSize;

/// What a shim is started with.
#[derive(Debug, Clone)]
pub struct LaunchShim {
    /// Sandbox.
    pub sandbox: SandboxId,
    /// Cgroup of the shim itself.
    pub cgroup_path: String,
}

/// The pod's namespaces, as the shim makes them.
#[derive(Debug, Clone, Default)]
pub struct CreatePod {
    /// Hostname of the pod's UTS namespace; `None` keeps the host's namespace.
    pub hostname: Option<String>,
    /// A network namespace of its own.
    pub network: bool,
    /// That namespace, where it was made already.
    pub netns: Option<Arc<OwnedFd>>,
    /// An IPC namespace of its own.
    pub ipc: bool,
    /// A pid namespace shared by the containers, with a pause process as its init.
    pub pid: bool,
    /// A user namespace of its own.
    pub user: Option<UserNamespace>,
    /// Sysctls, dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// Where the pod's /dev/shm is to be found by containers; a tmpfs of this size is put there.
    pub shm: Option<(PathBuf, u64)>,
    /// Cgroup of the pause process; used only with `pid`.
    pub pause_cgroup: Option<CgroupPlacement>,
    /// SELinux label of the files that the containers share.
    pub mount_label: Option<String>,
}

/// Answer to [`CreatePod`].
#[derive(Debug)]
pub struct PodCreated {
    /// Pause process; `None` without a shared pid namespace.
    pub pause_pid: Option<i32>,
    /// The pod's network namespace, where it has its own.
    pub netns: Option<OwnedFd>,
}

/// Where a process goes.
#[derive(Debug, Clone)]
pub struct CgroupPlacement {
    /// `linux.cgroupsPath`.
    pub path: String,
    /// The process waits until [`Cgroups::place`](super::Cgroups::place) was called with its pid (systemd driver).
    pub deferred: bool,
}

/// File descriptors for the standard streams of a process.
#[derive(Debug, Default)]
pub struct GivenFds {
    /// Read end for stdin.
    pub stdin: Option<OwnedFd>,
    /// Write end for stdout; with a terminal, a socket or pipe that gets its output.
    pub stdout: Option<OwnedFd>,
    /// Write end for stderr.
    pub stderr: Option<OwnedFd>,
}

/// Whose namespace of one kind a container's process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NamespaceChoice {
    /// The pod's own, made by [`CreatePod`].
    #[default]
    Pod,
    /// The host's.
    Host,
    /// One of its own, made for it.
    New,
}

/// Whose process ids a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PidPlan {
    /// Its own; its program is the init.
    #[default]
    Own,
    /// The pod's, whose init is the pause process.
    Pod,
    /// The host's.
    Host,
    /// Those of another running container of the pod.
    Target(ContainerId),
}

/// The namespaces of a container; `linux.namespaces` of the specification lists the same kinds, without paths. A mount
/// namespace of its own is always made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacePlan {
    /// Network: `Pod` or `Host`.
    pub network: NamespaceChoice,
    /// IPC: `Pod` or `Host`.
    pub ipc: NamespaceChoice,
    /// UTS: `Pod` or `Host`.
    pub uts: NamespaceChoice,
    /// Process ids.
    pub pid: PidPlan,
    /// User: `Pod` or `Host`.
    pub user: NamespaceChoice,
    /// Cgroup: `New` or `Host`.
    pub cgroup: NamespaceChoice,
}

/// A container that is to run. All else is in the OCI specification.
#[derive(Debug, Clone)]
pub struct StartContainer {
    /// Container.
    pub container: ContainerId,
    /// OCI runtime specification, JSON. `root.path` is unused; see `layers`. A `process.user.username` other than empty
    /// means: look the user (`name`, `name:group`, `uid`, `uid:gid`) up in the root file system, add its groups.
    pub spec: Arc<str>,
    /// `lowerdir` list, the topmost first.
    pub layers: Vec<PathBuf>,
    /// Directory with `upper` and `work`; `None` for a root file system that nothing can write to.
    pub writable: Option<PathBuf>,
    /// Log file; `None` to log nothing.
    pub log_path: Option<PathBuf>,
    /// Keep a stdin open for clients that attach.
    pub stdin: bool,
    /// Close stdin after the first client.
    pub stdin_once: bool,
    /// Where it goes.
    pub cgroup: CgroupPlacement,
    /// Namespaces to join and to make.
    pub namespaces: NamespacePlan,
    /// System call filter; one in `linux.seccomp` of the specification goes before it.
    pub seccomp: Seccomp,
    /// Whether groups of the image's group file are added to `process.user.additionalGids`.
    pub groups_policy: GroupsPolicy,
    /// Directory with the specification, of which hooks are told.
    pub bundle: PathBuf,
    /// It goes on from where it was, and its program is not executed.
    pub restore: Option<RestorePlan>,
    /// The runtime that runs it in place of the shim's own.
    pub handler: Option<HandlerPlan>,
}

/// From what a container goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// The program that brings processes back.
    pub program: PathBuf,
    /// Directory with the images of the processes.
    pub images: PathBuf,
}

/// A runtime for a container.
#[derive(Debug, Clone)]
pub struct HandlerPlan {
    /// The pod's.
    pub handler: Arc<Handler>,
    /// Directory of the runtime's state for this pod.
    pub state: PathBuf,
}

/// Why a program did not begin to run, as far as exit codes tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// The program is not there: 127.
    ProgramNotFound,
    /// The program is there and must not or can not be executed: 126.
    ProgramNotExecutable,
    /// Something before the program failed: 128.
    Setup,
}

/// Answer to [`StartContainer`].
#[derive(Debug, Clone)]
pub struct Started {
    /// Pid in the host's namespace.
    pub pid: i32,
    /// Nanoseconds since the epoch.
    pub started_at_nanos: i64,
    /// The user after look-up.
    pub user: ResolvedUser,
}

/// A process to execute in a running container.
#[derive(Debug)]
pub struct ExecRequest {
    /// Container.
    pub container: ContainerId,
    /// Name of this execution.
    pub exec: ExecId,
    /// OCI `process`, JSON; `user` is the container's, already looked up.
    pub process: Arc<str>,
    /// System call filter: the container's.
    pub seccomp: Seccomp,
    /// Its streams.
    pub fds: GivenFds,
}

/// How a process ended, as its parent saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Exit code; 128 + n after signal n.
    pub code: i32,
    /// Nanoseconds since the epoch.
    pub at_nanos: i64,
    /// The cgroup's oom_kill counter is above zero.
    pub oom_killed: bool,
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecExit {
    /// Container.
    pub container: ContainerId,
    /// Execution.
    pub exec: ExecId,
    /// End.
    pub end: ProcessEnd,
}

/// What a shim tells by itself.
#[derive(Debug, Clone)]
pub enum ShimEvent {
    /// A container's first process ended, and nothing of the container lives on.
    ContainerExited(ContainerId, ProcessEnd),
    /// An exec ended.
    ExecExited(ExecExit),
    /// The pause process ended.
    PauseExited,
    /// The shim itself is gone; always the last event.
    ShimGone,
}

/// One container as the shim knows it.
#[derive(Debug, Clone)]
pub struct ContainerReport {
    /// Container.
    pub container: ContainerId,
    /// Running since, or ended.
    pub started: Started,
    /// `Some` after its end.
    pub end: Option<ProcessEnd>,
}

/// All that a shim knows; asked for after a restart of the daemon.
#[derive(Debug, Default)]
pub struct ShimState {
    /// Pid of the shim.
    pub pid: i32,
    /// The pod, if [`CreatePod`] was done.
    pub pod: Option<PodCreated>,
    /// Containers that were started and not deleted.
    pub containers: Vec<ContainerReport>,
    /// Execs that have not ended.
    pub execs: Vec<(ContainerId, ExecId)>,
}

/// One running shim. Dropping it leaves the shim alone.
#[async_trait]
pub trait Shim: Send + Sync {
    /// Its process.
    fn pid(&self) -> i32;

    /// All that it knows.
    async fn state(&self) -> Result<ShimState, PortError>;
    /// Makes the namespaces; repeated, answers the same.
    async fn create_pod(&self, request: &CreatePod) -> Result<PodCreated, PortError>;
    /// Runs a container. Returns after its program was executed; repeated for a running container, answers the same.
    async fn start_container(&self, request: &StartContainer) -> Result<Started, PortError>;
    /// Executes a process; returns its pid after its program was executed. Its end comes as an event.
    async fn exec(&self, request: ExecRequest) -> Result<i32, PortError>;
    /// Signals a container's first process, or all processes of the container. Ended already is success.
    async fn signal_container(&self, container: &ContainerId, signal: i32, all: bool) -> Result<(), PortError>;
    /// Kills an exec and its session. Ended already is success.
    async fn kill_exec(&self, container: &ContainerId, exec: &ExecId) -> Result<(), PortError>;
    /// Gives a client a share in a container's streams: what it prints from now on, and its stdin if that is kept open. They
    /// are closed when the container's output ends.
    async fn attach(&self, container: &ContainerId, fds: GivenFds) -> Result<(), PortError>;
    /// Changes the size of a terminal: an exec's, or the container's own.
    async fn resize(&self, container: &ContainerId, exec: Option<&ExecId>, size: TerminalSize)
    -> Result<(), PortError>;
    /// Writes changed limits; `resources` is the OCI `linux.resources`, JSON, and holds only what is to be changed.
    async fn update_container(&self, container: &ContainerId, resources: &str) -> Result<(), PortError>;
    /// Opens the log file anew, after a rotation; nothing is lost.
    async fn reopen_log(&self, container: &ContainerId) -> Result<(), PortError>;
    /// Forgets an ended container and removes its cgroup. Unknown is success.
    async fn delete_container(&self, container: &ContainerId) -> Result<(), PortError>;
    /// Kills whatever is left of the pod and ends the shim; returns when it is gone.
    async fn shutdown(&self) -> Result<(), PortError>;
}

/// Starts and finds shims.
#[async_trait]
pub trait Shims: Send + Sync {
    /// Starts a shim; if one for the sandbox lives, connects to it.
    async fn launch(&self, request: &LaunchShim) -> Result<(Arc<dyn Shim>, mpsc::Receiver<ShimEvent>), PortError>;
    /// Connects to a shim that lives; `None` if there is none.
    async fn connect(
        &self,
        sandbox: &SandboxId,
    ) -> Result<Option<(Arc<dyn Shim>, mpsc::Receiver<ShimEvent>)>, PortError>;
    /// Removes what a dead shim left (its socket); absent is success.
    async fn remove_remains(&self, sandbox: &SandboxId) -> Result<(), PortError>;
    /// Sandboxes for which there is a socket, for the reconciliation at start.
    async fn list(&self) -> Result<Vec<SandboxId>, PortError>;
}
