//! What callers learn about images.

use std::collections::BTreeMap;
use std::path::PathBuf;

use podwright_types::Digest;

/// The outcome of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// The image id: the digest of its configuration. The CRI wants this one as `image_ref`.
    pub id: Digest,
    /// `repository@digest` of what the registry gave.
    pub reference: String,
}

/// A listed image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// The image id: the digest of its configuration.
    pub id: Digest,
    /// Names with a tag.
    pub repo_tags: Vec<String>,
    /// Names with a digest.
    pub repo_digests: Vec<String>,
    /// Bytes on disk: blobs and unpacked layers, also those shared with other images.
    pub size_bytes: u64,
    /// Whom the image's processes run as.
    pub user: ImageUser,
    /// It must not be collected.
    pub pinned: bool,
    /// The image configuration, as JSON text.
    pub config_json: String,
}

/// The user of an image configuration, as the CRI splits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// A number; also 0 where the image names no user.
    Uid(u32),
    /// A name, to be looked up in the image.
    Name(String),
}

/// What an image says about the containers made from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerConfig {
    /// `User`.
    pub user: String,
    /// `Env`, as `NAME=value`.
    pub env: Vec<String>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `StopSignal`, as a name or number.
    pub stop_signal: String,
    /// `Volumes`.
    pub volumes: Vec<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `Healthcheck`, where the image has one.
    pub healthcheck: Option<Healthcheck>,
}

/// Docker's health check of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `Test`, with its leading `CMD`, `CMD-SHELL` or `NONE`.
    pub test: Vec<String>,
}

/// An image that is wholly on disk, ready for containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The image id: the digest of its configuration.
    pub id: Digest,
    /// `repository@digest` where known, else the id.
    pub reference: String,
    /// What it says about containers.
    pub config: ContainerConfig,
    /// Unpacked layers, the topmost first, none twice: the `lowerdir` list of overlayfs.
    pub layers: Vec<PathBuf>,
}

/// Space that images take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsInfo {
    /// A directory on the file system of the images.
    pub path: PathBuf,
    /// Bytes of blobs and unpacked layers.
    pub used_bytes: u64,
    /// Their files and directories.
    pub inodes_used: u64,
}
