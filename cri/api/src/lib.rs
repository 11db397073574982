//! The Kubernetes CRI, package `runtime.v1`, as of Kubernetes 1.37: messages, clients and servers.
//!
//! Owns the protos and what is generated from them; what the calls mean is left to `podwright-cri`.

#![forbid(unsafe_code)]

mod secret;

/// Package `runtime.v1`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
    tonic::include_proto!("runtime.v1");
}
