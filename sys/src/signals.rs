//! Signal dispositions and the mask, as a whole.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use rustix::io::Errno;

/// Gives every signal its default action and unblocks all: what a new program expects, for ignored and blocked signals
/// outlive execve(2). See <https://man7.org/linux/man-pages/man7/signal.7.html>.
///
/// # Errors
/// Those of sigprocmask(2).
pub fn reset_signals() -> Result<(), Errno> {
    for number in 1..=64 {
        // SAFETY: the default action runs no code of ours. SIGKILL, SIGSTOP and those of the C library refuse, as they should.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(errno)
}

/// Ignores a signal. Ignoring SIGCHLD lets the kernel reap children, see <https://man7.org/linux/man-pages/man2/wait.2.html>.
///
/// # Errors
/// Those of signal(2).
pub fn ignore_signal(signal: Signal) -> Result<(), Errno> {
    // SAFETY: an ignored signal runs no code of ours.
    if unsafe { libc::signal(signal as libc::c_int, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(crate::last_errno());
    }
    Ok(())
}

/// Blocks `signals`, for a signalfd(2) or sigwait(3), and returns the set.
///
/// # Errors
/// Those of sigprocmask(2).
pub fn block_signals(signals: &[Signal]) -> Result<SigSet, Errno> {
    let set: SigSet = signals.iter().copied().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(errno)?;
    Ok(set)
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}
