//! What goes wrong with control groups.

use std::path::PathBuf;

/// A failure, with the file it happened at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of a cgroup refused.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was being done, as `write "max" to`.
        step: String,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: std::io::Error,
    },
    /// A limit needs a controller that the host does not have.
    #[error("the host has no cgroup controller {controller:?}, which {limit} needs; boot with it or drop the limit")]
    NoController {
        /// Name of the controller.
        controller: &'static str,
        /// What was asked for.
        limit: String,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted; mount cgroup2 on /sys/fs/cgroup")]
    NoHierarchy,
    /// What was asked for can not be right.
    #[error("{0}")]
    Invalid(String),
    /// Processes are still in it.
    #[error("cgroup {path} still holds {processes} processes")]
    Busy {
        /// The cgroup.
        path: String,
        /// How many.
        processes: usize,
    },
}
