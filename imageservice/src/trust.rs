//! Whether an image may be used, by the signature policy of the node's operator: the default one, or that of the tenant it is for.
//!
//! ```text
//! pull:  rule ─> refused, or accepted without signatures
//!           └──> manifest chosen ─> signatures fetched ─> judged ─> signatures are kept ─> the rest of the pull
//! use:   rule ─> decided before? ─> judged by what was kept ─> fetched and judged
//! ```
//!
//! Policies and keys are read anew each time, so a change counts from the next pull or container on. What was decided holds while policy
//! and keys have the same bytes. Owns finding, fetching and keeping; the decision itself is `imagetrust`'s. Without a configured policy
//! nothing here runs.

mod attached;
mod decided;
mod gather;
mod kept;
mod lookaside;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use podwright_imagetrust::{Accepted, Material, Policy, Signature, Wanted};
use podwright_types::{Digest, ImageReference};

use crate::error::{ErrorKind, ImageError, Result};
use decided::Decided;

pub(crate) use gather::{Gathering, too_late};
pub(crate) use kept::Kept;

/// Longest name of a tenant; it becomes the name of a file.
const MAX_TENANT_BYTES: usize = 200;

/// Where policies are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustConfig {
    /// The policy of tenants without one of their own; none accepts everything.
    pub policy: Option<PathBuf>,
    /// The directory with `<tenant>.json`.
    pub policy_dir: Option<PathBuf>,
    /// The directory of files that tell where signatures are (containers-registries.d(5)).
    pub registries_dir: PathBuf,
}

/// The policies of a store, and what was decided by them.
#[derive(Debug)]
pub(crate) struct Trust {
    config: TrustConfig,
    decided: Mutex<Decided>,
}

/// What has to be shown about one image.
#[derive(Debug)]
pub(crate) struct Demand {
    material: Material,
    pub(crate) wanted: Wanted,
    asked: ImageReference,
}

impl Trust {
    pub(crate) fn new(config: TrustConfig) -> Self {
        Self { config, decided: Mutex::default() }
    }

    pub(crate) fn registries_dir(&self) -> &Path {
        &self.config.registries_dir
    }

    /// What is demanded of an image; nothing, where it is accepted as it is. Reads files.
    pub(crate) fn demand(&self, tenant: &str, asked: &ImageReference) -> Result<Option<Demand>> {
        let Some(path) = self.policy_of(tenant)? else { return Ok(None) };
        let refused = |error: &dyn std::fmt::Display| untrusted(asked, &error.to_string());
        let rule = Policy::read(&path).map_err(|error| refused(&error))?.rule(asked);
        let wanted = rule.wanted().map_err(|error| refused(&error))?;
        if wanted.is_nothing() {
            return Ok(None);
        }
        let material = rule.material().map_err(|error| refused(&error))?;
        Ok(Some(Demand { material, wanted, asked: asked.clone() }))
    }

    /// The file that speaks for a tenant. One that is configured and can not be looked at refuses.
    fn policy_of(&self, tenant: &str) -> Result<Option<PathBuf>> {
        let Some(directory) = self.config.policy_dir.as_ref().filter(|_| !tenant.is_empty()) else {
            return Ok(self.config.policy.clone());
        };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !tenant.bytes().all(is_name) || tenant.starts_with('.') || tenant.len() > MAX_TENANT_BYTES {
            let cause = "a signature policy is looked for by this name, and it can not be the name of a file";
            return Err(ImageError::new(ErrorKind::Invalid, "find signature policy of", excerpt(tenant), cause));
        }
        let own = directory.join(format!("{tenant}.json"));
        match std::fs::symlink_metadata(&own) {
            Ok(_) => Ok(Some(own)),
            // A directory that is gone, perhaps not mounted yet, must not look like one without a word about this tenant.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && directory.is_dir() => {
                Ok(self.config.policy.clone())
            }
            Err(error) => {
                let cause = format!("{error}; images are refused until the directory is there, which may be empty");
                Err(ImageError::new(ErrorKind::Untrusted, "find signature policy", own.display(), cause))
            }
        }
    }

    /// Whether the same demand was met by the same image before.
    pub(crate) fn is_decided(&self, demand: &Demand, manifest: &Digest) -> bool {
        self.decided().holds(&demand.key(manifest), SystemTime::now())
    }

    /// Remembers that a demand was met.
    pub(crate) fn note(&self, demand: &Demand, manifest: &Digest, accepted: &Accepted) {
        self.decided().add(demand.key(manifest), accepted.until);
    }

    fn decided(&self) -> MutexGuard<'_, Decided> {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Demand {
    /// Decides. Takes processor time.
    pub(crate) fn judge(&self, manifest: &[u8], signatures: &[Signature], hint: &str) -> Result<Accepted> {
        self.material.judge(&self.asked, manifest, signatures, SystemTime::now()).map_err(|error| {
            let more = if hint.is_empty() { String::new() } else { format!("; {hint}") };
            untrusted(&self.asked, &format!("{error}{more}"))
        })
    }

    pub(crate) fn asked(&self) -> &ImageReference {
        &self.asked
    }

    fn key(&self, manifest: &Digest) -> decided::Key {
        decided::Key { manifest: manifest.clone(), asked: self.asked.canonical(), stamp: self.material.stamp() }
    }
}

fn untrusted(asked: &ImageReference, cause: &str) -> ImageError {
    ImageError::new(ErrorKind::Untrusted, "check signatures of", asked, cause)
}

fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}
