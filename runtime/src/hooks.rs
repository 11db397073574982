//! Hooks of the OCI runtime specification: which there are, what they are told, and in which order they run.
//!
//! ```text
//! container's process:  mounts ─ "create" ─────────────────────> createContainer ─> pivot ─> startContainer ─> "executing" ─> program
//! hook process (host):              └─> prestart ─> createRuntime ─┘                                             └─> poststart
//! ```
//!
//! Hooks of the host's namespaces run in a process of their own, which is cloned before the container's and stays where the caller is:
//! in its namespaces and its cgroup. How one program is run is in `command`, that process in `runner`. poststop hooks are left to the
//! caller, see [`StoppedHooks`].

mod command;
mod runner;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Hooks, Spec};
use podwright_sys::{CloneFlags, Clones, clone_process};
use rustix::process::{Pid, getpid};
use serde::Serialize;

use crate::error::{Error, Failure};
use crate::launch::Launch;

pub(crate) use runner::{Line, start as start_runner};

/// Where the root file system is shown to hooks, below the bundle.
const ROOTFS: &str = "rootfs";

/// What hooks are told of a container, beside its specification.
#[derive(Debug, Clone, Copy)]
pub struct HookContext<'a> {
    /// Its id.
    pub container: &'a str,
    /// Directory with its `config.json`. The root file system is mounted on `rootfs` below it while hooks run, in the container's
    /// mount namespace.
    pub bundle: &'a Path,
}

/// What comes to the stdin of a hook.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    oci_version: String,
    id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: PathBuf,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: HashMap<String, String>,
}

impl State {
    fn new(spec: &Spec, context: HookContext<'_>) -> Self {
        Self {
            oci_version: spec.version().clone(),
            id: context.container.to_owned(),
            status: "",
            pid: None,
            bundle: context.bundle.to_owned(),
            annotations: spec.annotations().clone().unwrap_or_default(),
        }
    }

    fn at(&self, status: &'static str, pid: Option<Pid>) -> Self {
        Self { status, pid: pid.map(Pid::as_raw_pid), ..self.clone() }
    }
}

/// The hooks of a container and what they are told.
pub(crate) struct Plan<'a> {
    hooks: &'a Hooks,
    state: State,
    /// Where the root file system is shown.
    rootfs: PathBuf,
}

impl<'a> Plan<'a> {
    /// `None` if there are none.
    pub(crate) fn of(launch: &Launch<'a>) -> Result<Option<Self>, Error> {
        let Some(hooks) = launch.spec.hooks().as_ref().filter(|hooks| has_any(hooks)) else { return Ok(None) };
        let Some(context) = launch.hooks else {
            return Err(Error::Invalid("the OCI specification has hooks, and no bundle is named for them".to_owned()));
        };
        check(hooks)?;
        if launch.namespaces.user.is_some() && !list(hooks.create_container()).is_empty() {
            let text =
                "createContainer hooks are not supported in a pod with a user namespace; use createRuntime hooks";
            return Err(Error::Invalid(text.to_owned()));
        }
        let rootfs = match launch.rootfs {
            crate::RootfsPlan::Directory(path) | crate::RootfsPlan::Owned(path) => path.clone(),
            crate::RootfsPlan::Layers { .. } => context.bundle.join(ROOTFS),
        };
        Ok(Some(Self { hooks, state: State::new(launch.spec, context), rootfs }))
    }

    /// Whether hooks run while the container is made, and see its root file system.
    pub(crate) fn at_creation(&self) -> bool {
        let hooks = self.hooks;
        [hooks.create_runtime(), hooks.create_container(), prestart(hooks)].iter().any(|stage| !list(stage).is_empty())
    }

    /// Where the root file system is to be shown meanwhile.
    pub(crate) fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    fn on_the_host(&self) -> bool {
        let hooks = self.hooks;
        [prestart(hooks), hooks.create_runtime(), hooks.poststart()].iter().any(|stage| !list(stage).is_empty())
    }

    /// prestart and createRuntime, by the process that runs them; then createContainer, here.
    pub(crate) fn run_at_creation(&self, line: Option<&Line>) -> Result<(), Failure> {
        line.map_or(Ok(()), Line::create)?;
        run_all(
            list(self.hooks.create_container()),
            "createContainer",
            &self.state.at("creating", Some(getpid())),
            None,
        )
    }

    /// startContainer: inside, as the container's user and with its limits, because the programs are the image's.
    pub(crate) fn run_at_start(&self) -> Result<(), Failure> {
        run_all(list(self.hooks.start_container()), "startContainer", &self.state.at("created", Some(getpid())), None)
    }
}

/// What the container's process has to do with hooks.
pub(crate) struct InitHooks<'a> {
    /// Its hooks.
    pub(crate) plan: Option<Plan<'a>>,
    /// To the process that runs those of the host.
    pub(crate) line: Option<Line>,
}

impl InitHooks<'_> {
    /// Of a process beside the first.
    pub(crate) const NONE: Self = Self { plan: None, line: None };

    /// What is to be kept open.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.line.as_ref().map(|line| line.fd().as_fd())
    }

    /// Where hooks want to see the root file system; `None` if none looks.
    pub(crate) fn rootfs(&self) -> Option<&Path> {
        self.plan.as_ref().filter(|plan| plan.at_creation()).map(Plan::rootfs)
    }

    /// The namespaces and mounts are made.
    pub(crate) fn created(&self) -> Result<(), Failure> {
        match self.plan.as_ref().filter(|plan| plan.at_creation()) {
            Some(plan) => plan.run_at_creation(self.line.as_ref()),
            None => Ok(()),
        }
    }

    /// The program is executed next. Who let it through its gate waits at `visitor` for the end of the hooks that follow.
    pub(crate) fn starting(&self, own: Option<&OwnedFd>, visitor: Option<&OwnedFd>) -> Result<(), Failure> {
        self.plan.as_ref().map_or(Ok(()), Plan::run_at_start)?;
        match (&self.line, own) {
            (Some(line), Some(own)) => line.executing(own, visitor),
            _ => Ok(()),
        }
    }

    /// This process, if somebody is to be told of its start.
    pub(crate) fn open_own(&self) -> Result<Option<OwnedFd>, Failure> {
        self.line.as_ref().map(|_| runner::own_process()).transpose()
    }

    /// It was not.
    pub(crate) fn failed(&self) {
        self.line.iter().for_each(Line::failed);
    }
}

/// The name is deprecated, the hooks are in use.
#[allow(deprecated)]
fn prestart(hooks: &Hooks) -> &Option<Vec<Hook>> {
    hooks.prestart()
}

fn list(stage: &Option<Vec<Hook>>) -> &[Hook] {
    stage.as_deref().unwrap_or_default()
}

fn stages(hooks: &Hooks) -> [&[Hook]; 6] {
    [
        prestart(hooks),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ]
    .map(list)
}

fn has_any(hooks: &Hooks) -> bool {
    stages(hooks).iter().any(|stage| !stage.is_empty())
}

fn check(hooks: &Hooks) -> Result<(), Error> {
    for hook in stages(hooks).into_iter().flatten() {
        let path = hook.path();
        if !path.is_absolute() {
            return Err(Error::Invalid(format!("the path of the hook {path:?} is not absolute")));
        }
        if hook.timeout().is_some_and(|seconds| seconds <= 0) {
            return Err(Error::Invalid(format!("the timeout of the hook {path:?} is not greater than 0 seconds")));
        }
    }
    Ok(())
}

/// Runs hooks one after another, up to the first that fails. Who waits for them may hang up on `line`; then the hook is killed.
fn run_all(hooks: &[Hook], stage: &str, state: &State, line: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    hooks.iter().try_for_each(|hook| command::run(hook, stage, state, line))
}

/// The poststop hooks of a container, kept until nothing of it lives.
#[derive(Debug)]
pub struct StoppedHooks {
    hooks: Vec<Hook>,
    state: State,
}

impl StoppedHooks {
    /// `None` if there are none.
    #[must_use]
    pub fn of(spec: &Spec, context: HookContext<'_>) -> Option<Self> {
        let hooks = spec.hooks().as_ref().map(|hooks| list(hooks.poststop()).to_vec()).unwrap_or_default();
        if hooks.is_empty() {
            return None;
        }
        Some(Self { hooks, state: State::new(spec, context).at("stopped", None) })
    }

    /// Runs all of them, those after a failed one too, and waits. Each failure is told in words.
    #[must_use]
    pub fn run(&self) -> Vec<String> {
        let run = |hook| command::run(hook, "poststop", &self.state, None).err();
        self.hooks.iter().filter_map(run).map(|failure| failure.text).collect()
    }

    /// Runs them in a child process, which the caller reaps. Failures go to its stderr.
    ///
    /// # Errors
    /// If the clone fails.
    pub fn spawn(&self) -> Result<Pid, Error> {
        match clone_process(CloneFlags::empty(), None)
            .map_err(Error::system("clone", "a process for poststop hooks"))?
        {
            Clones::Parent(process) => Ok(process.pid),
            Clones::Child => runner::run_stopped(self),
        }
    }
}
