//! The real shim, driven by the daemon's client, with real containers. Tests that need root have names starting with `root_`.

mod containers;
mod execs;
mod faults;
mod logs;
mod memory;
mod terminals;
mod world;
