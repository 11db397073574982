//! What a log writer may still do. It reads what containers and their clients send, all day long; it needs files, pipes and its socket
//! to the shim, and no power over anything else.

use std::io;

use podwright_sys::{AllowList, CapabilitySet, keep_capabilities};

/// To open the log anew in a directory that belongs to another user, as clients of their own choose.
const CAPABILITIES: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Reads, writes, moves between pipes, waits, opens; and what the C library does for memory, time and its end. No program can be executed, no process made,
/// none signalled, no socket made, nothing mounted or joined.
const CALLS: AllowList = AllowList::new(&[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_splice,
    libc::SYS_close,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_ioctl,
    libc::SYS_fcntl,
    libc::SYS_openat,
    libc::SYS_mkdirat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    libc::SYS_linkat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
]);

/// Gives everything else up, for good. Without that there is no writer: better no log than one that is read by a process which may do
/// all that the shim may.
pub(super) fn confine() -> io::Result<()> {
    let failed = |what: &'static str| {
        move |errno: podwright_sys::Errno| {
            let error = io::Error::from(errno);
            io::Error::other(format!("take {what} from the log writer: {error}"))
        }
    };
    keep_capabilities(CAPABILITIES).map_err(failed("capabilities"))?;
    CALLS.install().map_err(failed("system calls"))
}
