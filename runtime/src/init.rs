//! The first process of a container, from the clone to its program:
//!
//! ```text
//! host's mounts:   cgroup, oom score, sources, rootfs, filter, labels ─> join namespaces ─> sysctls
//! private mounts:  rootfs attached ─> pivot ─> mounts, devices, terminal, masks ─> user ─> program
//! ```
//!
//! All that is foreign or slow is opened before the first line ends, all that an image can influence happens after the host's
//! paths are gone.

use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::{Linux, Process};
use podwright_sys::{MountAttributes, Propagation, join_namespace, set_mount_attributes, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::process::{fchdir, pivot_root, umask};
use rustix::thread::UnshareFlags;

use crate::child::{self, Finish};
use crate::error::{Failure, Step};
use crate::launch::{Launch, Namespace, RootfsMethod, Stdio};
use crate::options::{self, Change};
use crate::root::Root;
use crate::rootfs::Prepared;
use crate::sysctl::{self, Own};
use crate::{devices, masks, mounts, privileges, rootfs, streams};

/// The whole way. Returns only with a failure.
pub(crate) fn run(launch: Launch<'_>, process: &Process, socket: &OwnedFd) -> Result<(), Failure> {
    child::begin(socket, launch.cgroup, &launch.descriptors())?;
    umask(Mode::empty());
    if let Some(score) = process.oom_score_adj() {
        child::warn(socket, privileges::set_oom_score(score)?);
    }
    let nothing = Linux::default();
    let linux = launch.spec.linux().as_ref().unwrap_or(&nothing);
    let masked = linux.masked_paths().as_deref().unwrap_or_default();
    let cover = masks::prepare_cover(masked)?;
    let finish = Finish::prepare(launch.spec, process, &launch.seccomp)?;
    let cgroup_namespace = matches!(launch.namespaces.cgroup, Namespace::New);
    let detached = launch.rootfs_method == RootfsMethod::Auto;
    let asked = launch.spec.mounts().as_deref().unwrap_or_default();
    let mut prepared = mounts::prepare(asked, &launch.given_mounts, cgroup_namespace, detached)?;
    let rootfs = rootfs::prepare(launch.rootfs, detached)?;
    enter_namespaces(&launch)?;
    sysctl::write_all(linux.sysctl().iter().flatten(), own(&launch))?;
    let root = enter_root(rootfs, &mut prepared, linux)?;
    let dev_is_bound = prepared.iter().any(|mount| mount.binds("/dev"));
    for mount in prepared {
        mount.attach(&root)?;
    }
    if !dev_is_bound {
        devices::populate(&root, linux.devices().as_deref().unwrap_or_default())?;
    }
    match &launch.stdio {
        Stdio::Fds(fds) => streams::place(fds, &root)?,
        Stdio::Terminal => devices::bind_console(&root, streams::make_terminal(&root, process, socket)?)?,
    }
    // The last directory that may have to be made.
    root.ensure_directory(process.cwd(), Mode::from_raw_mode(0o755))?;
    masks::make_readonly(&root, linux.readonly_paths().as_deref().unwrap_or_default())?;
    masks::mask(&root, masked, cover)?;
    if launch.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        let attributes = MountAttributes { set: Change::READONLY.set, ..MountAttributes::default() };
        set_mount_attributes(root.fd(), &attributes).step("make read-only", || "the root file system")?;
    }
    finish.execute(root, process, launch.user_lookup, false, socket)
}

fn own(launch: &Launch<'_>) -> Own {
    let is_own = |namespace: &Namespace<'_>| !matches!(namespace, Namespace::Host);
    let namespaces = &launch.namespaces;
    Own { network: is_own(&namespaces.network), ipc: is_own(&namespaces.ipc), uts: is_own(&namespaces.uts) }
}

/// Joins or makes all namespaces but the pid namespace, which came with the clone.
fn enter_namespaces(launch: &Launch<'_>) -> Result<(), Failure> {
    let namespaces = &launch.namespaces;
    let kinds = [
        (&namespaces.network, UnshareFlags::NEWNET, "network"),
        (&namespaces.ipc, UnshareFlags::NEWIPC, "IPC"),
        (&namespaces.uts, UnshareFlags::NEWUTS, "UTS"),
        (&namespaces.cgroup, UnshareFlags::NEWCGROUP, "cgroup"),
    ];
    let mut fresh = UnshareFlags::NEWNS;
    for (namespace, flag, name) in kinds {
        match namespace {
            Namespace::Host => {}
            Namespace::New => fresh |= flag,
            Namespace::Join(fd) => join_namespace(fd).step("join the namespace of kind", || name)?,
        }
    }
    unshare(fresh).step("make", || "the container's namespaces")?;
    if matches!(namespaces.network, Namespace::New) {
        podwright_sys::loopback_up().step("bring up", || "the loopback link")?;
    }
    if matches!(namespaces.uts, Namespace::New) {
        if let Some(name) = launch.spec.hostname() {
            rustix::system::sethostname(name.as_bytes()).step("set the host name to", || name)?;
        }
        if let Some(name) = launch.spec.domainname() {
            rustix::system::setdomainname(name.as_bytes()).step("set the domain name to", || name)?;
        }
    }
    Ok(())
}

/// Makes the rootfs the root and lets go of the host's mounts.
fn enter_root(rootfs: Prepared<'_>, volumes: &mut [mounts::Prepared<'_>], linux: &Linux) -> Result<Root, Failure> {
    let what = || "the root file system";
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .step("make private", || "all mounts")?;
    mounts::put_together(volumes)?;
    let mount = match rootfs {
        Prepared::Detached(mount) => mount,
        Prepared::Later(overlay) => overlay.mount_attached()?,
    };
    move_mount(&mount, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step("attach", what)?;
    fchdir(&mount).step("change to", what)?;
    pivot_root(".", ".").step("pivot to", what)?;
    // The old root lies upon the new one now.
    unmount(".", UnmountFlags::DETACH).step("let go of", || "the host's mounts")?;
    rustix::process::chdir("/").step("change to", what)?;
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step("open", what)?;
    if let Some(word) = linux.rootfs_propagation().as_deref().filter(|word| !word.is_empty()) {
        let (propagation, recursive) = options::propagation(word)
            .ok_or_else(|| Failure::because("set the propagation of", what(), format_args!("{word:?} is not known")))?;
        set_root_propagation(&root, propagation, recursive)?;
    }
    Ok(Root::new(root))
}

fn set_root_propagation(root: &OwnedFd, propagation: Propagation, recursive: bool) -> Result<(), Failure> {
    let attributes = MountAttributes { propagation: Some(propagation), recursive, ..MountAttributes::default() };
    set_mount_attributes(root, &attributes).step("set the propagation of", || Path::new("/").display())
}
