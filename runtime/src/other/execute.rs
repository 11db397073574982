//! The helper of an exec: the runtime's `exec`, detached, in a directory of its own.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;
use rustix::process::{chdir, getpid};

use super::command::Output;
use super::create::{PID_FILE, Told, become_helper};
use super::{OtherRuntime, command, console, pid};
use crate::error::{Failure, Step};
use crate::launch::Stdio;
use crate::{child, privileges};

/// Name of the process document.
const PROCESS_FILE: &str = "process.json";

/// A directory for the files of one command; gone when it is dropped. Those of helpers that were killed go with the pod's.
pub(super) struct WorkPlace(PathBuf);

impl WorkPlace {
    pub(super) fn make(runtime: &OtherRuntime) -> Result<Self, Failure> {
        let path = runtime.state.join("work").join(getpid().as_raw_pid().to_string());
        let _ = fs::remove_dir_all(&path);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.step("make the directory", || path.display())?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkPlace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The whole way; returns when the caller may know of it, or with a failure.
pub(super) fn run(
    runtime: &OtherRuntime,
    id: &str,
    process: &Process,
    stdio: Stdio,
    socket: &OwnedFd,
) -> Result<(), Failure> {
    let kept: Vec<BorrowedFd<'_>> = stdio.descriptors();
    become_helper(socket, &kept)?;
    let executed = WorkPlace::make(runtime).and_then(|place| execute(runtime, id, process, stdio, socket, &place));
    executed.inspect_err(|_| command::kill_children(None))
}

fn execute(
    runtime: &OtherRuntime,
    id: &str,
    process: &Process,
    stdio: Stdio,
    socket: &OwnedFd,
    place: &WorkPlace,
) -> Result<(), Failure> {
    let mut asked = process.clone();
    if let Some(score) = asked.oom_score_adj() {
        child::warn(socket, privileges::set_oom_score(score)?);
        asked.set_oom_score_adj(None);
    }
    let mut user = asked.user().clone();
    user.set_username(None);
    asked.set_user(user);
    let json = serde_json::to_vec(&asked).map_err(|error| Failure::because("write", PROCESS_FILE, error))?;
    fs::write(place.path().join(PROCESS_FILE), json).step("write", || PROCESS_FILE)?;
    chdir(place.path()).step("change to", || place.path().display())?;
    let terminal = matches!(stdio, Stdio::Terminal);
    let listener = terminal.then(console::listen).transpose()?;
    let mut arguments = vec!["exec", "--detach", "--pid-file", PID_FILE, "--process", PROCESS_FILE];
    if terminal {
        arguments.extend(["--console-socket", console::SOCKET]);
    }
    arguments.push(id);
    let output = match stdio {
        Stdio::Fds(fds) => Output::Container(fds),
        Stdio::Terminal => Output::Own,
    };
    command::run(runtime, place.path(), &arguments, output, runtime.deadline)?;
    let (_, pidfd) = pid::read(Path::new(PID_FILE), &runtime.name)?;
    let told = Told { socket };
    if let Some(listener) = listener {
        told.terminal(&console::take(&listener, &runtime.name)?)?;
    }
    told.moved(pidfd.as_fd())?;
    told.executing()
}
