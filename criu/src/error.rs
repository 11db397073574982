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
    /// It was not done in time and was stopped; what that left behind.
    #[error("CRIU was not done within {0} seconds and was stopped{1}")]
    TimedOut(u64, String),
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

impl Error {
    /// The same, with more words.
    pub(crate) fn and(self, more: &str) -> Self {
        match self {
            Self::TimedOut(seconds, text) => Self::TimedOut(seconds, text + more),
            Self::Ended(text) => Self::Ended(text + more),
            Self::Refused(text) => Self::Refused(text + more),
            Self::Stopped(text) => Self::Stopped(text + more),
            error @ (Self::Missing { .. } | Self::Talk { .. }) => error,
        }
    }
}
