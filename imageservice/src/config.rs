//! What can be set about images, with its defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::pin::Pin;
use crate::platform::Platform;
use crate::trust::TrustConfig;

/// Bounds on what an image or a registry may cost us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest manifest or index, in bytes.
    pub manifest_bytes: u64,
    /// Largest image configuration, in bytes.
    pub config_bytes: u64,
    /// Largest layer after decompression, in bytes.
    pub layer_unpacked_bytes: u64,
    /// Most entries in one layer.
    pub layer_entries: u64,
    /// Most device nodes in one layer.
    pub layer_devices: u64,
    /// Most layers in one image; overlayfs takes 500.
    pub layers: usize,
    /// Layers that one pull downloads at a time.
    pub downloads_per_pull: usize,
    /// Layers that all pulls together download at a time.
    pub downloads_total: usize,
    /// How long an unfinished download waits to be continued by another pull; zero keeps none.
    pub partial_age: Duration,
    /// How many bytes of such downloads are kept; the oldest go first.
    pub partial_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            config_bytes: 4 << 20,
            layer_unpacked_bytes: 64 << 30,
            layer_entries: 2_000_000,
            layer_devices: 1024,
            layers: 500,
            downloads_per_pull: 4,
            downloads_total: 8,
            partial_age: Duration::from_secs(900),
            partial_bytes: 4 << 30,
        }
    }
}

/// How long a registry may take, and how often it is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, unless hosts.toml says otherwise.
    pub connect: Duration,
    /// For the head of an answer.
    pub response: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// In this much time of waiting a download has to bring [`least_bytes`](Self::least_bytes), a small body has to be there; else the
    /// connection counts as broken.
    pub progress: Duration,
    /// Bytes that have to come within [`progress`](Self::progress).
    pub least_bytes: u64,
    /// Attempts for one request, or for one blob without progress.
    pub attempts: u32,
    /// The first pause between attempts; it doubles each time.
    pub backoff: Duration,
    /// The longest pause, also when the registry asks for more with `Retry-After`.
    pub backoff_max: Duration,
    /// For all signatures of one image: in a pull, and for a container by all names of its image together. Whoever removes the container
    /// waits as long, and kubelet does that for two minutes.
    pub signatures: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            progress: Duration::from_secs(120),
            least_bytes: 128 << 10,
            attempts: 5,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(15),
            signatures: Duration::from_secs(90),
        }
    }
}

/// Configuration of an [`ImageStore`](crate::ImageStore).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// Where `hosts.toml` files are, as containerd lays them out: `<dir>/<host>/hosts.toml`.
    pub hosts_dir: Option<PathBuf>,
    /// containers-registries.conf(5), with its drop-ins in `<file>.d`: mirrors, blocked and insecure registries. The hosts.toml of a registry
    /// goes before what it says of that registry.
    pub registries_conf: Option<PathBuf>,
    /// Docker's `config.json`, for credentials where a pull brings none. Only `auths` is read; helpers are not executed.
    pub docker_config: Option<PathBuf>,
    /// Private keys (PEM) that open encrypted layers, one or more in a file.
    pub decryption_keys_dir: Option<PathBuf>,
    /// The platform to choose from an index.
    pub platform: Platform,
    /// Images that must not be collected.
    pub pinned: Vec<Pin>,
    /// Bounds on images.
    pub limits: Limits,
    /// Time limits and retries.
    pub patience: Patience,
    /// Policies of signatures; none accepts every image.
    pub trust: Option<TrustConfig>,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            hosts_dir: Some(PathBuf::from("/etc/podwright/certs.d")),
            registries_conf: Some(PathBuf::from("/etc/containers/registries.conf")),
            docker_config: None,
            decryption_keys_dir: Some(PathBuf::from("/etc/podwright/keys")),
            platform: Platform::host(),
            pinned: Vec::new(),
            limits: Limits::default(),
            patience: Patience::default(),
            trust: None,
        }
    }
}
