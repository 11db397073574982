//! Mounts that are not attached yet, and attributes of mounts. What is mounted where is left to the caller.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::check;
use crate::namespaces::Propagation;

/// What [`set_mount_attributes`] changes. `set` and `clear` are `MOUNT_ATTR_*` bits.
#[derive(Debug, Default)]
pub struct MountAttributes<'fd> {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear; setting any access time mode clears the others by itself.
    pub clear: u64,
    /// Propagation to set.
    pub propagation: Option<Propagation>,
    /// The user namespace whose id mapping the mount gets (`MOUNT_ATTR_IDMAP`).
    pub id_mapping: Option<BorrowedFd<'fd>>,
    /// The whole tree and not its topmost mount only.
    pub recursive: bool,
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount that `mount` refers to, with mount_setattr(2):
/// <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>.
///
/// # Errors
/// Those of the call.
pub fn set_mount_attributes(mount: impl AsFd, attributes: &MountAttributes<'_>) -> Result<(), Errno> {
    let mut arguments = MountAttr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation.map_or(0, Propagation::bits),
        userns_fd: 0,
    };
    if arguments.attr_set & libc::MOUNT_ATTR__ATIME != 0 || arguments.attr_clr & libc::MOUNT_ATTR__ATIME != 0 {
        arguments.attr_clr |= libc::MOUNT_ATTR__ATIME;
    }
    if let Some(user_namespace) = attributes.id_mapping {
        arguments.attr_set |= libc::MOUNT_ATTR_IDMAP;
        arguments.userns_fd = user_namespace.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    let (fd, path) = (mount.as_fd().as_raw_fd(), c"");
    // SAFETY: the path is NUL-terminated and the structure is a valid mount_attr of the given size.
    check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, path.as_ptr(), flags, &raw mut arguments, size_of::<MountAttr>())
    })
    .map(|_| ())
}

/// A detached copy of the mount at `path`, with all mounts below it if `recursive`: open_tree(2),
/// <https://man7.org/linux/man-pages/man2/open_tree.2.html>.
///
/// # Errors
/// Those of the call.
pub fn clone_tree(directory: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    open_tree(directory, path, flags)
}

/// A descriptor to execute the file at `path` with, through a read-only mount of its own that is attached nowhere. What
/// gets at the file through `/proc/PID/exe` can not write to it.
///
/// # Errors
/// Those of open_tree(2), mount_setattr(2) and open(2).
pub fn clone_file_readonly(path: &Path) -> Result<OwnedFd, Errno> {
    let tree = clone_tree(CWD, path, false)?;
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_mount_attributes(&tree, &MountAttributes { set, ..MountAttributes::default() })?;
    let through = format!("/proc/self/fd/{}", tree.as_raw_fd());
    rustix::fs::open(through, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Mounts what `fd` refers to (a namespace, a file, a directory) on `target`, which must exist, with mount(2):
/// <https://man7.org/linux/man-pages/man2/mount.2.html>.
///
/// # Errors
/// Those of the call.
pub fn bind_fd(fd: impl AsFd, target: &Path) -> Result<(), Errno> {
    rustix::mount::mount_bind(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()), target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_readonly_clone_can_not_be_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let clone = clone_file_readonly(file.path()).unwrap();
        let again = format!("/proc/self/fd/{}", clone.as_raw_fd());
        let written = rustix::fs::open(again, OFlags::WRONLY, Mode::empty());
        assert_eq!(written.err(), Some(Errno::ROFS));
        assert!(rustix::fs::open(file.path(), OFlags::WRONLY, Mode::empty()).is_ok());
    }
}
