//! The process that runs the hooks of the host's namespaces for one container, and the line between the two.
//!
//! It holds the socket over which the container's process tells its parent how far it is: so the parent sees the end of the start only
//! when poststart hooks have run, and hears of their failure, without knowing of this process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use podwright_sys::{CloneFlags, Clones, clone_process, packet_pair, receive_packet, send_packet};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::{Plan, State, StoppedHooks, list, prestart, run_all};
use crate::child;
use crate::error::{Error, Failure, Step};
use crate::launch::CgroupEntry;
use crate::message::{self, Incoming, Message};
use crate::users;

/// What the container's process says: the namespaces are made (its pidfd is attached).
const CREATE: &[u8] = b"create";
/// Its program is executed next.
const EXECUTING: &[u8] = b"executing";
/// It was not.
const FAILED: &[u8] = b"failed";

/// The container's end of the line.
pub(crate) struct Line(OwnedFd);

impl Line {
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Has the hooks run that belong here, and waits for their end.
    pub(super) fn create(&self) -> Result<(), Failure> {
        let what = || "the hooks of the container";
        let own = pidfd_open(getpid(), PidfdFlags::empty()).step("open the process for", what)?;
        send_packet(&self.0, CREATE, &[own.as_fd()]).step("ask for", what)?;
        match message::receive(&self.0).step("wait for", what)? {
            Some(Incoming { message: Message::Failed(failure), .. }) => Err(failure),
            Some(_) => Ok(()),
            None => Err(Failure::because("run", what(), "the process that runs them was killed")),
        }
    }

    /// The program is executed next.
    pub(crate) fn executing(&self, own: &OwnedFd, visitor: Option<&OwnedFd>) -> Result<(), Failure> {
        let what = || "the process that runs poststart hooks";
        let fds: Vec<BorrowedFd<'_>> = [Some(own), visitor].into_iter().flatten().map(AsFd::as_fd).collect();
        send_packet(&self.0, EXECUTING, &fds).step("tell of its start", what)
    }

    /// It was not.
    pub(crate) fn failed(&self) {
        let _ = send_packet(&self.0, FAILED, &[]);
    }
}

/// A descriptor for the calling process.
pub(super) fn own_process() -> Result<OwnedFd, Failure> {
    pidfd_open(getpid(), PidfdFlags::empty()).step("open the process for", || "the hooks of the container")
}

/// Clones the process if there is something for it to run. `socket` is the one that the container's process will tell its parent by.
pub(crate) fn start(plan: Option<&Plan<'_>>, socket: &OwnedFd) -> Result<Option<Line>, Error> {
    let Some(plan) = plan.filter(|plan| plan.on_the_host()) else { return Ok(None) };
    let (ours, theirs) = packet_pair().map_err(Error::system("make", "a pair of sockets for hooks"))?;
    match clone_process(CloneFlags::empty(), None).map_err(Error::system("clone", "a process for hooks"))? {
        Clones::Parent(_) => {
            // Above the standard streams, which the container's process replaces.
            let ours = rustix::io::fcntl_dupfd_cloexec(&ours, 3).map_err(Error::system("keep", "the line to hooks"))?;
            Ok(Some(Line(ours)))
        }
        Clones::Child => {
            drop(ours);
            child::run(socket, || serve(plan, &theirs, socket))
        }
    }
}

/// Waits for the container's process; a failure after the program was executed goes to the parent, as all failures of a start do.
fn serve(plan: &Plan<'_>, line: &OwnedFd, socket: &OwnedFd) -> Result<(), Failure> {
    child::begin(socket, CgroupEntry::Inherit, &[line.as_fd()])?;
    let mut pid = None;
    let mut executed = false;
    let mut visitor = None;
    let mut buffer = [0; 16];
    while let Ok(received) = receive_packet(line, &mut buffer) {
        match buffer.get(..received.length).unwrap_or_default() {
            CREATE => {
                pid = received.fds.first().and_then(|pidfd| users::visible_pid(pidfd).ok().flatten());
                let answer = match run_created(plan, pid, line) {
                    Ok(()) => Message::Executing,
                    Err(failure) => Message::Failed(failure),
                };
                let _ = message::send(line, &answer, &[]);
            }
            EXECUTING => {
                executed = true;
                visitor = received.fds.get(1).and_then(|fd| fd.try_clone().ok());
                pid = pid.or_else(|| received.fds.first().and_then(|pidfd| users::visible_pid(pidfd).ok().flatten()));
            }
            FAILED => executed = false,
            _ => break,
        }
    }
    if !executed {
        return Ok(());
    }
    match (run_all(list(plan.hooks.poststart()), "poststart", &plan.state.at("running", pid), None), visitor) {
        (Err(failure), Some(visitor)) => {
            message::send_failure(&visitor, failure);
            Ok(())
        }
        (outcome, _) => outcome,
    }
}

fn run_created(plan: &Plan<'_>, pid: Option<Pid>, line: &OwnedFd) -> Result<(), Failure> {
    let state: State = plan.state.at("creating", pid);
    run_all(list(prestart(plan.hooks)), "prestart", &state, Some(line.as_fd()))?;
    run_all(list(plan.hooks.create_runtime()), "createRuntime", &state, Some(line.as_fd()))
}

/// The child of [`StoppedHooks::spawn`]. It keeps the caller's stderr, a log, and nothing else.
pub(super) fn run_stopped(hooks: &StoppedHooks) -> ! {
    use std::io::Write;
    let ready = podwright_sys::close_all_from(3).and_then(|()| podwright_sys::reset_signals());
    let mut log = std::io::stderr();
    if let Err(errno) = ready {
        let _ = writeln!(log, "cannot run poststop hooks of {}: {errno}", hooks.state.id);
        podwright_sys::exit_now(1);
    }
    for text in hooks.run() {
        let _ = writeln!(log, "container {}: {text}", hooks.state.id);
    }
    podwright_sys::exit_now(0)
}
