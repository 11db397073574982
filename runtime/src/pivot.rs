//! The root of a process's own mount namespace: changed to a detached mount, with all others let go of.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use podwright_sys::Errno;
use rustix::fs::{CWD, Mode};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::error::{Failure, Step};
use crate::mounts::new_file_system;

/// Nothing that is mounted here shows elsewhere.
pub(crate) fn make_private() -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).step("make private", || "all mounts")
}

/// Makes a detached mount the root and lets go of all others.
pub(crate) fn enter(mount: &OwnedFd) -> Result<(), Failure> {
    move_mount(mount, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step("attach", || "the root file system")?;
    change_to(mount)
}

/// Attaches a detached mount to a path of the host, in this mount namespace alone, for hooks to look at.
pub(crate) fn show(mount: &OwnedFd, path: &Path) -> Result<(), Failure> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Failure::errno("make the directory", path.display(), errno)),
    }
    move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step("attach the root file system to", || path.display())
}

/// Makes an attached mount the root and lets go of all others.
pub(crate) fn change_to(mount: impl AsFd) -> Result<(), Failure> {
    let what = || "the root file system";
    fchdir(mount).step("change to", what)?;
    pivot_root(".", ".").step("pivot to", what)?;
    // The old root lies upon the new one now.
    unmount(".", UnmountFlags::DETACH).step("let go of", || "the host's mounts")?;
    chdir("/").step("change to", what)
}

/// A root with nothing but a /proc that is wholly visible: without one, the kernel lets no user namespace mount its own. What is
/// mounted here when the namespace is copied for another user namespace can not be taken away there; all this is, at once.
pub(crate) fn enter_template() -> Result<(), Failure> {
    let top = new_file_system("tmpfs", "tmpfs", &["size=4k".to_owned(), "mode=555".to_owned()])?;
    rustix::fs::mkdirat(&top, "proc", Mode::from_raw_mode(0o555)).step("make the directory", || "proc")?;
    let proc = new_file_system("proc", "proc", &[])?;
    enter(&top)?;
    move_mount(&proc, "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step("attach", || "/proc")
}
