//! What a client asked for over the CRI, and will come to stream.

use podwright_podsandbox::session::StreamChoice;
use podwright_types::{ContainerId, SandboxId};

/// A request that waits for its client.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// To execute a command.
    Exec {
        /// Where.
        container: ContainerId,
        /// The command.
        argv: Vec<String>,
        /// Its streams.
        choice: StreamChoice,
    },
    /// To attach to a container.
    Attach {
        /// Which.
        container: ContainerId,
        /// Its streams.
        choice: StreamChoice,
    },
    /// To forward connections into a pod.
    Forward {
        /// Which.
        sandbox: SandboxId,
        /// The ports that may be asked for; none: all.
        ports: Vec<u16>,
    },
}

impl Asked {
    /// The first part of the URL's path.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::Forward { .. } => "portforward",
        }
    }
}
