//! Signals by number, real-time signals included, which the types of rustix and nix leave out.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

/// Highest signal number.
const LAST_SIGNAL: i32 = 64;

fn signal(number: i32) -> Result<Signal, Errno> {
    if !(1..=LAST_SIGNAL).contains(&number) {
        return Err(Errno::INVAL);
    }
    // SAFETY: the number is one of a signal. The two or three real-time signals that the C library keeps for itself mean
    // nothing to kill(2); whoever asks for them sends them to a process of its own choice.
    Ok(unsafe { Signal::from_raw_unchecked(number) })
}

/// Sends a signal to the process behind a pidfd: <https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html>.
///
/// # Errors
/// `EINVAL` for a number that is no signal; else those of the call.
pub fn signal_pidfd(process: impl AsFd, number: i32) -> Result<(), Errno> {
    rustix::process::pidfd_send_signal(process, signal(number)?)
}

/// Sends a signal to a process: <https://man7.org/linux/man-pages/man2/kill.2.html>.
///
/// # Errors
/// `EINVAL` for a number that is no signal; else those of the call.
pub fn signal_process(pid: Pid, number: i32) -> Result<(), Errno> {
    rustix::process::kill_process(pid, signal(number)?)
}
