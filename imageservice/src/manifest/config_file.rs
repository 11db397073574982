//! The image configuration, as OCI and Docker write it.

use std::collections::BTreeMap;

use podwright_types::Digest;
use serde::Deserialize;

use crate::error::{ErrorKind, ImageError, Result};
use crate::image::{ContainerConfig, Healthcheck, ImageUser};
use crate::platform::Platform;

/// Largest id that is taken as a number, as Docker and containerd have it.
const MAX_UID: u32 = i32::MAX as u32;

/// The parts of an image configuration that are used. Docker writes `null` for what is not set.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default)]
    config: Option<RawConfig>,
    rootfs: RootFs,
}

#[derive(Debug, Clone, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
    healthcheck: Option<RawHealthcheck>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawHealthcheck {
    test: Option<Vec<String>>,
}

impl ConfigFile {
    /// Parses the configuration of the image `name`.
    pub(crate) fn parse(text: &[u8], name: &str) -> Result<Self> {
        serde_json::from_slice(text).map_err(|error| {
            let cause = format!("it is no valid image configuration: {error}; push the image again");
            ImageError::new(ErrorKind::Corrupt, "read configuration of", name, cause)
        })
    }

    /// Digests of the uncompressed layers, from the lowest.
    pub(crate) fn diff_ids(&self) -> &[Digest] {
        self.rootfs.diff_ids.as_deref().unwrap_or_default()
    }

    /// Refuses an image for another platform, and one whose layers do not match its manifest.
    pub(crate) fn check(&self, platform: &Platform, manifest_layers: usize, name: &str) -> Result<()> {
        let refuse = |kind, cause| Err(ImageError::new(kind, "read configuration of", name, cause));
        let named = !self.platform.os.is_empty() && !self.platform.architecture.is_empty();
        if named && platform.rank(&self.platform).is_none() {
            let cause = format!("the image is for {}, this host runs {platform}; pull one for it", self.platform);
            return refuse(ErrorKind::Invalid, cause);
        }
        if self.diff_ids().len() != manifest_layers {
            let cause = format!(
                "it names {} layers, the manifest {manifest_layers}; push the image again",
                self.diff_ids().len()
            );
            return refuse(ErrorKind::Corrupt, cause);
        }
        Ok(())
    }

    /// What it says about containers.
    pub(crate) fn container_config(&self) -> ContainerConfig {
        let raw = self.config.clone().unwrap_or_default();
        ContainerConfig {
            user: raw.user.unwrap_or_default(),
            env: raw.env.unwrap_or_default(),
            entrypoint: raw.entrypoint.unwrap_or_default(),
            cmd: raw.cmd.unwrap_or_default(),
            working_dir: raw.working_dir.unwrap_or_default(),
            stop_signal: raw.stop_signal.unwrap_or_default(),
            volumes: raw.volumes.unwrap_or_default().into_keys().collect(),
            labels: raw.labels.unwrap_or_default(),
            healthcheck: raw.healthcheck.map(|check| Healthcheck { test: check.test.unwrap_or_default() }),
        }
    }
}

/// Splits `user[:group]` as the CRI reports it. A number that no uid can be stays a name, and is refused when looked up.
pub(crate) fn image_user(user: &str) -> ImageUser {
    let name = user.split(':').next().unwrap_or_default();
    if name.is_empty() {
        return ImageUser::Uid(0);
    }
    match name.parse::<u32>() {
        Ok(uid) if uid <= MAX_UID && name.bytes().all(|b| b.is_ascii_digit()) => ImageUser::Uid(uid),
        _ => ImageUser::Name(name.to_owned()),
    }
}
