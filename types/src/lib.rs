//! Identifiers, digests and image references: the vocabulary that every crate shares.
//!
//! Owns parsing and validation of names that come from outside; does no I/O.

#![forbid(unsafe_code)]

mod digest;
mod id;
mod reference;

pub use digest::{Digest, DigestAlgorithm, DigestError};
pub use id::{ContainerId, ExecId, IdError, SandboxId};
pub use reference::{ImageReference, ReferenceError};
