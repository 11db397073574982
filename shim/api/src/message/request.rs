//! What the daemon asks. File descriptors that belong to a request come in the order in which its fields name them.

use prost::{Enumeration, Message, Oneof};
use std::collections::BTreeMap;

/// One packet from the daemon to the shim.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Chosen by the daemon, never 0; the answer has the same.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is asked; `None` for a call that this build does not know.
    #[prost(oneof = "Call", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16")]
    pub call: Option<Call>,
}

/// The calls. Each may be repeated, and then confirms what the first one did.
#[derive(Clone, PartialEq, Oneof)]
pub enum Call {
    /// Must be the first; subscribes the connection to events. Answer: [`HelloReply`](super::HelloReply).
    #[prost(message, tag = "2")]
    Hello(Hello),
    /// Answer: [`StateReply`](super::StateReply), with the network namespace's fd if `has_netns`.
    #[prost(message, tag = "3")]
    GetState(GetState),
    /// Answer: [`PodCreated`](super::PodCreated), with the network namespace's fd if `has_netns`.
    #[prost(message, tag = "4")]
    CreatePod(CreatePod),
    /// Fds: the OCI specification. Answer: [`Started`](super::Started).
    #[prost(message, tag = "5")]
    StartContainer(StartContainer),
    /// Fds: the OCI process, then stdin, stdout, stderr as flagged. Answer: [`ExecStarted`](super::ExecStarted).
    #[prost(message, tag = "6")]
    Exec(Exec),
    /// Answer: [`Done`](super::Done), as for all that follow.
    #[prost(message, tag = "7")]
    SignalContainer(SignalContainer),
    /// Kills an exec and its session.
    #[prost(message, tag = "8")]
    KillExec(KillExec),
    /// Opens a log anew.
    #[prost(message, tag = "9")]
    ReopenLog(ReopenLog),
    /// Forgets an ended container.
    #[prost(message, tag = "10")]
    DeleteContainer(DeleteContainer),
    /// Ends the shim and everything that is left; the connection ends after the answer.
    #[prost(message, tag = "11")]
    Shutdown(Shutdown),
    /// Lets a process go that waits since [`Placing`](super::Placing).
    #[prost(message, tag = "12")]
    Release(Release),
    /// Changes the size of a terminal.
    #[prost(message, tag = "13")]
    Resize(Resize),
    /// Closes stdin of a container.
    #[prost(message, tag = "14")]
    CloseStdin(CloseStdin),
    /// Fds: stdin, stdout, stderr as flagged.
    #[prost(message, tag = "15")]
    Attach(Attach),
    /// Fds: the OCI `linux.resources`.
    #[prost(message, tag = "16")]
    UpdateContainer(UpdateContainer),
}

impl Call {
    /// The call's name, for errors and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::GetState(_) => "GetState",
            Self::CreatePod(_) => "CreatePod",
            Self::StartContainer(_) => "StartContainer",
            Self::Exec(_) => "Exec",
            Self::SignalContainer(_) => "SignalContainer",
            Self::KillExec(_) => "KillExec",
            Self::ReopenLog(_) => "ReopenLog",
            Self::DeleteContainer(_) => "DeleteContainer",
            Self::Shutdown(_) => "Shutdown",
            Self::Release(_) => "Release",
            Self::Resize(_) => "Resize",
            Self::CloseStdin(_) => "CloseStdin",
            Self::Attach(_) => "Attach",
            Self::UpdateContainer(_) => "UpdateContainer",
        }
    }
}

/// The first message on a connection.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the daemon.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// What the daemon can do beyond the version; none is defined yet.
    #[prost(string, repeated, tag = "2")]
    pub features: Vec<String>,
}

/// Asks for all that the shim knows.
#[derive(Clone, PartialEq, Message)]
pub struct GetState {
    /// Leaves out the containers up to this one, in the order of ids; empty for the first page.
    #[prost(string, tag = "1")]
    pub after: String,
    /// Asks for execs alone, and leaves out those up to this one, in the order of ids.
    #[prost(string, tag = "2")]
    pub execs_after: String,
}

/// A range of ids inside and outside of a user namespace.
#[derive(Clone, PartialEq, Message)]
pub struct IdMapping {
    /// First id on the host.
    #[prost(uint32, tag = "1")]
    pub host_id: u32,
    /// First id inside.
    #[prost(uint32, tag = "2")]
    pub container_id: u32,
    /// How many.
    #[prost(uint32, tag = "3")]
    pub length: u32,
}

/// Mappings of a pod's own user namespace.
#[derive(Clone, PartialEq, Message)]
pub struct UserNamespace {
    /// Of user ids.
    #[prost(message, repeated, tag = "1")]
    pub uids: Vec<IdMapping>,
    /// Of group ids.
    #[prost(message, repeated, tag = "2")]
    pub gids: Vec<IdMapping>,
}

/// The pod's /dev/shm.
#[derive(Clone, PartialEq, Message)]
pub struct Shm {
    /// Where containers' mounts name it, absolute.
    #[prost(bytes = "vec", tag = "1")]
    pub path: Vec<u8>,
    /// Size of the tmpfs.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

/// Where a process goes.
#[derive(Clone, PartialEq, Message)]
pub struct CgroupPlacement {
    /// `linux.cgroupsPath`: a path below each hierarchy, or `slice:prefix:name`.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The process waits after [`Placing`](super::Placing) until [`Release`]; somebody else moves it.
    #[prost(bool, tag = "2")]
    pub deferred: bool,
}

/// Makes the namespaces of the pod.
#[derive(Clone, PartialEq, Message)]
pub struct CreatePod {
    /// Hostname of a UTS namespace of its own; absent keeps the host's.
    #[prost(string, optional, tag = "1")]
    pub hostname: Option<String>,
    /// A network namespace of its own.
    #[prost(bool, tag = "2")]
    pub network: bool,
    /// An IPC namespace of its own.
    #[prost(bool, tag = "3")]
    pub ipc: bool,
    /// A pid namespace for all containers, with a pause process.
    #[prost(bool, tag = "4")]
    pub pid: bool,
    /// A user namespace of its own.
    #[prost(message, optional, tag = "5")]
    pub user: Option<UserNamespace>,
    /// Sysctls, dotted names.
    #[prost(btree_map = "string, string", tag = "6")]
    pub sysctls: BTreeMap<String, String>,
    /// A tmpfs for /dev/shm.
    #[prost(message, optional, tag = "7")]
    pub shm: Option<Shm>,
    /// Cgroup of the pause process; used only with `pid`.
    #[prost(message, optional, tag = "8")]
    pub pause_cgroup: Option<CgroupPlacement>,
    /// SELinux label of /dev/shm and of the pause process's root; absent on a host without SELinux.
    #[prost(string, optional, tag = "9")]
    pub mount_label: Option<String>,
    /// The network namespace comes with the request, its loopback link up. To shims with
    /// [`GIVEN_NETNS`](crate::GIVEN_NETNS) only.
    #[prost(bool, tag = "10")]
    pub netns_given: bool,
}

/// Whose namespace of one kind a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum NamespaceChoice {
    /// The pod's.
    Pod = 0,
    /// The host's.
    Host = 1,
    /// A new one.
    New = 2,
}

/// Whose process ids a container sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum PidChoice {
    /// Its own.
    Own = 0,
    /// The pod's.
    Pod = 1,
    /// The host's.
    Host = 2,
    /// Another container's.
    Target = 3,
}

/// Process ids of a container.
#[derive(Clone, PartialEq, Message)]
pub struct PidPlan {
    /// Whose.
    #[prost(enumeration = "PidChoice", tag = "1")]
    pub choice: i32,
    /// The other container, for `Target`.
    #[prost(string, tag = "2")]
    pub target: String,
}

/// The namespaces of a container.
#[derive(Clone, PartialEq, Message)]
pub struct NamespacePlan {
    /// Network.
    #[prost(enumeration = "NamespaceChoice", tag = "1")]
    pub network: i32,
    /// IPC.
    #[prost(enumeration = "NamespaceChoice", tag = "2")]
    pub ipc: i32,
    /// UTS.
    #[prost(enumeration = "NamespaceChoice", tag = "3")]
    pub uts: i32,
    /// Process ids.
    #[prost(message, optional, tag = "4")]
    pub pid: Option<PidPlan>,
    /// User.
    #[prost(enumeration = "NamespaceChoice", tag = "5")]
    pub user: i32,
    /// Cgroup.
    #[prost(enumeration = "NamespaceChoice", tag = "6")]
    pub cgroup: i32,
}

/// Which system call filter applies.
#[derive(Clone, PartialEq, Oneof)]
pub enum Seccomp {
    /// None.
    #[prost(bool, tag = "10")]
    Unconfined(bool),
    /// The shim's own default.
    #[prost(bool, tag = "11")]
    RuntimeDefault(bool),
    /// A profile, by absolute path.
    #[prost(bytes, tag = "12")]
    Localhost(Vec<u8>),
}

/// Whether groups of the image are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum GroupsPolicy {
    /// They are.
    Merge = 0,
    /// They are not.
    Strict = 1,
}

/// Runs a container.
#[derive(Clone, PartialEq, Message)]
pub struct StartContainer {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// `lowerdir` list, the topmost first.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub layers: Vec<Vec<u8>>,
    /// Directory with `upper` and `work`; absent for a root that nothing can write to.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub writable: Option<Vec<u8>>,
    /// Log file; absent to log nothing.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub log_path: Option<Vec<u8>>,
    /// Keep a stdin open for clients that attach.
    #[prost(bool, tag = "5")]
    pub stdin: bool,
    /// Close it after the first client.
    #[prost(bool, tag = "6")]
    pub stdin_once: bool,
    /// Where it goes.
    #[prost(message, optional, tag = "7")]
    pub cgroup: Option<CgroupPlacement>,
    /// Namespaces.
    #[prost(message, optional, tag = "8")]
    pub namespaces: Option<NamespacePlan>,
    /// Groups of the image.
    #[prost(enumeration = "GroupsPolicy", tag = "9")]
    pub groups_policy: i32,
    /// System call filter; absent is an error, so that no filter is ever lost on the way.
    #[prost(oneof = "Seccomp", tags = "10, 11, 12")]
    pub seccomp: Option<Seccomp>,
    /// Directory with the specification, which hooks are told of; absent where there are no hooks.
    #[prost(bytes = "vec", optional, tag = "13")]
    pub bundle: Option<Vec<u8>>,
    /// It goes on from images of its processes, and its program is not executed. To shims with [`RESTORE`](crate::RESTORE) only.
    #[prost(message, optional, tag = "16")]
    pub restore: Option<Restore>,
    /// The runtime that runs it in place of the shim's own. To shims with [`OTHER_RUNTIMES`](crate::OTHER_RUNTIMES) only.
    #[prost(message, optional, tag = "20")]
    pub runtime: Option<Runtime>,
}

/// From what a container goes on.
#[derive(Clone, PartialEq, Message)]
pub struct Restore {
    /// CRIU, an absolute path.
    #[prost(bytes = "vec", tag = "1")]
    pub program: Vec<u8>,
    /// Directory with the images of the processes.
    #[prost(bytes = "vec", tag = "2")]
    pub images: Vec<u8>,
}

/// A runtime with the OCI command line.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Runtime {
    /// Its program, absolute.
    #[prost(bytes = "vec", tag = "1")]
    pub path: Vec<u8>,
    /// Directory of its state for this pod, which is there and is nobody else's.
    #[prost(bytes = "vec", tag = "2")]
    pub state: Vec<u8>,
    /// Arguments before each command.
    #[prost(string, repeated, tag = "3")]
    pub options: Vec<String>,
    /// How long one command may take, in seconds.
    #[prost(uint32, tag = "4")]
    pub deadline_seconds: u32,
    /// Its handler's name, for errors.
    #[prost(string, tag = "5")]
    pub name: String,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct TerminalSize {
    /// Columns.
    #[prost(uint32, tag = "1")]
    pub columns: u32,
    /// Rows.
    #[prost(uint32, tag = "2")]
    pub rows: u32,
}

/// Executes a process in a container. With `process.terminal` the shim makes the terminal and copies between it and the fds;
/// otherwise the process gets the fds themselves, and /dev/null where there is none.
#[derive(Clone, PartialEq, Message)]
pub struct Exec {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Execution.
    #[prost(string, tag = "2")]
    pub exec: String,
    /// An fd for stdin follows.
    #[prost(bool, tag = "3")]
    pub has_stdin: bool,
    /// An fd for stdout follows.
    #[prost(bool, tag = "4")]
    pub has_stdout: bool,
    /// An fd for stderr follows.
    #[prost(bool, tag = "5")]
    pub has_stderr: bool,
    /// System call filter; absent is an error.
    #[prost(oneof = "Seccomp", tags = "10, 11, 12")]
    pub seccomp: Option<Seccomp>,
}

/// Sends a signal.
#[derive(Clone, PartialEq, Message)]
pub struct SignalContainer {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Linux signal number.
    #[prost(int32, tag = "2")]
    pub signal: i32,
    /// To all processes of the container, not only to its first.
    #[prost(bool, tag = "3")]
    pub all: bool,
}

/// Kills an exec and its session.
#[derive(Clone, PartialEq, Message)]
pub struct KillExec {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Execution.
    #[prost(string, tag = "2")]
    pub exec: String,
}

/// Opens a log anew after a rotation.
#[derive(Clone, PartialEq, Message)]
pub struct ReopenLog {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
}

/// Forgets an ended container and removes its cgroup.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteContainer {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
}

/// Ends the shim.
#[derive(Clone, PartialEq, Message)]
pub struct Shutdown {}

/// Lets a waiting process go, or gives it up.
#[derive(Clone, PartialEq, Message)]
pub struct Release {
    /// Container; empty for the pause process.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Why it could not be placed; then the start fails with this text. Empty if it was placed.
    #[prost(string, tag = "2")]
    pub error: String,
}

/// Changes the size of a terminal.
#[derive(Clone, PartialEq, Message)]
pub struct Resize {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Execution; empty for the container's own terminal.
    #[prost(string, tag = "2")]
    pub exec: String,
    /// New size.
    #[prost(message, optional, tag = "3")]
    pub size: Option<TerminalSize>,
}

/// Closes stdin of a container.
#[derive(Clone, PartialEq, Message)]
pub struct CloseStdin {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
}

/// Gives fds a share in a container's streams: what is read from stdin goes to the container, its output goes to stdout and
/// stderr (all to stdout with a terminal) beside the log. The fds are closed when the container's streams end. They are made
/// non-blocking; a client that does not keep up is dropped.
#[derive(Clone, PartialEq, Message)]
pub struct Attach {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// An fd for stdin follows.
    #[prost(bool, tag = "2")]
    pub has_stdin: bool,
    /// An fd for stdout follows.
    #[prost(bool, tag = "3")]
    pub has_stdout: bool,
    /// An fd for stderr follows.
    #[prost(bool, tag = "4")]
    pub has_stderr: bool,
}

/// Writes changed limits.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateContainer {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
}
