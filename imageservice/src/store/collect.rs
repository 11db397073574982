//! Removing images, and freeing what nobody needs any more.

use podwright_types::Digest;

use super::catalog::{Catalog, Image, Listing};
use super::locks::Key;
use super::{Inner, blocking};
use crate::content::{IndexEntry, remove_tree, write_index};
use crate::error::Result;
use crate::failpoints::{self, fail_point};

impl Inner {
    /// Takes an image off the list, and frees it if nobody holds it.
    pub(super) async fn remove(self: &std::sync::Arc<Self>, id: &Digest) -> Result<()> {
        self.change_listings(None, |listings, is_held| {
            let (mut gone, mut kept): (Vec<Listing>, Vec<Listing>) =
                listings.into_iter().partition(|listing| listing.image_id == *id);
            if is_held(id)
                && let Some(mut detached) = gone.pop()
            {
                detached.entry.name = None;
                kept.push(detached);
            }
            kept
        })
        .await?;
        fail_point(failpoints::REMOVE_COLLECT);
        self.collect().await?;
        fail_point(failpoints::REMOVED);
        let inner = std::sync::Arc::clone(self);
        blocking("keep a reserve for the image index", move || {
            inner.content.keep_reserve();
            Ok(())
        })
        .await
    }

    /// Frees images that were removed and are held no more.
    pub(super) async fn drop_unheld(self: &std::sync::Arc<Self>) -> Result<()> {
        let stays = |listing: &Listing, is_held: &dyn Fn(&Digest) -> bool| {
            listing.entry.name.is_some() || is_held(&listing.image_id)
        };
        let is_needed = {
            let catalog = self.catalog();
            !catalog.listings.iter().all(|listing| stays(listing, &|id| catalog.is_held(id)))
        };
        // Writing the list waits for the disk, and the daemon's start for this.
        if is_needed {
            self.change_listings(None, |mut listings, is_held| {
                listings.retain(|listing| stays(listing, is_held));
                listings
            })
            .await?;
        }
        self.collect().await
    }

    /// Changes the list, adding an image that it may name: on disk first, then in memory.
    pub(super) async fn change_listings(
        self: &std::sync::Arc<Self>,
        image: Option<(Digest, Image)>,
        change: impl Fn(Vec<Listing>, &dyn Fn(&Digest) -> bool) -> Vec<Listing>,
    ) -> Result<()> {
        let _writer = self.index_writer.lock().await;
        let wanted = |catalog: &Catalog| change(catalog.listings.clone(), &|id| catalog.is_held(id));
        let mut changed = wanted(&self.catalog());
        loop {
            let entries: Vec<IndexEntry> = changed.iter().map(|listing| listing.entry.clone()).collect();
            let inner = std::sync::Arc::clone(self);
            blocking("write image index", move || write_index(&inner.content.images(), &entries)).await?;
            fail_point(if image.is_some() { failpoints::LISTED } else { failpoints::REMOVE_UNLISTED });
            let mut catalog = self.catalog();
            let now = wanted(&catalog);
            if now == changed {
                catalog.images.extend(image);
                catalog.set_listings(changed);
                return Ok(());
            }
            // A container took hold of the image while the index was written.
            changed = now;
        }
    }

    /// Frees blobs and layers that no image, no holder and no running pull needs.
    pub(super) async fn collect(self: &std::sync::Arc<Self>) -> Result<()> {
        let garbage = self.catalog().garbage();
        let mut trash = Vec::new();
        for key in garbage {
            let _guard = self.locks.lock(key.clone()).await;
            // A pull may have begun to want it, or even have listed it, since.
            if !self.forget(&key) {
                continue;
            }
            let inner = std::sync::Arc::clone(self);
            let path = match &key {
                Key::Blob(digest) => self.content.blob(digest),
                Key::Layer(diff_id) => self.content.layer(diff_id),
            };
            trash.push(blocking("remove", move || inner.content.discard(&path)).await?);
        }
        self.sweep_signatures().await?;
        self.drop_retired().await?;
        fail_point(failpoints::REMOVE_TRASH);
        blocking("empty trash", move || trash.iter().try_for_each(|path| remove_tree(path))).await
    }

    /// Takes garbage out of memory, if it is garbage still.
    fn forget(&self, key: &Key) -> bool {
        let mut catalog = self.catalog();
        if catalog.is_wanted(key) || catalog.is_referenced(key) {
            return false;
        }
        match key {
            Key::Blob(digest) => catalog.blobs.remove(digest).is_some(),
            Key::Layer(diff_id) => catalog.layers.remove(diff_id).is_some(),
        }
    }
}
