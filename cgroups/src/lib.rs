//! Control groups v1 and v2 by their files: find the hierarchies, make a cgroup, limit it, join it, kill what is in it, read
//! it, remove it. When to do what is left to the caller, and so is systemd's D-Bus.
#![forbid(unsafe_code)]

mod cgroup;
mod devices;
mod error;
mod files;
mod hierarchy;
mod limits;
mod slice;
mod stats;
mod v1;
mod v2;

pub use cgroup::Cgroup;
pub use error::Error;
pub use hierarchy::{Hierarchy, V1Mount};
pub use slice::{expand_slice, scope_name, systemd_path};
pub use stats::{
    CpuDetails, Details, DeviceIo, HugePages, MemoryDetails, MemoryStats, Pressure, Reader, Stall, Stats, SwapStats,
};
pub use v2::weight_of_shares;
