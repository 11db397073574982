//! Unpacking a layer's archive into its own directory, in the form that overlayfs takes as a lower directory.
//!
//! Owns what entries and whiteouts mean, and limits on them. Every path is resolved by the kernel inside the layer's
//! directory (`openat2` with `RESOLVE_IN_ROOT`), so whatever an archive or a racing process does with links, nothing outside
//! is touched. Owners and modes are set before xattrs and times, because each of them takes back what comes later.

mod attributes;
mod decompress;
mod files;
mod names;
mod root;

use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

pub(crate) use decompress::Decoder;
pub(crate) use root::is_opaque;

use crate::config::Limits;
use crate::error::{ErrorKind, ImageError, Result};
use crate::failpoints::{self, fail_point};
use crate::tar::{Entry, Kind, Reader, TarError};
use names::Meaning;
use root::{Existing, LayerRoot};

/// Why one entry was not unpacked: the entry's name is added by the caller.
#[derive(Debug)]
enum Failure {
    /// The archive is wrong.
    Corrupt(String),
    /// A limit was reached.
    Limit(String),
    /// The disk or the kernel refused; with the step.
    System(&'static str, Errno),
    /// The archive could not be read on.
    Archive(TarError),
}

type Step<T> = std::result::Result<T, Failure>;

/// Tells at which system call an error arose.
trait During<T> {
    fn during(self, step: &'static str) -> Step<T>;
}

impl<T> During<T> for rustix::io::Result<T> {
    fn during(self, step: &'static str) -> Step<T> {
        self.map_err(|errno| Failure::System(step, errno))
    }
}

/// Unpacks a whole archive into `directory`, which exists and is empty. `name` is for errors. Returns the directories that the
/// archive implies and does not describe.
pub(crate) fn unpack(archive: impl BufRead, directory: &Path, limits: &Limits, name: &str) -> Result<Vec<Vec<u8>>> {
    let root = LayerRoot::open(directory).map_err(|errno| ImageError::io("open layer directory", directory, errno))?;
    let mut unpacker = Unpacker { root, directory_times: Vec::new(), devices: 0, limits };
    let mut reader = Reader::new(archive);
    let mut entries = 0;
    loop {
        let entry = reader.next().map_err(|error| explain(Failure::Archive(error), b"", name))?;
        let Some(entry) = entry else { break };
        entries += 1;
        if entries > limits.layer_entries {
            let cause = format!("it has more than {} entries", limits.layer_entries);
            return Err(explain(Failure::Limit(cause), &entry.path, name));
        }
        unpacker.apply(&entry, &mut reader).map_err(|failure| explain(failure, &entry.path, name))?;
        entries += std::mem::take(&mut unpacker.root.made);
        fail_point(failpoints::UNPACK_ENTRY);
    }
    reader.drain().map_err(|error| explain(Failure::Archive(error), b"", name))?;
    unpacker.set_directory_times();
    Ok(unpacker.root.implied.into_iter().collect())
}

fn explain(failure: Failure, path: &[u8], name: &str) -> ImageError {
    let path = String::from_utf8_lossy(path.get(..path.len().min(256)).unwrap_or_default()).into_owned();
    let object = if path.is_empty() { name.to_owned() } else { format!("{path:?} of {name}") };
    match failure {
        Failure::Corrupt(cause) => ImageError::new(ErrorKind::Corrupt, "unpack", object, cause),
        Failure::Limit(cause) => ImageError::new(ErrorKind::LimitExceeded, "unpack", object, cause),
        Failure::System(step, errno) => {
            let remedy = podwright_sys::exhaustion_remedy(errno.raw_os_error());
            let kind = match errno {
                Errno::NOSPC | Errno::DQUOT => ErrorKind::NoSpace,
                // The path is the archive's doing.
                Errno::NAMETOOLONG | Errno::LOOP | Errno::NOTDIR | Errno::INVAL | Errno::FBIG => ErrorKind::Corrupt,
                _ if remedy.is_some() => ErrorKind::LimitExceeded,
                _ => ErrorKind::Io,
            };
            let error = ImageError::new(kind, "unpack", object, format!("{step}: {}", std::io::Error::from(errno)));
            match remedy {
                Some(remedy) => error.and(remedy),
                None => error,
            }
        }
        Failure::Archive(TarError::Malformed(cause)) => ImageError::new(ErrorKind::Corrupt, "unpack", object, cause),
        Failure::Archive(TarError::Source(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::new(ErrorKind::Corrupt, "unpack", object, "the archive ends within an entry")
        }
        Failure::Archive(TarError::Source(error)) => {
            ImageError::new(ErrorKind::Corrupt, "unpack", object, "the archive can not be read").with_source(error)
        }
    }
}

struct Unpacker<'a> {
    root: LayerRoot,
    /// Times of directories; set at the end, since entries made in them change them.
    directory_times: Vec<(Vec<u8>, rustix::fs::Timestamps)>,
    devices: u64,
    limits: &'a Limits,
}

impl Unpacker<'_> {
    fn apply(&mut self, entry: &Entry, reader: &mut Reader<impl BufRead>) -> Step<()> {
        match names::meaning(&entry.path)? {
            Meaning::Ignored => Ok(()),
            Meaning::Root => self.root_attributes(entry),
            Meaning::Opaque { directory } => {
                let directory = self.root.parent(&directory)?;
                root::make_opaque(directory.as_fd(), c".")
            }
            Meaning::Whiteout { directory, name } => self.whiteout(&directory, &name),
            Meaning::Entry { directory, name } => self.entry(entry, &directory, &name, reader),
        }
    }

    fn root_attributes(&mut self, entry: &Entry) -> Step<()> {
        if entry.kind != Kind::Directory {
            return Err(Failure::Corrupt("the layer's root must be a directory".to_owned()));
        }
        let root = rustix::fs::openat(self.root.as_fd(), c".", root::DIRECTORY, Mode::empty()).during("open")?;
        attributes::of_file(root.as_fd(), entry)?;
        self.directory_times.push((Vec::new(), attributes::times(entry)));
        Ok(())
    }

    /// Hides an entry of lower layers. What this same layer has under the name stays: whiteouts are about lower layers only.
    fn whiteout(&mut self, directory: &[u8], name: &[u8]) -> Step<()> {
        let parent = self.root.parent(directory)?;
        match root::existing(parent.as_fd(), name)? {
            Existing::Nothing => root::make_whiteout(parent.as_fd(), name),
            Existing::Directory => root::make_opaque(parent.as_fd(), name),
            Existing::Whiteout | Existing::Other => Ok(()),
        }
    }

    fn entry(&mut self, entry: &Entry, directory: &[u8], name: &[u8], reader: &mut Reader<impl BufRead>) -> Step<()> {
        let parent = self.root.parent(directory)?;
        // Nearly always nothing is there, so that is not asked first.
        if entry.kind == Kind::Regular
            && let Some(file) = files::create(parent.as_fd(), name, entry)?
        {
            return files::fill(&file, entry, reader);
        }
        let before = root::existing(parent.as_fd(), name)?;
        match (before, entry.kind) {
            (Existing::Nothing, _) | (Existing::Directory, Kind::Directory) => {}
            // A link to itself would vanish.
            (Existing::Other, Kind::HardLink) if self.is_same(&parent, name, entry)? => return Ok(()),
            _ => self.root.remove(parent.as_fd(), name)?,
        }
        let parent_fd = parent.as_fd();
        match entry.kind {
            Kind::Regular => match files::create(parent_fd, name, entry)? {
                Some(file) => files::fill(&file, entry, reader)?,
                None => return Err(Failure::System("make file", Errno::EXIST)),
            },
            Kind::Directory => self.directory(parent_fd, directory, name, entry, before)?,
            Kind::Symlink => {
                rustix::fs::symlinkat(entry.link.as_slice(), parent_fd, name).during("make symbolic link")?;
                attributes::of_name(parent_fd, name, entry)?;
            }
            Kind::HardLink => self.hard_link(parent_fd, name, entry)?,
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(parent_fd, name, entry)?,
        }
        Ok(())
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        directory: &[u8],
        name: &[u8],
        entry: &Entry,
        before: Existing,
    ) -> Step<()> {
        if !matches!(before, Existing::Directory) {
            rustix::fs::mkdirat(parent, name, Mode::RWXU).during("make directory")?;
        }
        // Where a whiteout stood, the lower directory must stay hidden.
        if matches!(before, Existing::Whiteout) {
            root::make_opaque(parent, name)?;
        }
        let made = rustix::fs::openat(parent, name, root::DIRECTORY, Mode::empty()).during("open directory")?;
        attributes::of_file(made.as_fd(), entry)?;
        let path = names::join(directory, name);
        self.root.implied.remove(&path);
        self.directory_times.push((path, attributes::times(entry)));
        Ok(())
    }

    /// Where the target of a hard link is.
    fn link_target(&mut self, entry: &Entry) -> Step<(OwnedFd, Vec<u8>)> {
        let (directory, name) = names::split(&entry.link)?
            .ok_or_else(|| Failure::Corrupt("a hard link points to the layer's root".to_owned()))?;
        let parent = self.root.find(&directory).map_err(|_| missing_target(entry))?;
        Ok((parent, name))
    }

    fn is_same(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Step<bool> {
        let (target_parent, target) = self.link_target(entry)?;
        let of = |fd: &OwnedFd, name: &[u8]| {
            rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| (stat.st_dev, stat.st_ino))
        };
        Ok(of(&target_parent, &target).map_err(|_| missing_target(entry))? == of(parent, name).during("stat")?)
    }

    fn hard_link(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Step<()> {
        let (target_parent, target) = self.link_target(entry)?;
        match root::existing(target_parent.as_fd(), &target)? {
            Existing::Other => {}
            Existing::Nothing | Existing::Whiteout => return Err(missing_target(entry)),
            Existing::Directory => return Err(Failure::Corrupt("a hard link points to a directory".to_owned())),
        }
        // Without SYMLINK_FOLLOW a link to a symbolic link is a second name of that link.
        rustix::fs::linkat(&target_parent, target.as_slice(), parent, name, AtFlags::empty()).during("make hard link")
    }

    fn node(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Step<()> {
        self.devices += 1;
        if self.devices > self.limits.layer_devices {
            return Err(Failure::Limit(format!("the layer has more than {} device nodes", self.limits.layer_devices)));
        }
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        rustix::fs::mknodat(parent, name, kind, Mode::RUSR, device).during("make device node")?;
        attributes::of_name(parent, name, entry)
    }

    /// A directory that was replaced since is skipped; for one named twice the last entry counts.
    fn set_directory_times(&self) {
        for (path, times) in &self.directory_times {
            let set = self.root.find(path).and_then(|directory| {
                let directory = rustix::fs::openat(&directory, c".", root::DIRECTORY, Mode::empty())?;
                rustix::fs::futimens(&directory, times)
            });
            if let Err(errno) = set {
                tracing::debug!(path = %String::from_utf8_lossy(path), %errno, "time of a directory is not set");
            }
        }
    }
}

fn missing_target(entry: &Entry) -> Failure {
    let target = String::from_utf8_lossy(entry.link.get(..entry.link.len().min(256)).unwrap_or_default()).into_owned();
    Failure::Corrupt(format!("it is a hard link to {target:?}, which the layer does not have"))
}

/// Flags for a new file that must not be there yet.
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests;
