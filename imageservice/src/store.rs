//! The image store: what the daemon calls.
//!
//! `catalog` is what is known, in memory; `content` is what is on disk. Reading answers from memory alone. A change goes to the
//! disk first and to memory second, under one writer at a time; the lock on memory is never held over I/O.

mod catalog;
mod collect;
mod fetch;
mod load;
mod locks;
mod mend;
mod partial;
mod pull;
mod sync;
mod trusted;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podwright_types::Digest;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::config::ImageConfig;
use crate::content::{Content, NoDirectory, merged_directory};
use crate::error::{ErrorKind, ImageError, Result};
use crate::image::{FsInfo, ImageInfo, PulledImage, ResolvedImage};
use crate::progress::ProgressFn;
use crate::registry::Registry;
use crate::trust::{Kept, Trust};
use crate::verify::Verification;
use catalog::Catalog;
use locks::KeyLocks;

/// All images of one root directory. Clones share the store.
#[derive(Clone, Debug)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ImageConfig,
    content: Content,
    catalog: Mutex<Catalog>,
    registry: Arc<Registry>,
    /// One worker for each blob and each layer.
    locks: KeyLocks,
    /// One writer of the index.
    index_writer: tokio::sync::Mutex<()>,
    /// Downloads of all pulls together.
    downloads: Semaphore,
    /// Those that were given up.
    partials: partial::Partials,
    /// One verification at a time.
    verifying: tokio::sync::Mutex<()>,
    /// The policy of signatures, where there is one.
    trust: Option<Arc<Trust>>,
    kept: Kept,
}

impl ImageStore {
    /// Opens or creates the store below `root`, sweeps what an earlier process left half done, and unpacks again what a power
    /// cut may have torn.
    ///
    /// # Errors
    /// `Io` and `NoSpace` of the disk, `Corrupt` for an index that can not be read.
    pub async fn open(root: &Path, config: ImageConfig) -> Result<Self> {
        let root = root.to_owned();
        let (store, lost) = blocking("open image store", move || {
            let content = Content::open(&root)?;
            let loaded = load::load(&content, &config)?;
            let store = Self {
                inner: Arc::new(Inner {
                    downloads: Semaphore::new(config.limits.downloads_total.max(1)),
                    trust: config.trust.clone().map(|trust| Arc::new(Trust::new(trust))),
                    kept: Kept::new(&root),
                    config,
                    content,
                    catalog: Mutex::new(loaded.catalog),
                    registry: Arc::default(),
                    locks: KeyLocks::default(),
                    index_writer: tokio::sync::Mutex::default(),
                    partials: partial::Partials::default(),
                    verifying: tokio::sync::Mutex::default(),
                }),
            };
            Ok((store, loaded.lost))
        })
        .await?;
        let diff_ids = store.inner.catalog().layers.keys().cloned().collect();
        store.inner.sync_layers_later(diff_ids);
        store.inner.mend_later(lost);
        Ok(store)
    }

    /// Says that nothing will be written any more and that what is there is on disk. Without it the next opening in another boot looks at
    /// all layers.
    ///
    /// # Errors
    /// `Io` of the disk.
    pub async fn close(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        blocking("close image store", move || inner.content.end_use()).await
    }

    /// Looks at every byte: blobs against their digests, unpacked layers against their archives. With `repair` damaged parts are fetched
    /// or unpacked again. Takes as long as reading all images twice and unpacking them once.
    ///
    /// # Errors
    /// `Invalid` while another one is under way, `Io` and `NoSpace` of the disk.
    pub async fn verify(&self, repair: bool) -> Result<Verification> {
        let inner = Arc::clone(&self.inner);
        // A caller that gives up changes nothing.
        join("verify images", tokio::spawn(async move { inner.verify(repair).await })).await
    }

    /// Pulls an image. Dropping the future cancels the pull; what it had begun is cleaned up in the background.
    ///
    /// Without `auth` the credentials of docker's configuration file apply, where one is configured.
    ///
    /// # Errors
    /// All kinds; the text names step, object, cause and what to do.
    pub async fn pull(&self, reference: &str, auth: Option<Auth>, progress: Option<ProgressFn>) -> Result<PulledImage> {
        self.pull_for("", reference, auth, progress).await
    }

    /// Pulls as [`Self::pull`] does, for a tenant that may have a signature policy of its own.
    ///
    /// # Errors
    /// All kinds; `Untrusted` where the policy refuses, and then nothing of the image was written.
    pub async fn pull_for(
        &self,
        tenant: &str,
        reference: &str,
        auth: Option<Auth>,
        progress: Option<ProgressFn>,
    ) -> Result<PulledImage> {
        let parsed = reference.parse().map_err(|error| {
            let shown: String = reference.chars().take(128).collect();
            ImageError::new(ErrorKind::Invalid, "pull", shown, format!("{error}"))
        })?;
        let cancelled = CancellationToken::new();
        let _cancel_when_dropped = cancelled.clone().drop_guard();
        let pull = pull::Pull::new(Arc::clone(&self.inner), parsed, auth, progress, cancelled).of_tenant(tenant);
        tokio::spawn(pull.run()).await.unwrap_or_else(|error| {
            Err(ImageError::new(ErrorKind::Io, "pull", reference, "the pull broke off; pull again").with_source(error))
        })
    }

    /// Lists images; with a filter (a reference, id or id prefix) at most that one. Answers from memory.
    #[must_use]
    pub fn list(&self, filter: Option<&str>) -> Vec<ImageInfo> {
        match filter.filter(|filter| !filter.is_empty()) {
            Some(filter) => self.status(filter).into_iter().collect(),
            None => self.inner.catalog().list(&self.inner.config.pinned),
        }
    }

    /// Finds one image by reference, id or unique id prefix. Answers from memory.
    #[must_use]
    pub fn status(&self, reference: &str) -> Option<ImageInfo> {
        let catalog = self.inner.catalog();
        let id = catalog.find(reference)?;
        catalog.info(&id, &self.inner.config.pinned)
    }

    /// Finds a present image for a container. Answers from memory. By its full id also a removed image is found while
    /// a container holds it.
    ///
    /// # Errors
    /// `NotFound`, telling to pull it first; `NoSpace` while a layer of it could not be unpacked again.
    pub fn resolve(&self, reference: &str) -> Result<ResolvedImage> {
        let catalog = self.inner.catalog();
        let id = catalog.find(reference).or_else(|| reference.parse().ok());
        if let Some(layer) = id.as_ref().and_then(|id| catalog.missing_layer(id)) {
            let shown: String = reference.chars().take(128).collect();
            let cause =
                format!("its layer {layer} is not unpacked; free space; it is tried again, or pull the image again");
            return Err(ImageError::new(ErrorKind::NoSpace, "find image", shown, cause));
        }
        id.and_then(|id| catalog.resolve(&id, &self.inner.content)).ok_or_else(|| {
            let shown: String = reference.chars().take(128).collect();
            ImageError::new(ErrorKind::NotFound, "find image", shown, "it is not on this host; pull it first")
        })
    }

    /// The directories of an image's layers that show `path` together, the topmost first: the `lowerdir` list of a mount of that
    /// part of the image. Links are followed inside the image. An empty path is the whole image.
    ///
    /// # Errors
    /// `NotFound` without the image, `Invalid` if there is no such directory in it, `Io` of the disk.
    pub async fn directory(&self, image: &str, path: &Path) -> Result<Vec<PathBuf>> {
        let layers = self.resolve(image)?.layers;
        let (path, object) = (path.to_owned(), format!("{} of image {image}", path.display()));
        blocking("find directory", move || {
            merged_directory(&layers, &path).map_err(|error| match error {
                NoDirectory::Io(error) => ImageError::io("find directory", Path::new(&object), error),
                NoDirectory::Missing | NoDirectory::NotDirectory | NoDirectory::TooManyLinks => {
                    ImageError::new(ErrorKind::Invalid, "find directory", object, error.to_string())
                }
            })
        })
        .await
    }

    /// Removes an image with all its names; an unknown one is no error. What holders use stays on disk.
    ///
    /// # Errors
    /// `Io` of the disk.
    pub async fn remove(&self, reference: &str) -> Result<()> {
        let Some(id) = self.inner.catalog().find(reference) else { return Ok(()) };
        let inner = Arc::clone(&self.inner);
        // A caller that gives up changes nothing.
        let removal = async move {
            // Who removes wants space.
            inner.drop_partials().await;
            inner.remove(&id).await
        };
        join("remove image", tokio::spawn(removal)).await
    }

    /// Space that images take. Answers from memory.
    #[must_use]
    pub fn fs_info(&self) -> FsInfo {
        let (used_bytes, inodes_used) = self.inner.catalog().usage();
        FsInfo { path: self.inner.content.images(), used_bytes, inodes_used }
    }

    /// Keeps an image on disk while `holder` (a container id) exists, even if the image is removed. Holds are in memory: they
    /// are taken again after a restart, before [`sweep`](Self::sweep).
    pub fn hold(&self, image_id: &str, holder: &str) {
        match image_id.parse::<Digest>() {
            Ok(id) => self.inner.catalog().hold(&id, holder),
            Err(error) => tracing::warn!(image_id, holder, %error, "an image is held by what is no id"),
        }
    }

    /// Ends a hold; unknown holders are ignored. What was removed in the meantime is freed in the background.
    pub fn release(&self, holder: &str) {
        let is_garbage = self.inner.catalog().release(holder);
        if let (true, Ok(runtime)) = (is_garbage, tokio::runtime::Handle::try_current()) {
            let store = self.clone();
            runtime.spawn(async move {
                if let Err(error) = store.sweep().await {
                    tracing::warn!(%error, "a removed image is not freed yet; the next removal tries again");
                }
            });
        }
    }

    /// Frees removed images that nobody holds. Call once after start, when all holds are taken again.
    ///
    /// # Errors
    /// `Io` of the disk.
    pub async fn sweep(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        join("sweep images", tokio::spawn(async move { inner.drop_unheld().await })).await
    }
}

impl Inner {
    /// What is known. Never kept over an await or I/O.
    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what blocks on the disk.
async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    join(step, tokio::task::spawn_blocking(work)).await
}

async fn join<T>(step: &'static str, task: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    task.await.unwrap_or_else(|error| {
        Err(ImageError::new(ErrorKind::Io, step, "in the background", "the task broke off; try again")
            .with_source(error))
    })
}
