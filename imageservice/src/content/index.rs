//! `index.json`: which images there are. It is the record of truth; everything else is found from it.

use std::collections::BTreeMap;
use std::path::Path;

use podwright_types::Digest;
use serde::{Deserialize, Serialize};

use super::{replace, reserve};
use crate::error::{ErrorKind, ImageError, Result};
use crate::manifest::{DOCKER_LIST, Descriptor, OCI_INDEX};
use crate::platform::Platform;

/// The name of an image, as skopeo and others look it up.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Which manifest of an index is on this host.
const CHOSEN_MANIFEST: &str = "io.podwright.image.manifest";

/// One image under one name; without a name it was removed while containers use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) name: Option<String>,
    /// What the registry gave for the name: an index or a manifest; around one of Docker's manifests an index of ours.
    pub(crate) target: Descriptor,
    /// The manifest of this host's platform.
    pub(crate) manifest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexFile {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Vec<IndexRow>,
}

#[derive(Serialize, Deserialize)]
struct IndexRow {
    #[serde(flatten)]
    target: Descriptor,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Reads the index; none is an empty one.
pub(crate) fn read_index(images: &Path) -> Result<Vec<IndexEntry>> {
    let path = images.join("index.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::io("read image index", &path, error)),
    };
    let file: IndexFile = serde_json::from_slice(&text).map_err(|error| {
        let cause = format!("{error}; move the file away to start without images");
        ImageError::new(ErrorKind::Corrupt, "read image index", path.display(), cause)
    })?;
    Ok(file.manifests.into_iter().map(entry).collect())
}

fn entry(mut row: IndexRow) -> IndexEntry {
    let chosen = row.annotations.get(CHOSEN_MANIFEST).and_then(|text| text.parse().ok());
    IndexEntry {
        name: row.annotations.remove(REF_NAME),
        manifest: chosen.unwrap_or_else(|| row.target.digest.clone()),
        target: row.target,
    }
}

/// Readers of OCI layouts skip what has one of Docker's types, and read Docker's indexes, which differ in nothing else, all the
/// same under OCI's name.
fn layout_type(media_type: &str) -> String {
    if media_type == DOCKER_LIST { OCI_INDEX.to_owned() } else { media_type.to_owned() }
}

/// An index of one manifest: the form in which readers of OCI layouts take one of Docker's.
pub(crate) fn wrap_manifest(manifest: &Descriptor, platform: &Platform) -> Vec<u8> {
    let entry = serde_json::json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
        "platform": {"os": platform.os, "architecture": platform.architecture},
    });
    serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string().into_bytes()
}

/// Replaces the index; what it names is synced already.
pub(crate) fn write_index(images: &Path, entries: &[IndexEntry]) -> Result<()> {
    let path = images.join("index.json");
    let manifests = entries
        .iter()
        .map(|entry| IndexRow {
            target: Descriptor { media_type: layout_type(&entry.target.media_type), ..entry.target.clone() },
            annotations: [(REF_NAME, entry.name.clone()), (CHOSEN_MANIFEST, Some(entry.manifest.to_string()))]
                .into_iter()
                .filter_map(|(key, value)| value.map(|value| (key.to_owned(), value)))
                .collect(),
        })
        .collect();
    let file = IndexFile { schema_version: 2, media_type: OCI_INDEX.to_owned(), manifests };
    let text = serde_json::to_vec_pretty(&file)
        .map_err(|error| ImageError::new(ErrorKind::Io, "write image index", path.display(), error.to_string()))?;
    match replace(&path, &text) {
        Err(full) if full.kind() == ErrorKind::NoSpace => reserve::replace(images, &path, &text).map_err(|_| full),
        Err(error) => Err(error),
        Ok(()) => {
            reserve::keep(images, text.len());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an earlier release recorded is data: the sample is never made anew.
    #[test]
    fn an_index_of_version_1_is_read_and_written_the_same() {
        let sample = r#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.index.v1+json",
  "manifests": [
    {
      "mediaType": "application/vnd.oci.image.manifest.v1+json",
      "digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      "size": 1024,
      "annotations": {
        "io.podwright.image.manifest": "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "org.opencontainers.image.ref.name": "docker.io/library/busybox:1"
      }
    }
  ]
}"#;
        let root = tempfile::tempdir().unwrap();
        let images = root.path().join("images");
        std::fs::create_dir(&images).unwrap();
        std::fs::write(images.join("index.json"), sample).unwrap();
        let entries = read_index(&images).unwrap();
        assert_eq!(entries[0].name.as_deref(), Some("docker.io/library/busybox:1"));
        write_index(&images, &entries).unwrap();
        assert_eq!(std::fs::read_to_string(images.join("index.json")).unwrap(), sample);
    }
}
