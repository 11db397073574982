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
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(Errno::ALREADY);
    }
    for number in numbers {
        // SAFETY: borrowed only for a call that fails for a descriptor that is not open.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number.max(0)) };
        fcntl_setfd(fd, fcntl_getfd(fd)? | FdFlags::CLOEXEC)?;
    }
    // SAFETY: they are open, came from the parent, and are taken at most once; nothing in this program owns them yet.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}
