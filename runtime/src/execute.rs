//! A further process in a running container: joins what the first one has, and executes.

use std::os::fd::OwnedFd;

use podwright_sys::join_process_namespaces;
use rustix::fs::{Mode, OFlags};
use rustix::thread::ThreadNameSpaceType;

use crate::child::{self, After, Preparation};
use crate::error::{Failure, Step};
use crate::hooks::InitHooks;
use crate::launch::{ExecLaunch, Stdio};
use crate::root::Root;
use crate::{privileges, streams, users};

/// The whole way. Returns only with a failure.
pub(crate) fn run(launch: ExecLaunch<'_>, socket: &OwnedFd) -> Result<(), Failure> {
    let process = launch.process;
    child::begin(socket, launch.cgroup, &launch.descriptors())?;
    if let Some(score) = process.oom_score_adj() {
        child::warn(socket, privileges::set_oom_score(score)?);
    }
    if let Some(user) = launch.user {
        streams::give_pipes(&launch.stdio, user)?;
        privileges::raise_limits(process.rlimits().as_deref().unwrap_or_default())?;
    }
    let finish = Preparation::new(launch.spec, process, &launch.seccomp)?.open()?;
    let mut all = ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::MOUNT;
    all.set(ThreadNameSpaceType::USER, launch.user.is_some());
    join_process_namespaces(launch.init, all).step("join", || "the container's namespaces; does it still run?")?;
    launch.user.map_or(Ok(()), |_| users::become_root())?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = Root::new(root.step("open", || "the root file system")?);
    match &launch.stdio {
        Stdio::Fds(fds) => streams::place(fds, &root)?,
        Stdio::Terminal => drop(streams::make_terminal(&root, process, socket)?),
    }
    let after = After { gate: None, inherited: &launch.inherited, hooks: &InitHooks::NONE };
    finish.execute(root, process, launch.user_lookup, after, socket)
}
