//! OCI runtime library: from an OCI specification and a plan of its root file system to a running process, and execution of
//! more processes beside it. Waiting for processes, their streams and their logs are left to the caller.
//!
//! The caller has one thread: containers are clones of it. Nothing here waits for a container's child; see [`Starting`].
#![forbid(unsafe_code)]

mod child;
mod copy_up;
mod devices;
mod error;
mod execute;
mod filters;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gate;
mod hooks;
mod idmap;
mod init;
mod kernel;
mod launch;
mod lsm;
mod masks;
mod message;
mod mounts;
mod options;
mod other;
mod pivot;
mod pod;
mod privileges;
mod program;
mod propagation;
mod restore;
mod root;
mod rootfs;
pub mod seccomp;
mod selinux;
mod spawn;
mod starting;
mod streams;
mod sysctl;
mod user;
mod users;

pub use error::{Error, Failure, FailureKind};
pub use hooks::{HookContext, StoppedHooks};
pub use idmap::can_map_ids;
pub use launch::{
    CgroupEntry, ExecLaunch, Gate, IdMappings, Launch, MappedRoot, Namespace, Namespaces, PodNamespaces, PodPlan,
    PodUser, RootfsMethod, RootfsPlan, SeccompChoice, Stdio, UserJoin, UserLookup,
};
pub use message::User;
pub use other::{Container, Forget, OtherRuntime, exec_by, spawn_by};
pub use pod::{make_namespaces, make_namespaces_in, pid_namespace_of, spawn_pause};
pub use podwright_sys::Process as LiveProcess;
pub use restore::{Restore, restore};
pub use spawn::{exec, spawn};
pub use starting::{Progress, Starting};
