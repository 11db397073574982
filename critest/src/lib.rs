//! What the tests of the whole share: a world (host, daemon, registry, image) and the CRI calls that tests make in it.
//!
//! The tests are in tests/; the demo and the benchmark, which use the same parts, in src/bin/.

#![forbid(unsafe_code)]

pub mod calls;
mod config;
pub mod containerd;
mod cri;
pub mod handlers;
mod logs;
pub mod streaming;
mod world;

pub use config::{Pod, container, host_port, image_mount, linux, mount, pod_config, shell};
pub use cri::Cri;
pub use logs::{LogLine, read_growing_log, read_log};
pub use world::{World, WorldBuilder, must, with_world, with_world_of};
