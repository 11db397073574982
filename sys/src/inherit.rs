//! Owning the descriptors that a process was started with.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};

/// Takes inherited descriptors over and marks them close-on-exec. To be called at the start of a program, before anything else
/// can have opened descriptors of these numbers; works once, so that nothing is owned twice.
///
/// # Errors
/// `EBADF` if one of them is not open, `EALREADY` when called again.
pub fn take_inherited<const N: usize>(numbers: [RawFd; N]) -> Result<[OwnedFd; N], Errno> {
    take(&numbers)?;
    // SAFETY: they are open, came from the parent, and are taken at most once; nothing in this program owns them yet.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

/// As [`take_inherited`] for all of `numbers`, which are above the standard streams.
///
/// # Errors
/// As there.
pub fn take_inherited_range(numbers: std::ops::Range<RawFd>) -> Result<Vec<OwnedFd>, Errno> {
    let numbers: Vec<RawFd> = numbers.collect();
    if numbers.iter().any(|number| *number < 3) {
        return Err(Errno::BADF);
    }
    take(&numbers)?;
    // SAFETY: as above.
    Ok(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}

fn take(numbers: &[RawFd]) -> Result<(), Errno> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(Errno::ALREADY);
    }
    for number in numbers {
        // SAFETY: borrowed only for a call that fails for a descriptor that is not open.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw((*number).max(0)) };
        fcntl_setfd(fd, fcntl_getfd(fd)? | FdFlags::CLOEXEC)?;
    }
    Ok(())
}
