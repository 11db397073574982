//! Looking at every byte: blobs against their digests, unpacked layers against what their archives give when they are unpacked anew.
//!
//! Nothing is recorded for this when a layer is unpacked: the archive's digest is the record. A damaged blob is fetched again by a
//! pull of its image by digest, which finds everything else here. A damaged layer is replaced by the tree that it was compared with; the
//! old one is kept while containers may show it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use podwright_types::{Digest, ImageReference};
use tokio_util::sync::CancellationToken;

use super::catalog::Listing;
use super::locks::Key;
use super::pull::Pull;
use super::{Inner, blocking};
use crate::content::Content;
use crate::encryption;
use crate::error::{ErrorKind, ImageError, Result};
use crate::hash::Hasher;
use crate::layer::{self, LayerJob, Origin};
use crate::manifest::{self, Descriptor, Manifest};
use crate::verify::{Damage, Remedy, Verification};

/// Damages that are told; a disk that lost more has been seen enough of.
const MOST_DAMAGES: usize = 1000;
/// What is verified, for errors.
const STORE: &str = "the image store";
/// Bytes that are hashed at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// A layer, with the blob that it comes from.
struct LayerPart {
    blob: Descriptor,
    /// All layers of one image that has it, the lowest first.
    stack: Vec<Digest>,
}

impl Inner {
    /// Looks at everything, and mends what is damaged if that is asked for.
    pub(super) async fn verify(self: &Arc<Self>, repair: bool) -> Result<Verification> {
        let _alone = self.verifying.try_lock().map_err(|_| {
            ImageError::new(
                ErrorKind::Invalid,
                "verify",
                "images",
                "another verification is under way; wait for its end",
            )
        })?;
        let listings = self.catalog().listings.clone();
        let images: BTreeSet<&Digest> = listings.iter().map(|listing| &listing.image_id).collect();
        let mut found = Verification { images: images.len(), ..Verification::default() };
        let blobs: BTreeSet<Digest> = listings.iter().flat_map(|listing| listing.blobs.iter().cloned()).collect();
        for digest in blobs {
            found.blobs += 1;
            if let Some(what) = self.blob_damage(&digest).await? {
                let remedy = if repair { self.fetch_again(&digest, &listings).await } else { Remedy::None };
                let owners = owners(&listings, |listing| listing.blobs.contains(&digest));
                note(&mut found, Damage { part: format!("blob {digest}"), images: owners, what, remedy });
            }
        }
        for (diff_id, part) in self.layer_parts(&listings).await? {
            found.layers += 1;
            if let Some((what, remedy)) = self.check_layer(&diff_id, &part, repair).await {
                let owners = owners(&listings, |listing| listing.blobs.contains(&part.blob.digest));
                note(&mut found, Damage { part: format!("layer {diff_id}"), images: owners, what, remedy });
            }
        }
        if repair {
            self.drop_retired().await?;
        }
        Ok(found)
    }

    async fn blob_damage(self: &Arc<Self>, digest: &Digest) -> Result<Option<String>> {
        let _guard = self.locks.lock(Key::Blob(digest.clone())).await;
        // Removed meanwhile.
        if !self.catalog().is_referenced(&Key::Blob(digest.clone())) {
            return Ok(None);
        }
        let (inner, digest) = (Arc::clone(self), digest.clone());
        blocking("verify blob", move || Ok(wrong_with(&inner.content.blob(&digest), &digest))).await
    }

    /// Fetches a blob by a pull of an image that has it. Until that succeeds the damaged one stays in its place.
    async fn fetch_again(self: &Arc<Self>, digest: &Digest, listings: &[Listing]) -> Remedy {
        let names =
            listings.iter().filter(|listing| listing.blobs.contains(digest)).filter_map(|l| l.entry.name.as_deref());
        // By digest: a tag may be another image by now.
        let Some(name) = names.filter(|name| name.contains('@')).min() else {
            return Remedy::Failed("its image was removed and only containers use it; remove them".to_owned());
        };
        let size = self.catalog().blobs.remove(digest);
        let pulled = self.pull_again(name).await;
        if let (Err(_), Some(size)) = (&pulled, size) {
            self.catalog().blobs.entry(digest.clone()).or_insert(size);
        }
        match (pulled, self.blob_damage(digest).await) {
            (Ok(()), Ok(None)) => Remedy::Fetched,
            (Ok(()), Ok(Some(what))) => {
                Remedy::Failed(format!("{what} again after {name} was pulled; look at the disk"))
            }
            (Err(error), _) | (_, Err(error)) => {
                Remedy::Failed(format!("pull {name} again with its credentials: {error}"))
            }
        }
    }

    /// Pulls without credentials but those of docker's configuration.
    pub(super) async fn pull_again(self: &Arc<Self>, name: &str) -> Result<()> {
        let invalid =
            |error: &dyn std::fmt::Display| ImageError::new(ErrorKind::Invalid, "pull", name, error.to_string());
        let reference: ImageReference = name.parse().map_err(|error| invalid(&error))?;
        let pull = Pull::new(Arc::clone(self), reference, None, None, CancellationToken::new());
        pull.run().await.map(drop)
    }

    /// Each layer once. Images whose manifest can not be read are told by their blobs.
    async fn layer_parts(self: &Arc<Self>, listings: &[Listing]) -> Result<BTreeMap<Digest, LayerPart>> {
        let mut parts = BTreeMap::new();
        for listing in listings {
            let (inner, digest) = (Arc::clone(self), listing.entry.manifest.clone());
            let read = blocking("read manifest", move || inner.content.read_blob(&digest)).await;
            let Ok(Manifest::Image(image)) = read.and_then(|text| manifest::parse(&text, "", "").map(|m| m.manifest))
            else {
                continue;
            };
            let Some(stack) = self.catalog().images.get(&listing.image_id).map(|i| i.config.diff_ids().to_vec()) else {
                continue;
            };
            for (blob, diff_id) in image.layers.iter().zip(&stack) {
                parts.entry(diff_id.clone()).or_insert_with(|| LayerPart { blob: blob.clone(), stack: stack.clone() });
            }
        }
        Ok(parts)
    }

    /// What is wrong with a layer, and what became of that.
    async fn check_layer(
        self: &Arc<Self>,
        diff_id: &Digest,
        part: &LayerPart,
        repair: bool,
    ) -> Option<(String, Remedy)> {
        let _blob = self.locks.lock(Key::Blob(part.blob.digest.clone())).await;
        let _layer = self.locks.lock(Key::Layer(diff_id.clone())).await;
        if !self.catalog().is_referenced(&Key::Layer(diff_id.clone())) {
            return None;
        }
        let outcome = self.compare_layer(diff_id, part, repair).await;
        let (inner, id) = (Arc::clone(self), diff_id.clone());
        if let Err(error) = blocking("discard", move || inner.content.discard_partial_layer(&id)).await {
            tracing::warn!(%error, "a layer that was unpacked to be compared stays until the next start");
        }
        match outcome {
            Ok(None) => None,
            Ok(Some((what, true))) => {
                self.sync_layers_later(vec![diff_id.clone()]);
                Some((what, Remedy::Unpacked))
            }
            Ok(Some((what, false))) => Some((what, Remedy::None)),
            Err(error) => {
                Some(("it could not be compared with its archive".to_owned(), Remedy::Failed(error.to_string())))
            }
        }
    }

    /// The damage, and whether the layer was replaced.
    async fn compare_layer(
        self: &Arc<Self>,
        diff_id: &Digest,
        part: &LayerPart,
        repair: bool,
    ) -> Result<Option<(String, bool)>> {
        let (inner, id, blob) = (Arc::clone(self), diff_id.clone(), part.blob.clone());
        let (key, tree) = blocking("make layer directory", move || {
            let key = encryption::open_layer(inner.config.decryption_keys_dir.as_deref(), &blob, STORE)?;
            Ok((key, inner.content.begin_layer(&id)?))
        })
        .await?;
        let job = LayerJob {
            digest: part.blob.digest.clone(),
            size: part.blob.size,
            key,
            unpack: Some((tree, diff_id.clone())),
            limits: self.config.limits.clone(),
            name: STORE.to_owned(),
        };
        layer::run(job, Origin::Blob(self.content.blob(&part.blob.digest))).await?;
        let (inner, id, stack) = (Arc::clone(self), diff_id.clone(), part.stack.clone());
        let (damage, size) = blocking("compare layer", move || {
            let Some(what) = inner.content.layer_damage(&id)? else { return Ok((None, None)) };
            if !repair {
                return Ok((Some(what), None));
            }
            let size = inner.content.replace_layer(&id)?;
            describe(&inner.content, &id, &stack)?;
            Ok((Some(what), Some(size)))
        })
        .await?;
        if let Some(size) = size {
            self.catalog().layers.insert(diff_id.clone(), size);
        }
        Ok(damage.map(|what| (what, size.is_some())))
    }

    /// Frees damaged layers that no container shows any more.
    pub(super) async fn drop_retired(self: &Arc<Self>) -> Result<()> {
        let inner = Arc::clone(self);
        blocking("remove damaged layers", move || {
            let held = inner.catalog().held_layers();
            inner.content.drop_retired(|hex| held.iter().any(|diff_id| diff_id.hex() == hex))
        })
        .await
    }
}

/// Gives a layer's implied directories the attributes of those below.
fn describe(content: &Content, diff_id: &Digest, stack: &[Digest]) -> Result<()> {
    let lower: Vec<Digest> = stack.iter().take_while(|other| *other != diff_id).cloned().collect();
    content.describe_implied(diff_id, &lower.into_iter().rev().collect::<Vec<_>>())
}

fn note(found: &mut Verification, damage: Damage) {
    tracing::warn!(part = damage.part, what = damage.what, remedy = ?damage.remedy, "a damaged part of the image store");
    if found.damages.len() < MOST_DAMAGES {
        found.damages.push(damage);
    }
}

fn owners(listings: &[Listing], has: impl Fn(&Listing) -> bool) -> Vec<String> {
    let name = |listing: &Listing| listing.entry.name.clone().unwrap_or_else(|| listing.image_id.to_string());
    listings.iter().filter(|listing| has(listing)).map(name).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What is wrong with a blob, if anything is.
fn wrong_with(path: &Path, digest: &Digest) -> Option<String> {
    let hash = || -> std::io::Result<Digest> {
        let mut file = std::fs::File::open(path)?;
        let (mut hasher, mut block) = (Hasher::new(digest.algorithm()), vec![0; BLOCK_BYTES]);
        loop {
            match file.read(&mut block)? {
                0 => return Ok(hasher.finish()),
                read => hasher.update(block.get(..read).unwrap_or_default()),
            }
        }
    };
    match hash() {
        Ok(found) if found == *digest => None,
        Ok(found) => Some(format!("its content has the digest {found}")),
        Err(error) => Some(format!("it can not be read: {error}")),
    }
}
