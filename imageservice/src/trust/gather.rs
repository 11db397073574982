//! The signatures of one image, from all the places where its policy wants them.

use std::path::Path;

use podwright_imagetrust::{Places, Signature, read_places};
use podwright_types::Digest;

use super::{Demand, attached, lookaside, untrusted};
use crate::config::Patience;
use crate::error::{ErrorKind, ImageError, Result};
use crate::registry::Session;

/// Signatures of one image that are looked at.
pub(super) const MAX_SIGNATURES: usize = 128;
/// Bytes of one signature, or of the payload of one.
pub(super) const MAX_SIGNATURE_BYTES: u64 = 1 << 20;
/// Bytes of all signatures of one image.
const MAX_TOTAL_BYTES: u64 = 8 << 20;

/// Signatures, and where they were looked for.
#[derive(Debug, Clone)]
pub(crate) struct Gathering {
    pub(crate) signatures: Vec<Signature>,
    pub(crate) hint: String,
}

/// Signatures as they come, within their bounds.
#[derive(Debug, Default)]
pub(super) struct Basket {
    signatures: Vec<Signature>,
    bytes: u64,
    /// What else is in place of a signature.
    bad: Vec<String>,
}

impl Basket {
    /// What is wrong: there are too many.
    pub(super) fn add(&mut self, signature: Signature) -> std::result::Result<(), String> {
        self.bytes += match &signature {
            Signature::Simple(message) => message.len(),
            Signature::Sigstore { payload, signature, bundle } => {
                payload.len() + signature.len() + bundle.as_ref().map_or(0, String::len)
            }
        } as u64;
        self.signatures.push(signature);
        self.check()
    }

    /// Counts what can be no signature, with the bytes of it that came: another one may decide all the same.
    pub(super) fn add_bad(&mut self, why: String, bytes: u64) -> std::result::Result<(), String> {
        self.bytes += bytes;
        self.bad.push(why);
        self.check()
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.signatures.len() + self.bad.len() > MAX_SIGNATURES || self.bytes > MAX_TOTAL_BYTES {
            return Err(format!(
                "it has more than {MAX_SIGNATURES} signatures, or more than {MAX_TOTAL_BYTES} bytes of them; remove those that nobody needs"
            ));
        }
        Ok(())
    }

    /// For errors: how many bad ones there are, and what is wrong with the first.
    fn bad(&self) -> Option<String> {
        let first = self.bad.first()?;
        Some(format!("{} could not be read, the first of them because {first}", self.bad.len()))
    }
}

/// Signatures of an image did not come.
pub(crate) fn too_late(object: impl ToString, patience: &Patience) -> ImageError {
    let cause = format!("they did not come within {:?}; try again", patience.signatures);
    ImageError::new(ErrorKind::RegistryUnavailable, "fetch signatures of", object, cause)
}

impl Demand {
    /// Reads where signatures are. Blocks.
    pub(crate) fn places(&self, registries_dir: &Path) -> Result<Places> {
        read_places(registries_dir, self.asked()).map_err(|error| {
            let cause = format!("where they are is not known: {error}; correct it");
            untrusted(self.asked(), &cause)
        })
    }

    /// Fetches the signatures of a manifest.
    pub(crate) async fn gather(
        &self,
        session: &Session,
        patience: &Patience,
        places: Places,
        registries_dir: &Path,
        manifest: &Digest,
    ) -> Result<Gathering> {
        let mut basket = Basket::default();
        let mut looked = Vec::new();
        let work = async {
            if self.wanted.simple {
                let place = lookaside::Place::new(&places.lookaside, self.asked(), manifest)?;
                place.fetch(&mut basket, patience, self.asked()).await?;
                looked.push(format!("simple signatures were looked for at {place}"));
            }
            if self.wanted.sigstore && places.attachments {
                attached::fetch(session, manifest, &mut basket, self.asked()).await?;
                looked.push(format!("sigstore signatures were looked for at the tag {}", attached::tag(manifest)));
            } else if self.wanted.sigstore {
                let dir = registries_dir.display();
                looked.push(format!(
                    "sigstore signatures were not looked for, as no file in {dir} says use-sigstore-attachments: true"
                ));
            }
            Ok::<(), ImageError>(())
        };
        match tokio::time::timeout(patience.signatures, work).await {
            Ok(done) => done?,
            Err(_) => return Err(too_late(self.asked(), patience)),
        }
        looked.extend(basket.bad());
        Ok(Gathering { signatures: basket.signatures, hint: looked.join("; ") })
    }
}
