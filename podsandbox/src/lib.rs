//! The life of pod sandboxes and containers.
//!
//! Owns the state machines, the records on disk, recovery and the tables of steps. Front ends (the CRI today, the Docker
//! Engine API later) call [`Engine`]; networks, images and shims are reached through the traits in [`ports`], which
//! `podwrightd` plugs. Nothing here knows which front end called.

#![forbid(unsafe_code)]

pub mod model;
pub mod ports;
