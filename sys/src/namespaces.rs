//! Leaving, making and joining namespaces, for processes with one thread.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

/// How mounts and unmounts travel between a mount and its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the master to here.
    Slave,
    /// Both ways.
    Shared,
    /// Not at all, and it can not be bind mounted.
    Unbindable,
}

impl Propagation {
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// Gives the process namespaces of its own, with unshare(2): <https://man7.org/linux/man-pages/man2/unshare.2.html>.
///
/// # Errors
/// `EINVAL` for `FILES`, which could part threads from their descriptors; else those of the call.
pub fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(Errno::INVAL);
    }
    // SAFETY: the one unsafe flag, FILES, was ruled out.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Joins the namespace that `namespace` refers to, with setns(2): <https://man7.org/linux/man-pages/man2/setns.2.html>. A
/// pid namespace is joined by the children made from now on.
///
/// # Errors
/// Those of the call.
pub fn join_namespace(namespace: impl AsFd) -> Result<(), Errno> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), None)
}

/// Joins several namespaces of the process that `pidfd` refers to at once.
///
/// # Errors
/// Those of setns(2).
pub fn join_process_namespaces(pidfd: impl AsFd, which: ThreadNameSpaceType) -> Result<(), Errno> {
    rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), which)
}
