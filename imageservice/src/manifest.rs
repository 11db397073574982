//! Manifests, indexes and image configurations: what they say, and what of it is taken.
//!
//! Owns parsing of text. Fetching is left to `registry`, keeping to `content`.

mod config_file;

use std::collections::BTreeMap;

use podwright_types::Digest;
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use config_file::{ConfigFile, image_user};

use crate::encryption;
use crate::error::{ErrorKind, ImageError, Result};
use crate::platform::Platform;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
const LAYERS: [&str; 8] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// What may follow `Accept:` when asking for a manifest.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// A reference to content: type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing)]
    pub(crate) platform: Option<Platform>,
    /// What its annotations say about encryption.
    #[serde(default, skip_serializing, rename = "annotations", deserialize_with = "of_encryption")]
    pub(crate) encryption: Option<BTreeMap<String, String>>,
}

/// Other annotations are left alone, whatever they are.
fn of_encryption<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Option<BTreeMap<String, String>>, D::Error> {
    let serde_json::Value::Object(all) = serde_json::Value::deserialize(from)? else { return Ok(None) };
    let ours = all.into_iter().filter(|(key, _)| key.starts_with(encryption::ANNOTATIONS));
    let texts: BTreeMap<String, String> =
        ours.filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect();
    Ok(Some(texts).filter(|texts| !texts.is_empty()))
}

/// A parsed manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manifest {
    /// Manifests to choose from.
    Index(Vec<Descriptor>),
    /// One image.
    Image(ImageManifest),
}

/// The manifest of one image; layers from the lowest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// A manifest with the media type that it turned out to have.
pub(crate) struct Parsed {
    pub(crate) media_type: String,
    pub(crate) manifest: Manifest,
}

/// Parses a manifest that was served with `content_type` (empty where unknown).
pub(crate) fn parse(text: &[u8], content_type: &str, name: &str) -> Result<Parsed> {
    let refuse = |kind, cause: String| ImageError::new(kind, "read manifest of", name, cause);
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    if DOCKER_SCHEMA_1.contains(&content_type) {
        return Err(refuse(ErrorKind::Invalid, schema_1()));
    }
    let raw: Raw = serde_json::from_slice(text).map_err(|error| {
        if is_schema_1(text) {
            return refuse(ErrorKind::Invalid, schema_1());
        }
        refuse(ErrorKind::Corrupt, format!("it is no valid manifest: {error}; push the image again"))
    })?;
    if raw.schema_version != 2 {
        return Err(refuse(ErrorKind::Invalid, schema_1()));
    }
    let served =
        [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].contains(&content_type).then_some(content_type);
    if let Some(served) = served
        && !raw.media_type.is_empty()
        && raw.media_type != served
    {
        let cause = format!("it was served as {served} and calls itself {}; push the image again", raw.media_type);
        return Err(refuse(ErrorKind::Corrupt, cause));
    }
    let claimed = served.unwrap_or(&raw.media_type).to_owned();
    // A text that is both could mean one image to a scanner and another one to us.
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) if is_type(&claimed, OCI_INDEX, DOCKER_LIST) => {
            Ok(Parsed { media_type: or_default(claimed, OCI_INDEX), manifest: Manifest::Index(manifests) })
        }
        (None, Some(config), Some(layers)) if is_type(&claimed, OCI_MANIFEST, DOCKER_MANIFEST) => Ok(Parsed {
            media_type: or_default(claimed, OCI_MANIFEST),
            manifest: Manifest::Image(ImageManifest { config, layers }),
        }),
        _ => Err(refuse(
            ErrorKind::Corrupt,
            format!("its content does not fit its type {claimed:?}: neither a plain index nor a plain image manifest"),
        )),
    }
}

fn is_type(claimed: &str, oci: &str, docker: &str) -> bool {
    claimed.is_empty() || claimed == oci || claimed == docker
}

fn or_default(claimed: String, default: &str) -> String {
    if claimed.is_empty() { default.to_owned() } else { claimed }
}

fn schema_1() -> String {
    "it is a Docker schema 1 manifest, which is not supported; push the image again with a current tool".to_owned()
}

fn is_schema_1(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u32,
    }
    serde_json::from_slice::<Version>(text).is_ok_and(|version| version.schema_version == 1)
}

/// The manifests of an index that run on `platform`, best first. Those without a platform come last.
pub(crate) fn candidates<'a>(index: &'a [Descriptor], platform: &Platform) -> Vec<&'a Descriptor> {
    let mut ranked: Vec<(u32, &Descriptor)> = index
        .iter()
        .filter(|d| {
            d.media_type.is_empty()
                || [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].contains(&d.media_type.as_str())
        })
        .filter_map(|descriptor| match &descriptor.platform {
            Some(offered) => platform.rank(offered).map(|rank| (rank, descriptor)),
            None => Some((u32::MAX, descriptor)),
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, descriptor)| descriptor).collect()
}

/// Refuses layers of a kind that can not be unpacked, and images that are no images.
pub(crate) fn check_layers(manifest: &ImageManifest, max_layers: usize, name: &str) -> Result<()> {
    let refuse = |kind, cause: String| Err(ImageError::new(kind, "read manifest of", name, cause));
    if manifest.layers.len() > max_layers {
        let cause = format!("it has {} layers; the limit is {max_layers}", manifest.layers.len());
        return refuse(ErrorKind::LimitExceeded, cause);
    }
    match manifest.layers.iter().find(|layer| !LAYERS.contains(&plain_type(&layer.media_type))) {
        Some(layer) if layer.media_type.contains("erofs") => {
            let cause = format!(
                "layer {} has the type {:?}, an EROFS image; such layers are not mounted, push the image with layers in tar",
                layer.digest, layer.media_type
            );
            refuse(ErrorKind::Invalid, cause)
        }
        Some(layer) => refuse(
            ErrorKind::Invalid,
            format!("layer {} has the type {:?}, which is no container image layer", layer.digest, layer.media_type),
        ),
        None => Ok(()),
    }
}

/// The type of what an encrypted layer holds.
fn plain_type(media_type: &str) -> &str {
    media_type.strip_suffix(encryption::MEDIA_TYPE_SUFFIX).unwrap_or(media_type)
}

#[cfg(test)]
mod tests;
