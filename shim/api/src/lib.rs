//! Protocol between podwrightd and podwright-shim.
//!
//! One packet of a `SOCK_SEQPACKET` unix socket is one message, of at most [`MAX_PACKET_BYTES`]. What can be larger (OCI
//! documents) travels as a sealed memfd beside it. The daemon sends [`Request`]s; the shim answers each with one [`Packet`] of
//! the same id ([`Reply::Placing`] comes before the answer and is none), and sends packets with id 0 by itself. Old shims meet
//! new daemons: fields and requests are only ever added, and a request that a shim does not know is answered with
//! [`FailureKind::Unsupported`].
//!
//! Owns the messages, their framing and, with the feature `client`, the daemon's half: [`client::Client`] and
//! [`launcher::Launcher`]. Leaves what the requests do to `podwright-shim`.

#![forbid(unsafe_code)]

pub mod blob;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod launcher;
pub mod message;
pub mod socket;

pub use message::*;
pub use socket::{MAX_FDS, MAX_PACKET_BYTES};

/// Version of the protocol; raised when something is added that a peer may want to know of.
pub const PROTOCOL_VERSION: u32 = 1;

/// Feature of a shim that takes the pod's network namespace from the daemon.
pub const GIVEN_NETNS: &str = "given-netns";
/// A shim with this feature takes [`StartContainer::restore`].
pub const RESTORE: &str = "restore";
/// Feature of a shim that has containers run by another runtime ([`StartContainer::runtime`]).
pub const OTHER_RUNTIMES: &str = "other-runtimes";
