//! The admin API, package `podwright.admin.v1`: what operators and the node agent ask of the daemon beyond the CRI.
//!
//! Owns the proto and what is generated from it; the answers are podwrightd's. Fields and calls are only ever added.

#![forbid(unsafe_code)]

/// Package `podwright.admin.v1`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
    tonic::include_proto!("podwright.admin.v1");
}

/// Name of the socket in the daemon's state directory.
pub const SOCKET: &str = "admin.sock";
