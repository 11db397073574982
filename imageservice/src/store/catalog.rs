//! What is known about images: their names, parts, users, and what is on disk. Plain data without I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use podwright_types::{Digest, ImageReference};

use super::locks::Key;
use crate::content::{Content, IndexEntry, LayerSize};
use crate::image::{ImageInfo, ResolvedImage};
use crate::manifest::{ConfigFile, image_user};
use crate::pin::Pin;

/// Shortest prefix of an id that is looked up.
const MIN_PREFIX: usize = 3;

/// One image, whatever its names.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) config: ConfigFile,
    pub(super) config_json: String,
}

/// One index entry, with the parts that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) entry: IndexEntry,
    pub(super) image_id: Digest,
    /// All blobs: index, manifest, configuration, layers.
    pub(super) blobs: BTreeSet<Digest>,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) listings: Vec<Listing>,
    pub(super) images: BTreeMap<Digest, Image>,
    pub(super) blobs: HashMap<Digest, u64>,
    pub(super) layers: HashMap<Digest, LayerSize>,
    /// What running pulls want, and how many of them.
    wanted: HashMap<Key, usize>,
    holds: HashMap<String, BTreeSet<Digest>>,
}

impl Catalog {
    /// The id of a listed image: by full id, by name, or by a prefix of the id that fits no other.
    pub(super) fn find(&self, reference: &str) -> Option<Digest> {
        if let Ok(id) = reference.parse::<Digest>() {
            return self.is_listed(&id).then_some(id);
        }
        if let Ok(parsed) = reference.parse::<ImageReference>()
            && let Some(listing) = self.by_name(&parsed.canonical())
        {
            return Some(listing.image_id.clone());
        }
        let prefix = reference.strip_prefix("sha256:").unwrap_or(reference);
        if prefix.len() < MIN_PREFIX || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut fitting = self.images.keys().filter(|id| id.hex().starts_with(prefix) && self.is_listed(id));
        fitting.next().filter(|_| fitting.next().is_none()).cloned()
    }

    fn by_name(&self, name: &str) -> Option<&Listing> {
        self.listings.iter().find(|listing| listing.entry.name.as_deref() == Some(name))
    }

    fn names<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = &'a str> {
        self.listings.iter().filter(move |listing| listing.image_id == *id).filter_map(|l| l.entry.name.as_deref())
    }

    fn is_listed(&self, id: &Digest) -> bool {
        self.names(id).next().is_some()
    }

    pub(super) fn list(&self, pinned: &[Pin]) -> Vec<ImageInfo> {
        self.images.keys().filter(|id| self.is_listed(id)).filter_map(|id| self.info(id, pinned)).collect()
    }

    pub(super) fn info(&self, id: &Digest, pinned: &[Pin]) -> Option<ImageInfo> {
        let image = self.images.get(id)?;
        let (repo_digests, repo_tags): (Vec<String>, Vec<String>) =
            self.names(id).map(str::to_owned).partition(|name| name.contains('@'));
        let is_pinned = pinned.iter().any(|pin| pin.fits(id, self.names(id)));
        Some(ImageInfo {
            id: id.clone(),
            repo_tags,
            repo_digests,
            size_bytes: self.size(id, image),
            user: image_user(&image.config.container_config().user),
            pinned: is_pinned,
            config_json: image.config_json.clone(),
        })
    }

    fn size(&self, id: &Digest, image: &Image) -> u64 {
        let blobs: BTreeSet<&Digest> =
            self.listings.iter().filter(|listing| listing.image_id == *id).flat_map(|l| &l.blobs).collect();
        let layers: BTreeSet<&Digest> = image.config.diff_ids().iter().collect();
        blobs.into_iter().filter_map(|blob| self.blobs.get(blob)).sum::<u64>()
            + layers.into_iter().filter_map(|layer| self.layers.get(layer)).map(|size| size.bytes).sum::<u64>()
    }

    pub(super) fn resolve(&self, id: &Digest, content: &Content) -> Option<ResolvedImage> {
        let image = self.images.get(id)?;
        let mut seen = HashSet::new();
        // overlayfs refuses a directory twice. What an upper layer has, it has over all lower ones, so the lower of two equal
        // layers adds nothing.
        let mut layers = Vec::new();
        for diff_id in image.config.diff_ids().iter().rev().filter(|diff_id| seen.insert(*diff_id)) {
            layers.push(content.layer_tree(diff_id));
            if self.layers.get(diff_id).is_some_and(|layer| layer.hides_lower) {
                break;
            }
        }
        let reference = self.names(id).find(|name| name.contains('@')).map_or_else(|| id.to_string(), str::to_owned);
        Some(ResolvedImage { id: id.clone(), reference, config: image.config.container_config(), layers })
    }

    /// A layer of a listed image that is not unpacked, which a full disk brings about.
    pub(super) fn missing_layer(&self, id: &Digest) -> Option<&Digest> {
        let image = self.images.get(id)?;
        image.config.diff_ids().iter().find(|diff_id| !self.layers.contains_key(*diff_id))
    }

    /// Bytes and inodes of all that is on disk.
    pub(super) fn usage(&self) -> (u64, u64) {
        let bytes = self.blobs.values().sum::<u64>() + self.layers.values().map(|size| size.bytes).sum::<u64>();
        let inodes = self.blobs.len() as u64 + self.layers.values().map(|size| size.inodes).sum::<u64>();
        (bytes, inodes)
    }

    pub(super) fn hold(&mut self, id: &Digest, holder: &str) {
        self.holds.entry(holder.to_owned()).or_default().insert(id.clone());
    }

    /// Ends a hold; whether that leaves a removed image to nobody.
    pub(super) fn release(&mut self, holder: &str) -> bool {
        let released = self.holds.remove(holder).unwrap_or_default();
        released.iter().any(|id| !self.is_held(id) && self.is_detached(id))
    }

    pub(super) fn is_held(&self, id: &Digest) -> bool {
        self.holds.values().any(|held| held.contains(id))
    }

    /// Layers of images that somebody holds.
    pub(super) fn held_layers(&self) -> HashSet<Digest> {
        let held = self.holds.values().flatten().filter_map(|id| self.images.get(id));
        held.flat_map(|image| image.config.diff_ids().iter().cloned()).collect()
    }

    /// Removed, but still on disk for its holders.
    fn is_detached(&self, id: &Digest) -> bool {
        self.listings.iter().any(|listing| listing.image_id == *id && listing.entry.name.is_none())
    }

    pub(super) fn want(&mut self, key: Key) {
        *self.wanted.entry(key).or_default() += 1;
    }

    pub(super) fn unwant(&mut self, key: &Key) {
        if let Some(count) = self.wanted.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(key);
            }
        }
    }

    pub(super) fn is_wanted(&self, key: &Key) -> bool {
        self.wanted.contains_key(key)
    }

    /// Manifests of listed images, and blobs that running pulls want.
    pub(super) fn needed_manifests(&self) -> HashSet<Digest> {
        let listed = self.listings.iter().map(|listing| &listing.entry.manifest);
        let wanted = self.wanted.keys().filter_map(|key| match key {
            Key::Blob(digest) => Some(digest),
            Key::Layer(_) => None,
        });
        listed.chain(wanted).cloned().collect()
    }

    /// Whether any listing needs it.
    pub(super) fn is_referenced(&self, key: &Key) -> bool {
        match key {
            Key::Blob(digest) => self.listings.iter().any(|listing| listing.blobs.contains(digest)),
            Key::Layer(diff_id) => self.images.values().any(|image| image.config.diff_ids().contains(diff_id)),
        }
    }

    /// What is on disk and needed by nobody.
    pub(super) fn garbage(&self) -> Vec<Key> {
        let blobs: HashSet<&Digest> = self.listings.iter().flat_map(|listing| &listing.blobs).collect();
        let layers: HashSet<&Digest> = self.images.values().flat_map(|image| image.config.diff_ids()).collect();
        let unused_blobs = self.blobs.keys().filter(|digest| !blobs.contains(digest)).cloned().map(Key::Blob);
        let unused_layers = self.layers.keys().filter(|diff_id| !layers.contains(diff_id)).cloned().map(Key::Layer);
        unused_blobs.chain(unused_layers).filter(|key| !self.is_wanted(key)).collect()
    }

    /// Takes new listings in force; images without any are forgotten.
    pub(super) fn set_listings(&mut self, listings: Vec<Listing>) {
        let alive: HashSet<&Digest> = listings.iter().map(|listing| &listing.image_id).collect();
        self.images.retain(|id, _| alive.contains(id));
        self.listings = listings;
    }
}
