//! Owner, mode, xattrs and times of what was unpacked, in the order in which they do not undo each other.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{During as _, Failure, Step};
use crate::tar::{Entry, Kind};

/// Attributes that steer overlayfs. An image does not get to set them.
const CONTROL_PREFIXES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Sets all but the times on an open file or directory.
pub(super) fn of_file(file: BorrowedFd<'_>, entry: &Entry) -> Step<()> {
    // Most are as they should be, and to look is cheaper than to change.
    let now = rustix::fs::fstat(file).during("stat")?;
    let is_owner = (now.st_uid, now.st_gid) == (entry.uid, entry.gid);
    if !is_owner {
        rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).during("set owner")?;
    }
    // Changing the owner clears setuid, so the mode comes second.
    let mode = Mode::from_raw_mode(entry.mode);
    if !is_owner || Mode::from_raw_mode(now.st_mode) != mode {
        rustix::fs::fchmod(file, mode).during("set mode")?;
    }
    // Changing the owner clears file capabilities too.
    for (name, value) in xattrs(entry) {
        tolerate(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()), name)?;
    }
    Ok(())
}

/// Sets all on a link, device or fifo, which can not be opened.
pub(super) fn of_name(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Step<()> {
    let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    rustix::fs::chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).during("set owner")?;
    // By the parent's descriptor and the bare name: nothing on the way can be swapped. The kernel has had no call for this
    // before 6.13.
    let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
    if entry.kind != Kind::Symlink {
        // By descriptor: if the name is a link by now, nothing behind it is changed.
        let node = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .during("open")?;
        let link = format!("/proc/self/fd/{}", node.as_raw_fd());
        rustix::fs::chmod(link, Mode::from_raw_mode(entry.mode)).during("set mode")?;
    }
    for (xattr, value) in xattrs(entry) {
        tolerate(rustix::fs::lsetxattr(path.as_slice(), xattr, value, XattrFlags::empty()), xattr)?;
    }
    rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).during("set time")
}

/// The entry's time, for access and modification.
pub(super) fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime_seconds, tv_nsec: i64::from(entry.mtime_nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

fn xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let is_control = |name: &[u8]| CONTROL_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    entry
        .xattrs
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
        .filter(move |(name, _)| !is_control(name))
}

/// File capabilities decide what a program may do, so they must be there. Others depend on the file system and the LSM.
fn tolerate(result: rustix::io::Result<()>, name: &[u8]) -> Step<()> {
    match result {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) if name != b"security.capability" => {
            tracing::debug!(name = %String::from_utf8_lossy(name), "an extended attribute is not supported here");
            Ok(())
        }
        Err(errno) => Err(Failure::System("set extended attribute", errno)),
    }
}
