//! The pid that a runtime wrote to a file: believed only if it is that of a child of the caller.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use crate::error::{Failure, Step};

/// Longest file that is read: a pid has ten digits at most.
const MAX_FILE_BYTES: usize = 32;

/// A descriptor for the process that the file names. The caller is its parent, so it can not have become another one.
pub(super) fn read(path: &Path, runtime: &str) -> Result<(Pid, OwnedFd), Failure> {
    let what = || format!("the pid file of runtime handler {runtime:?}");
    let bytes = bytes(path).step("read", what)?;
    let pid = parse(&bytes).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).take(40).collect();
        Failure::because("read", what(), format!("it holds {shown:?}, which is no pid; the runtime is broken"))
    })?;
    let is_child = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);
    if is_child.is_err() {
        let reason = format!("process {} is none that the runtime started; the runtime is broken", pid.as_raw_pid());
        return Err(Failure::because("believe", what(), reason));
    }
    Ok((pid, pidfd_open(pid, PidfdFlags::empty()).step("open the process of", what)?))
}

fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The number in the file.
pub(crate) fn parse(bytes: &[u8]) -> Option<Pid> {
    let text = std::str::from_utf8(bytes.get(..bytes.len().min(MAX_FILE_BYTES))?).ok()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // 0 is nobody and 1 is the host's init.
    let number: i32 = text.parse().ok().filter(|_| digits && bytes.len() <= MAX_FILE_BYTES)?;
    Pid::from_raw(number).filter(|pid| !pid.is_init())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_pids() {
        assert_eq!(parse(b"4711\n").map(Pid::as_raw_pid), Some(4711));
        for bad in [b"".as_slice(), b"0", b"1", b"-5", b"+5", b"4 5", b"99999999999", b"x", &[b'1'; 64], b"\xff"] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn somebody_elses_pid_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        assert!(read(&path, "x").is_err());
        std::fs::write(&path, std::os::unix::process::parent_id().to_string()).unwrap();
        let error = read(&path, "x").unwrap_err().text;
        assert!(error.contains("none that the runtime started"), "{error}");
    }
}
