//! The real shim, driven by the daemon's client, with real containers. Tests that need root have names starting with `root_`.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "these are tests; clippy.toml allows it in test functions only"
)]

mod attach;
mod containers;
mod execs;
mod faults;
mod hooks;
mod logs;
mod memory;
mod runtimes;
mod terminals;
mod world;
