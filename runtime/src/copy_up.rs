//! `tmpcopyup`: what an image has below the place of a new tmpfs is copied into it before it is mounted there.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use podwright_sys::Errno;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat,
};

use crate::error::{Failure, Step};
use crate::root::Root;

/// Directories below each other that are copied.
const MAX_DEPTH: u32 = 64;

/// Copies what is at `at` to the root of `mount`; nothing if there is nothing.
pub(crate) fn copy_up(root: &Root, at: &Path, mount: &OwnedFd) -> Result<(), Failure> {
    let what = || at.display();
    let from = match root.open(at, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(from) => from,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(Failure::errno("open", what(), errno)),
    };
    // The descriptor of a mount is a mere handle.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let to = openat(mount, ".", flags, Mode::empty()).step("open the tmpfs for", what)?;
    copy(from.as_fd(), to.as_fd(), 0).step("copy the image's files into the tmpfs on", what)
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            copy_one(from, to, name, depth)?;
        }
    }
    give(to, &fstat(from)?)
}

fn copy_one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr, depth: u32) -> Result<(), Errno> {
    let status = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kept = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            let flags = kept | OFlags::RDONLY | OFlags::DIRECTORY;
            let (from, to) = (openat(from, name, flags, Mode::empty())?, openat(to, name, flags, Mode::empty())?);
            copy(from.as_fd(), to.as_fd(), depth + 1)
        }
        FileType::RegularFile => {
            let mut source = File::from(openat(from, name, kept | OFlags::RDONLY, Mode::empty())?);
            let flags = kept | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut copy = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
            std::io::copy(&mut source, &mut copy).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            give(copy.as_fd(), &status)
        }
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?.as_c_str(), to, name)?;
            let (uid, gid) = owner(&status);
            chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        }
        FileType::Fifo => mknodat(to, name, FileType::Fifo, Mode::from_raw_mode(status.st_mode), 0),
        // A device would be refused by the mount's nodev, and a socket has nobody behind it.
        FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => Ok(()),
    }
}

fn owner(status: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid))
}

/// Owner first: changing it takes set-user-id bits away.
fn give(to: BorrowedFd<'_>, status: &Stat) -> Result<(), Errno> {
    let (uid, gid) = owner(status);
    fchown(to, Some(uid), Some(gid))?;
    fchmod(to, Mode::from_raw_mode(status.st_mode & 0o7777))
}
