//! Encrypted layers, as ocicrypt makes them (skopeo, podman, CRI-O and containerd use it): whose key opens one, and the opened content.
//!
//! A layer's content is encrypted with a key of its own, which stands in the manifest's annotations, encrypted for each recipient. The private
//! keys are the node's: who may pull here and name such an image gets it. Blobs stay encrypted on disk, unpacked layers are in the clear.
//!
//! ```text
//! annotations ─> jwe ─(keys)─> LayerKey ─> Decrypting: bytes of the blob in, bytes of the layer out, or an error at the end
//! ```

mod annotations;
mod decrypting;
mod jwe;
mod keys;

use std::path::Path;

pub(crate) use annotations::{ANNOTATIONS, MEDIA_TYPE_SUFFIX};
pub(crate) use decrypting::{Decrypting, LayerKey};

use crate::error::{ErrorKind, ImageError, Result};
use crate::manifest::Descriptor;
use annotations::Sealed;
use jwe::Opened;
use keys::PrivateKeys;

/// Most operations with private keys for the layers of one image. An image can name as many recipients as it likes.
const MAX_TRIES: usize = 4096;

/// Whether a layer is said to be encrypted.
pub(crate) fn is_encrypted(layer: &Descriptor) -> bool {
    layer.media_type.ends_with(MEDIA_TYPE_SUFFIX)
}

/// Opens the keys of an image's layers: one for each that is encrypted. Reads files; the keys are those that are there now.
///
/// # Errors
/// There is no key for a layer (`Unauthorized`), or it is encrypted in a way that is not known.
pub(crate) fn open_layers<'a>(
    keys_dir: Option<&Path>,
    layers: impl IntoIterator<Item = &'a Descriptor>,
    name: &str,
) -> Result<Vec<Option<LayerKey>>> {
    let mut keys = None;
    let mut tries = MAX_TRIES;
    let mut opened = Vec::new();
    for layer in layers {
        if !is_encrypted(layer) {
            opened.push(None);
            continue;
        }
        let keys = match &mut keys {
            Some(keys) => keys,
            none => none.insert(PrivateKeys::read(keys_dir)?),
        };
        opened.push(Some(open(keys, layer, &mut tries, name)?));
    }
    Ok(opened)
}

/// Opens the key of one layer, if it is encrypted.
///
/// # Errors
/// As [`open_layers`].
pub(crate) fn open_layer(keys_dir: Option<&Path>, layer: &Descriptor, name: &str) -> Result<Option<LayerKey>> {
    open_layers(keys_dir, [layer], name).map(|mut opened| opened.pop().flatten())
}

fn open(keys: &PrivateKeys, layer: &Descriptor, tries: &mut usize, name: &str) -> Result<LayerKey> {
    let object = format!("layer {} of {name}", layer.digest);
    let refuse = |kind, cause: String| ImageError::new(kind, "decrypt", &object, cause);
    let sealed = Sealed::parse(layer.encryption.as_ref())
        .map_err(|cause| refuse(ErrorKind::Corrupt, format!("{cause}; push the image again")))?;
    let mut unknown = Vec::new();
    for text in &sealed.for_jwe {
        match jwe::open(text, keys, tries) {
            Opened::Yes(text) => {
                return sealed.key(&text).map_err(|cause| refuse(ErrorKind::Corrupt, cause));
            }
            Opened::No { unknown: some } => unknown.extend(some),
            Opened::Malformed(cause) => return Err(refuse(ErrorKind::Corrupt, cause)),
        }
        if *tries == 0 {
            let cause = format!("its image names so many recipients that {MAX_TRIES} tries found no key");
            return Err(refuse(ErrorKind::LimitExceeded, cause));
        }
    }
    unknown.extend(sealed.for_others.iter().map(|scheme| format!("for {scheme}")));
    unknown.sort();
    unknown.dedup();
    let mut cause =
        format!("it is encrypted and no key in {keys} opens it; put the private key (PEM) of a recipient there");
    if !unknown.is_empty() {
        cause.push_str(&format!("; what it is encrypted with besides is not supported: {}", unknown.join(", ")));
    }
    Err(refuse(ErrorKind::Unauthorized, cause))
}

/// Reads annotations as an attacker may have written them.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(annotations) = serde_json::from_slice(bytes) else { return };
    let Ok(sealed) = Sealed::parse(Some(&annotations)) else { return };
    let keys = PrivateKeys::of_number(7);
    let mut tries = 8;
    for text in &sealed.for_jwe {
        // What a recipient reads can be anything too.
        let _ = sealed.key(text);
        if let Opened::Yes(text) = jwe::open(text, &keys, &mut tries) {
            let _ = sealed.key(&text);
        }
    }
}

#[cfg(test)]
mod tests;
