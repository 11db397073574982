//! The layer's directory as a root that no path leaves.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::{During as _, Failure, Step};

/// How deep directories may be nested: what walks them later holds one fd a level.
const MAX_DEPTH: usize = 256;
/// Most bytes of names of implied directories that are kept.
const MAX_IMPLIED_BYTES: usize = 1 << 20;
/// How often a path is looked up again while someone renames parts of it.
const MAX_RACES: u32 = 64;

/// Flags to open a directory, and nothing else, for work on itself.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Flags to hold a directory as a place to work in.
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What is already under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Nothing,
    Directory,
    Whiteout,
    Other,
}

pub(super) struct LayerRoot {
    root: OwnedFd,
    /// Length of the root's own path, for the depth of others.
    root_depth: usize,
    /// The last directory worked in: archives list a directory's entries together.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Directories that were made on the way to an entry, and that no entry has described since.
    pub(super) implied: BTreeSet<Vec<u8>>,
    /// How many were made so, whatever became of them.
    pub(super) made: u64,
    implied_bytes: usize,
}

impl LayerRoot {
    pub(super) fn open(directory: &Path) -> rustix::io::Result<Self> {
        let root = rustix::fs::open(directory, PLACE | OFlags::NOFOLLOW, Mode::empty())?;
        let root_depth = depth(root.as_fd())?;
        Ok(Self { root, root_depth, last: None, implied: BTreeSet::new(), made: 0, implied_bytes: 0 })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Finds a directory, following links inside the root only.
    pub(super) fn find(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        if path.is_empty() {
            return self.root.try_clone().map_err(|_| Errno::MFILE);
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let mut races = 0;
        loop {
            match rustix::fs::openat2(&self.root, path, PLACE, Mode::empty(), resolve) {
                // The kernel could not prove that the path stays inside while something was renamed.
                Err(Errno::AGAIN) if races < MAX_RACES => races += 1,
                result => return result,
            }
        }
    }

    /// Finds the directory of an entry, making what is missing of it with mode 0755.
    pub(super) fn parent(&mut self, path: &[u8]) -> Step<Rc<OwnedFd>> {
        if let Some((known, fd)) = &self.last
            && known == path
        {
            return Ok(Rc::clone(fd));
        }
        let found = match self.find(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_all(path)?,
            other => other.during("open directory")?,
        };
        let levels = depth(found.as_fd()).during("look up directory")?.saturating_sub(self.root_depth);
        if levels > MAX_DEPTH {
            return Err(Failure::Corrupt(format!("directories are nested deeper than {MAX_DEPTH}")));
        }
        let found = Rc::new(found);
        self.last = Some((path.to_vec(), Rc::clone(&found)));
        Ok(found)
    }

    fn make_all(&mut self, path: &[u8]) -> Step<OwnedFd> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        let mut parent = self.find(b"").during("open directory")?;
        let mut start = 0;
        for end in ends {
            let so_far = path.get(..end).unwrap_or_default();
            let name = path.get(start..end).unwrap_or_default();
            parent = match self.find(so_far) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_one(parent.as_fd(), name, so_far)?,
                Err(errno) => return Err(Failure::System("open directory", errno)),
            };
            start = end + 1;
        }
        Ok(parent)
    }

    fn make_one(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Step<OwnedFd> {
        let mut is_opaque = false;
        match existing(parent, name)? {
            Existing::Nothing => {}
            Existing::Whiteout => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty()).during("replace whiteout")?;
                is_opaque = true;
            }
            Existing::Directory | Existing::Other => {
                return Err(Failure::Corrupt("its path leads through a file, or a link to nowhere".to_owned()));
            }
        }
        self.made += 1;
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).during("make directory")?;
        let made = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()).during("open directory")?;
        // The daemon's umask must not show in images.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).during("set mode")?;
        if is_opaque {
            make_opaque(parent, name)?;
        } else if self.implied_bytes + path.len() <= MAX_IMPLIED_BYTES {
            self.implied_bytes += path.len();
            self.implied.insert(path.to_vec());
        }
        self.find(path).during("open directory")
    }

    /// Removes whatever is under a name.
    pub(super) fn remove(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Step<()> {
        self.last = None;
        remove_all(parent, name, 0).during("replace an earlier entry")
    }
}

/// Levels of a directory's real path.
fn depth(directory: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    use std::os::fd::AsRawFd as _;
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new())?;
    Ok(path.as_bytes().iter().filter(|byte| **byte == b'/').count())
}

pub(super) fn existing(parent: BorrowedFd<'_>, name: &[u8]) -> Step<Existing> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Existing::Nothing),
        Err(errno) => return Err(Failure::System("stat", errno)),
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Existing::Directory,
        FileType::CharacterDevice if stat.st_rdev == 0 => Existing::Whiteout,
        _ => Existing::Other,
    })
}

/// overlayfs hides a lower entry behind a character device 0:0.
pub(super) fn make_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> Step<()> {
    rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0).during("make whiteout")
}

/// overlayfs does not merge a directory that is marked opaque with the lower ones.
pub(super) fn make_opaque(parent: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Step<()> {
    let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()).during("open directory")?;
    let mark = |name: &str| rustix::fs::fsetxattr(&directory, name, b"y", XattrFlags::empty());
    match mark("trusted.overlay.opaque") {
        // Without CAP_SYS_ADMIN; such a daemon mounts with userxattr.
        Err(Errno::PERM) => mark("user.overlay.opaque").during("mark directory opaque"),
        result => result.during("mark directory opaque"),
    }
}

/// Whether [`make_opaque`] marked a directory.
pub(crate) fn is_opaque(directory: impl AsFd) -> bool {
    let has = |name| rustix::fs::fgetxattr(&directory, name, &mut [0u8; 1][..]).is_ok();
    has("trusted.overlay.opaque") || has("user.overlay.opaque")
}

fn remove_all(parent: BorrowedFd<'_>, name: &[u8], level: usize) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    if level > MAX_DEPTH + 1 {
        return Err(Errno::LOOP);
    }
    let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if !matches!(child, b"." | b"..") {
            remove_all(directory.as_fd(), child, level + 1)?;
        }
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}
