//! Images that were listed and are not whole when the store is opened: pulled again by themselves.
//!
//! They are off the list until then. kubelet pulls what it needs anyway; this serves pods that start before it asks, and nodes without one.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::load::Lost;

/// Tries to pull an image again; after a restart of the node the network may come up late.
const TRIES: u32 = 6;
/// The first pause between tries; it doubles.
const PAUSE: Duration = Duration::from_secs(5);

impl Inner {
    /// Begins; nobody waits for it. It ends with the store.
    pub(super) fn mend_later(self: &Arc<Self>, lost: Vec<Lost>) {
        if lost.is_empty() {
            return;
        }
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            for image in lost {
                let mut pause = PAUSE;
                for at in 1..=TRIES {
                    let Some(inner) = inner.upgrade() else { return };
                    match inner.mend(&image).await {
                        Ok(()) => {
                            tracing::info!(image = image.by_digest, "an image that was not whole was pulled again");
                            break;
                        }
                        Err(error) if at == TRIES => {
                            tracing::warn!(image = image.by_digest, %error, "an image that was not whole stays away; pull it again");
                        }
                        Err(_) => {
                            drop(inner);
                            tokio::time::sleep(pause).await;
                            pause *= 2;
                        }
                    }
                }
            }
        });
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
