//! One hook: its program is executed, told the state, waited for, and killed when it takes too long.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::State;
use crate::error::{Failure, Step};

/// How long a hook without a timeout of its own may take.
const HOOK_LIMIT: Duration = Duration::from_secs(30);
/// As much of what a failed hook said is told.
const MAX_WORDS_BYTES: usize = 1024;

/// Runs a hook to its end. It is killed, with what it started in its process group, at its timeout, or when `line` is hung up.
pub(super) fn run(hook: &Hook, stage: &str, state: &State, line: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let name = || format!("{} ({stage})", hook.path().display());
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map_or(HOOK_LIMIT, Duration::from_secs);
    let mut child = command(hook, state)?.spawn().step("run the hook", name)?;
    let mut words = Words::of(child.stderr.take())?;
    let outcome = wait(&mut child, &mut words, limit, line);
    if !matches!(outcome, Ok(End::Exited(_))) {
        kill(&mut child);
    }
    match outcome {
        Ok(End::Exited(status)) if status.success() => Ok(()),
        Ok(End::Exited(status)) => Err(Failure::because("run the hook", name(), ended(status, &words))),
        Ok(End::Late) => {
            let reason = format!("it did not end within {} s and was killed{}", limit.as_secs(), words.told());
            Err(Failure::because("run the hook", name(), reason))
        }
        Ok(End::HungUp) => Err(Failure::because("run the hook", name(), "the container's start was given up")),
        Err(error) => Err(Failure::io("wait for the hook", name(), &error)),
    }
}

fn command(hook: &Hook, state: &State) -> Result<Command, Failure> {
    let mut command = Command::new(hook.path());
    let mut arguments = hook.args().iter().flatten();
    if let Some(own_name) = arguments.next() {
        command.arg0(own_name);
    }
    command.args(arguments).env_clear();
    command.envs(hook.env().iter().flatten().filter_map(|variable| variable.split_once('=')));
    command.stdin(stdin(state)?).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    Ok(command)
}

/// A file in memory and no pipe: a hook that does not read must not hold anybody up.
fn stdin(state: &State) -> Result<File, Failure> {
    let what = || "the state for a hook";
    let json = serde_json::to_vec(state).map_err(|error| Failure::because("write", what(), error))?;
    let mut file = File::from(memfd_create("state", MemfdFlags::CLOEXEC).step("make a file for", what)?);
    file.write_all(&json).and_then(|()| file.rewind()).step("write", what)?;
    Ok(file)
}

enum End {
    Exited(ExitStatus),
    Late,
    HungUp,
}

fn wait(child: &mut Child, words: &mut Words, limit: Duration, line: Option<BorrowedFd<'_>>) -> std::io::Result<End> {
    let until = Instant::now() + limit;
    let pidfd = pidfd_open(pid_of(child), PidfdFlags::empty())?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(End::Late);
        }
        let timeout = Timespec::try_from(left).map_err(std::io::Error::other)?;
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(line.as_ref().map(|line| PollFd::new(line, PollFlags::empty())));
        fds.extend(words.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let exited = ready.next().unwrap_or(false);
        let hung_up = line.is_some() && ready.next().unwrap_or(false);
        drop(fds);
        words.read();
        if exited {
            return child.wait().map(End::Exited);
        }
        if hung_up {
            return Ok(End::HungUp);
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    // A pid is never negative, and never 0 for a child.
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap_or(Pid::INIT)
}

fn kill(child: &mut Child) {
    if let Ok(None) = child.try_wait() {
        let _ = kill_process_group(pid_of(child), Signal::KILL);
        let _ = child.wait();
    }
}

fn ended(status: ExitStatus, words: &Words) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with code {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it ended in an unknown way".to_owned(),
    };
    format!("{how}{}", words.told())
}

/// What it says on stderr. All is read, so that it never waits for us; the beginning is kept.
struct Words {
    pipe: Option<ChildStderr>,
    kept: Vec<u8>,
}

impl Words {
    fn of(pipe: Option<ChildStderr>) -> Result<Self, Failure> {
        if let Some(pipe) = &pipe {
            fcntl_setfl(pipe.as_fd(), OFlags::NONBLOCK).step("prepare", || "the stderr of a hook")?;
        }
        Ok(Self { pipe, kept: Vec::new() })
    }

    /// Takes what is there now, one buffer at a time, so that whoever never stops talking is still timed.
    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut buffer = [0; 4096];
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                let room = MAX_WORDS_BYTES.saturating_sub(self.kept.len()).min(length);
                self.kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
            Err(_) => self.pipe = None,
        }
    }

    fn told(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let text = text.trim();
        if text.is_empty() { String::new() } else { format!("; it said: {text}") }
    }
}
