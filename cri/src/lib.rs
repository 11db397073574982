//! The CRI front end: `RuntimeService` and `ImageService` over the engine and the image store.
//!
//! A handler validates, converts, calls one method of the domain and maps the error. Nothing here holds state or knows how
//! pods run; `status` alone chooses gRPC codes.

#![forbid(unsafe_code)]

mod answer;
mod chunks;
mod convert;
mod deadline;
mod field;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod host;
mod image;
mod later;
mod lookup;
mod metrics;
mod observe;
mod runtime;
mod service;
mod status;
pub mod streaming;

pub use host::{CgroupDriver, HandlerInfo, HandlersReport, Host, NetworkReport, NodeInfo};
pub use service::{Cri, MAX_MESSAGE_BYTES};
