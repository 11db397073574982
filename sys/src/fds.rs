//! File descriptors as a whole: which of them a program gets, and executing by descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use rustix::io::Errno;

use crate::check;

/// Marks every descriptor from `first` on close-on-exec, with close_range(2):
/// <https://man7.org/linux/man-pages/man2/close_range.2.html>.
///
/// # Errors
/// Those of the call.
pub fn make_all_cloexec_from(first: RawFd) -> Result<(), Errno> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from `first` on. Only for a process that uses none of them again, not even by dropping an owner:
/// the caller ends by exec or exit, or waits for ever.
///
/// # Errors
/// Those of close_range(2): <https://man7.org/linux/man-pages/man2/close_range.2.html>.
pub fn close_all_from(first: RawFd) -> Result<(), Errno> {
    close_range(first, 0)
}

fn close_range(first: RawFd, flags: libc::c_uint) -> Result<(), Errno> {
    let first = libc::c_uint::try_from(first).map_err(|_| Errno::BADF)?;
    // SAFETY: the call takes numbers only. An owner of a closed descriptor gets EBADF, as the callers above document.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) }).map(|_| ())
}

/// Replaces the program by the one that `file` refers to, with execveat(2); returns only if that failed:
/// <https://man7.org/linux/man-pages/man2/execveat.2.html>.
pub fn exec_fd(file: impl AsFd, arguments: &[CString], environment: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    let empty: &CStr = c"";
    // SAFETY: all pointers are to NUL-terminated strings and NULL-terminated arrays that live to the end of the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            empty.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    check(result).err().unwrap_or(Errno::IO)
}
