//! Images: pulling from registries, the content store, unpacked layers, the list of images, garbage collection.
//!
//! Owns `<root>/images` (an OCI image layout) and `<root>/layers`. Writable layers of containers, and mounting, are left to
//! the runtime; who may pull is left to the callers.

#![forbid(unsafe_code)]

mod auth;
pub mod checkpoint;
mod config;
mod content;
mod encryption;
mod error;
mod failpoints;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hash;
mod image;
mod layer;
mod manifest;
mod pin;
mod platform;
mod progress;
mod registry;
mod store;
mod tar;
mod trust;
mod unpack;
mod verify;

pub use auth::Auth;
pub use config::{ImageConfig, Limits, Patience};
pub use error::{ErrorKind, ImageError, Result};
#[cfg(feature = "failpoints")]
pub use failpoints::FAIL_POINTS;
pub use image::{ContainerConfig, FsInfo, Healthcheck, ImageInfo, ImageUser, PulledImage, ResolvedImage};
pub use pin::{BadPin, Pin};
pub use platform::Platform;
pub use progress::{LayerState, Progress, ProgressFn};
pub use store::ImageStore;
pub use trust::TrustConfig;
pub use verify::{Damage, Remedy, Verification};
