//! Children that ended: taking their exit status.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

/// Exit code for a death by signal 0; signals are added.
const SIGNAL_BASE: i32 = 128;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its pid, free for others from now on.
    pub(crate) pid: Pid,
    /// Exit code; 128 + n after signal n.
    pub(crate) code: i32,
    /// When, in nanoseconds since the epoch.
    pub(crate) at_nanos: i64,
}

/// Takes the exit status of one child that ended, be it ours or an orphan of the pod.
pub(crate) fn reap() -> Option<Ended> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return Some(Ended { pid, code: code(status), at_nanos: now_nanos() }),
            Err(rustix::io::Errno::INTR) => (),
            Ok(None) | Err(_) => return None,
        }
    }
}

fn code(status: WaitStatus) -> i32 {
    let by_signal = status.terminating_signal().map(|signal| SIGNAL_BASE + signal);
    status.exit_status().or(by_signal).unwrap_or(SIGNAL_BASE)
}

/// Nanoseconds since the epoch.
pub(crate) fn now_nanos() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
