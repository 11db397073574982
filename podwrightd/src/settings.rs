//! From the daemon's configuration to those of its parts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use podwright_cni::{EmbeddedConfig, NetworksConfig, Timeouts};
use podwright_imageservice::{ImageConfig, Limits, TrustConfig};
use podwright_podsandbox::EngineConfig;
use sha2::{Digest as _, Sha256};

use crate::config::Config;

/// The root directory of the one daemon that most hosts have.
const DEFAULT_ROOT: &str = "/var/lib/podwright";
/// Bytes of the digest that tells instances apart.
const INSTANCE_BYTES: usize = 4;

/// What tells this daemon from others on the host: made from its root directory, which no two share. `None` for the usual one.
pub(crate) fn instance(config: &Config) -> Option<String> {
    if config.root == Path::new(DEFAULT_ROOT) {
        return None;
    }
    let digest = Sha256::digest(config.root.as_os_str().as_encoded_bytes());
    Some(digest.iter().take(INSTANCE_BYTES).map(|byte| format!("{byte:02x}")).collect())
}

/// Of the engine.
pub(crate) fn engine(config: &Config) -> EngineConfig {
    EngineConfig {
        netns_dir: config.pods.netns_dir.clone(),
        host_resolv_conf: config.pods.resolv_conf.clone(),
        shm_bytes: u64::from(config.pods.shm_mebibytes.get()) << 20,
        selinux: config.security.selinux,
        ..EngineConfig::new(config.root.clone(), config.state.clone())
    }
}

/// Of the pod networks.
pub(crate) fn networks(config: &Config) -> NetworksConfig {
    let network = &config.network;
    let defaults = NetworksConfig::new(config.root.join("networks"));
    NetworksConfig {
        mode: network.mode,
        conf_dirs: network.cni.conf_dirs.clone(),
        bin_dirs: network.cni.bin_dirs.clone(),
        instance: instance(config).unwrap_or(defaults.instance.clone()),
        embedded: EmbeddedConfig {
            ipv4_pool: network.embedded.ipv4_pool,
            ipv6_pool: network.embedded.ipv6_pool,
            ipv6: network.embedded.ipv6,
            mtu: network.embedded.mtu.map(|mtu| mtu.get()),
        },
        timeouts: Timeouts {
            operation: Duration::from_secs(network.cni.timeout_seconds.get().into()),
            ..Timeouts::default()
        },
        ..defaults
    }
}

/// Of the image store.
pub(crate) fn images(config: &Config) -> ImageConfig {
    let images = &config.images;
    ImageConfig {
        hosts_dir: Some(images.hosts_dir.clone()).filter(|dir| !dir.as_os_str().is_empty()),
        registries_conf: Some(images.registries_conf.clone()).filter(|file| !file.as_os_str().is_empty()),
        docker_config: Some(images.docker_config.clone()).filter(|file| !file.as_os_str().is_empty()),
        decryption_keys_dir: Some(images.decryption_keys_dir.clone()).filter(|dir| !dir.as_os_str().is_empty()),
        pinned: images.pinned.clone(),
        trust: trust(config),
        limits: Limits {
            layer_unpacked_bytes: u64::from(images.max_layer_mebibytes.get()) << 20,
            downloads_per_pull: count(images.downloads_per_pull.get()),
            downloads_total: count(images.downloads_total.get()),
            ..Limits::default()
        },
        ..ImageConfig::default()
    }
}

/// Policies of signatures, where one is named.
fn trust(config: &Config) -> Option<TrustConfig> {
    let named = |path: &PathBuf| Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
    let images = &config.images;
    let (policy, policy_dir) = (named(&images.signature_policy), named(&images.signature_policy_dir));
    let registries_dir = images.registries_dir.clone();
    (policy.is_some() || policy_dir.is_some()).then_some(TrustConfig { policy, policy_dir, registries_dir })
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_path_is_no_path() {
        let with = |path: &str| {
            let mut config = Config::default();
            let all = &mut config.images;
            for key in
                [&mut all.hosts_dir, &mut all.registries_conf, &mut all.docker_config, &mut all.decryption_keys_dir]
            {
                *key = path.into();
            }
            let images = images(&config);
            [images.hosts_dir, images.registries_conf, images.docker_config, images.decryption_keys_dir]
        };
        assert!(with("/a").iter().all(|path| path.as_deref() == Some(Path::new("/a"))));
        assert!(with("").iter().all(Option::is_none));
    }

    #[test]
    fn daemons_with_their_own_roots_have_their_own_names() {
        let with_root = |root: &str| Config { root: root.into(), ..Config::default() };
        assert_eq!(instance(&with_root("/var/lib/podwright")), None);
        let (one, other) = (instance(&with_root("/a")).unwrap(), instance(&with_root("/b")).unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 8);
        assert_eq!(instance(&with_root("/a")), Some(one), "the same at every start");
    }
}
