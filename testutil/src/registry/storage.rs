//! The registry's storage on disk, in the layout of the distribution project (`docker/registry/v2`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::Blob;

/// A registry's storage directory. May be written while a registry serves it.
#[derive(Debug, Clone)]
pub struct Storage {
    root: PathBuf,
}

impl Storage {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Puts bytes under a digest, right or wrong, and links them into the repository.
    ///
    /// # Errors
    /// The storage can not be written.
    pub fn put_blob(&self, name: &str, digest: &str, bytes: &[u8]) -> Result<()> {
        self.write(&blob_path(digest), bytes)?;
        self.link(&format!("repositories/{name}/_layers/{}", as_path(digest)), digest)
    }

    /// Puts a manifest, and its tag.
    ///
    /// # Errors
    /// The storage can not be written.
    pub fn put_manifest(&self, name: &str, tag: Option<&str>, manifest: &Blob) -> Result<()> {
        self.write(&blob_path(&manifest.digest), &manifest.bytes)?;
        let manifests = format!("repositories/{name}/_manifests");
        let hash = as_path(&manifest.digest);
        self.link(&format!("{manifests}/revisions/{hash}"), &manifest.digest)?;
        if let Some(tag) = tag {
            self.link(&format!("{manifests}/tags/{tag}/current"), &manifest.digest)?;
            self.link(&format!("{manifests}/tags/{tag}/index/{hash}"), &manifest.digest)?;
        }
        Ok(())
    }

    /// The bytes of a digest.
    ///
    /// # Errors
    /// It is not there.
    pub fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.root.join("docker/registry/v2").join(blob_path(digest));
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    fn link(&self, path: &str, digest: &str) -> Result<()> {
        self.write(&format!("{path}/link"), digest.as_bytes())
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join("docker/registry/v2").join(path);
        let parent = path.parent().context("a path without a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    }
}

/// `sha256:abc` as `sha256/abc`.
fn as_path(digest: &str) -> String {
    digest.replacen(':', "/", 1)
}

fn blob_path(digest: &str) -> String {
    let (algorithm, hash) = digest.split_once(':').unwrap_or(("sha256", digest));
    format!("blobs/{algorithm}/{}/{hash}/data", hash.get(..2).unwrap_or(hash))
}
