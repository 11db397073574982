//! From the disk into memory: what a new process finds.
//!
//! Only damage takes an image off the list for good: parts that are absent, have another digest or size, or say nothing that can be
//! understood. What can not be read for want of descriptors or memory may be whole, so it ends the opening and changes nothing. One image
//! with an error of the disk is left out until it was pulled again; nothing is removed then, and the others are served. A layer
//! that can not be unpacked again now (the disk is full) leaves its image listed, without the layer.

use std::collections::{BTreeSet, HashMap};

use podwright_types::Digest;

use super::catalog::{Catalog, Image, Listing};
use crate::config::ImageConfig;
use crate::content::{Content, IndexEntry, LayerSize, MAX_WHOLE_BYTES, read_index, remove_tree, write_index};
use crate::encryption;
use crate::error::{ErrorKind, ImageError, Result};
use crate::layer::{self, LayerJob, Origin};
use crate::manifest::{self, ConfigFile, Descriptor, Manifest};

/// Deepest nesting of indexes.
const MAX_NESTING: usize = 4;

/// What was found.
pub(super) struct Loaded {
    pub(super) catalog: Catalog,
    pub(super) lost: Vec<Lost>,
}

/// An image that was listed and is not whole.
#[derive(Debug)]
pub(super) struct Lost {
    /// The name to pull it by.
    pub(super) by_digest: String,
    /// Its other names.
    pub(super) names: Vec<String>,
    /// It is on the list all the same: only a layer of it is missing.
    pub(super) is_listed: bool,
}

/// What a failure to load an image says.
enum Says {
    /// Something is wrong with the image.
    Damage,
    /// A part of it can not be read here; it may be whole.
    Unreadable,
    /// Something is wrong with the host.
    Host,
}

fn says(error: &ImageError) -> Says {
    match error.kind() {
        ErrorKind::NoSpace | ErrorKind::LimitExceeded => Says::Host,
        // Unauthorized: the key of an encrypted layer is not here now.
        ErrorKind::Io | ErrorKind::Unauthorized => Says::Unreadable,
        ErrorKind::NotFound
        | ErrorKind::RegistryUnavailable
        | ErrorKind::TooManyRequests
        | ErrorKind::Corrupt
        | ErrorKind::Untrusted
        | ErrorKind::Invalid
        | ErrorKind::Cancelled => Says::Damage,
    }
}

/// Reads the index, keeps the entries whose parts are all there, and removes the parts of no entry.
pub(super) fn load(content: &Content, config: &ImageConfig) -> Result<Loaded> {
    let mut catalog = Catalog::default();
    let mut lost = Vec::new();
    let is_suspect = content.begin_use();
    catalog.blobs.extend(content.blobs_on_disk()?);
    let entries = read_index(&content.images())?;
    let found = entries.len();
    let mut all_was_read = true;
    for entry in entries {
        let name = entry.name.clone().unwrap_or_else(|| entry.target.digest.to_string());
        match listing(content, &mut catalog, entry.clone(), config, is_suspect) {
            Ok((listing, None)) => catalog.listings.push(listing),
            Ok((listing, Some(error))) => {
                tracing::warn!(image = name, %error, "a layer of an image can not be unpacked now; it is tried again");
                lost.push((listing.entry.clone(), true));
                catalog.listings.push(listing);
            }
            Err(error) => match says(&error) {
                Says::Host => {
                    let more =
                        format!("image {name} stays listed and nothing was changed; mend that, then start again");
                    return Err(error.and(&more));
                }
                Says::Unreadable => {
                    tracing::error!(image = name, %error, "an image can not be read; see to the disk. It is pulled again");
                    all_was_read = false;
                    lost.push((entry, false));
                }
                Says::Damage => {
                    tracing::warn!(image = name, %error, "an image is not whole any more; it is pulled again");
                    lost.push((entry, false));
                }
            },
        }
    }
    if all_was_read {
        if found != catalog.listings.len() || !content.images().join("index.json").exists() {
            let entries: Vec<IndexEntry> = catalog.listings.iter().map(|listing| listing.entry.clone()).collect();
            write_index(&content.images(), &entries)?;
        }
        sweep(content, &mut catalog)?;
    } else {
        // A pull takes what is known here for granted. Layers are verified when they are used; the others can be looked at.
        catalog.blobs.retain(|digest, size| *size > MAX_WHOLE_BYTES || content.read_blob(digest).is_ok());
    }
    Ok(Loaded { catalog, lost: by_image(&lost) })
}

/// Those that have a name by digest, each once. Removed ones that containers held have none, and can not be had again.
fn by_image(entries: &[(IndexEntry, bool)]) -> Vec<Lost> {
    let named = |entry: &IndexEntry| entry.name.clone().filter(|name| name.contains('@'));
    let firsts =
        entries.iter().filter_map(|(entry, is_listed)| Some((named(entry)?, &entry.target.digest, *is_listed)));
    firsts
        .map(|(by_digest, target, is_listed)| {
            let same = entries.iter().map(|(other, _)| other).filter(|other| other.target.digest == *target);
            let names = same.filter_map(|other| other.name.clone()).filter(|name| !name.contains('@')).collect();
            Lost { by_digest, names, is_listed }
        })
        .collect()
}

/// The listing of an entry, and why one of its layers is not there, if that is no fault of the image.
fn listing(
    content: &Content,
    catalog: &mut Catalog,
    entry: IndexEntry,
    config: &ImageConfig,
    is_suspect: bool,
) -> Result<(Listing, Option<ImageError>)> {
    let name = entry.name.as_deref().unwrap_or("a removed image").to_owned();
    let mut blobs = BTreeSet::new();
    if !chain(content, &entry.target.digest, &entry.manifest, MAX_NESTING, &mut blobs)? {
        let cause = format!("manifest {} is not reached from {}", entry.manifest, entry.target.digest);
        return Err(ImageError::new(ErrorKind::Corrupt, "load image", &name, cause));
    }
    let parsed = manifest::parse(&content.read_blob(&entry.manifest)?, "", &name)?;
    let Manifest::Image(image) = parsed.manifest else {
        return Err(ImageError::new(ErrorKind::Corrupt, "load image", &name, "its manifest is an index"));
    };
    let image_id = image.config.digest.clone();
    let config_json = content.read_blob(&image_id)?;
    let config_file = ConfigFile::parse(&config_json, &name)?;
    config_file.check(&config.platform, image.layers.len(), &name)?;
    for part in image.layers.iter().chain([&image.config]) {
        if catalog.blobs.get(&part.digest) != Some(&part.size) {
            return Err(ImageError::new(
                ErrorKind::Corrupt,
                "load image",
                &name,
                format!("blob {} is not whole", part.digest),
            ));
        }
        blobs.insert(part.digest.clone());
    }
    let mut layers = HashMap::new();
    let mut missing = None;
    for (blob, diff_id) in image.layers.iter().zip(config_file.diff_ids()) {
        let size = match catalog.layers.get(diff_id).copied().or_else(|| {
            let complete = content.complete_layer(diff_id)?;
            (!is_suspect || content.is_as_measured(diff_id, &complete)).then_some(complete)
        }) {
            Some(size) => size,
            None => match unpack_again(content, blob, diff_id, config, &name) {
                Ok(size) => size,
                Err(error) if !matches!(says(&error), Says::Damage) => {
                    missing = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        layers.insert(diff_id.clone(), size);
    }
    catalog.layers.extend(layers);
    if missing.is_none() {
        missing = match describe(content, config_file.diff_ids()) {
            Err(error) if !matches!(says(&error), Says::Damage) => Some(error),
            described => described.map(|()| None)?,
        };
    }
    let image = Image { config: config_file, config_json: String::from_utf8_lossy(&config_json).into_owned() };
    catalog.images.insert(image_id.clone(), image);
    Ok((Listing { entry, image_id, blobs }, missing))
}

/// Gives directories that upper layers only imply the attributes of the lower ones.
fn describe(content: &Content, diff_ids: &[Digest]) -> Result<()> {
    let mut lower: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        content.describe_implied(diff_id, &lower)?;
        lower.insert(0, diff_id.clone());
    }
    Ok(())
}

/// Makes a layer from its blob, which is verified on the way. Runs on a blocking thread of the runtime.
fn unpack_again(
    content: &Content,
    blob: &Descriptor,
    diff_id: &Digest,
    config: &ImageConfig,
    name: &str,
) -> Result<LayerSize> {
    tracing::info!(image = name, layer = %diff_id, "a layer is not whole and is unpacked again");
    let key = encryption::open_layer(config.decryption_keys_dir.as_deref(), blob, name)?;
    let job = LayerJob {
        digest: blob.digest.clone(),
        size: blob.size,
        key,
        unpack: Some((content.begin_layer(diff_id)?, diff_id.clone())),
        limits: config.limits.clone(),
        name: name.to_owned(),
    };
    let run = layer::run(job, Origin::Blob(content.blob(&blob.digest)));
    match tokio::runtime::Handle::current().block_on(run) {
        Ok(()) => content.publish_layer(diff_id),
        Err(error) => content.discard_partial_layer(diff_id).and(Err(error)),
    }
}

/// Collects the indexes on the way from `from` to the chosen manifest. Manifests of other platforms are not on disk.
fn chain(content: &Content, from: &Digest, to: &Digest, depth: usize, blobs: &mut BTreeSet<Digest>) -> Result<bool> {
    if from == to {
        blobs.insert(from.clone());
        return Ok(true);
    }
    let path = content.blob(from);
    if depth == 0 || !path.try_exists().map_err(|error| ImageError::io("look for blob", &path, error))? {
        return Ok(false);
    }
    let Manifest::Index(children) = manifest::parse(&content.read_blob(from)?, "", from.as_str())?.manifest else {
        return Ok(false);
    };
    for child in children {
        if chain(content, &child.digest, to, depth - 1, blobs)? {
            blobs.insert(from.clone());
            return Ok(true);
        }
    }
    Ok(false)
}

fn sweep(content: &Content, catalog: &mut Catalog) -> Result<()> {
    use super::locks::Key;
    for key in catalog.garbage() {
        if let Key::Blob(digest) = key {
            remove_tree(&content.blob(&digest))?;
            catalog.blobs.remove(&digest);
        }
    }
    // One that could not be unpacked again may be mounted by a container, as it is.
    let listed = catalog.images.values().flat_map(|image| image.config.diff_ids());
    let kept: BTreeSet<&str> = listed.chain(catalog.layers.keys()).map(Digest::hex).collect();
    for (name, path) in content.layers_on_disk()? {
        if !kept.contains(name.as_str()) {
            remove_tree(&path)?;
        }
    }
    Ok(())
}
