//! One pull: manifest, configuration, layers side by side, then the listing.
//!
//! ```text
//! resolve ─> choose platform ─> configuration ─> layers ─> sync ─> list
//!    └───────────┴──────────────────┴──────────────┴────────┴──> failure: what only this pull wanted is freed
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use podwright_types::{Digest, DigestAlgorithm, ImageReference};
use tokio_util::sync::CancellationToken;

use super::catalog::{Image, Listing};
use super::locks::Key;
use super::partial::is_worth_keeping;
use super::{Inner, blocking};
use crate::auth::Auth;
use crate::content::{IndexEntry, wrap_manifest};
use crate::encryption::{self, LayerKey};
use crate::error::{ErrorKind, ImageError, Result};
use crate::failpoints::{self, fail_point};
use crate::hash::digest_of;
use crate::image::PulledImage;
use crate::manifest::{self, ConfigFile, Descriptor, ImageManifest, Manifest};
use crate::progress::{Progress, ProgressFn};
use crate::registry::Session;

/// Deepest nesting of indexes.
const MAX_NESTING: usize = 3;

/// A running pull.
pub(super) struct Pull {
    pub(super) inner: Arc<Inner>,
    pub(super) reference: ImageReference,
    auth: Option<Auth>,
    progress: Option<ProgressFn>,
    pub(super) cancelled: CancellationToken,
    /// Whom it is for; the policy of signatures is asked then. `None` fetches again what was accepted before, by its digest.
    pub(super) tenant: Option<String>,
}

/// A manifest or index as fetched, with its checked digest.
struct Fetched {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    manifest: Manifest,
}

/// The manifests on the way from the reference to the image.
struct Chosen {
    /// What the reference stands for at the registry.
    digest: Digest,
    /// What the index of the store points to.
    target: Descriptor,
    manifest: Digest,
    image: ImageManifest,
    texts: Vec<(Digest, Vec<u8>)>,
}

impl Chosen {
    /// The bytes whose digest is `manifest`.
    fn manifest_text(&self) -> &[u8] {
        self.texts.iter().find(|(digest, _)| *digest == self.manifest).map_or(&[], |(_, text)| text)
    }
}

/// What a pull wants, so that nobody removes it; given back when dropped.
#[derive(Default)]
pub(super) struct Wants {
    keys: Vec<Key>,
}

impl Pull {
    pub(super) fn new(
        inner: Arc<Inner>,
        reference: ImageReference,
        auth: Option<Auth>,
        progress: Option<ProgressFn>,
        cancelled: CancellationToken,
    ) -> Self {
        Self { inner, reference, auth, progress, cancelled, tenant: None }
    }

    /// Has the image checked by the policy of a tenant; an empty name is that of nobody in particular.
    pub(super) fn of_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Pulls, and leaves nothing behind on failure but downloads that can be continued.
    pub(super) async fn run(self) -> Result<PulledImage> {
        let mut wants = Wants::default();
        let result = self.pull(&mut wants).await;
        let unfinished = self.unwant(wants);
        if let Err(error) = &result {
            self.clean_up(unfinished, error.kind()).await;
        }
        result
    }

    async fn pull(&self, wants: &mut Wants) -> Result<PulledImage> {
        let demand = self.demand().await?;
        let inner = Arc::clone(&self.inner);
        let (reference, auth) = (self.reference.clone(), self.auth.clone());
        let session =
            blocking("prepare pull", move || inner.registry.session(&reference, auth.as_ref(), &inner.config)).await?;
        let chosen = self.unless_cancelled(self.choose(&session)).await?;
        fail_point(failpoints::RESOLVED);
        // Before signatures are kept: they are swept with the manifests that nobody wants.
        for (digest, _) in &chosen.texts {
            self.want(wants, Key::Blob(digest.clone()));
        }
        if let Some(demand) = &demand {
            let text = chosen.manifest_text().to_vec();
            let is_of_index = chosen.digest != chosen.manifest;
            self.unless_cancelled(self.check_signatures(&session, demand, &chosen.manifest, text, is_of_index)).await?;
        }
        manifest::check_layers(&chosen.image, self.inner.config.limits.layers, session.name())?;
        let keys = self.open_layers(&chosen.image).await?;
        self.report(Progress::Resolved {
            digest: chosen.digest.clone(),
            layers: chosen.image.layers.len(),
            bytes: chosen.image.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size)),
        });
        self.want(wants, Key::Blob(chosen.image.config.digest.clone()));
        let config_json = self.unless_cancelled(self.config_text(&session, &chosen.image.config)).await?;
        let config = ConfigFile::parse(&config_json, session.name())?;
        config.check(&self.inner.config.platform, chosen.image.layers.len(), session.name())?;
        for (layer, diff_id) in chosen.image.layers.iter().zip(config.diff_ids()) {
            self.want(wants, Key::Blob(layer.digest.clone()));
            self.want(wants, Key::Layer(diff_id.clone()));
        }
        self.layers(&session, &chosen.image, config.diff_ids(), &keys).await?;
        for (digest, text) in &chosen.texts {
            self.keep_text(digest, text).await?;
        }
        self.keep_text(&chosen.image.config.digest, &config_json).await?;
        self.describe_layers(config.diff_ids()).await?;
        self.list(chosen, config, config_json).await
    }

    /// Fetches the manifest, through indexes, that fits this host best.
    async fn choose(&self, session: &Session) -> Result<Chosen> {
        let first = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => self.fetch_manifest(session, digest).await?,
            (None, tag) => {
                let fetched = session.manifest_by_tag(tag.unwrap_or("latest")).await?;
                let digest = digest_of(DigestAlgorithm::Sha256, &fetched.bytes);
                self.understand(digest, fetched.bytes, &fetched.content_type)?
            }
        };
        let target_digest = first.descriptor.digest.clone();
        let mut target = first.descriptor.clone();
        let mut texts = Vec::new();
        if target.media_type == manifest::DOCKER_MANIFEST {
            let text = wrap_manifest(&target, &self.inner.config.platform);
            let digest = digest_of(DigestAlgorithm::Sha256, &text);
            let media_type = manifest::OCI_INDEX.to_owned();
            target = Descriptor {
                media_type,
                digest: digest.clone(),
                size: text.len() as u64,
                platform: None,
                encryption: None,
            };
            texts.push((digest, text));
        }
        let mut current = first;
        for _ in 0..=MAX_NESTING {
            let digest = current.descriptor.digest.clone();
            texts.push((digest.clone(), current.bytes));
            match current.manifest {
                Manifest::Image(image) => {
                    return Ok(Chosen { digest: target_digest, target, manifest: digest, image, texts });
                }
                Manifest::Index(entries) => {
                    let platform = &self.inner.config.platform;
                    let best = manifest::candidates(&entries, platform).into_iter().next().ok_or_else(|| {
                        self.error(ErrorKind::NotFound, "choose platform of", format!("it is not made for {platform}"))
                    })?;
                    current = self.fetch_manifest(session, &best.digest).await?;
                }
            }
        }
        Err(self.error(ErrorKind::Invalid, "choose platform of", "its indexes are nested too deeply"))
    }

    async fn fetch_manifest(&self, session: &Session, digest: &Digest) -> Result<Fetched> {
        let fetched = session.manifest_by_digest(digest).await?;
        let found = digest_of(digest.algorithm(), &fetched.bytes);
        if found != *digest {
            let cause =
                format!("the manifest {digest} came with the digest {found}; the registry or the way to it changed it");
            return Err(self.error(ErrorKind::Corrupt, "verify manifest of", cause));
        }
        self.understand(found, fetched.bytes, &fetched.content_type)
    }

    fn understand(&self, digest: Digest, bytes: Vec<u8>, content_type: &str) -> Result<Fetched> {
        let parsed = manifest::parse(&bytes, content_type, &self.reference.to_string())?;
        let descriptor = Descriptor {
            media_type: parsed.media_type,
            digest,
            size: bytes.len() as u64,
            platform: None,
            encryption: None,
        };
        Ok(Fetched { descriptor, bytes, manifest: parsed.manifest })
    }

    /// Opens the keys of encrypted layers, those that are here already too: who has no key gets no image.
    async fn open_layers(&self, image: &ImageManifest) -> Result<Vec<Option<LayerKey>>> {
        if image.layers.iter().all(|layer| !encryption::is_encrypted(layer)) {
            return Ok(vec![None; image.layers.len()]);
        }
        let (inner, layers, name) = (Arc::clone(&self.inner), image.layers.clone(), self.name());
        blocking("open layers", move || {
            encryption::open_layers(inner.config.decryption_keys_dir.as_deref(), &layers, &name)
        })
        .await
    }

    async fn layers(
        &self,
        session: &Session,
        image: &ImageManifest,
        diff_ids: &[Digest],
        keys: &[Option<LayerKey>],
    ) -> Result<()> {
        let at_once = self.inner.config.limits.downloads_per_pull.max(1);
        let mut jobs = Vec::with_capacity(diff_ids.len());
        for ((layer, diff_id), key) in image.layers.iter().zip(diff_ids).zip(keys) {
            jobs.push(self.layer(session, layer, diff_id, key.as_ref()).boxed());
        }
        let mut running = stream::iter(jobs).buffer_unordered(at_once);
        let result = async {
            while running.try_next().await?.is_some() {}
            Ok(())
        }
        .await;
        if result.is_err() {
            // The others end by themselves soon; only when no thread of theirs writes any more can be cleaned up.
            self.cancelled.cancel();
            while running.next().await.is_some() {}
        }
        result
    }

    /// Gives directories that upper layers only imply the attributes of the lower ones.
    async fn describe_layers(&self, diff_ids: &[Digest]) -> Result<()> {
        let mut lower: Vec<Digest> = Vec::new();
        for diff_id in diff_ids {
            let _guard = self.inner.locks.lock(Key::Layer(diff_id.clone())).await;
            let (inner, own, below) = (Arc::clone(&self.inner), diff_id.clone(), lower.clone());
            blocking("describe layer", move || inner.content.describe_implied(&own, &below)).await?;
            lower.insert(0, diff_id.clone());
        }
        Ok(())
    }

    /// Puts the image on the list, under its tag and its digest. Its blobs are synced; the unpacked layers can be made anew from
    /// them, so their syncing need not be waited for.
    async fn list(&self, chosen: Chosen, config: ConfigFile, config_json: Vec<u8>) -> Result<PulledImage> {
        let image_id = chosen.image.config.digest.clone();
        let by_digest = self.reference.with_digest(chosen.digest.clone()).canonical();
        let names = BTreeSet::from([by_digest.clone(), self.reference.canonical()]);
        let parts = chosen.image.layers.iter().map(|layer| layer.digest.clone());
        let texts = chosen.texts.iter().map(|(digest, _)| digest.clone());
        let blobs: BTreeSet<Digest> = parts.chain(texts).chain([image_id.clone()]).collect();
        let inner = Arc::clone(&self.inner);
        blocking("sync image", move || inner.content.sync_blob_names()).await?;
        if self.cancelled.is_cancelled() {
            return Err(self.error(ErrorKind::Cancelled, "pull", "it was given up"));
        }
        let new: Vec<Listing> = names
            .into_iter()
            .map(|name| Listing {
                entry: IndexEntry {
                    name: Some(name),
                    target: chosen.target.clone(),
                    manifest: chosen.manifest.clone(),
                },
                image_id: image_id.clone(),
                blobs: blobs.clone(),
            })
            .collect();
        let image = Image { config, config_json: String::from_utf8_lossy(&config_json).into_owned() };
        let diff_ids = image.config.diff_ids().to_vec();
        fail_point(failpoints::UNLISTED);
        self.inner.add(new, &image_id, image).await?;
        fail_point(failpoints::PULLED);
        self.inner.sync_layers_later(diff_ids);
        Ok(PulledImage { id: image_id, reference: by_digest })
    }

    fn want(&self, wants: &mut Wants, key: Key) {
        self.inner.catalog().want(key.clone());
        wants.keys.push(key);
    }

    /// Gives back what was wanted; returns what no other pull wants.
    fn unwant(&self, wants: Wants) -> Vec<Key> {
        let mut catalog = self.inner.catalog();
        wants.keys.iter().for_each(|key| catalog.unwant(key));
        wants.keys.into_iter().filter(|key| !catalog.is_wanted(key)).collect()
    }

    /// Frees partial and whole parts of a failed pull, or keeps downloads for the next one.
    async fn clean_up(&self, unfinished: Vec<Key>, cause: ErrorKind) {
        for key in unfinished {
            let _guard = self.inner.locks.lock(key.clone()).await;
            if self.inner.catalog().is_wanted(&key) {
                continue;
            }
            if let Key::Blob(digest) = &key
                && is_worth_keeping(cause)
                && !self.inner.config.limits.partial_age.is_zero()
                && self.inner.content.partial_blob(digest).exists()
            {
                self.inner.keep_partial(digest);
                continue;
            }
            let inner = Arc::clone(&self.inner);
            let discarded = blocking("clean up", move || match &key {
                Key::Blob(digest) => inner.content.discard_partial_blob(digest),
                Key::Layer(diff_id) => inner.content.discard_partial_layer(diff_id),
            });
            if let Err(error) = discarded.await {
                tracing::warn!(%error, "a part of a failed pull stays until the next start");
            }
        }
        match cause {
            ErrorKind::NoSpace => self.inner.drop_partials().await,
            _ => self.inner.bound_partials().await,
        }
        if let Err(error) = self.inner.collect().await {
            tracing::warn!(%error, "parts of a failed pull stay until the next removal");
        }
    }

    /// Waits for the network unless the caller has gone.
    pub(super) async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.cancelled.run_until_cancelled(work).await {
            Some(result) => result,
            None => Err(self.error(ErrorKind::Cancelled, "pull", "it was given up")),
        }
    }

    pub(super) fn error(&self, kind: ErrorKind, step: &'static str, cause: impl Into<String>) -> ImageError {
        ImageError::new(kind, step, &self.reference, cause)
    }

    pub(super) fn report(&self, news: Progress) {
        if let Some(progress) = &self.progress {
            progress(news);
        }
    }

    pub(super) fn name(&self) -> String {
        self.reference.to_string()
    }
}

impl Inner {
    /// Puts listings in place of those with the same names.
    async fn add(self: &Arc<Self>, new: Vec<Listing>, image_id: &Digest, image: Image) -> Result<()> {
        self.change_listings(Some((image_id.clone(), image)), |mut listings, _| {
            listings.retain(|old| {
                let is_renewed = new.iter().any(|listing| listing.entry.name == old.entry.name);
                // A removed image that is pulled again is listed again.
                let is_revived = old.entry.name.is_none() && old.image_id == *image_id;
                !is_renewed && !is_revived
            });
            listings.extend(new.iter().cloned());
            listings
        })
        .await
    }
}
