//! Containers that another OCI runtime runs, by its command line: crun, runc, or podwright-oci itself.
//!
//! A helper, which is a child of the caller, prepares a bundle in a mount namespace of its own, runs the runtime's commands one after
//! another, each with a deadline, and tells the caller how far it is as the child of a container of ours does:
//!
//! ```text
//! helper: bundle ─> create ─> [Waiting] ─> [Terminal] ─> start ─> ends
//!             └─> first process: child of the helper, then of the caller (a subreaper, too), who was told of it (Moved) before
//! ```
//!
//! The mounts of a container are opened and put together here as for our own runtime; the other one finds a root file system, bind
//! mounts of what is prepared, and files of the namespaces to join. The host's mount table does not grow.

mod bundle;
mod command;
mod console;
mod create;
mod execute;
mod forget;
mod pid;
mod translate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Process;

use crate::error::Error;
use crate::launch::{CgroupEntry, Launch, Namespace, Stdio};
use crate::spawn::{PidNamespace, start};
use crate::starting::Starting;

#[cfg(feature = "fuzzing")]
pub(crate) use command::fuzz as fuzz_log;
pub use forget::Forget;
#[cfg(feature = "fuzzing")]
pub(crate) use pid::parse as parse_pid;
#[cfg(feature = "fuzzing")]
pub(crate) use translate::fuzz as fuzz_specification;

/// Another runtime.
#[derive(Debug, Clone)]
pub struct OtherRuntime {
    /// Its handler's name, for errors.
    pub name: String,
    /// Its program.
    pub program: PathBuf,
    /// Arguments before each command.
    pub options: Vec<String>,
    /// Directory of its state for one pod, which is there and is nobody else's.
    pub state: PathBuf,
    /// How long one command may take.
    pub deadline: Duration,
}

impl OtherRuntime {
    /// What it gets as `--root`.
    fn root(&self) -> PathBuf {
        self.state.join("root")
    }
}

/// What another runtime is told of a container.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its directory.
    pub bundle: &'a Path,
    /// Its cgroup, below each hierarchy.
    pub cgroup: &'a str,
}

/// Starts a container by another runtime. The cgroup is there, with its limits; the runtime joins it. Hooks, those after the end
/// too, are the runtime's to run.
///
/// # Errors
/// As [`spawn`](crate::spawn).
pub fn spawn_by(runtime: &OtherRuntime, container: Container<'_>, launch: Launch<'_>) -> Result<Starting, Error> {
    if launch.namespaces.user.is_some() {
        let text =
            "runtime handlers run no pods with user namespaces; leave the runtime class or the user namespace out";
        return Err(Error::Invalid(text.to_owned()));
    }
    if matches!(launch.namespaces.cgroup, Namespace::Join(_)) {
        return Err(Error::Invalid("a cgroup namespace can not be joined; use Host or New".to_owned()));
    }
    let starting =
        start(&PidNamespace::Host, CgroupEntry::Inherit, |socket| create::run(runtime, container, launch, socket))?;
    starting.by_helper()
}

/// Executes a process in a container that another runtime runs. Its user is taken as numbers.
///
/// # Errors
/// As [`spawn`](crate::spawn).
pub fn exec_by(runtime: &OtherRuntime, id: &str, process: &Process, stdio: Stdio) -> Result<Starting, Error> {
    let starting =
        start(&PidNamespace::Host, CgroupEntry::Inherit, |socket| execute::run(runtime, id, process, stdio, socket))?;
    starting.by_helper()
}
