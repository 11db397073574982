//! Entry points of the fuzz targets. Only with the feature `fuzzing`.

pub use crate::streaming::fuzzing::{channel, size, spdy};
