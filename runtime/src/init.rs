//! The first process of a container, from the clone to its program:
//!
//! ```text
//! host's mounts:   cgroup, oom score, sources, rootfs, filter, labels ─> join namespaces ─> sysctls
//! private mounts:  rootfs attached ─> pivot ─> mounts, devices, terminal, masks ─> user ─> program
//! ```
//!
//! In a pod with a user namespace the first line is root of the host's, who also makes `/sys`, `/dev` and the mapped rootfs; then
//! the process enters the user namespace (see `users`) and the second line is its root's.
//!
//! All that is foreign or slow is opened before the first line ends, all that an image can influence happens after the host's
//! paths are gone. Where hooks run that look at the root file system before the pivot, it is shown to them below the bundle and filled
//! there; every path in it is resolved below it by the kernel, then as always.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{Linux, Process};
use podwright_sys::{MountAttributes, Propagation, join_namespace, set_mount_attributes, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::process::umask;
use rustix::thread::UnshareFlags;

use crate::child::{self, After, Preparation};
use crate::error::{Failure, Step};
use crate::hooks::InitHooks;
use crate::idmap::Mapper;
use crate::launch::{Launch, MappedRoot, Namespace, Namespaces, RootfsMethod, Stdio};
use crate::mounts::Way;
use crate::options::{self, Change};
use crate::root::Root;
use crate::rootfs::Prepared;
use crate::sysctl::{self, Own};
use crate::{devices, masks, mounts, pivot, privileges, rootfs, streams, users};

/// The whole way. Returns only with a failure.
pub(crate) fn run(
    launch: Launch<'_>,
    process: &Process,
    hooks: &InitHooks<'_>,
    socket: &OwnedFd,
) -> Result<(), Failure> {
    let kept: Vec<BorrowedFd<'_>> = launch.descriptors().into_iter().chain(hooks.descriptor()).collect();
    child::begin(socket, launch.cgroup, &kept)?;
    umask(Mode::empty());
    if let Some(score) = process.oom_score_adj() {
        child::warn(socket, privileges::set_oom_score(score)?);
    }
    let nothing = Linux::default();
    let linux = launch.spec.linux().as_ref().unwrap_or(&nothing);
    let user = launch.namespaces.user;
    let cover = masks::prepare_cover(linux.masked_paths().as_deref().unwrap_or_default())?;
    let preparation = Preparation::new(Some(launch.spec), process, &launch.seccomp)?;
    let cgroup_namespace = matches!(launch.namespaces.cgroup, Namespace::New);
    let mut mapper = Mapper::new(user.map(|user| (user.mappings, user.namespace)));
    let asked = launch.spec.mounts().as_deref().unwrap_or_default();
    let label = linux.mount_label().as_deref().filter(|label| !label.is_empty());
    let way =
        Way { detached: launch.rootfs_method == RootfsMethod::Auto, own_cgroup_namespace: cgroup_namespace, label };
    let mut mounts = mounts::prepare(asked, &launch.given_mounts, way, &mut mapper)?;
    let rootfs = rootfs::prepare(launch.rootfs, user.as_ref(), way)?;
    join_namespaces(&launch.namespaces)?;
    let mut has_devices = false;
    let (finish, rootfs) = match &user {
        None => {
            let finish = preparation.open()?;
            make_namespaces(&launch)?;
            sysctl::write_all(linux.sysctl().iter().flatten(), own(&launch))?;
            pivot::make_private()?;
            mounts::put_together(&mut mounts)?;
            (finish, mount_rootfs(rootfs)?)
        }
        Some(user) => {
            streams::give_pipes(&launch.stdio, user.root)?;
            privileges::raise_limits(process.rlimits().as_deref().unwrap_or_default())?;
            has_devices = make_as_host(&mut mounts, linux, user.root)?;
            unshare(UnshareFlags::NEWNS).step("make", || "a mount namespace")?;
            pivot::make_private()?;
            mounts::put_together(&mut mounts)?;
            let rootfs = mount_rootfs(rootfs)?;
            pivot::enter_template()?;
            users::enter(user, matches!(launch.namespaces.pid, Namespace::New), socket)?;
            let finish = preparation.open()?;
            make_namespaces(&launch)?;
            sysctl::write_all(linux.sysctl().iter().flatten(), own(&launch))?;
            // Where the template's is seen, and not later.
            mounts.iter_mut().try_for_each(|mount| mount.make("proc", &[]).map(drop))?;
            (finish, rootfs)
        }
    };
    // The host's own console must not become the container's terminal.
    let console = !mounts.iter().any(|mount| mount.binds("/dev") && mount.hands_back());
    let root = match hooks.rootfs().filter(|_| user.is_none()) {
        None => {
            pivot::enter(&rootfs)?;
            drop(rootfs);
            let root = open_root(linux, true)?;
            fill(&root, linux, mounts, has_devices)?;
            hooks.created()?;
            root
        }
        Some(shown_at) => {
            pivot::show(&rootfs, shown_at)?;
            let root = Root::new(rootfs);
            fill(&root, linux, mounts, has_devices)?;
            hooks.created()?;
            pivot::change_to(root.fd())?;
            drop(root);
            // What is mounted has the propagation that it was given.
            open_root(linux, false)?
        }
    };
    match &launch.stdio {
        Stdio::Fds(fds) => streams::place(fds, &root)?,
        Stdio::Terminal => {
            let terminal = streams::make_terminal(&root, process, socket)?;
            if console {
                devices::bind_console(&root, terminal)?;
            }
        }
    }
    // The last directory that may have to be made.
    root.ensure_directory(process.cwd(), Mode::from_raw_mode(0o755))?;
    masks::make_readonly(&root, linux.readonly_paths().as_deref().unwrap_or_default())?;
    masks::mask(&root, linux.masked_paths().as_deref().unwrap_or_default(), cover)?;
    if launch.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        let attributes = MountAttributes { set: Change::READONLY.set, ..MountAttributes::default() };
        set_mount_attributes(root.fd(), &attributes).step("make read-only", || "the root file system")?;
    }
    let after = After { gate: launch.gate.as_ref(), inherited: &launch.inherited, hooks };
    finish.execute(root, process, launch.user_lookup, after, socket)
}

/// File systems that root of a user namespace can not make, or not as they have to be: a `/sys` that shows the host's network, and
/// a `/dev` with devices. True if there is such a `/dev`.
fn make_as_host(mounts: &mut [mounts::Prepared<'_>], linux: &Linux, root: MappedRoot) -> Result<bool, Failure> {
    let mut has_devices = false;
    for mount in mounts {
        mount.make("sysfs", &[])?;
        if mount.destination() == Path::new("/dev") {
            let owner = [format!("uid={}", root.uid), format!("gid={}", root.gid)];
            if let Some(dev) = mount.make("tmpfs", &owner)? {
                devices::populate_detached(dev, linux.devices().as_deref().unwrap_or_default(), root)?;
                has_devices = true;
            }
        }
    }
    Ok(has_devices)
}

/// Attaches the mounts and makes what belongs into `/dev`.
pub(crate) fn fill(
    root: &Root,
    linux: &Linux,
    mounts: Vec<mounts::Prepared<'_>>,
    has_devices: bool,
) -> Result<(), Failure> {
    let dev_is_bound = mounts.iter().any(|mount| mount.binds("/dev"));
    for mount in mounts {
        mount.attach(root)?;
    }
    if dev_is_bound || has_devices {
        return Ok(());
    }
    devices::populate(root, linux.devices().as_deref().unwrap_or_default())
}

fn own(launch: &Launch<'_>) -> Own {
    let is_own = |namespace: &Namespace<'_>| !matches!(namespace, Namespace::Host);
    let namespaces = &launch.namespaces;
    Own { network: is_own(&namespaces.network), ipc: is_own(&namespaces.ipc), uts: is_own(&namespaces.uts) }
}

/// Joins the pod's namespaces: all but the pid namespace, which came with the clone, and that of users.
pub(crate) fn join_namespaces(namespaces: &Namespaces<'_>) -> Result<(), Failure> {
    let kinds = [(&namespaces.network, "network"), (&namespaces.ipc, "IPC"), (&namespaces.uts, "UTS")];
    for (namespace, name) in kinds {
        match namespace {
            Namespace::Host | Namespace::New => {}
            Namespace::Join(fd) => join_namespace(fd).step("join the namespace of kind", || name)?,
        }
    }
    Ok(())
}

/// Makes the container's own namespaces.
fn make_namespaces(launch: &Launch<'_>) -> Result<(), Failure> {
    let namespaces = &launch.namespaces;
    let kinds = [
        (&namespaces.network, UnshareFlags::NEWNET),
        (&namespaces.ipc, UnshareFlags::NEWIPC),
        (&namespaces.uts, UnshareFlags::NEWUTS),
        (&namespaces.cgroup, UnshareFlags::NEWCGROUP),
    ];
    let fresh = kinds.iter().filter(|(namespace, _)| matches!(namespace, Namespace::New)).map(|(_, flag)| *flag);
    unshare(fresh.fold(UnshareFlags::NEWNS, |all, flag| all | flag)).step("make", || "the container's namespaces")?;
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

/// The root file system, still attached to nothing.
pub(crate) fn mount_rootfs(rootfs: Prepared<'_>) -> Result<OwnedFd, Failure> {
    match rootfs {
        Prepared::Detached(mount) => Ok(mount),
        Prepared::Later(mut overlay) => overlay.mount_privately(),
    }
}

fn open_root(linux: &Linux, all: bool) -> Result<Root, Failure> {
    let what = || "the root file system";
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step("open", what)?;
    if let Some(word) = linux.rootfs_propagation().as_deref().filter(|word| !word.is_empty()) {
        let (propagation, recursive) = options::propagation(word)
            .ok_or_else(|| Failure::because("set the propagation of", what(), format_args!("{word:?} is not known")))?;
        set_root_propagation(&root, propagation, recursive && all)?;
    }
    Ok(Root::new(root))
}

fn set_root_propagation(root: &OwnedFd, propagation: Propagation, recursive: bool) -> Result<(), Failure> {
    let attributes = MountAttributes { propagation: Some(propagation), recursive, ..MountAttributes::default() };
    set_mount_attributes(root, &attributes).step("set the propagation of", || Path::new("/").display())
}
