//! Why CRIU did not do what it was asked for.

use std::path::PathBuf;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can not be executed.
    #[error("CRIU is not to be had at {}; install it (Debian: criu, 4.1 or newer for Linux 6.13 and later), or name its path in the configuration", .program.display())]
    Missing {
        /// Where it was looked for.
        program: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// It could not be talked to.
    #[error("{step}")]
    Talk {
        /// What was being done.
        step: &'static str,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// It did not answer in time and was killed.
    #[error("CRIU was not done within {0} seconds and was killed")]
    TimedOut(u64),
    /// It ended without an answer.
    #[error("CRIU ended without an answer{0}")]
    Ended(String),
    /// It said no.
    #[error("CRIU refused{0}")]
    Refused(String),
    /// The caller stopped it.
    #[error("{0}")]
    Stopped(String),
}
