//! OCI runtime library: from an OCI specification and a plan of its root file system to a running process, and execution of
//! more processes beside it. Waiting for processes, their streams and their logs are left to the caller.
//!
//! The caller has one thread: containers are clones of it. Nothing here waits for a container's child; see [`Starting`].
#![forbid(unsafe_code)]

mod child;
mod devices;
mod error;
mod execute;
mod filters;
mod init;
mod kernel;
mod launch;
mod lsm;
mod masks;
mod message;
mod mounts;
mod options;
mod pod;
mod privileges;
mod program;
mod propagation;
mod root;
mod rootfs;
pub mod seccomp;
mod spawn;
mod starting;
mod streams;
mod sysctl;
mod user;

pub use error::{Error, Failure, FailureKind};
pub use launch::{
    CgroupEntry, ExecLaunch, Launch, Namespace, Namespaces, PodNamespaces, PodPlan, RootfsMethod, RootfsPlan,
    SeccompChoice, Stdio, UserLookup,
};
pub use message::User;
pub use pod::{make_namespaces, pid_namespace_of, spawn_pause};
pub use spawn::{exec, spawn};
pub use starting::{Progress, Starting};
