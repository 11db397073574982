//! Bringing a container's processes back.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use crate::dump::{IGNORE_CGROUPS, LOG_LEVEL};
use crate::error::Error;
use crate::message::{InheritFd, JoinNamespace, Kind, Options};
use crate::session::{Session, judged};

/// Its log in the directory for its work.
const LOG: &str = "restore.log";

/// A descriptor that takes the place of one in the images. It must not be close-on-exec.
#[derive(Debug)]
pub struct Inherited<'a> {
    /// What stands in the images.
    pub key: String,
    /// What takes its place.
    pub fd: BorrowedFd<'a>,
}

/// A namespace that the processes join.
#[derive(Debug)]
pub struct Joined {
    /// `ipc`, `uts`.
    pub kind: &'static str,
    /// Its file.
    pub file: String,
}

/// A restore.
#[derive(Debug)]
pub struct Restore<'a> {
    /// CRIU.
    pub program: &'a Path,
    /// Directory with the images.
    pub images: BorrowedFd<'a>,
    /// Directory for its log.
    pub work: BorrowedFd<'a>,
    /// The same as a path.
    pub work_path: &'a Path,
    /// The root file system, a mount.
    pub root: String,
    /// What is made outside; see [`external_mount`](crate::external_mount).
    pub external: Vec<String>,
    /// Descriptors.
    pub inherited: Vec<Inherited<'a>>,
    /// Namespaces.
    pub joined: Vec<Joined>,
    /// `apparmor:NAME` or `selinux:LABEL`.
    pub profile: Option<String>,
    /// For all of it.
    pub within: Duration,
}

/// Restores. When all processes are as they will be and before any of them goes on, `ready` is called with the pid of the first; its
/// error stops CRIU, and the caller has to kill what is there.
///
/// # Errors
/// CRIU's, or that of `ready`.
pub fn restore(restore: Restore<'_>, ready: &mut dyn FnMut(i32) -> Result<(), String>) -> Result<i32, Error> {
    let mut session = Session::start(restore.program, restore.within)?;
    let options = Options {
        images_dir_fd: restore.images.as_raw_fd(),
        work_dir_fd: Some(restore.work.as_raw_fd()),
        tcp_established: Some(true),
        file_locks: Some(true),
        log_level: Some(LOG_LEVEL),
        log_file: Some(LOG.to_owned()),
        notify_scripts: Some(true),
        root: Some(restore.root),
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(IGNORE_CGROUPS),
        external: restore.external,
        inherit_fd: restore
            .inherited
            .into_iter()
            .map(|inherited| InheritFd { key: inherited.key, fd: inherited.fd.as_raw_fd() })
            .collect(),
        join_ns: restore
            .joined
            .into_iter()
            .map(|joined| JoinNamespace { kind: joined.kind.to_owned(), file: joined.file })
            .collect(),
        lsm_profile: restore.profile,
        ..Options::default()
    };
    let (mut asked, mut pid) = (false, 0);
    let outcome = session.ask(Kind::Restore, options, &mut |notice| {
        // It comes with some notices before that one.
        pid = notice.pid.unwrap_or(pid);
        match notice.script.as_deref() {
            Some("pre-resume") => {
                asked = true;
                ready(pid)
            }
            _ => Ok(()),
        }
    });
    let response = judged(outcome, &restore.work_path.join(LOG))?;
    let pid = response.restored.map(|restored| restored.pid).unwrap_or_default();
    match asked {
        true => Ok(pid),
        false => {
            Err(Error::Stopped("this CRIU tells nothing before it lets the processes go on; use another".to_owned()))
        }
    }
}
