//! Asking CRIU to write the processes of a container to disk and to bring them back, over the socket that `criu swrk` serves.
//!
//! Owns the words of that protocol, the deadline of a request, and what a failed one says. Everything here blocks; which
//! processes, mounts and namespaces are meant is left to the callers.
#![forbid(unsafe_code)]

mod dump;
mod error;
mod message;
mod mountinfo;
mod network;
mod restore;
mod session;

pub use dump::{Dump, dump};
pub use error::Error;
pub use mountinfo::{MAX_MOUNTS, Mount, parse_mounts};
pub use restore::{Inherited, Joined, Restore, restore};

/// Where Debian and others install it.
pub const DEFAULT_PROGRAM: &str = "/usr/sbin/criu";
/// Under which a container's network namespace stands in its images, as other runtimes name it.
pub const NETWORK_KEY: &str = "extRootNetNS";

/// What maps a mount that is made outside of the images to `value`: a key while dumping, a path while restoring.
#[must_use]
pub fn external_mount(at: &str, value: &str) -> String {
    format!("mnt[{at}]:{value}")
}

/// What marks a network namespace as one that is made outside of the images.
#[must_use]
pub fn external_network(inode: u64) -> String {
    format!("net[{inode}]:{NETWORK_KEY}")
}
