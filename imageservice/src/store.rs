//! The image store: what the daemon calls.

use std::path::Path;

use crate::auth::Auth;
use crate::config::ImageConfig;
use crate::error::{ErrorKind, ImageError, Result};
use crate::image::{FsInfo, ImageInfo, PulledImage, ResolvedImage};
use crate::progress::ProgressFn;

/// All images of one root directory. Clones share the store.
#[derive(Clone, Debug)]
pub struct ImageStore {}

impl ImageStore {
    /// Opens or creates the store below `root`, and sweeps what an earlier process left half done.
    ///
    /// # Errors
    /// `Io` and `NoSpace` of the disk, `Corrupt` for an index that can not be read.
    pub async fn open(root: &Path, _config: ImageConfig) -> Result<Self> {
        Err(ImageError::new(ErrorKind::Io, "open image store", root.display(), "in the making"))
    }

    /// Pulls an image. Dropping the future cancels the pull and cleans up after it.
    ///
    /// # Errors
    /// All kinds; the text names step, object, cause and what to do.
    pub async fn pull(
        &self,
        reference: &str,
        _auth: Option<Auth>,
        _progress: Option<ProgressFn>,
    ) -> Result<PulledImage> {
        Err(ImageError::new(ErrorKind::Io, "pull", reference, "in the making"))
    }

    /// Lists images; with a filter (a reference, id or id prefix) at most that one. Answers from memory.
    #[must_use]
    pub fn list(&self, _filter: Option<&str>) -> Vec<ImageInfo> {
        Vec::new()
    }

    /// Finds one image by reference, id or unique id prefix. Answers from memory.
    #[must_use]
    pub fn status(&self, _reference: &str) -> Option<ImageInfo> {
        None
    }

    /// Finds a present image for a container. Answers from memory.
    ///
    /// # Errors
    /// `NotFound`, telling to pull it first.
    pub fn resolve(&self, reference: &str) -> Result<ResolvedImage> {
        Err(ImageError::new(ErrorKind::NotFound, "find image", reference, "it is not on this host; pull it first"))
    }

    /// Removes an image with all its names; an unknown one is no error. What holders use stays on disk.
    ///
    /// # Errors
    /// `Io` of the disk.
    pub async fn remove(&self, _reference: &str) -> Result<()> {
        Ok(())
    }

    /// Space that images take. Answers from memory.
    #[must_use]
    pub fn fs_info(&self) -> FsInfo {
        FsInfo { path: std::path::PathBuf::new(), used_bytes: 0, inodes_used: 0 }
    }

    /// Keeps the layers of an image on disk while `holder` (a container id) exists, even if the image is removed.
    pub fn hold(&self, _image_id: &str, _holder: &str) {}

    /// Ends a hold; unknown holders are ignored.
    pub fn release(&self, _holder: &str) {}

    /// Frees removed images that nobody holds. Call once after start, when all holds are taken again.
    ///
    /// # Errors
    /// `Io` of the disk.
    pub async fn sweep(&self) -> Result<()> {
        Ok(())
    }
}
