//! ttrpc: gRPC's calls without HTTP/2, as containerd's shims and the plugins of the Node Resource Interface speak it. Unary calls with a
//! bound and a deadline each, over a socket of their own or over one that two connections share. What is said is left to others.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod connection;
mod frame;
mod status;

pub use connection::{CallError, Connection, Serve, refusal};
pub use frame::Wire;
pub use status::{INTERNAL, INVALID_ARGUMENT, Status, UNIMPLEMENTED};

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
