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

/// A mount to hide paths with. The first path gets it; what is attached can be cloned for the others.
pub(crate) struct Cover {
    mount: OwnedFd,
    is_attached: bool,
}

impl Cover {
    /// The host's null device. Only in the mount namespace where it is.
    fn null() -> Result<Self, Failure> {
        let path = "/dev/null";
        let what = || path;
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .step("open", what)?;
        let status = fstat(&file).step("look at", what)?;
        let is_null =
            FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == makedev(1, 3);
        if !is_null {
            return Err(Failure::because("use", path, "the host has something else than the null device there"));
        }
        let mount = clone_tree(&file, Path::new(""), false).step("clone the mount of", what)?;
        let attributes = MountAttributes {
            // Reading and writing go on; changing mode or owner of the host's own node does not.
            set: Change::READONLY.set,
            // Or a mount upon the cover would show up on the host's own null device.
            propagation: Some(Propagation::Private),
            ..MountAttributes::default()
        };
        set_mount_attributes(&mount, &attributes).step("make private and read-only", what)?;
        Ok(Self { mount, is_attached: false })
    }

    /// A directory that nobody can write to.
    fn empty_directory() -> Result<Self, Failure> {
        let data = ["size=4k".to_owned(), "mode=755".to_owned(), "nr_inodes=2".to_owned()];
        let mount = new_file_system("tmpfs", "tmpfs", &data)?;
        let attributes = MountAttributes { set: Change::READONLY.set, ..MountAttributes::default() };
        set_mount_attributes(&mount, &attributes).step("make read-only", || "an empty directory")?;
        Ok(Self { mount, is_attached: false })
    }

    fn put_on(&mut self, target: &OwnedFd) -> Result<(), Errno> {
        if self.is_attached {
            return move_onto(clone_tree(&self.mount, Path::new(""), false)?, target);
        }
        move_onto(&self.mount, target)?;
        self.is_attached = true;
        Ok(())
    }
}

/// What covers files among `paths`, if there are any paths; which of them are files is not known yet.
pub(crate) fn prepare_cover(paths: &[String]) -> Result<Option<Cover>, Failure> {
    if paths.is_empty() { Ok(None) } else { Cover::null().map(Some) }
}

/// Hides what is at `paths`; what is missing needs no hiding. `null` is what files are covered with.
pub(crate) fn mask(root: &Root, paths: &[String], mut null: Option<Cover>) -> Result<(), Failure> {
    let mut empty: Option<Cover> = None;
    for path in paths {
        let Some(target) = open(root, path)? else { continue };
        let cover = if is_directory(&target).step("look at", || path)? { &mut empty } else { &mut null };
        let cover = match cover {
            Some(cover) => cover,
            None => cover.insert(Cover::empty_directory()?),
        };
        cover.put_on(&target).step("hide", || path)?;
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
