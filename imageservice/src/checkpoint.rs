//! Archives of checkpoints, as containerd, CRI-O and podman write them and checkpointctl reads them.
//!
//! Owns the archive alone: which entries it has, what of a foreign one is taken and how much of that. What is in the images of
//! the processes is CRIU's; running it, and deciding what a container is made from, is left to the callers.
//!
//! Of a foreign archive three things are taken: the images of the processes, as opaque files under plain names; what the container
//! had changed in its root file system, unpacked as a layer is; and the name of its image, to look that up. Nothing else is read.

mod changes;
mod open;
mod write;

pub use changes::changes;
pub use open::{Opened, image_of, open};
pub use write::{Contents, write};

/// Directory of the images of the processes.
const IMAGES: &str = "checkpoint";
/// What the container changed in its root file system, as a layer.
const CHANGES: &str = "rootfs-diff.tar";
/// Paths that it deleted, where an archive lists them apart.
const DELETED: &str = "deleted.files";
/// Which image it was made from.
const CONFIG: &str = "config.dump";
/// What CRIU writes for people and for tools, beside the images.
const BESIDE: [&str; 2] = ["stats-dump", "dump.log"];

#[cfg(test)]
mod tests;
