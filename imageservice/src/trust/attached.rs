//! Signatures in the registry, as cosign attaches them: the tag `<algorithm>-<hex>.sig` has a manifest whose layers are payloads.

use std::collections::BTreeMap;

use podwright_imagetrust::Signature;
use podwright_types::{Digest, ImageReference};
use serde::Deserialize;

use super::gather::{Basket, MAX_SIGNATURE_BYTES, MAX_SIGNATURES};
use super::untrusted;
use crate::error::{ErrorKind, ImageError, Result};
use crate::hash::digest_of;
use crate::registry::Session;

/// The type of a payload.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Its signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Its entry in a transparency log.
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Where the signatures of a manifest are.
pub(super) fn tag(manifest: &Digest) -> String {
    format!("{}-{}.sig", manifest.algorithm().name(), manifest.hex())
}

/// Puts the signatures into the basket; a registry without that tag has none.
pub(super) async fn fetch(
    session: &Session,
    manifest: &Digest,
    basket: &mut Basket,
    asked: &ImageReference,
) -> Result<()> {
    let fetched = match session.manifest_by_tag(&tag(manifest)).await {
        Ok(fetched) => fetched,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let found: Manifest = serde_json::from_slice(&fetched.bytes)
        .map_err(|error| untrusted(asked, &format!("the manifest of its signatures can not be read: {error}")))?;
    let fitting = found.layers.into_iter().filter(|layer| layer.media_type == PAYLOAD);
    for mut layer in fitting.take(MAX_SIGNATURES + 1) {
        let Some(signature) = layer.annotations.remove(SIGNATURE) else { continue };
        let bundle = layer.annotations.remove(BUNDLE);
        let added = match payload(session, &layer, asked).await? {
            Ok(payload) => basket.add(Signature::Sigstore { payload, signature, bundle }),
            Err((why, bytes)) => basket.add_bad(why, bytes),
        };
        added.map_err(|cause| untrusted(asked, &cause))?;
    }
    Ok(())
}

/// One payload, or why it is none with the bytes of it that came.
async fn payload(
    session: &Session,
    layer: &Layer,
    asked: &ImageReference,
) -> Result<std::result::Result<Vec<u8>, (String, u64)>> {
    if layer.size > MAX_SIGNATURE_BYTES {
        return Ok(Err((format!("it has {} bytes", layer.size), 0)));
    }
    let mut stream = match session.blob(&layer.digest, layer.size, 0).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
            return Ok(Err((error.to_string(), 0)));
        }
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let broken = |cause: String| ImageError::new(ErrorKind::RegistryUnavailable, "fetch signature of", asked, cause);
    while let Some((_, piece)) = stream.next().await.map_err(broken)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > layer.size {
            break;
        }
    }
    let found = digest_of(layer.digest.algorithm(), &bytes);
    if found == layer.digest {
        return Ok(Ok(bytes));
    }
    Ok(Err((format!("{} came with the digest {found}", layer.digest), bytes.len() as u64)))
}
