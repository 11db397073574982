//! Images that were listed and are not whole when the store is opened: pulled again by themselves.
//!
//! They are off the list until then. kubelet pulls what it needs anyway; this serves pods that start before it asks, and nodes without one.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::load::Lost;

/// The pause after the first round of tries; it doubles.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause. It never ends: a full disk is freed, and a registry comes back, when they do.
const MOST_PAUSE: Duration = Duration::from_mins(10);

impl Inner {
    /// Begins; nobody waits for it. It ends with the store, and for an image that was removed or pulled meanwhile.
    pub(super) fn mend_later(self: &Arc<Self>, mut lost: Vec<Lost>) {
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = PAUSE;
            loop {
                let mut left = Vec::new();
                for image in lost {
                    let Some(inner) = inner.upgrade() else { return };
                    if inner.is_out_of_date(&image) {
                        continue;
                    }
                    match inner.mend(&image).await {
                        Ok(()) => {
                            tracing::info!(image = image.by_digest, "an image that was not whole was pulled again");
                        }
                        Err(error) => {
                            tracing::warn!(image = image.by_digest, %error, "an image that is not whole could not be pulled again yet");
                            left.push(image);
                        }
                    }
                }
                lost = left;
                if lost.is_empty() {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = MOST_PAUSE.min(pause * 2);
            }
        });
    }

    /// One that was listed was removed, one that was not was pulled by somebody.
    fn is_out_of_date(&self, lost: &Lost) -> bool {
        let name = Some(&lost.by_digest);
        let is_listed = self.catalog().listings.iter().any(|listing| listing.entry.name.as_ref() == name);
        is_listed != lost.is_listed
    }

    /// Pulls by digest, and lists the result under the other names that it had, unless they were given to another image meanwhile.
    async fn mend(self: &Arc<Self>, lost: &Lost) -> crate::error::Result<()> {
        self.pull_again(&lost.by_digest).await?;
        self.change_listings(None, |mut listings, _| {
            let Some(whole) = listings.iter().find(|l| l.entry.name.as_deref() == Some(&lost.by_digest)).cloned()
            else {
                return listings;
            };
            for name in &lost.names {
                if !listings.iter().any(|listing| listing.entry.name.as_ref() == Some(name)) {
                    let mut listing = whole.clone();
                    listing.entry.name = Some(name.clone());
                    listings.push(listing);
                }
            }
            listings
        })
        .await
    }
}
