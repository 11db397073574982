//! [`Images`] over the image store.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use podwright_imageservice::{ErrorKind, ImageError, ImageStore, ResolvedImage};
use podwright_podsandbox::ports::{HealthcheckConfig, Image, ImageConfig, Images, PortError};

use super::whole_text;

/// Images of the store.
pub(crate) struct StoredImages(pub(crate) ImageStore);

#[async_trait]
impl Images for StoredImages {
    async fn resolve(&self, reference: &str) -> Result<Image, PortError> {
        self.0.resolve(reference).map(converted).map_err(|error| failed(&error))
    }

    async fn directory(&self, image_id: &str, path: &Path) -> Result<Vec<PathBuf>, PortError> {
        self.0.directory(image_id, path).await.map_err(|error| failed(&error))
    }

    async fn allow(&self, image_id: &str, asked: &str, tenant: &str) -> Result<(), PortError> {
        self.0.allow(image_id, asked, tenant).await.map_err(|error| failed(&error))
    }

    fn hold(&self, image_id: &str, holder: &str) {
        self.0.hold(image_id, holder);
    }

    fn release(&self, holder: &str) {
        self.0.release(holder);
    }
}

fn failed(error: &ImageError) -> PortError {
    let text = whole_text(error);
    match error.kind() {
        ErrorKind::NotFound => PortError::NotFound(text),
        ErrorKind::Invalid => PortError::Invalid(text),
        ErrorKind::Untrusted => PortError::Untrusted(text),
        ErrorKind::RegistryUnavailable | ErrorKind::TooManyRequests => PortError::Unavailable(text),
        ErrorKind::LimitExceeded | ErrorKind::NoSpace => PortError::Exhausted(text),
        ErrorKind::Unauthorized | ErrorKind::Corrupt | ErrorKind::Cancelled | ErrorKind::Io => PortError::Failed(text),
    }
}

fn converted(image: ResolvedImage) -> Image {
    let config = image.config;
    Image {
        id: image.id.to_string(),
        reference: image.reference,
        config: ImageConfig {
            user: config.user,
            env: config.env,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            working_dir: config.working_dir,
            stop_signal: config.stop_signal,
            volumes: config.volumes,
            labels: config.labels,
            healthcheck: config.healthcheck.map(|check| HealthcheckConfig { test: check.test }),
        },
        layers: image.layers,
    }
}
