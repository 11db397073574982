//! Identifiers, digests, image references and time stamps: the vocabulary that every crate shares.
//!
//! Owns parsing and validation of names that come from outside; does no I/O.

#![forbid(unsafe_code)]

mod digest;
mod id;
mod reference;
mod stamp;

pub use digest::{Digest, DigestAlgorithm, DigestError};
pub use id::{ContainerId, ExecId, IdError, SandboxId};
pub use reference::{ImageReference, ReferenceError};
pub use stamp::{STAMP_BYTES, Stamp, stamp};
