//! What the shim answers, and what it tells by itself.

use prost::{Enumeration, Message, Oneof};

/// One packet from the shim to the daemon.
#[derive(Clone, PartialEq, Message)]
pub struct Packet {
    /// That of the request; 0 for an event.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What it says; `None` for something that this build does not know.
    #[prost(oneof = "Reply", tags = "2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22")]
    pub reply: Option<Reply>,
}

/// Answers, and from 20 on events.
#[derive(Clone, PartialEq, Oneof)]
pub enum Reply {
    /// To [`Hello`](super::Hello).
    #[prost(message, tag = "2")]
    Hello(HelloReply),
    /// To [`GetState`](super::GetState).
    #[prost(message, tag = "3")]
    State(StateReply),
    /// To [`CreatePod`](super::CreatePod).
    #[prost(message, tag = "4")]
    PodCreated(PodCreated),
    /// To [`StartContainer`](super::StartContainer).
    #[prost(message, tag = "5")]
    Started(Started),
    /// To [`Exec`](super::Exec).
    #[prost(message, tag = "6")]
    ExecStarted(ExecStarted),
    /// To all else.
    #[prost(message, tag = "7")]
    Done(Done),
    /// The request failed.
    #[prost(message, tag = "8")]
    Failure(Failure),
    /// Not an answer yet: the process exists and waits for [`Release`](super::Release).
    #[prost(message, tag = "9")]
    Placing(Placing),
    /// Event: a container ended.
    #[prost(message, tag = "20")]
    ContainerEnd(ContainerEnd),
    /// Event: an exec ended.
    #[prost(message, tag = "21")]
    ExecEnd(ExecEnd),
    /// Event: the pause process ended.
    #[prost(message, tag = "22")]
    PauseEnd(PauseEnd),
}

/// What a shim tells by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A container's first process ended, nothing of the container lives on, and its log is written.
    ContainerExited(ContainerEnd),
    /// An exec ended.
    ExecExited(ExecEnd),
    /// The pause process ended.
    PauseExited,
    /// The connection ended; always the last. Usually the shim is gone; connecting again tells.
    Gone,
}

/// Answer to the first message.
#[derive(Clone, PartialEq, Message)]
pub struct HelloReply {
    /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the shim.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// What the shim can do beyond the version, such as [`GIVEN_NETNS`](crate::GIVEN_NETNS).
    #[prost(string, repeated, tag = "2")]
    pub features: Vec<String>,
    /// Pid of the shim.
    #[prost(int32, tag = "3")]
    pub pid: i32,
    /// The sandbox that it was started for.
    #[prost(string, tag = "4")]
    pub sandbox: String,
}

/// A page of what a shim knows. The first page alone has `pod`; execs are on it and on pages of their own.
#[derive(Clone, PartialEq, Message)]
pub struct StateReply {
    /// Pid of the shim.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// The pod, if it was created.
    #[prost(message, optional, tag = "2")]
    pub pod: Option<PodCreated>,
    /// Containers that were started and not deleted, in the order of ids.
    #[prost(message, repeated, tag = "3")]
    pub containers: Vec<ContainerReport>,
    /// Execs that run, in the order of ids.
    #[prost(message, repeated, tag = "4")]
    pub execs: Vec<ExecReport>,
    /// There are more containers.
    #[prost(bool, tag = "5")]
    pub more: bool,
    /// There are more execs.
    #[prost(bool, tag = "6")]
    pub more_execs: bool,
}

/// All pages of [`StateReply`] as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Pid of the shim.
    pub pid: i32,
    /// The pod, if it was created.
    pub pod: Option<PodCreated>,
    /// Containers that were started and not deleted.
    pub containers: Vec<ContainerReport>,
    /// Execs that run.
    pub execs: Vec<ExecReport>,
}

/// The pod's namespaces exist.
#[derive(Clone, PartialEq, Message)]
pub struct PodCreated {
    /// Pid of the pause process; 0 without one.
    #[prost(int32, tag = "1")]
    pub pause_pid: i32,
    /// The fd of the pod's network namespace comes along.
    #[prost(bool, tag = "2")]
    pub has_netns: bool,
    /// The pause process ended.
    #[prost(bool, tag = "3")]
    pub pause_ended: bool,
}

/// A container's program runs.
#[derive(Clone, PartialEq, Message)]
pub struct Started {
    /// Pid on the host.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "2")]
    pub started_at_nanos: i64,
    /// User after look-up.
    #[prost(uint32, tag = "3")]
    pub uid: u32,
    /// Primary group.
    #[prost(uint32, tag = "4")]
    pub gid: u32,
    /// All supplementary groups.
    #[prost(uint32, repeated, tag = "5")]
    pub groups: Vec<u32>,
}

/// An exec's program runs.
#[derive(Clone, PartialEq, Message)]
pub struct ExecStarted {
    /// Pid on the host.
    #[prost(int32, tag = "1")]
    pub pid: i32,
}

/// It is done.
#[derive(Clone, PartialEq, Message)]
pub struct Done {}

/// A process waits to be placed.
#[derive(Clone, PartialEq, Message)]
pub struct Placing {
    /// Its pid on the host.
    #[prost(int32, tag = "1")]
    pub pid: i32,
}

/// How a process ended.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessEnd {
    /// Exit code; 128 + n after signal n.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "2")]
    pub at_nanos: i64,
    /// The kernel killed a process of the cgroup for want of memory.
    #[prost(bool, tag = "3")]
    pub oom_killed: bool,
}

/// A container ended.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerEnd {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// How.
    #[prost(message, optional, tag = "2")]
    pub end: Option<ProcessEnd>,
}

/// An exec ended.
#[derive(Clone, PartialEq, Message)]
pub struct ExecEnd {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Execution.
    #[prost(string, tag = "2")]
    pub exec: String,
    /// How.
    #[prost(message, optional, tag = "3")]
    pub end: Option<ProcessEnd>,
}

/// The pause process ended.
#[derive(Clone, PartialEq, Message)]
pub struct PauseEnd {}

/// A container as the shim knows it.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerReport {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Its start; absent while it is being started.
    #[prost(message, optional, tag = "2")]
    pub started: Option<Started>,
    /// Its end, once nothing of it lives on.
    #[prost(message, optional, tag = "3")]
    pub end: Option<ProcessEnd>,
}

/// An exec that runs.
#[derive(Clone, PartialEq, Message)]
pub struct ExecReport {
    /// Container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Execution.
    #[prost(string, tag = "2")]
    pub exec: String,
    /// Its pid on the host; 0 while it is being started.
    #[prost(int32, tag = "3")]
    pub pid: i32,
}

/// What sort of failure it is, as far as the daemon acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum FailureKind {
    /// Anything else.
    Other = 0,
    /// The container or exec is not known.
    NotFound = 1,
    /// The request can not be right.
    Invalid = 2,
    /// A time limit passed.
    TimedOut = 3,
    /// This shim does not know such a request.
    Unsupported = 4,
    /// The program is not there.
    ProgramNotFound = 5,
    /// The program can not be executed.
    ProgramNotExecutable = 6,
    /// Something before the program failed.
    Setup = 7,
    /// Something else stands in the way now.
    Busy = 8,
    /// As many as the shim serves at once are under way. (A daemon that does not know this kind takes it for [`FailureKind::Other`].)
    Exhausted = 9,
}

/// Why a request failed.
#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    /// What was being done.
    #[prost(string, tag = "1")]
    pub step: String,
    /// To what.
    #[prost(string, tag = "2")]
    pub object: String,
    /// Why it failed, and what to do.
    #[prost(string, tag = "3")]
    pub message: String,
    /// Error number of the system; 0 for none.
    #[prost(int32, tag = "4")]
    pub errno: i32,
    /// Sort of failure.
    #[prost(enumeration = "FailureKind", tag = "5")]
    pub kind: i32,
}

impl Failure {
    /// A failure without an error number.
    #[must_use]
    pub fn new(kind: FailureKind, step: &str, object: &str, message: impl Into<String>) -> Self {
        Self { step: step.into(), object: object.into(), message: message.into(), errno: 0, kind: kind.into() }
    }

    /// A failure of a system call.
    #[must_use]
    pub fn of(step: &str, object: &str, error: &std::io::Error) -> Self {
        Self {
            step: step.into(),
            object: object.into(),
            message: error.to_string(),
            errno: error.raw_os_error().unwrap_or(0),
            kind: FailureKind::Other.into(),
        }
    }

    /// The text for people: `step object: message`.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.step.is_empty(), self.object.is_empty()) {
            (true, _) => self.message.clone(),
            (false, true) => format!("{}: {}", self.step, self.message),
            (false, false) => format!("{} {}: {}", self.step, self.object, self.message),
        }
    }
}
