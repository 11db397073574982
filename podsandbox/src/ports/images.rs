//! Images, as far as the life of a pod needs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::PortError;

/// What an image says about the containers made from it; OCI image specification, `config`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
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
    pub healthcheck: Option<HealthcheckConfig>,
}

/// Docker's health check of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthcheckConfig {
    /// `Test`, with its leading `CMD`, `CMD-SHELL` or `NONE`.
    pub test: Vec<String>,
}

/// An image that is wholly on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:` and the digest of the configuration.
    pub id: String,
    /// `repository@digest` where known, else the id.
    pub reference: String,
    /// What it says about containers.
    pub config: ImageConfig,
    /// Unpacked layers, the topmost first: the `lowerdir` list of overlayfs.
    pub layers: Vec<PathBuf>,
}

/// Images on this host.
#[async_trait]
pub trait Images: Send + Sync {
    /// Finds a present image by id or reference, without network.
    ///
    /// # Errors
    /// `NotFound`, telling to pull it first.
    async fn resolve(&self, reference: &str) -> Result<Image, PortError>;

    /// The directories that show `path` of a present image when they are laid one upon another, the topmost first. Links are
    /// followed inside the image; an empty path is the whole image.
    ///
    /// # Errors
    /// `NotFound` without the image, `Invalid` without such a directory in it.
    async fn directory(&self, image_id: &str, path: &Path) -> Result<Vec<PathBuf>, PortError>;

    /// Whether a tenant (a pod's namespace) may use a present image that was asked for by this name, which may be empty. Called for each
    /// container.
    ///
    /// # Errors
    /// `Untrusted`, with what to do; `Unavailable` where that can not be found out now.
    async fn allow(&self, image_id: &str, asked: &str, tenant: &str) -> Result<(), PortError> {
        let _ = (image_id, asked, tenant);
        Ok(())
    }

    /// Keeps the layers of an image on disk while `holder` (a container id) exists, even if the image is removed. A holder may
    /// hold several.
    fn hold(&self, image_id: &str, holder: &str);

    /// Ends all holds of one; unknown holders are ignored.
    fn release(&self, holder: &str);
}
