//! Entry points of the fuzz targets, with what must hold whatever the bytes are. Only with the feature `fuzzing`.

use std::io::{BufReader, Read};
use std::path::Path;

use crate::auth::docker_config;
use crate::manifest::{self, ConfigFile, DOCKER_LIST, DOCKER_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::platform::Platform;
use crate::registry;
use crate::tar::{Kind, Reader};
use crate::unpack::Decoder;

/// Inflated bytes of a layer that are looked at.
const LAYER_BYTES: u64 = 1 << 20;
/// Layers of an image, as the default limits have it.
const LAYERS: usize = 127;

/// A manifest or an index; the first byte chooses what it was served as.
pub fn manifest(bytes: &[u8]) {
    let Some((served, text)) = bytes.split_first() else { return };
    let types = ["", OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "text/plain"];
    let content_type = types.get(usize::from(*served) % types.len()).copied().unwrap_or_default();
    let Ok(parsed) = manifest::parse(text, content_type, "fuzz") else { return };
    match parsed.manifest {
        Manifest::Index(list) => {
            let found = manifest::candidates(&list, &Platform::host());
            assert!(found.len() <= list.len(), "an index offers more than it lists");
        }
        Manifest::Image(image) => {
            let checked = manifest::check_layers(&image, LAYERS, "fuzz");
            assert!(checked.is_err() || image.layers.len() <= LAYERS, "too many layers were taken");
        }
    }
}

/// An image's configuration.
pub fn image_config(bytes: &[u8]) {
    let Ok(file) = ConfigFile::parse(bytes, "fuzz") else { return };
    let layers = file.diff_ids().len();
    let _ = file.check(&Platform::host(), layers, "fuzz");
    assert!(file.check(&Platform::host(), layers + 1, "fuzz").is_err(), "a missing layer was not noticed");
    let _ = manifest::image_user(&file.container_config().user);
}

/// A hosts.toml.
pub fn hosts_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    registry::parse_hosts_file(text);
}

/// The annotations of an encrypted layer, in JSON.
pub fn encrypted_layer(bytes: &[u8]) {
    crate::encryption::fuzz(bytes);
}

/// A registries.conf.
pub fn registries_conf(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    registry::parse_registries_file(text);
}

/// The header with which a registry asks for credentials.
pub fn challenge(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    registry::parse_challenge(text);
}

/// Docker's config.json; an error must not quote what it may hold.
pub fn docker_config(bytes: &[u8]) {
    let file = Path::new("config.json");
    for domain in ["docker.io", "registry.example:5000"] {
        let _ = docker_config::parse(bytes, file, domain, "library/app");
    }
}

/// A layer as it comes: compressed or not, with its archive.
pub fn layer(bytes: &[u8]) {
    let Ok(decoder) = Decoder::new(bytes) else { return };
    let mut reader = Reader::new(BufReader::new(decoder.take(LAYER_BYTES)));
    let mut given = 0_u64;
    while let Ok(Some(entry)) = reader.next() {
        assert!(!entry.path.contains(&0) && !entry.link.contains(&0), "a name holds NUL");
        assert!(entry.kind == Kind::Regular || entry.segments.is_empty(), "only files have data");
        let mut end = 0;
        for segment in &entry.segments {
            assert!(segment.offset >= end, "segments overlap");
            end = segment.offset + segment.length;
        }
        assert!(end <= entry.size, "data leaves its file");
        while let Ok(data) = reader.data() {
            let length = data.len();
            if length == 0 {
                break;
            }
            given += length as u64;
            reader.consume(length);
        }
    }
    assert!(given <= LAYER_BYTES, "more data came out than went in");
}
