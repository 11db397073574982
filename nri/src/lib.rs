//! The runtime's side of the Node Resource Interface (NRI): plugins that dial in or are launched, what they are told of pods and
//! containers, and what they change in containers. Words of the protocol end here and in the adapter of the daemon.
//!
//! ```text
//! plugin ─ unix socket, two ttrpc connections over it ─> join (registered, configured, synchronised) ─> Plugin ─> Nri
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

/// The protocol's messages.
pub mod api {
    #![allow(missing_docs, clippy::doc_markdown)]
    include!(concat!(env!("OUT_DIR"), "/nri.pkg.api.v1alpha1.rs"));
}

mod apply;
mod collect;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod join;
mod launch;
mod listen;
mod plugin;
mod runtime;
mod serve;

pub use apply::{Unsupported, apply};
pub use collect::Collected;
pub use runtime::{Host, Nri, NriConfig, NriError, PodMoment, Turn};
