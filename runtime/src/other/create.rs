//! The helper of a container: the runtime's `create` and `start`, and telling the caller of the container's first process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use podwright_cgroups::Cgroup;
use rustix::process::{Pid, set_child_subreaper};

use super::bundle::Bundle;
use super::command::Output;
use super::{Container, OtherRuntime, command, console, pid};
use crate::child;
use crate::error::{Failure, Step};
use crate::launch::{CgroupEntry, Launch, Stdio};
use crate::message::{self, Message};

/// Where a runtime writes the pid of a process.
pub(super) const PID_FILE: &str = "pid";

/// The first steps of a helper: no descriptor of the caller but those of `keep`, and whatever the runtime leaves comes to it.
pub(super) fn become_helper(socket: &OwnedFd, keep: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    child::begin(socket, CgroupEntry::Inherit, keep)?;
    set_child_subreaper(Pid::from_raw(1)).step("prepare", || "the helper of another runtime")
}

/// The whole way; returns when the caller may know of it, or with a failure.
pub(super) fn run(
    runtime: &OtherRuntime,
    container: Container<'_>,
    launch: Launch<'_>,
    socket: &OwnedFd,
) -> Result<(), Failure> {
    become_helper(socket, &launch.descriptors())?;
    let mut moved = None;
    create(runtime, container, launch, socket, &mut moved).inspect_err(|_| command::kill_children(moved))
}

fn create(
    runtime: &OtherRuntime,
    container: Container<'_>,
    launch: Launch<'_>,
    socket: &OwnedFd,
    moved: &mut Option<Pid>,
) -> Result<(), Failure> {
    let told = Told { socket };
    let (cgroup, bundle, id) = (launch.cgroup, container.bundle, container.id);
    let made = Bundle::make(container, &launch, socket)?;
    let listener = matches!(launch.stdio, Stdio::Terminal).then(console::listen).transpose()?;
    let mut arguments = vec!["create", "--bundle", made.path(), "--pid-file", PID_FILE];
    if listener.is_some() {
        arguments.extend(["--console-socket", console::SOCKET]);
    }
    arguments.push(id);
    let output = match launch.stdio {
        Stdio::Fds(fds) => Output::Container(fds),
        Stdio::Terminal => Output::Own,
    };
    command::run(runtime, bundle, &arguments, output, runtime.deadline)?;
    let (pid, pidfd) = pid::read(Path::new(PID_FILE), &runtime.name)?;
    if let CgroupEntry::Join(cgroup) = cgroup {
        check_cgroup(cgroup, pid, &runtime.name)?;
    }
    let terminal = listener.map(|listener| console::take(&listener, &runtime.name)).transpose()?;
    // Only then somebody else knows of it.
    told.moved(pidfd.as_fd())?;
    *moved = Some(pid);
    if matches!(cgroup, CgroupEntry::Deferred) {
        child::wait_for_release(socket)?;
    }
    if let Some(master) = terminal {
        told.terminal(&master)?;
    }
    command::run(runtime, bundle, &["start", id], Output::Own, runtime.deadline)?;
    message::send(socket, &Message::Resolved(made.user), &[]).step("tell", || "the user")?;
    told.executing()
}

/// A container outside of its limits is none that we asked for.
fn check_cgroup(cgroup: &Cgroup, pid: Pid, runtime: &str) -> Result<(), Failure> {
    let failed = |reason: String| Failure::because("place in its cgroup", cgroup.path(), reason);
    let processes = cgroup.processes().map_err(|error| failed(error.to_string()))?;
    match processes.contains(&pid) {
        true => Ok(()),
        false => Err(failed(format!(
            "runtime handler {runtime:?} put process {} elsewhere; it must honour linux.cgroupsPath",
            pid.as_raw_pid()
        ))),
    }
}

/// What the caller hears.
pub(super) struct Told<'a> {
    pub(super) socket: &'a OwnedFd,
}

impl Told<'_> {
    /// The process is there. It stays a child of ours until the caller knows it, so that its exit status finds it.
    pub(super) fn moved(&self, process: BorrowedFd<'_>) -> Result<(), Failure> {
        let what = || "the process that another runtime started";
        message::send(self.socket, &Message::Moved, &[process]).step("tell of", what)?;
        match podwright_sys::receive_packet(self.socket, &mut [0; 16]).step("hand over", what)?.length {
            0 => Err(Failure::because("hand over", what(), "the caller went away")),
            _ => Ok(()),
        }
    }

    pub(super) fn terminal(&self, master: &OwnedFd) -> Result<(), Failure> {
        message::send(self.socket, &Message::Terminal, &[master.as_fd()]).step("hand over", || "the terminal")
    }

    /// The program runs; the end of this helper tells that it is so.
    pub(super) fn executing(&self) -> Result<(), Failure> {
        message::send(self.socket, &Message::Executing, &[]).step("tell", || "the start of the program")
    }
}
