//! Paths inside a container's root file system. Everything is resolved by the kernel with the root as an upper bound, so that
//! no symlink of an image leads out, and acted upon by descriptor.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use podwright_sys::Errno;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2, readlinkat};

use crate::error::{Failure, Step};

/// Most symlinks that are followed while a missing directory is made; the kernel's own limit.
const MAX_SYMLINKS: usize = 40;

/// A directory that nothing inside leads out of.
pub(crate) struct Root(OwnedFd);

impl Root {
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// openat2(2) below the root; magic links of proc are refused.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        retry_races(|| openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
    }

    /// A handle for what is at `path`, for mounting upon it and the like.
    pub(crate) fn handle(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH)
    }

    /// Opens a directory, makes it and those above it if they are missing.
    pub(crate) fn ensure_directory(&self, path: &Path, mode: Mode) -> Result<OwnedFd, Failure> {
        let mut links = 0;
        self.ensure(path, mode, &mut links).step("make the directory", || path.display())
    }

    /// A missing directory, or one behind symlinks whose target is missing, is made below the directory it would be in.
    fn ensure(&self, path: &Path, mode: Mode, links: &mut usize) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let (Some(parent), Some(Component::Normal(name))) = (path.parent(), path.components().next_back()) else {
            return Err(Errno::INVAL);
        };
        let parent_fd = self.ensure(parent, mode, links)?;
        match mkdirat(&parent_fd, name, mode) {
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
            Ok(()) => {
                return rustix::fs::openat(&parent_fd, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            }
        }
        *links += 1;
        if *links > MAX_SYMLINKS {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(&parent_fd, name, Vec::new())?;
        let target = PathBuf::from(String::from_utf8(target.into_bytes()).map_err(|_| Errno::ILSEQ)?);
        self.ensure(&normalized(&parent.join(target)), mode, links)
    }

    /// A handle for a file to mount upon; a missing one is made empty.
    pub(crate) fn ensure_file(&self, path: &Path) -> Result<OwnedFd, Failure> {
        match self.handle(path) {
            Err(Errno::NOENT) => {}
            result => return result.step("open", || path.display()),
        }
        let (parent, name) = split(path)?;
        let directory = self.ensure_directory(parent, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let made = rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o644));
        match made {
            // A symlink to nowhere: what it points to is made, inside the root.
            Err(Errno::LOOP) => {
                let target = readlinkat(&directory, name, Vec::new()).step("read the link", || path.display())?;
                let target =
                    target.to_str().map_err(|_| Failure::because("open", path.display(), "it is a link to no text"))?;
                self.ensure_link_target(&normalized(&parent.join(target)))
            }
            result => result.map(|_| ()).step("make the file", || path.display()),
        }?;
        self.handle(path).step("open", || path.display())
    }

    fn ensure_link_target(&self, path: &Path) -> Result<(), Failure> {
        let (parent, name) = split(path)?;
        let directory = self.ensure_directory(parent, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let made = rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o644));
        made.map(|_| ()).step("make the file", || path.display())
    }

    /// Reads a regular file of at most `limit` bytes; `None` if it is missing.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        // NONBLOCK: a FIFO opens at once and is refused, instead of waiting for a writer for ever.
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            result => result.step("open", || path.display())?,
        };
        let status = fstat(&file).step("look at", || path.display())?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Failure::because("read", path.display(), "it is no regular file"));
        }
        // One byte more than it has, so that its end is seen without another try.
        let size = u64::try_from(status.st_size).unwrap_or(0).min(limit);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        std::fs::File::from(file).take(limit + 1).read_to_end(&mut bytes).step("read", || path.display())?;
        if bytes.len() as u64 > limit {
            return Err(Failure::because("read", path.display(), format_args!("it is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Refuses a symlink at `path`.
    pub(crate) fn refuse_symlink(&self, path: &Path) -> Result<(), Failure> {
        let Ok(handle) = self.open(path, OFlags::PATH | OFlags::NOFOLLOW) else { return Ok(()) };
        let status = fstat(&handle).step("look at", || path.display())?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Symlink {
            let reason = "the image has a symlink there; it must have a directory or nothing";
            return Err(Failure::because("mount", path.display(), reason));
        }
        Ok(())
    }
}

/// Parent and name of an absolute path.
pub(crate) fn split(path: &Path) -> Result<(&Path, &Path), Failure> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, Path::new(name))),
        _ => Err(Failure::because("use", path.display(), "it does not name a file")),
    }
}

/// The path without `.` and `..`; `..` at the top stays there.
pub(crate) fn normalized(path: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    result
}

/// A rename elsewhere during the resolution of `..` makes openat2 give up with EAGAIN.
fn retry_races<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..128 {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    call()
}

/// Whether `handle` is a directory.
pub(crate) fn is_directory(handle: impl AsFd) -> Result<bool, Errno> {
    fstat(handle).map(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

/// Whether `name` is there in a directory, as anything.
pub(crate) fn exists_at(directory: impl AsFd, name: &Path) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

#[cfg(test)]
mod tests;
