//! Closing every file descriptor but some: for a forked child that must not hold what its parent holds.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::check;

/// Closes every descriptor from 3 on except those of `keep`, with close_range(2). Only for a process that uses none of the
/// others again, not even by dropping an owner: a forked child that ends by `exit`.
/// <https://man7.org/linux/man-pages/man2/close_range.2.html>
///
/// # Errors
/// Those of the call.
pub fn close_all_except(keep: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first: u32 = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only. An owner of a closed descriptor gets EBADF, as the caller above documents.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(|_| ())
}
