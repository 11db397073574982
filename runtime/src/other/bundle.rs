//! A bundle for another runtime, in the private mount namespace of a helper: a tmpfs over the container's directory with
//!
//! ```text
//! config.json   the specification in words of the standard alone
//! rootfs        the root file system
//! mounts/N      what is bound into it, each with the attributes and the propagation that were asked for
//! ns/KIND       namespaces to join
//! ```

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Mount};
use podwright_sys::unshare;
use rustix::fs::{CWD, Mode};
use rustix::mount::{MoveMountFlags, mount_bind, move_mount};
use rustix::process::chdir;
use rustix::thread::UnshareFlags;

use super::{Container, translate};
use crate::error::{Failure, Step};
use crate::idmap::Mapper;
use crate::init::mount_rootfs;
use crate::launch::{Launch, Namespace, RootfsMethod};
use crate::message::User;
use crate::mounts::{self, Way, new_file_system};
use crate::root::{self, Root};
use crate::{child, pivot, privileges, rootfs, user};

/// What is there for the runtime, and who runs the program.
pub(super) struct Bundle {
    path: String,
    pub(super) user: User,
}

impl Bundle {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Makes it over `place`, and changes to it. What may block for as long as a source does is done first.
    pub(super) fn make(container: Container<'_>, launch: &Launch<'_>, socket: &OwnedFd) -> Result<Self, Failure> {
        let place = container.bundle;
        let path = place.to_str().filter(|_| place.is_absolute());
        let path =
            path.ok_or_else(|| Failure::because("use the bundle", place.display(), "its path is no absolute text"))?;
        let mut spec = launch.spec.clone();
        let process = spec.process().clone();
        let mut process = process.ok_or_else(|| Failure::because("read", "the specification", "it has no process"))?;
        if let Some(score) = process.oom_score_adj() {
            // As far as we may; a runtime would fail where it must not.
            child::warn(socket, privileges::set_oom_score(score)?);
            process.set_oom_score_adj(None);
        }
        let filter = child::profile(Some(launch.spec), &process, &launch.seccomp)?;
        let nothing = Linux::default();
        let linux = launch.spec.linux().as_ref().unwrap_or(&nothing);
        let label = linux.mount_label().as_deref().filter(|label| !label.is_empty());
        let own_cgroup_namespace = matches!(launch.namespaces.cgroup, Namespace::New);
        let way = Way { detached: launch.rootfs_method == RootfsMethod::Auto, own_cgroup_namespace, label };
        let asked = launch.spec.mounts().clone().unwrap_or_default();
        let ours: Vec<Mount> = asked.iter().filter(|mount| translate::is_prepared(mount)).cloned().collect();
        let mut prepared = mounts::prepare(&ours, &launch.given_mounts, way, &mut Mapper::new(None))?;
        let rootfs = rootfs::prepare(launch.rootfs, None, way)?;
        // Some runtimes change to it for each exec, and then it is the host's.
        match rustix::fs::mkdir(place.join("rootfs"), Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(podwright_sys::Errno::EXIST) => {}
            Err(errno) => return Err(Failure::errno("make the directory", place.join("rootfs").display(), errno)),
        }
        unshare(UnshareFlags::NEWNS).step("make", || "a mount namespace")?;
        pivot::make_private()?;
        mounts::put_together(&mut prepared)?;
        let rootfs = mount_rootfs(rootfs)?;
        stage(place)?;
        let found = user::look_up(&Root::new(reopen(&rootfs)?), &child::request(&process, launch.user_lookup))?;
        attach(&rootfs, Path::new("rootfs"))?;
        let mut trees = prepared.into_iter();
        let mut mounts = Vec::with_capacity(asked.len());
        for (number, mount) in asked.into_iter().enumerate() {
            if translate::is_prepared(&mount) {
                let at = place.join("mounts").join(number.to_string());
                let missing = || Failure::because("prepare", mount.destination().display(), "a bug: it has no mount");
                attach(&trees.next().and_then(mounts::Prepared::into_tree).ok_or_else(missing)?, &at)?;
                mounts.push(translate::bind(&mount, at));
            } else {
                mounts.push(mount);
            }
        }
        translate::process(&mut process, &found.user);
        spec.set_process(Some(process)).set_mounts(Some(mounts));
        let namespaces = namespaces(place, launch)?;
        translate::specification(&mut spec, namespaces, filter, container.cgroup);
        let json = serde_json::to_vec(&spec).map_err(|error| Failure::because("write", "config.json", error))?;
        fs::write("config.json", json).step("write", || "config.json")?;
        Ok(Self { path: path.to_owned(), user: found.user })
    }
}

/// A tmpfs over the container's directory, which becomes the current one.
fn stage(place: &Path) -> Result<(), Failure> {
    let top = new_file_system("tmpfs", "tmpfs", &["mode=700".to_owned()])?;
    move_mount(&top, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step("mount a tmpfs over", || place.display())?;
    chdir(place).step("change to", || place.display())?;
    for name in ["rootfs", "mounts", "ns"] {
        rustix::fs::mkdir(name, Mode::from_raw_mode(0o700)).step("make the directory", || name)?;
    }
    Ok(())
}

fn reopen(tree: &OwnedFd) -> Result<OwnedFd, Failure> {
    tree.try_clone().step("keep", || "the root file system")
}

/// Attaches a detached mount in the staging directory.
fn attach(tree: &OwnedFd, at: &Path) -> Result<(), Failure> {
    if at != Path::new("rootfs") {
        make_place(tree, at)?;
    }
    move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step("attach a mount at", || at.display())
}

fn make_place(tree: &OwnedFd, at: &Path) -> Result<(), Failure> {
    match root::is_directory(tree).step("look at the source of", || at.display())? {
        true => fs::create_dir(at),
        false => fs::write(at, b""),
    }
    .step("make a place for a mount at", || at.display())
}

/// The namespaces of the specification, those to join with their path.
fn namespaces(place: &Path, launch: &Launch<'_>) -> Result<Vec<LinuxNamespace>, Failure> {
    let of = &launch.namespaces;
    let kinds = [
        (LinuxNamespaceType::Pid, "pid", of.pid),
        (LinuxNamespaceType::Network, "net", of.network),
        (LinuxNamespaceType::Ipc, "ipc", of.ipc),
        (LinuxNamespaceType::Uts, "uts", of.uts),
        (LinuxNamespaceType::Cgroup, "cgroup", of.cgroup),
    ];
    let mut listed = vec![translate::namespace(LinuxNamespaceType::Mount, None)];
    for (kind, name, choice) in kinds {
        match choice {
            Namespace::Host => {}
            Namespace::New => listed.push(translate::namespace(kind, None)),
            Namespace::Join(fd) => {
                let at = place.join("ns").join(name);
                show_namespace(fd, &at)?;
                listed.push(translate::namespace(kind, Some(at)));
            }
        }
    }
    Ok(listed)
}

fn show_namespace(fd: BorrowedFd<'_>, at: &Path) -> Result<(), Failure> {
    fs::write(at, b"").step("make", || at.display())?;
    mount_bind(format!("/proc/self/fd/{}", fd.as_raw_fd()), at).step("show a namespace at", || at.display())
}
