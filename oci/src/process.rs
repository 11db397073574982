//! Processes by their pid and start, so that a pid that was given out again is not taken for its former owner.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::store::Identity;

/// State letter and start of a process in /proc/PID/stat.
fn parse(stat: &str) -> Option<(char, u64)> {
    // The name before may hold anything, parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn look(pid: i32) -> Option<(char, u64)> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Of a process that is there, or was a moment ago and has not been reaped.
pub(crate) fn identity(pid: i32) -> Result<Identity> {
    let (_, start_ticks) = look(pid).with_context(|| format!("the process {pid} ended at once"))?;
    Ok(Identity { pid, start_ticks })
}

/// Whether it lives; what has ended and was not reaped does not.
pub(crate) fn lives(of: Identity) -> bool {
    matches!(look(of.pid), Some((state, start)) if start == of.start_ticks && !matches!(state, 'Z' | 'X'))
}

/// A descriptor for it; `None` if it does not live.
pub(crate) fn open(of: Identity) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(of.pid)?, PidfdFlags::empty()).ok()?;
    // Looked at after the descriptor was opened: it is of the same process then.
    lives(of).then_some(pidfd)
}

/// Waits for its end; `false` if it did not come in time.
pub(crate) fn await_end(pidfd: &OwnedFd, seconds: i64) -> Result<bool> {
    let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&limit)).context("waiting for a process")?;
    Ok(ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_are_no_trap() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2 3";
        assert_eq!(parse(stat), Some(('S', 4242)));
        assert_eq!(parse("7 (x) S 1"), None);
    }

    #[test]
    fn another_start_is_another_process() {
        let own = identity(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(lives(own) && open(own).is_some());
        let other = Identity { start_ticks: own.start_ticks + 1, ..own };
        assert!(!lives(other) && open(other).is_none());
    }
}
