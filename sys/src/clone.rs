//! Making a process that goes on in the same program: clone3(2) with the meaning of fork. What the child does is left to
//! the caller.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use crate::check;

bitflags::bitflags! {
    /// What the child gets of its own, and where it belongs.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// A pid namespace, of which the child is the init.
        const NEWPID = libc::CLONE_NEWPID as u64;
        /// A user namespace.
        const NEWUSER = libc::CLONE_NEWUSER as u64;
        /// The child becomes a sibling of the caller.
        const PARENT = libc::CLONE_PARENT as u64;
    }
}

/// A child process.
#[derive(Debug)]
pub struct Process {
    /// Its pid in the caller's pid namespace.
    pub pid: Pid,
    /// A descriptor for it; close-on-exec.
    pub pidfd: OwnedFd,
}

/// Who comes back from [`clone_process`].
#[derive(Debug)]
pub enum Clones {
    /// The caller, with its child.
    Parent(Process),
    /// The child.
    Child,
}

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) without `CLONE_VM`: the child has a copy of the caller's memory and returns from the same call. With `cgroup`, a
/// directory of cgroup v2, the child begins its life there.
///
/// # Errors
/// `EDEADLK` if the caller has more than one thread, for then a lock may be held in the child for ever; else those of
/// clone3(2): <https://man7.org/linux/man-pages/man2/clone.2.html>.
pub fn clone_process(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> Result<Clones, Errno> {
    if !is_single_threaded()? {
        return Err(Errno::DEADLK);
    }
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags.bits() | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: if flags.contains(CloneFlags::PARENT) { 0 } else { libc::SIGCHLD as u64 },
        ..CloneArgs::default()
    };
    if let Some(directory) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP does not fit the type that libc gives it.
        args.cgroup = directory.as_raw_fd() as u64;
    }
    // SAFETY: the arguments are a valid clone_args that outlives the call. Without CLONE_VM the child has its own copy of the
    // memory and of the stack, and the caller is single-threaded, so no lock is held by a thread that the child lacks.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    match Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?) {
        None => Ok(Clones::Child),
        // SAFETY: the kernel stored a new descriptor there, which nothing else owns.
        Some(pid) => Ok(Clones::Parent(Process { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
    }
}

/// unshare(2) of the threads changes nothing where there is one, and is refused where there are more. It asks no file system.
fn is_single_threaded() -> Result<bool, Errno> {
    // SAFETY: the flag has no effect but the answer: <https://man7.org/linux/man-pages/man2/unshare.2.html>.
    match check(unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_THREAD) }) {
        Ok(_) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_with_several_threads() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receive.recv());
        assert_eq!(clone_process(CloneFlags::empty(), None).err(), Some(Errno::DEADLK));
        drop(send);
        assert!(other.join().is_ok());
    }
}
