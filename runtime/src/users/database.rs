//! `passwd(5)` and `group(5)` of an image, read with bounded memory.
//!
//! Only regular files below the root are opened; a symbolic link leads no further than the root, a FIFO blocks nobody, and
//! lines that do not parse are passed over, as the C library does.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use crate::error::{Failure, Step};

/// Bytes of a file that are read; what follows is refused.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of a line; longer ones are refused.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// The kernel's `NGROUPS_MAX`.
pub(super) const MAX_GROUPS: usize = 65_536;

/// A line of `passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passwd {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// A line of `group`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group<'line> {
    pub(super) name: &'line str,
    pub(super) gid: u32,
    members: &'line str,
}

impl Group<'_> {
    pub(super) fn has(&self, member: &str) -> bool {
        self.members.split(',').any(|name| name == member)
    }
}

pub(super) fn scan_passwd(root: BorrowedFd<'_>, mut visit: impl FnMut(&Passwd)) -> Result<(), Failure> {
    scan(root, "etc/passwd", |line| {
        if let Some(entry) = parse_passwd(line) {
            visit(&entry);
        }
    })
}

pub(super) fn scan_groups(root: BorrowedFd<'_>, mut visit: impl FnMut(&Group<'_>)) -> Result<(), Failure> {
    scan(root, "etc/group", |line| {
        if let Some(entry) = parse_group(line) {
            visit(&entry);
        }
    })
}

pub(super) fn parse_passwd(line: &[u8]) -> Option<Passwd> {
    let mut fields = std::str::from_utf8(line).ok()?.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
    let home = fields.nth(1).unwrap_or_default();
    Some(Passwd { name: name.to_owned(), uid, gid, home: home.to_owned() })
}

pub(super) fn parse_group(line: &[u8]) -> Option<Group<'_>> {
    let mut fields = std::str::from_utf8(line).ok()?.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let gid = id(fields.next()?)?;
    Some(Group { name, gid, members: fields.next().unwrap_or_default() })
}

fn id(field: &str) -> Option<u32> {
    let digits = !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
    field.parse().ok().filter(|id| digits && *id <= super::LAST_ID)
}

fn scan(root: BorrowedFd<'_>, path: &str, mut visit: impl FnMut(&[u8])) -> Result<(), Failure> {
    let Some(file) = open(root, path)? else { return Ok(()) };
    let mut reader = BufReader::new(file.take(MAX_FILE_BYTES));
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = reader.by_ref().take(MAX_LINE_BYTES as u64);
        if bounded.read_until(b'\n', &mut line).step("read", || format!("/{path} of the image"))? == 0 {
            return Ok(());
        }
        if line.len() == MAX_LINE_BYTES {
            let reason = format_args!("a line is longer than {MAX_LINE_BYTES} bytes").to_string();
            return Err(Failure::because("read", format_args!("/{path} of the image"), reason));
        }
        visit(line.trim_ascii_end());
    }
}

/// Opens a regular file of acceptable size below the root; `None` if there is none.
fn open(root: BorrowedFd<'_>, path: &str) -> Result<Option<File>, Failure> {
    let object = || format!("/{path} of the image");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd = match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        // A socket, or a FIFO without a reader where it would be written.
        Err(Errno::NXIO) => return Err(Failure::because("read", object(), "it is no regular file")),
        Err(errno) => return Err(Failure::errno("open", object(), errno)),
    };
    let stat = fstat(&fd).step("look at", object)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Failure::because("read", object(), "it is no regular file"));
    }
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(Failure::because("read", object(), format_args!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(Some(File::from(fd)))
}
