//! Paths that are hidden from a container, and paths that it can only read. All by descriptor: what was opened is what is
//! covered, whatever happens to the name meanwhile.

use std::os::fd::OwnedFd;
use std::path::Path;

use podwright_sys::{Errno, MountAttributes, Propagation, clone_tree, set_mount_attributes};
use rustix::fs::{FileType, OFlags, fstat, makedev};

use crate::error::{Failure, Step};
use crate::mounts::{move_onto, new_file_system};
use crate::options::Change;
use crate::root::{Root, is_directory};

/// The host's `/dev/null`, to cover files with; opened before the host's paths are gone.
pub(crate) struct NullDevice(OwnedFd);

impl NullDevice {
    pub(crate) fn open() -> Result<Self, Failure> {
        let path = "/dev/null";
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .step("open", || path)?;
        let status = fstat(&file).step("look at", || path)?;
        let is_null =
            FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == makedev(1, 3);
        if !is_null {
            return Err(Failure::because("use", path, "the host has something else than the null device there"));
        }
        Ok(Self(file))
    }

    /// A detached mount of it. Only in the mount namespace that it was opened in.
    pub(crate) fn detach(&self) -> Result<OwnedFd, Failure> {
        let what = || "/dev/null";
        let tree = clone_tree(&self.0, Path::new(""), false).step("clone the mount of", what)?;
        // Or a mount upon the cover would show up on the host's own null device.
        let attributes = MountAttributes { propagation: Some(Propagation::Private), ..MountAttributes::default() };
        set_mount_attributes(&tree, &attributes).step("make private", what)?;
        Ok(tree)
    }
}

/// Hides what is at `paths`; what is missing needs no hiding. `null` holds a detached mount for each file.
pub(crate) fn mask(root: &Root, paths: &[String], null: &mut Vec<OwnedFd>) -> Result<(), Failure> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let Some(target) = open(root, path)? else { continue };
        if is_directory(&target).step("look at", || path)? {
            let cover = empty_directory(&mut empty)?;
            move_onto(&cover, &target).step("hide", || path)?;
        } else {
            let cover = null.pop().ok_or_else(|| Failure::because("hide", path, "no cover was prepared for it"))?;
            move_onto(&cover, &target).step("hide", || path)?;
        }
    }
    Ok(())
}

/// Makes what is at `paths` read-only; what is missing is as good.
pub(crate) fn make_readonly(root: &Root, paths: &[String]) -> Result<(), Failure> {
    for path in paths {
        let Some(target) = open(root, path)? else { continue };
        let tree = clone_tree(&target, Path::new(""), true).step("clone", || path)?;
        let attributes = MountAttributes { set: Change::READONLY.set, recursive: true, ..MountAttributes::default() };
        set_mount_attributes(&tree, &attributes).step("make read-only", || path)?;
        move_onto(&tree, &target).step("mount read-only", || path)?;
    }
    Ok(())
}

fn open(root: &Root, path: &str) -> Result<Option<OwnedFd>, Failure> {
    match root.handle(Path::new(path)) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(Failure::errno("open", path, errno)),
    }
}

/// An empty directory that nobody can write to. The first one is attached, the others are clones of it.
fn empty_directory(first: &mut Option<OwnedFd>) -> Result<OwnedFd, Failure> {
    let what = || "an empty directory";
    if let Some(attached) = first {
        return clone_tree(attached, Path::new(""), false).step("clone", what);
    }
    let data = ["size=4k".to_owned(), "mode=755".to_owned(), "nr_inodes=2".to_owned()];
    let mount = new_file_system("tmpfs", "tmpfs", &data)?;
    let attributes = MountAttributes { set: Change::READONLY.set, ..MountAttributes::default() };
    set_mount_attributes(&mount, &attributes).step("make read-only", what)?;
    let again = mount.try_clone().step("keep", what)?;
    *first = Some(again);
    Ok(mount)
}

/// Paths that may be files, for which covers are prepared.
pub(crate) fn prepare_covers(paths: &[String]) -> Result<Vec<OwnedFd>, Failure> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let null = NullDevice::open()?;
    // Which of them are files is not known yet; a detached mount costs a few microseconds.
    paths.iter().map(|_| null.detach()).collect()
}
