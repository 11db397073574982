//! Container Device Interface: devices that vendors describe in files, given to containers by name. The files are read here, looked at
//! again when a device is asked for, and applied to an OCI specification. Who asks for devices is left to others.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod apply;
mod document;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod name;
mod registry;
mod version;

pub use name::{Name, asked_by_annotations};
pub use registry::{Problem, Registry};

/// Why a device can not be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is no name of a device.
    #[error("{name:?} is no CDI device: {reason}; write it as vendor.com/class=name")]
    Name {
        /// What was asked for.
        name: String,
        /// Why it is none.
        reason: &'static str,
    },
    /// Nobody describes the device.
    #[error("CDI device {name}: no file in {directories} describes it{hint}")]
    Unknown {
        /// Its name.
        name: String,
        /// Where was looked.
        directories: String,
        /// What may be the reason.
        hint: String,
    },
    /// Two files of one directory describe it.
    #[error("CDI device {name}: {first} and {second} both describe it, and none goes before the other; remove one")]
    Conflict {
        /// Its name.
        name: String,
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
    /// It is described, and can not be had on this node.
    #[error("CDI device {name} of {file}: {reason}")]
    Apply {
        /// Its name.
        name: String,
        /// The file that describes it.
        file: String,
        /// Why it can not be had.
        reason: String,
    },
}
