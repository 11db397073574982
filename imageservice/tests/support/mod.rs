//! Stores in directories of their own, a look at all that is in them, and a web server that sees headers.
//!
//! Images and the real registry come from podwright-testutil.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

pub mod server;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use podwright_imageservice::{ImageConfig, ImageStore, Patience};
use tempfile::TempDir;

/// A store in a directory of its own.
pub struct TestStore {
    pub store: ImageStore,
    pub config: ImageConfig,
    dir: TempDir,
}

impl TestStore {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One that does not wait for a silent registry.
    pub async fn impatient() -> Self {
        Self::with(|config| {
            config.patience.response = Duration::from_millis(600);
            config.patience.idle = Duration::from_millis(600);
        })
        .await
    }

    /// Changes the configuration of the tests.
    pub async fn with(change: impl FnOnce(&mut ImageConfig)) -> Self {
        let dir = tempfile::Builder::new().prefix("pwt-images-").tempdir().unwrap();
        let mut config = ImageConfig {
            hosts_dir: Some(dir.path().join("certs.d")),
            registries_conf: Some(dir.path().join("registries.conf")),
            patience: Patience {
                connect: Duration::from_secs(5),
                response: Duration::from_secs(20),
                idle: Duration::from_secs(20),
                attempts: 3,
                progress: Duration::from_secs(60),
                least_bytes: 1,
                backoff: Duration::from_millis(5),
                backoff_max: Duration::from_millis(1500),
                signatures: Duration::from_secs(90),
            },
            ..ImageConfig::default()
        };
        // What fails leaves nothing behind, but where a test wants to see what is kept.
        config.limits.partial_age = Duration::ZERO;
        change(&mut config);
        let store = ImageStore::open(&dir.path().join("root"), config.clone()).await.unwrap();
        Self { store, config, dir }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Another process's view: the same directory, opened anew.
    pub async fn reopened(&self) -> ImageStore {
        ImageStore::open(&self.root(), self.config.clone()).await.unwrap()
    }

    pub fn write_hosts(&self, registry: &str, text: &str) {
        let dir = self.dir.path().join("certs.d").join(registry);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("hosts.toml"), text).unwrap();
    }

    /// Every path below the root, with its kind and size; without the markers' sizes.
    pub fn listing(&self) -> BTreeMap<String, (u32, u64)> {
        let mut all = BTreeMap::new();
        walk(&self.root(), &self.root(), &mut all);
        all
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        // The store may be marking layers as synced still, into a directory that is being emptied.
        for _ in 0..500 {
            match std::fs::remove_dir_all(self.dir.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}

fn walk(root: &Path, dir: &Path, all: &mut BTreeMap<String, (u32, u64)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        // Markers are replaced in the background when a layer is synced.
        if path.ends_with("layer.new") {
            continue;
        }
        let size = if metadata.is_file() && !path.ends_with("layer.json") { metadata.len() } else { 0 };
        all.insert(path.strip_prefix(root).unwrap().display().to_string(), (metadata.mode(), size));
        if metadata.is_dir() {
            walk(root, &path, all);
        }
    }
}
