//! Entry points of the fuzz targets. Only with the feature `fuzzing`.

pub use crate::plugins::fuzzing::{attachment, bandwidth, conflist, result};
