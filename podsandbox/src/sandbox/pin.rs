//! Namespaces as files: bind mounts under which plugins find a pod's network, and the removal of what is mounted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::record::absent_is_fine;

/// Makes the namespace appear at the path. The file beneath says whose it is: other daemons pin in the same directory.
pub(super) fn pin(netns: &OwnedFd, path: &Path, mark: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    // What an interrupted pin left would be mounted over.
    unpin(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    // Without room for it there is a pin all the same, one that says nothing.
    let _ = file.write_all(mark.as_bytes());
    drop(file);
    let source = format!("/proc/self/fd/{}", netns.as_raw_fd());
    mount_bind(source, path).map_err(|e| {
        drop(fs::remove_file(path));
        io::Error::from(e)
    })
}

/// Takes it away; absent is success.
pub(super) fn unpin(path: &Path) -> io::Result<()> {
    detach(path)?;
    absent_is_fine(fs::remove_file(path))
}

/// Opens what is pinned; `None` if nothing is.
pub(super) fn open(path: &Path) -> io::Result<Option<OwnedFd>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Unmounts and removes a directory that was only a place to mount on; absent is success.
pub(super) fn remove_mount_dir(path: &Path) -> io::Result<()> {
    detach(path)?;
    absent_is_fine(fs::remove_dir(path))
}

/// Unmounts; not mounted and absent are success.
fn detach(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        // Who must not unmount has not mounted either.
        Err(Errno::PERM) if !path.exists() => Ok(()),
        Err(e) => Err(e.into()),
    }
}
