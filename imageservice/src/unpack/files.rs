//! Contents of regular files.

use std::io::BufRead;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, SeekFrom};

use super::{During as _, Failure, NEW_FILE, Step};
use crate::tar::{Entry, Reader};

/// Makes a file and writes its stored bytes, leaving the holes of a sparse one.
pub(super) fn regular(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    reader: &mut Reader<impl BufRead>,
) -> Step<OwnedFd> {
    let file = rustix::fs::openat(parent, name, NEW_FILE, Mode::RUSR | Mode::WUSR).during("make file")?;
    let mut position = 0;
    // A map may end with an empty segment at the file's end, which writes nothing.
    for segment in entry.segments.iter().filter(|segment| segment.length > 0) {
        if segment.offset != position {
            rustix::fs::seek(&file, SeekFrom::Start(segment.offset)).during("seek")?;
        }
        copy(&file, segment.length, reader)?;
        position = segment.offset + segment.length;
    }
    if position != entry.size {
        rustix::fs::ftruncate(&file, entry.size).during("set size")?;
    }
    Ok(file)
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
