//! Why a call to a shim did not succeed.

use std::time::Duration;

use crate::{Failure, FailureKind};

/// Why a call to a shim did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The shim tried and failed, or refused.
    #[error("{}", failure.text())]
    Refused {
        /// What it said.
        failure: Failure,
    },
    /// The connection ended before the answer.
    #[error(
        "{operation}: the connection to the shim ended before it answered ({reason}); connect again to see if it lives"
    )]
    Gone {
        /// The call.
        operation: &'static str,
        /// Why it ended, as far as known.
        reason: String,
    },
    /// No answer within the deadline; the operation may still be under way, and repeating the call joins it.
    #[error("{operation}: the shim did not answer within {} s; repeat the call to join the operation", after.as_secs())]
    TimedOut {
        /// The call.
        operation: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The shim said something that does not fit.
    #[error("protocol: {text}")]
    Protocol {
        /// What.
        text: String,
    },
    /// A local system call failed.
    #[error("shim connection, {object}")]
    Io {
        /// What it was about.
        object: String,
        /// Why.
        source: std::io::Error,
    },
}

impl ClientError {
    /// The sort of failure, if the shim answered with one.
    #[must_use]
    pub fn kind(&self) -> Option<FailureKind> {
        match self {
            Self::Refused { failure } => Some(failure.kind()),
            Self::Gone { .. } | Self::TimedOut { .. } | Self::Protocol { .. } | Self::Io { .. } => None,
        }
    }

    /// Nobody listens on the socket, or there is none: the shim does not live.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
            }
            Self::Refused { .. } | Self::Gone { .. } | Self::TimedOut { .. } | Self::Protocol { .. } => false,
        }
    }
}
