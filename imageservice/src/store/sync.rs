//! Syncing unpacked layers in the background, after the image is listed: they can be made anew from their blobs.

use std::sync::Arc;

use podwright_types::Digest;

use super::locks::Key;
use super::{Inner, blocking};
use crate::error::Result;

impl Inner {
    /// Begins syncing; nobody waits for it.
    pub(super) fn sync_layers_later(self: &Arc<Self>, diff_ids: Vec<Digest>) {
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = inner.sync_layers(diff_ids).await {
                tracing::warn!(%error, "layers are not synced; after a power cut they are unpacked again");
            }
        });
    }

    async fn sync_layers(self: &Arc<Self>, diff_ids: Vec<Digest>) -> Result<()> {
        let inner = Arc::clone(self);
        let synced = blocking("sync layers", move || {
            let inode = |diff_id: Digest| inner.content.unsynced_layer(&diff_id).map(|inode| (diff_id, inode));
            let unsynced: Vec<_> = diff_ids.into_iter().filter_map(inode).collect();
            if !unsynced.is_empty() {
                inner.content.sync_layers()?;
            }
            Ok(unsynced)
        })
        .await?;
        for (diff_id, inode) in synced {
            let _guard = self.locks.lock(Key::Layer(diff_id.clone())).await;
            let inner = Arc::clone(self);
            blocking("mark layer synced", move || inner.content.mark_synced(&diff_id, inode)).await?;
        }
        Ok(())
    }
}
