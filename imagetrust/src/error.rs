//! Why a policy can not be used, and why an image is not trusted.

use std::path::PathBuf;

/// A policy file that can not be used. Whatever it is asked about is refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It can not be read.
    #[error(
        "the signature policy {path} can not be read: {cause}; all images that it is for are refused until it can be"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// It is too large to be one.
    #[error("the signature policy {path} has more than {limit} bytes; is it the right file?")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        limit: u64,
    },
    /// It is not JSON, or not of the right form.
    #[error(
        "the signature policy {path} is wrong: {cause}; correct it: all images that it is for are refused until then"
    )]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line and column or its place in the file.
        cause: String,
    },
}

/// A directory of `registries.d` that can not be used.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// A file or the directory can not be read.
    #[error("{path} can not be read: {cause}")]
    Unreadable {
        /// File or directory.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file says something that can not be.
    #[error("{path} is wrong: {cause}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// An image that a policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} of the signature policy {policy} {cause}")]
pub struct Untrusted {
    /// The file.
    pub policy: PathBuf,
    /// The part of it that applies, such as `scope "registry.example/app"`.
    pub place: String,
    /// What it asks for, what there is, and what to do.
    pub cause: String,
}
