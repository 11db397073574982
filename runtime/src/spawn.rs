//! The parent's side: clones, and hands the rest to the child. Never waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::{Process, Spec};
use podwright_sys::{
    CloneFlags, Clones, Process as ChildProcess, clone_process, join_namespace, join_process_namespaces, packet_pair,
};
use rustix::fs::OFlags;
use rustix::process::{
    DumpableBehavior, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal, set_dumpable_behavior,
};
use rustix::thread::ThreadNameSpaceType;

use crate::error::{Error, Failure};
use crate::hooks::{InitHooks, Plan, start_runner};
use crate::launch::{CgroupEntry, ExecLaunch, Launch, Namespace};
use crate::starting::Starting;
use crate::{child, execute, filters, init};

/// Which pid namespace a child starts in.
pub(crate) enum PidNamespace<'fd> {
    Host,
    New,
    Join(BorrowedFd<'fd>),
    OfProcess(BorrowedFd<'fd>),
}

/// Starts a container. The caller is made not dumpable, so that nothing inside a joined namespace can trace the child.
///
/// # Errors
/// If the request can not be served or the clone fails; what fails later comes as
/// [`Progress::Failed`](crate::Progress::Failed).
pub fn spawn(launch: Launch<'_>) -> Result<Starting, Error> {
    let process = check(&launch)?;
    filters::warm(&launch.seccomp, process);
    let pid = match launch.namespaces.pid {
        Namespace::Host => PidNamespace::Host,
        // That of a user namespace is made by the child, from inside.
        Namespace::New if launch.namespaces.user.is_some() => PidNamespace::Host,
        Namespace::New => PidNamespace::New,
        Namespace::Join(fd) => PidNamespace::Join(fd),
    };
    let hooks = Plan::of(&launch)?;
    let sockets = Sockets::new()?;
    let line = start_runner(hooks.as_ref(), &sockets.theirs)?;
    start_on(sockets, &pid, launch.cgroup, |socket| {
        init::run(launch, process, &InitHooks { plan: hooks, line }, socket)
    })
}

/// Starts a process in a running container. See [`spawn`].
///
/// # Errors
/// As [`spawn`].
pub fn exec(launch: ExecLaunch<'_>) -> Result<Starting, Error> {
    filters::warm(&launch.seccomp, launch.process);
    let pid = PidNamespace::OfProcess(launch.init);
    start(&pid, launch.cgroup, |socket| execute::run(launch, socket))
}

pub(crate) fn check<'a>(launch: &Launch<'a>) -> Result<&'a Process, Error> {
    let namespaces = &launch.namespaces;
    let made = [namespaces.network, namespaces.ipc, namespaces.uts].iter().any(|n| matches!(n, Namespace::New));
    if namespaces.user.is_some() && made {
        let text = "network, IPC and UTS namespaces can not be new beside a user namespace; make them with the pod";
        return Err(Error::Invalid(text.to_owned()));
    }
    if matches!(namespaces.cgroup, Namespace::Join(_)) {
        return Err(Error::Invalid("a cgroup namespace can not be joined; use Host or New".to_owned()));
    }
    let process = launch.spec.process().as_ref();
    let process = process.ok_or_else(|| Error::Invalid("the OCI specification has no process".to_owned()))?;
    refuse_unsupported(launch.spec, process)?;
    Ok(process)
}

/// What is asked for and not done would be worse than an error.
fn refuse_unsupported(spec: &Spec, process: &Process) -> Result<(), Error> {
    let linux = spec.linux().as_ref();
    let asked = [
        (linux.is_some_and(|l| l.time_offsets().is_some()), "linux.timeOffsets"),
        (linux.is_some_and(|l| l.intel_rdt().is_some()), "linux.intelRdt"),
        (linux.is_some_and(|l| l.personality().is_some()), "linux.personality"),
        (linux.is_some_and(|l| l.memory_policy().is_some()), "linux.memoryPolicy"),
        (process.scheduler().is_some(), "process.scheduler"),
        (process.io_priority().is_some(), "process.ioPriority"),
    ];
    match asked.iter().find(|(is_asked, _)| *is_asked) {
        Some((_, name)) => {
            Err(Error::Invalid(format!("{name} is not supported; leave it out or use an OCI runtime handler")))
        }
        None => Ok(()),
    }
}

/// Clones a child that runs `part`.
pub(crate) fn start(
    pid: &PidNamespace<'_>,
    cgroup: CgroupEntry<'_>,
    part: impl FnOnce(&OwnedFd) -> Result<(), Failure>,
) -> Result<Starting, Error> {
    start_on(Sockets::new()?, pid, cgroup, part)
}

fn start_on(
    sockets: Sockets,
    pid: &PidNamespace<'_>,
    cgroup: CgroupEntry<'_>,
    part: impl FnOnce(&OwnedFd) -> Result<(), Failure>,
) -> Result<Starting, Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Error::system("protect", "the shim from tracing"))?;
    let Sockets { ours, theirs } = sockets;
    let target = match cgroup {
        CgroupEntry::Join(cgroup) => cgroup.clone_target().map_err(|error| Error::Invalid(error.to_string()))?,
        CgroupEntry::Inherit | CgroupEntry::Deferred => None,
    };
    let process = match clone_into(pid, target.as_ref().map(AsFd::as_fd))? {
        Clones::Parent(process) => process,
        Clones::Child => {
            drop(ours);
            child::run(&theirs, || part(&theirs))
        }
    };
    drop(theirs);
    Ok(Starting::new(process, ours))
}

/// Over which a child tells its parent how far it is.
struct Sockets {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Sockets {
    fn new() -> Result<Self, Error> {
        let (ours, theirs) = socket_pair().map_err(Error::system("make", "a pair of sockets"))?;
        Ok(Self { ours, theirs })
    }
}

/// Both above the standard streams, which the child replaces; ours does not block.
fn socket_pair() -> Result<(OwnedFd, OwnedFd), podwright_sys::Errno> {
    let (ours, theirs) = packet_pair()?;
    let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, 3)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

/// A pid namespace is joined by children only, so the caller's choice is changed around the clone.
fn clone_into(pid: &PidNamespace<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<Clones, Error> {
    let failed = |step| Error::system(step, "a child process");
    let (flags, join) = match pid {
        PidNamespace::Host => return clone_process(CloneFlags::empty(), cgroup).map_err(failed("clone")),
        PidNamespace::New => return clone_process(CloneFlags::NEWPID, cgroup).map_err(failed("clone")),
        PidNamespace::Join(fd) => (CloneFlags::empty(), join_namespace(fd)),
        PidNamespace::OfProcess(fd) => {
            (CloneFlags::empty(), join_process_namespaces(fd, ThreadNameSpaceType::PROCESS_ID))
        }
    };
    join.map_err(Error::system("join", "the container's pid namespace; does it still run?"))?;
    let cloned = clone_process(flags, cgroup).map_err(failed("clone"));
    if matches!(cloned, Ok(Clones::Child)) {
        return cloned;
    }
    match (return_home(), cloned) {
        (Ok(()), cloned) => cloned,
        (Err(error), Ok(Clones::Parent(child))) => {
            kill(&child);
            Err(error)
        }
        (Err(error), _) => Err(error),
    }
}

/// The caller itself never left; only its children would.
fn return_home() -> Result<(), Error> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(Error::system("open", "the caller's own process"))?;
    join_process_namespaces(&own, ThreadNameSpaceType::PROCESS_ID)
        .map_err(Error::system("return to", "the caller's pid namespace"))
}

fn kill(child: &ChildProcess) {
    // It ends by itself too, when the socket closes.
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
}
