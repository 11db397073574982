//! Namespaces that the containers of a pod share, and the pause process that is the init of a shared pid namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use oci_spec::runtime::Process;
use podwright_sys::{AllowList, close_all_from, ignore_signal, join_namespace, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::thread::UnshareFlags;

use crate::child;
use crate::error::{Error, Failure, Step};
use crate::launch::{CgroupEntry, IdMappings, PodNamespaces, PodPlan, PodUser};
use crate::message::{self, Incoming, Message};
use crate::mounts::new_file_system;
use crate::spawn::{PidNamespace, start};
use crate::starting::Starting;
use crate::sysctl::{self, Own};
use crate::{pivot, privileges, users};

/// Makes a pod's namespaces with a child that lives for the time of this call, about a millisecond.
///
/// # Errors
/// If the clone or a step of the child fails.
pub fn make_namespaces(plan: &PodPlan) -> Result<PodNamespaces, Error> {
    let user = plan.user.as_ref().map(make_user).transpose().map_err(Error::Child)?;
    make_owned_by(user, plan)
}

/// As [`make_namespaces`], owned by a user namespace that is there already; that of `plan` is not looked at.
///
/// # Errors
/// As there.
pub fn make_namespaces_in(user: PodUser, plan: &PodPlan) -> Result<PodNamespaces, Error> {
    make_owned_by(Some(user), plan)
}

fn make_owned_by(user: Option<PodUser>, plan: &PodPlan) -> Result<PodNamespaces, Error> {
    let child = start(&PidNamespace::Host, CgroupEntry::Inherit, |socket| make_inside(plan, user.as_ref(), socket))?;
    let result = collect(&child, plan);
    let reaped = waitid(WaitId::PidFd(child.pidfd()), WaitIdOptions::EXITED);
    let namespaces = result?;
    reaped.map_err(Error::system("reap", "the child that made the pod's namespaces"))?;
    Ok(PodNamespaces { user, ..namespaces })
}

fn make_user(mappings: &IdMappings) -> Result<PodUser, Failure> {
    let root = mappings.root();
    let root = root.ok_or_else(|| Failure::because("make", "a user namespace", "its id 0 is mapped to no id"))?;
    Ok(PodUser { namespace: users::make(mappings)?, root, mappings: mappings.clone() })
}

fn collect(child: &Starting, plan: &PodPlan) -> Result<PodNamespaces, Error> {
    let failed = || Error::system("hear from", "the child that makes the pod's namespaces");
    rustix::fs::fcntl_setfl(child, OFlags::empty()).map_err(failed())?;
    let (fds, message) = match message::receive(child).map_err(failed())? {
        Some(Incoming { message, fds }) => (fds, message),
        None => return Err(Error::Child(Failure::because("make", "namespaces", "the child was killed"))),
    };
    if let Message::Failed(failure) = message {
        return Err(Error::Child(failure));
    }
    let mut fds = fds.into_iter();
    let mut take = |wanted: bool| if wanted { fds.next() } else { None };
    let (network, ipc, uts) = (take(plan.network), take(plan.ipc), take(plan.hostname.is_some()));
    Ok(PodNamespaces { network, ipc, uts, user: None })
}

fn make_inside(plan: &PodPlan, user: Option<&PodUser>, socket: &OwnedFd) -> Result<(), Failure> {
    if let Some(user) = user {
        join_namespace(&user.namespace).step("join", || "the pod's user namespace")?;
    }
    let kinds = [
        (plan.network, UnshareFlags::NEWNET, "net"),
        (plan.ipc, UnshareFlags::NEWIPC, "ipc"),
        (plan.hostname.is_some(), UnshareFlags::NEWUTS, "uts"),
    ];
    let wanted = || kinds.iter().filter(|(wanted, _, _)| *wanted);
    let flags: UnshareFlags = wanted().map(|(_, flag, _)| *flag).collect();
    unshare(flags).step("make", || "the pod's namespaces")?;
    if plan.network {
        podwright_sys::loopback_up().step("bring up", || "the loopback link")?;
    }
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).step("set the host name to", || name)?;
    }
    let own = Own { network: plan.network, ipc: plan.ipc, uts: plan.hostname.is_some() };
    match sysctl::write_all(&plan.sysctls, own) {
        // Those of IPC: before Linux 6.10 only root of the host may write them, since then only root of the namespace.
        Err(failure) if user.is_some() && failure.errno == podwright_sys::Errno::ACCESS.raw_os_error() => {
            users::become_root()?;
            sysctl::write_all(&plan.sysctls, own)?;
        }
        written => written?,
    }
    let fds = wanted().map(|(_, _, name)| open("self", name)).collect::<Result<Vec<_>, _>>()?;
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    message::send(socket, &Message::Namespaces, &borrowed).step("hand over", || "the pod's namespaces")
}

fn open(process: &str, name: &str) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/{process}/ns/{name}");
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step("open", || path)
}

/// Opens the pid namespace of a child of the caller, to be joined by containers. The child must not have been reaped.
///
/// # Errors
/// If the process is gone.
pub fn pid_namespace_of(pid: Pid) -> Result<OwnedFd, Error> {
    open(&pid.as_raw_nonzero().to_string(), "pid").map_err(Error::Child)
}

/// What the pause process does: it tells of its start, closes all descriptors, waits for a signal, ends. Containers of its pod see it, and
/// may be allowed to trace it.
const PAUSE_CALLS: AllowList = AllowList::new(&[
    libc::SYS_sendmsg,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
]);

/// Starts the init of a new pid namespace: it reaps what is left to it, and ends on SIGTERM or SIGKILL. It sees an empty root,
/// has no capabilities, no descriptors and few system calls. `mount_label` is the SELinux label of that root. `Started` is told when it is ready.
///
/// # Errors
/// If the clone fails.
pub fn spawn_pause(
    namespaces: &PodNamespaces,
    cgroup: CgroupEntry<'_>,
    oom_score_adj: Option<i32>,
    mount_label: Option<&str>,
) -> Result<Starting, Error> {
    let pid = if namespaces.user.is_some() { PidNamespace::Host } else { PidNamespace::New };
    start(&pid, cgroup, |socket| pause(namespaces, cgroup, oom_score_adj, mount_label, socket))
}

fn pause(
    namespaces: &PodNamespaces,
    cgroup: CgroupEntry<'_>,
    oom_score_adj: Option<i32>,
    mount_label: Option<&str>,
    socket: &OwnedFd,
) -> Result<(), Failure> {
    let what = || "the pause process";
    let shared: Vec<BorrowedFd<'_>> =
        [&namespaces.network, &namespaces.ipc, &namespaces.uts].into_iter().flatten().map(AsFd::as_fd).collect();
    let user = namespaces.user.as_ref().map(PodUser::join);
    let kept: Vec<BorrowedFd<'_>> = shared.iter().copied().chain(user.map(|user| user.namespace)).collect();
    child::begin(socket, cgroup, &kept)?;
    if let Some(score) = oom_score_adj {
        child::warn(socket, privileges::set_oom_score(score)?);
    }
    for namespace in shared {
        join_namespace(namespace).step("join a namespace for", what)?;
    }
    if let Some(user) = &user {
        users::enter(user, true, socket)?;
    }
    rustix::thread::set_name(c"pause").step("name", what)?;
    enter_empty_root(mount_label)?;
    // The kernel reaps for who ignores SIGCHLD.
    ignore_signal(Signal::SIGCHLD).step("ignore SIGCHLD of", what)?;
    let signals =
        podwright_sys::block_signals(&[Signal::SIGTERM, Signal::SIGINT]).step("block the signals of", what)?;
    privileges::drop_to(&powerless(), &message::User::default(), None)?;
    PAUSE_CALLS.install().step("take the system calls of", what)?;
    message::send(socket, &Message::Executing, &[]).step("tell the start of", what)?;
    close_all_from(0).step("close the descriptors of", what)?;
    wait_for(&signals);
    Ok(())
}

/// Not the default of `oci_spec`, which has three capabilities.
fn powerless() -> Process {
    let mut process = Process::default();
    process.set_capabilities(None).set_no_new_privileges(Some(true));
    process
}

fn wait_for(signals: &SigSet) {
    while signals.wait().is_err() {}
}

/// Containers of the pod can see this process; through it they must see nothing.
fn enter_empty_root(label: Option<&str>) -> Result<(), Failure> {
    unshare(UnshareFlags::NEWNS).step("make", || "a mount namespace")?;
    pivot::make_private()?;
    let mut options = vec!["size=4k".to_owned(), "mode=555".to_owned(), "ro".to_owned()];
    options.extend(label.map(|label| format!("context={label}")));
    pivot::enter(&new_file_system("tmpfs", "tmpfs", &options)?)
}
