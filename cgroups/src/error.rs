//! What goes wrong with control groups.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A failure, with the file it happened at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of a cgroup refused.
    #[error("cannot {step} {}{}", path.display(), advice(cause))]
    File {
        /// What was being done, as `write "max" to`.
        step: String,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// A limit needs a controller that the host does not have.
    #[error(
        "{limit} needs the cgroup controller {controller:?}, which is not there; enable it on this host or drop the limit"
    )]
    NoController {
        /// Name of the controller.
        controller: &'static str,
        /// What was asked for.
        limit: String,
    },
    /// This version of cgroups can not do what was asked for.
    #[error("{setting} does not exist with cgroup {version} on this host; drop it")]
    Unsupported {
        /// What was asked for.
        setting: String,
        /// `v1` or `v2`.
        version: &'static str,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted; mount cgroup2 on /sys/fs/cgroup")]
    NoHierarchy,
    /// What was asked for can not be right.
    #[error("{0}")]
    Invalid(String),
    /// It can not be removed, or not be killed off, because it is in use.
    #[error("cgroup {path} still holds {processes} processes; kill them and wait for their end")]
    Busy {
        /// The cgroup.
        path: String,
        /// How many live; 0 if they have ended and the kernel has not let go of them yet.
        processes: usize,
    },
}

impl Error {
    pub(crate) fn file(step: impl Into<String>, path: &Path, cause: impl Into<io::Error>) -> Self {
        Self::File { step: step.into(), path: path.to_owned(), cause: cause.into() }
    }

    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::File { cause, .. } => cause.raw_os_error().map(Errno::from_raw_os_error),
            Self::NoController { .. }
            | Self::Unsupported { .. }
            | Self::NoHierarchy
            | Self::Invalid(_)
            | Self::Busy { .. } => None,
        }
    }

    /// Whether a file or a whole cgroup is not there (any more).
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::File { cause, .. } if is_gone(cause))
    }
}

/// A cgroup that goes away under an open file says `ENODEV`.
pub(crate) fn is_gone(cause: &io::Error) -> bool {
    cause.kind() == ErrorKind::NotFound || cause.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::BUSY) => " (in use: a limit must not be below the present usage)",
        Some(Errno::INVAL | Errno::RANGE) => " (give a value of the right form that the parent cgroup allows)",
        Some(Errno::ACCESS | Errno::PERM) => " (the parent cgroup must allow it, and the caller must be root)",
        Some(Errno::ROFS) => " (mount the cgroup file system writable)",
        Some(Errno::NOENT | Errno::NODEV) => " (the cgroup is gone, or this kernel lacks the file)",
        Some(Errno::NOSPC) => " (the cpuset is empty, or a cgroup limit is reached)",
        _ => "",
    }
}
