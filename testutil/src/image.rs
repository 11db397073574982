//! Container images built in memory, the same bytes every time.
//!
//! [`LayerBuilder`] makes a layer, [`ImageBuilder`] an image of layers, [`index`] an image for several platforms. Putting them
//! somewhere is the registry's part.

mod layer;

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

pub use layer::{Compression, Layer, LayerBuilder};

/// The family of media types that an image is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The OCI image specification.
    Oci,
    /// Docker's schema 2.
    Docker,
}

/// Some bytes with their digest.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// The bytes.
    pub bytes: Arc<Vec<u8>>,
}

impl Blob {
    /// Takes bytes and hashes them.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: sha256(&bytes), bytes: Arc::new(bytes) }
    }
}

/// `sha256:…` of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// An image: a manifest and all that it names.
#[derive(Debug, Clone)]
pub struct Image {
    /// Media type of the manifest.
    pub media_type: &'static str,
    /// The manifest; its digest is the image's digest.
    pub manifest: Blob,
    /// The configuration; its digest is the image's id.
    pub config: Blob,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
    platform: Value,
}

impl Image {
    /// The image's id as the CRI knows it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.config.digest
    }

    /// All blobs but the manifest.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(self.layers.iter().map(|layer| &layer.blob))
    }
}

/// Describes an image, then builds it.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    format: Format,
    layers: Vec<Layer>,
    config: Map<String, Value>,
    architecture: String,
    os: String,
}

impl ImageBuilder {
    /// An image without layers, for the platform of this machine.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut config = Map::new();
        config.insert("Env".into(), json!([format!("PATH={path}")]));
        config.insert("Cmd".into(), json!(["sh"]));
        Self { format, layers: Vec::new(), config, architecture: architecture.into(), os: "linux".into() }
    }

    /// Puts a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: &Layer) -> Self {
        self.layers.push(layer.clone());
        self
    }

    /// Sets a key of the configuration's `config` object, such as `User` or `Entrypoint`.
    #[must_use]
    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.into(), value);
        self
    }

    /// Says which platform the image is for.
    #[must_use]
    pub fn platform(mut self, os: &str, architecture: &str) -> Self {
        self.os = os.into();
        self.architecture = architecture.into();
        self
    }

    /// Writes configuration and manifest.
    #[must_use]
    pub fn build(self) -> Image {
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let history: Vec<Value> = self.layers.iter().map(|_| json!({"created_by": "podwright-testutil"})).collect();
        let config = Blob::new(bytes(&json!({
            "architecture": self.architecture,
            "os": self.os,
            "created": "2026-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        })));
        let (media_type, config_type) = match self.format {
            Format::Oci => ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"),
            Format::Docker => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
            ),
        };
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| descriptor(layer.compression.media_type(self.format), &layer.blob))
            .collect();
        let manifest = Blob::new(bytes(&json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(config_type, &config),
            "layers": layers,
        })));
        let platform = json!({"os": self.os, "architecture": self.architecture});
        Image { media_type, manifest, config, layers: self.layers, platform }
    }
}

/// An index of images, one per platform: its media type and its bytes.
#[must_use]
pub fn index(format: Format, images: &[&Image]) -> (&'static str, Blob) {
    let media_type = match format {
        Format::Oci => "application/vnd.oci.image.index.v1+json",
        Format::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
    };
    let manifests: Vec<Value> = images
        .iter()
        .map(|image| {
            let mut entry = descriptor(image.media_type, &image.manifest);
            if let Some(entry) = entry.as_object_mut() {
                entry.insert("platform".into(), image.platform.clone());
            }
            entry
        })
        .collect();
    (media_type, Blob::new(bytes(&json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}))))
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({"mediaType": media_type, "digest": blob.digest, "size": blob.bytes.len()})
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
