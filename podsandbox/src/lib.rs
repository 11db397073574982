//! The life of pod sandboxes and containers.
//!
//! Owns the state machines, the records on disk, recovery and the tables of steps. Front ends (the CRI today, the Docker
//! Engine API later) call [`Engine`]; networks, images and shims are reached through the traits in [`ports`], which
//! `podwrightd` plugs. Nothing here knows which front end called.

#![forbid(unsafe_code)]

pub mod model;
pub mod ports;
pub mod session;

mod config;
mod container;
mod engine;
mod error;
mod events;
mod explain;
mod extend;
mod failpoints;
mod filter;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod ladder;
mod owner;
mod record;
mod recover;
mod sandbox;
mod shared;
mod spec;
mod stats;
mod timeline;
mod util;
mod validate;
mod volumes;

#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
#[cfg(test)]
mod tests;

pub use config::{EngineConfig, Ports};
pub use engine::{Engine, ExecOutput, RecoveryReport};
pub use error::EngineError;
pub use events::{Change, EVENTS_KEPT, Event, PodSnapshot, Subject};
pub use explain::{Explanation, Of, Outlook};
#[cfg(any(test, feature = "failpoints"))]
pub use failpoints::{FailPoints, Failure};
pub use filter::{ContainerFilter, ContainerStateKind, SandboxFilter};
pub use owner::{MARK_BYTES, owner_mark};
pub use timeline::{StepUnderWay, TimelineEntry};
