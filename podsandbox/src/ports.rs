//! What the life of a pod needs from outside: a network, images and shims. `podwrightd` plugs the real ones in, unit tests
//! plug fakes.
//!
//! Every method may be called again after a crash or a time-out, with the same arguments, and then finishes or confirms what
//! the first call began. Every error's text says what was being done, to which object, why it failed and what to do.

mod cgroups;
mod checkpoints;
mod extensions;
mod handlers;
mod images;
mod network;
mod shim;
mod statistics;

pub use cgroups::Cgroups;
pub use checkpoints::{Checkpoint, Checkpoints, NoCheckpoints};
pub use extensions::{Extensions, Moment, NoExtensions, Turn};
pub use handlers::{Handlers, NoHandlers};
pub use images::{HealthcheckConfig, Image, ImageConfig, Images};
pub use network::{Netns, Network, NetworkKind, NetworkRequest};
pub use shim::{
    CgroupPlacement, ContainerReport, CreatePod, ExecExit, ExecRequest, GivenFds, HandlerPlan, LaunchShim,
    NamespaceChoice, NamespacePlan, PidPlan, PodCreated, ProcessEnd, RestorePlan, Shim, ShimEvent, ShimState, Shims,
    StartContainer, StartFailure, Started,
};
pub use statistics::{
    ContainerReading, ContainerSubject, LayerCount, ReadReply, ReadRequest, SandboxReading, SandboxSubject, Statistics,
};

/// A failure behind one of these traits.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The object is not there.
    #[error("{0}")]
    NotFound(String),
    /// The request can not be right; repeating it does not help.
    #[error("{0}")]
    Invalid(String),
    /// The other side (shim, plugin, registry) can not be reached now.
    #[error("{0}")]
    Unavailable(String),
    /// The time limit passed.
    #[error("{0}")]
    TimedOut(String),
    /// A limit of the host is reached.
    #[error("{0}")]
    Exhausted(String),
    /// A file system can not be written to.
    #[error("{0}")]
    ReadOnly(String),
    /// The operator's policy of signatures does not allow an image.
    #[error("{0}")]
    Untrusted(String),
    /// A program could not be executed; the text is for people, the kind decides the exit code.
    #[error("{1}")]
    Start(StartFailure, String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}
