//! The messages. Numbers of fields are for ever; `message/tests.rs` holds bytes of version 1 that must stay readable.

mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use reply::{
    ContainerEnd, ContainerReport, Done, Event, ExecEnd, ExecReport, ExecStarted, Failure, FailureKind, HelloReply,
    Packet, PauseEnd, Placing, PodCreated, ProcessEnd, Reply, Started, State, StateReply,
};
pub use request::{
    Attach, Call, CgroupPlacement, CloseStdin, CreatePod, DeleteContainer, Exec, GetState, GroupsPolicy, Hello,
    IdMapping, KillExec, NamespaceChoice, NamespacePlan, PidChoice, PidPlan, Release, ReopenLog, Request, Resize,
    Restore, Runtime, Seccomp, Shm, Shutdown, SignalContainer, StartContainer, TerminalSize, UpdateContainer,
    UserNamespace,
};
