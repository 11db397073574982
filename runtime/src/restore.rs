//! A container that goes on from images of its processes, in place of a program that is executed.
//!
//! ```text
//! shim ─ clone ─> restorer: cgroup, the container's root with all its mounts, below a place that nobody else sees
//!                   └─ criu swrk ─> the processes, as they will be ─> looked at ─> they go on; restorer and CRIU end
//! ```
//!
//! Everything but memory, registers and descriptors comes from the request that is served: what the images say about mounts is
//! satisfied from the tree that was made for the request, and before a restored process goes on the kernel is asked whether mounts,
//! namespaces, users, capabilities and labels are those that were asked for ([`verify`]). CRIU reads the images as root: it sees the
//! host's files read-only, and it is in the container's cgroup.
//!
//! Not ready, and refused by the daemon's configuration: what is refused here can run for a moment. CRIU does not heed the answer, its
//! death lets go of the processes that it traces, and only then is the cgroup killed (docs/decisions.md, "criu, and checkpoints").

mod verify;

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::{Linux, Process};
use podwright_criu::{Inherited, Joined, NETWORK_KEY, external_mount, parse_mounts};
use podwright_sys::{MountAttributes, clone_tree, join_namespace, set_mount_attributes, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, umask};
use rustix::thread::UnshareFlags;

use crate::child;
use crate::error::{Error, Failure, Step};
use crate::idmap::Mapper;
use crate::init::{fill, join_namespaces, mount_rootfs};
use crate::launch::{Launch, Namespace, RootfsMethod, SeccompChoice, Stdio};
use crate::lsm::Wanted;
use crate::message::{self, Message, User};
use crate::mounts::{self, Way, new_file_system};
use crate::options::Change;
use crate::root::Root;
use crate::spawn::{PidNamespace, check, start};
use crate::starting::Starting;
use crate::{masks, pivot, privileges, rootfs, user};

/// For CRIU. The caller's own limit for a start is longer.
const WITHIN: Duration = Duration::from_secs(90);
/// Longest list of where the standard streams led.
const MAX_DESCRIPTORS_BYTES: u64 = 64 << 10;
/// Where all is put together. CRIU's own work needs a writable place there anyhow, and it is hidden from nobody but CRIU.
const STAGE: &str = "/tmp";
/// The whole tree, from which the mounts come.
const WHOLE: &str = "/tmp/whole";
/// The root alone.
const TOP: &str = "/tmp/top";
/// For CRIU's log.
const WORK: &str = "/tmp/work";

/// From what a container goes on.
#[derive(Debug, Clone, Copy)]
pub struct Restore<'a> {
    /// CRIU.
    pub program: &'a Path,
    /// Directory with the images of the processes.
    pub images: &'a Path,
}

/// Starts a container from images of its processes. See [`spawn`](crate::spawn).
///
/// # Errors
/// As [`spawn`](crate::spawn); what can not be restored in this way is told at once.
pub fn restore(launch: Launch<'_>, restore: Restore<'_>) -> Result<Starting, Error> {
    let process = check(&launch)?;
    let refused = [
        (launch.namespaces.user.is_some(), "in a pod with a user namespace"),
        (!matches!(launch.namespaces.pid, Namespace::New), "that shares process ids"),
        (matches!(launch.stdio, Stdio::Terminal), "with a terminal"),
        (launch.spec.hooks().is_some(), "with OCI hooks"),
    ];
    if let Some((_, why)) = refused.iter().find(|(is_so, _)| *is_so) {
        return Err(Error::Invalid(format!(
            "a container {why} can not go on from a checkpoint; start it from its image"
        )));
    }
    start(&PidNamespace::Host, launch.cgroup, |socket| run(&launch, restore, process, socket))
}

fn run(launch: &Launch<'_>, restore: Restore<'_>, process: &Process, socket: &OwnedFd) -> Result<(), Failure> {
    child::begin(socket, launch.cgroup, &launch.descriptors())?;
    umask(Mode::empty());
    if let Some(score) = process.oom_score_adj() {
        child::warn(socket, privileges::set_oom_score(score)?);
    }
    let streams = streams(restore.images)?;
    let images = open_directory(restore.images)?;
    // What this host does not have is said now.
    drop(Wanted::check(process)?);
    let home = [open_namespace("ipc")?, open_namespace("uts")?];
    let root = build(launch)?;
    let found = user::look_up(&root, &child::request(process, launch.user_lookup))?;
    drop(root);
    let work = open_directory(Path::new(WORK))?;
    let (network, inherited) = inherited(launch, &streams)?;
    let expected = verify::Expected::new(process, found.user.clone(), has_filter(launch))?;
    // CRIU has processes join only what it is not in itself.
    let there = [("ipc", open_namespace("ipc")?), ("uts", open_namespace("uts")?)];
    home.iter().try_for_each(join_namespace).step("return to", || "the caller's namespaces")?;
    let own = getpid().as_raw_nonzero();
    let joined = there.iter().map(|(kind, fd)| Joined { kind, file: format!("/proc/{own}/fd/{}", fd.as_raw_fd()) });
    let all = inherited.iter().map(|(key, fd)| Inherited { key: key.clone(), fd: *fd });
    let network = [Inherited { key: NETWORK_KEY.to_owned(), fd: network.as_fd() }];
    let request = podwright_criu::Restore {
        program: restore.program,
        images: images.as_fd(),
        work: work.as_fd(),
        work_path: Path::new(WORK),
        root: TOP.to_owned(),
        external: expected.sources().map(|(at, source)| external_mount(at, &source)).collect(),
        inherited: all.chain(network).collect(),
        joined: joined.collect(),
        profile: expected.profile(),
        within: WITHIN,
    };
    let restored = podwright_criu::restore(request, &mut |pid| ready(pid, &expected, &found.user, socket));
    restored.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::because("restore", "the processes", format_args!("{error}{cause}"))
    })?;
    message::send(socket, &Message::Executing, &[]).step("tell", || "the start of the processes")
}

/// All processes are there and none goes on yet. What is not as it was asked for is killed.
fn ready(pid: i32, expected: &verify::Expected, user: &User, socket: &OwnedFd) -> Result<(), String> {
    let pid = Pid::from_raw(pid).filter(|pid| !pid.is_init()).ok_or("CRIU names no process")?;
    let told = expected.hold(pid).and_then(|()| tell(pid, user, socket).map_err(|failure| failure.text));
    told.map_err(|text| {
        // With the first process of a pid namespace the kernel kills the others, but not at the same moment.
        let _ = kill_process(pid, Signal::KILL);
        format!("what is in the checkpoint is not what was asked for: {text}")
    })
}

fn tell(pid: Pid, user: &User, socket: &OwnedFd) -> Result<(), Failure> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).step("open", || "the restored process")?;
    message::send(socket, &Message::Moved, &[pidfd.as_fd()]).step("tell of", || "the restored process")?;
    message::send(socket, &Message::Resolved(user.clone()), &[]).step("tell", || "the user")
}

/// Puts the container's root with all its mounts together, as for a program that is executed, at a place in a mount namespace that
/// nobody else sees.
fn build(launch: &Launch<'_>) -> Result<Root, Failure> {
    let nothing = Linux::default();
    let linux = launch.spec.linux().as_ref().unwrap_or(&nothing);
    let masked = linux.masked_paths().as_deref().unwrap_or_default();
    let cover = masks::prepare_cover(masked)?;
    let own_cgroup_namespace = matches!(launch.namespaces.cgroup, Namespace::New);
    let label = linux.mount_label().as_deref().filter(|label| !label.is_empty());
    let way = Way { detached: launch.rootfs_method == RootfsMethod::Auto, own_cgroup_namespace, label };
    let asked = launch.spec.mounts().as_deref().unwrap_or_default();
    let mut mounts = mounts::prepare(asked, &launch.given_mounts, way, &mut Mapper::new(None))?;
    let rootfs = rootfs::prepare(launch.rootfs, None, way)?;
    join_namespaces(&launch.namespaces)?;
    let cgroup = if own_cgroup_namespace { UnshareFlags::NEWCGROUP } else { UnshareFlags::empty() };
    unshare(UnshareFlags::NEWNS | cgroup).step("make", || "namespaces for the restore")?;
    pivot::make_private()?;
    mounts::put_together(&mut mounts)?;
    let rootfs = mount_rootfs(rootfs)?;
    protect_host()?;
    let stage = new_file_system("tmpfs", "restore", &["mode=700".to_owned(), "size=16m".to_owned()])?;
    attach(&stage, STAGE)?;
    for name in [WHOLE, TOP, WORK] {
        rustix::fs::mkdir(name, Mode::from_raw_mode(0o700)).step("make the directory", || name)?;
    }
    attach(&rootfs, WHOLE)?;
    let root = Root::new(rootfs);
    fill(&root, linux, mounts, false)?;
    masks::make_readonly(&root, linux.readonly_paths().as_deref().unwrap_or_default())?;
    masks::mask(&root, masked, cover)?;
    if launch.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        let attributes = MountAttributes { set: Change::READONLY.set, ..MountAttributes::default() };
        set_mount_attributes(root.fd(), &attributes).step("make read-only", || "the root file system")?;
    }
    let top = clone_tree(root.fd(), Path::new(""), false).step("clone", || "the root file system")?;
    attach(&top, TOP)?;
    Ok(root)
}

/// CRIU, and what it may be talked into by its images, changes no file of the host. It writes to /proc.
fn protect_host() -> Result<(), Failure> {
    let open = |path: &str| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step("open", || path.to_owned())
    };
    let readonly = MountAttributes { set: Change::READONLY.set, recursive: true, ..MountAttributes::default() };
    set_mount_attributes(open("/")?, &readonly).step("make read-only", || "the host's mounts")?;
    let writable = MountAttributes { clear: Change::READONLY.set, ..MountAttributes::default() };
    set_mount_attributes(open("/proc")?, &writable).step("make writable", || "/proc")
}

fn attach(mount: &OwnedFd, at: &str) -> Result<(), Failure> {
    move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step("attach a mount to", || at.to_owned())
}

fn open_namespace(kind: &str) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/self/ns/{kind}");
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step("open", || path)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step("open the directory", || path.display())
}

fn has_filter(launch: &Launch<'_>) -> bool {
    match launch.seccomp {
        SeccompChoice::RuntimeDefault | SeccompChoice::Profile(_) => true,
        SeccompChoice::FromSpec => launch.spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some()),
    }
}

/// Where the standard streams led when the images were made. Only pipes count, which become those of this container.
fn streams(images: &Path) -> Result<Vec<Option<String>>, Failure> {
    let root = Root::new(open_directory(images)?);
    let bytes = root.read(Path::new("descriptors.json"), MAX_DESCRIPTORS_BYTES)?.unwrap_or_else(|| b"[]".to_vec());
    let targets: Vec<String> = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::because("read", "descriptors.json of the checkpoint", error))?;
    let is_pipe = |target: &String| {
        let inode = target.strip_prefix("pipe:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| !inode.is_empty() && inode.len() < 20 && inode.bytes().all(|b| b.is_ascii_digit()))
    };
    Ok(targets.into_iter().take(3).map(|target| Some(target).filter(is_pipe)).collect())
}

type Streams<'a> = Vec<(String, BorrowedFd<'a>)>;

/// The network namespace and the streams, made to outlive the execution of CRIU.
fn inherited<'a>(launch: &'a Launch<'_>, streams: &[Option<String>]) -> Result<(OwnedFd, Streams<'a>), Failure> {
    let network = open_namespace("net")?;
    let mut found: Streams<'a> = Vec::new();
    if let Stdio::Fds(fds) = &launch.stdio {
        for (key, fd) in streams.iter().zip(fds) {
            if let (Some(key), Some(fd)) = (key, fd)
                && !found.iter().any(|(known, _)| known == key)
            {
                found.push((key.clone(), fd.as_fd()));
            }
        }
    }
    for fd in found.iter().map(|(_, fd)| *fd).chain([network.as_fd()]) {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).step("keep open", || "a stream")?;
    }
    Ok((network, found))
}

/// The mounts of a process.
fn mounts_of(process: &str) -> Result<Vec<podwright_criu::Mount>, String> {
    let path = format!("/proc/{process}/mountinfo");
    let text = std::fs::read(&path).map_err(|error| format!("read {path}: {error}"))?;
    parse_mounts(&text)
}
