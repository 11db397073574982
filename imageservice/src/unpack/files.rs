//! Contents of regular files.

use std::io::BufRead;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, SeekFrom};
use rustix::io::Errno;

use super::{During as _, Failure, NEW_FILE, Step, attributes};
use crate::tar::{Entry, Reader};

/// Read, write and execute of owner, group and others.
const PERMISSIONS: u32 = 0o777;

/// Makes a file; `None` if something has that name.
pub(super) fn create(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Step<Option<OwnedFd>> {
    // With the mode that it is to have, so that most need no second call. What more a mode can hold is for when the owner is right.
    match rustix::fs::openat(parent, name, NEW_FILE, Mode::from_raw_mode(entry.mode & PERMISSIONS)) {
        Err(Errno::EXIST) => Ok(None),
        result => result.map(Some).during("make file"),
    }
}

/// Writes its stored bytes, leaving the holes of a sparse one, and gives it its attributes.
pub(super) fn fill(file: &OwnedFd, entry: &Entry, reader: &mut Reader<impl BufRead>) -> Step<()> {
    write(file, entry, reader)?;
    attributes::of_file(file.as_fd(), entry)?;
    rustix::fs::futimens(file, &attributes::times(entry)).during("set time")
}

fn write(file: &OwnedFd, entry: &Entry, reader: &mut Reader<impl BufRead>) -> Step<()> {
    let mut position = 0;
    // A map may end with an empty segment at the file's end, which writes nothing.
    for segment in entry.segments.iter().filter(|segment| segment.length > 0) {
        if segment.offset != position {
            rustix::fs::seek(file, SeekFrom::Start(segment.offset)).during("seek")?;
        }
        copy(file, segment.length, reader)?;
        position = segment.offset + segment.length;
    }
    if position != entry.size {
        rustix::fs::ftruncate(file, entry.size).during("set size")?;
    }
    Ok(())
}

fn copy(file: &OwnedFd, mut left: u64, reader: &mut Reader<impl BufRead>) -> Step<()> {
    while left > 0 {
        let data = reader.data().map_err(Failure::Archive)?;
        let length = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, data.get(..length).unwrap_or_default()))
            .during("write")?;
        reader.consume(written);
        left -= written as u64;
    }
    Ok(())
}
