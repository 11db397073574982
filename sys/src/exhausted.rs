//! Errors that say that the host, or a limit of this process, has no more of something, with what to do about it; and how near
//! the limit of open files is.

use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// What to do where an error number says that something ran out; `None` for all other errors.
#[must_use]
pub fn exhaustion_remedy(raw: i32) -> Option<&'static str> {
    // Checked: 0 and other numbers that are no errors come too, where a failure has no error number.
    Some(match Errno::from_io_error(&std::io::Error::from_raw_os_error(raw))? {
        Errno::NOSPC => "no blocks or inodes are left there; free some",
        Errno::DQUOT => "the quota is used up; free some space or raise it",
        Errno::MFILE => "this process has too many files open; raise its limit of open files (LimitNOFILE)",
        Errno::NFILE => "the host has too many files open; raise fs.file-max",
        Errno::NOMEM => "memory is short; free some, or raise the memory limit of the cgroup",
        Errno::AGAIN => {
            "no more processes or threads can be made; end some, or raise the limit (pids.max, TasksMax, kernel.pid_max)"
        }
        _ => return None,
    })
}

/// How many files this process can open before its limit is reached, at least; `None` without a limit. The kernel gives the lowest
/// free number, so one duplicate tells.
#[must_use]
pub fn spare_descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile).current?;
    match rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 0) {
        Ok(lowest_free) => Some(limit.saturating_sub(u64::try_from(lowest_free.as_raw_fd()).unwrap_or(0))),
        // The limit was lowered below what is open, which is an invalid argument then.
        Err(Errno::MFILE | Errno::INVAL) => Some(0),
        // A program without standard input.
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_out_has_a_remedy_and_other_errors_have_none() {
        assert!(exhaustion_remedy(libc::ENOSPC).is_some_and(|text| text.contains("inodes")));
        assert!(exhaustion_remedy(libc::EMFILE).is_some_and(|text| text.contains("LimitNOFILE")));
        assert_eq!(exhaustion_remedy(libc::EIO), None);
        for no_error in [0, -1, i32::MIN, i32::MAX, 4096] {
            assert_eq!(exhaustion_remedy(no_error), None);
        }
    }

    #[test]
    fn open_files_are_counted_from_below() {
        let (spare, limit) = (spare_descriptors(), getrlimit(Resource::Nofile).current);
        assert!(spare.zip(limit).is_none_or(|(spare, limit)| 0 < spare && spare < limit), "{spare:?} of {limit:?}");
    }
}
