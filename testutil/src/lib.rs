//! Real parts for the tests: images made from Debian packages, Debian's registry, hosts of their own (namespaces), daemons
//! in them, and a census of what a host holds.
//!
//! Used by tests and by xtask only; nothing here is part of a running node. Functions say what failed by `anyhow`; what
//! they start ends with the value that they return, also when the test is killed.

#![forbid(unsafe_code)]

pub mod base;
mod census;
mod cni;
mod daemon;
mod fuse;
mod host;
mod http;
pub mod image;
mod registry;
pub mod signing;
mod tools;

pub use census::Census;
pub use cni::{bridge_conflist, write_bridge_chain};
pub use daemon::{Daemon, DaemonBuilder, SmallDisk};
pub use fuse::HungMount;
pub use host::{Outside, TestHost, in_network_of};
pub use http::{RawReply, RawServer};
pub use registry::{Registry, RegistryBuilder, RegistryStorage};
pub use tools::{CgroupDriver, cni_bin_dir, criu, program, write_program};
