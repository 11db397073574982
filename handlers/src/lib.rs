//! Runtime handlers: other runtimes that run pods in place of the built-in one, each described by a file of a directory. The files are
//! read here and looked at again whenever somebody asks; so is what a runtime says of its features. Running them is left to others.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod drop_in;
mod features;
mod registry;

pub use drop_in::{Kind, Runtime};
pub use features::{Features, read_features};
pub use registry::{Handler, Problem, ProgramStamp, Registry};

/// Why a handler can not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No file describes it.
    #[error(
        "runtime handler {name:?}: no file {directories} describes it{hint}; leave the handler empty for the built-in runtime"
    )]
    Unknown {
        /// Its name.
        name: String,
        /// Where was looked.
        directories: String,
        /// What may be the reason.
        hint: String,
    },
    /// Its file is broken.
    #[error("runtime handler {name:?}: {file} is broken: {reason}")]
    Broken {
        /// Its name.
        name: String,
        /// Its file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Its program is not there.
    #[error(
        "runtime handler {name:?} of {file}: its program {program} can not be executed: {reason}; install it on this node"
    )]
    Program {
        /// Its name.
        name: String,
        /// Its file.
        file: String,
        /// The program.
        program: String,
        /// Why not.
        reason: String,
    },
}

/// For the fuzz target: reads a drop-in file; what it takes keeps the rules.
#[cfg(feature = "fuzzing")]
pub fn fuzz_drop_in(bytes: &[u8]) {
    if let Ok(runtime) = drop_in::parse(bytes) {
        assert!(runtime.path.is_absolute(), "a program is named by an absolute path");
        assert!(runtime.deadline_seconds > 0, "there is a time limit");
    }
}

/// For the fuzz target: reads what a runtime says of its features.
#[cfg(feature = "fuzzing")]
pub fn fuzz_features(bytes: &[u8]) {
    let _ = read_features(bytes);
}
