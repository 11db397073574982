//! What a container changed in its root file system: overlayfs' upper directory as the archive of a layer.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use crate::config::Limits;
use crate::error::{ErrorKind, ImageError, Result};
use crate::unpack::is_opaque;

/// How deep directories may be nested: each level holds a descriptor.
const MAX_DEPTH: usize = 256;
/// Files with several names that are remembered to be written once.
const MAX_LINKED: usize = 1 << 20;
/// Most bytes of one extended attribute.
const MAX_ATTRIBUTE_BYTES: usize = 64 << 10;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

struct Writer<'a> {
    archive: Builder<BufWriter<File>>,
    limits: &'a Limits,
    /// The first name of a file that has several, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
    entries: u64,
    bytes: u64,
    until: Instant,
}

/// Writes what is in `upper` to a new file `to`. Every name is opened in the directory that lists it and no link is followed, so the
/// container may go on meanwhile.
///
/// # Errors
/// The disk's, `LimitExceeded` for more than an image's layer may have, `Cancelled` if it is not done at `until`.
pub fn changes(upper: &Path, to: &Path, limits: &Limits, until: Instant) -> Result<()> {
    let root = rustix::fs::open(upper, DIRECTORY, Mode::empty())
        .map_err(|errno| ImageError::io("open the writable layer", upper, errno))?;
    let file = super::write::private_file(to).map_err(|error| ImageError::io("make the file", to, error))?;
    let archive = Builder::new(BufWriter::new(file));
    let mut writer = Writer { archive, limits, linked: HashMap::new(), entries: 0, bytes: 0, until };
    let written = writer.directory(&root, Path::new(""), 0).and_then(|()| {
        let mut buffer = writer.archive.into_inner().map_err(Trouble::Io)?;
        buffer.flush().map_err(Trouble::Io)
    });
    let step = "write down the changes of";
    written.map_err(|trouble| match trouble {
        Trouble::Io(error) if error.kind() == io::ErrorKind::TimedOut && Instant::now() >= until => {
            let cause = "there are too many for the time of this checkpoint; name a longer timeout";
            ImageError::new(ErrorKind::Cancelled, step, upper.display(), cause)
        }
        Trouble::Io(error) => ImageError::io(step, upper, error),
        Trouble::Limit(cause) => ImageError::new(ErrorKind::LimitExceeded, step, upper.display(), cause),
    })
}

enum Trouble {
    Io(io::Error),
    Limit(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// What is read until a deadline, beyond which a read fails.
struct Timely<R> {
    source: R,
    until: Instant,
}

fn in_time(until: Instant) -> io::Result<()> {
    if Instant::now() < until { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}

impl<R: Read> Read for Timely<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        in_time(self.until)?;
        self.source.read(buffer)
    }
}

impl Writer<'_> {
    fn directory(&mut self, directory: &OwnedFd, path: &Path, depth: usize) -> std::result::Result<(), Trouble> {
        if depth > MAX_DEPTH {
            return Err(Trouble::Limit(format!("directories are nested deeper than {MAX_DEPTH}")));
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                self.count(0)?;
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            let stat = match rustix::fs::statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                // Somebody else than the container's processes removed it meanwhile.
                Err(rustix::io::Errno::NOENT) => continue,
                other => other?,
            };
            self.one(directory.as_fd(), &name, &path.join(OsStr::from_bytes(&name)), &stat, depth)?;
        }
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> std::result::Result<(), Trouble> {
        in_time(self.until)?;
        self.entries += u64::from(bytes == 0);
        self.bytes += bytes;
        let (entries, total) = (self.limits.layer_entries, self.limits.layer_unpacked_bytes);
        match self.entries > entries || self.bytes > total {
            true => Err(Trouble::Limit(format!("there are more than {entries} entries or {total} bytes of files"))),
            false => Ok(()),
        }
    }

    fn one(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &Path,
        stat: &Stat,
        depth: usize,
    ) -> std::result::Result<(), Trouble> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut header = header_of(stat);
        match kind {
            FileType::Directory => {
                let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
                self.attributes(&directory)?;
                header.set_entry_type(EntryType::Directory);
                self.archive.append_data(&mut header, path, io::empty())?;
                if is_opaque(&directory) {
                    self.marker(&path.join(".wh..wh..opq"))?;
                }
                self.directory(&directory, path, depth + 1)
            }
            FileType::RegularFile if self.was_written(stat, path, &mut header)? => Ok(()),
            FileType::RegularFile => {
                let file = rustix::fs::openat(parent, name, FILE, Mode::empty())?;
                let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or_default();
                self.count(size)?;
                self.attributes(&file)?;
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                // What shrinks meanwhile ends in zeros: the header is written.
                let data = Timely { source: File::from(file), until: self.until }.chain(io::repeat(0)).take(size);
                Ok(self.archive.append_data(&mut header, path, data)?)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                header.set_entry_type(EntryType::Symlink);
                Ok(self.archive.append_link(&mut header, path, Path::new(OsStr::from_bytes(target.as_bytes())))?)
            }
            // How overlayfs remembers what was deleted.
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                let name = OsStr::from_bytes(name).to_owned();
                let mut marked = std::ffi::OsString::from(".wh.");
                marked.push(name);
                self.marker(&path.with_file_name(marked))
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let block = kind == FileType::BlockDevice;
                header.set_entry_type(if block { EntryType::Block } else { EntryType::Char });
                header.set_device_major(rustix::fs::major(stat.st_rdev))?;
                header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
                Ok(self.archive.append_data(&mut header, path, io::empty())?)
            }
            FileType::Fifo => {
                header.set_entry_type(EntryType::Fifo);
                Ok(self.archive.append_data(&mut header, path, io::empty())?)
            }
            // A socket is bound again by its program.
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    /// A further name of a file that is in the archive already becomes a link to that.
    fn was_written(&mut self, stat: &Stat, path: &Path, header: &mut Header) -> std::result::Result<bool, Trouble> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
            header.set_entry_type(EntryType::Link);
            self.archive.append_link(header, path, first)?;
            return Ok(true);
        }
        if self.linked.len() < MAX_LINKED {
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        Ok(false)
    }

    fn marker(&mut self, path: &Path) -> std::result::Result<(), Trouble> {
        let mut header = Header::new_gnu();
        header.set_mode(0o600);
        header.set_entry_type(EntryType::Regular);
        Ok(self.archive.append_data(&mut header, path, io::empty())?)
    }

    /// Those that belong to the file and not to overlayfs or the host's security module.
    fn attributes(&mut self, file: impl AsFd) -> std::result::Result<(), Trouble> {
        let mut names = vec![0_u8; MAX_ATTRIBUTE_BYTES];
        let length = match rustix::fs::flistxattr(&file, &mut names[..]) {
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
            other => other?,
        };
        names.truncate(length);
        let is_own = |name: &&[u8]| name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        let wanted = names.split(|byte| *byte == 0).filter(|name| *name == b"security.capability" || is_own(name));
        let mut found = Vec::new();
        for name in wanted {
            let mut value = vec![0_u8; MAX_ATTRIBUTE_BYTES];
            let length = rustix::fs::fgetxattr(&file, name, &mut value[..])?;
            value.truncate(length);
            found.push((format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value));
        }
        if found.is_empty() {
            return Ok(());
        }
        let records = found.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        Ok(self.archive.append_pax_extensions(records)?)
    }
}

fn header_of(stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(0);
    header
}
