//! What an engine is built with.

use std::path::PathBuf;
use std::sync::Arc;

use crate::ports::{Cgroups, Checkpoints, Extensions, Handlers, Images, Network, Shims, Statistics};

/// Size of a pod's /dev/shm, as other runtimes have it.
const DEFAULT_SHM_BYTES: u64 = 64 << 20;

/// Directories and choices of one engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Records and writable layers; `/var/lib/podwright`.
    pub root: PathBuf,
    /// Sockets and the pods' /dev/shm; `/run/podwright`.
    pub state: PathBuf,
    /// Where network namespaces are pinned for plugins; `/run/netns`.
    pub netns_dir: PathBuf,
    /// Resolver configuration of pods that bring none; `/etc/resolv.conf`.
    pub host_resolv_conf: PathBuf,
    /// Size of a pod's /dev/shm in bytes.
    pub shm_bytes: u64,
    /// AppArmor profile of containers that ask for the default one, which is loaded; `None` where there is none to be had.
    pub apparmor_profile: Option<String>,
    /// Whether containers get SELinux labels, where the host has SELinux.
    pub selinux: bool,
}

impl EngineConfig {
    /// The usual choices around the two directories.
    #[must_use]
    pub fn new(root: PathBuf, state: PathBuf) -> Self {
        Self {
            root,
            state,
            netns_dir: PathBuf::from("/run/netns"),
            host_resolv_conf: PathBuf::from("/etc/resolv.conf"),
            shm_bytes: DEFAULT_SHM_BYTES,
            apparmor_profile: None,
            selinux: true,
        }
    }
}

/// Everything outside that an engine works with.
#[derive(Clone)]
pub struct Ports {
    /// Networks.
    pub network: Arc<dyn Network>,
    /// Images.
    pub images: Arc<dyn Images>,
    /// Shims.
    pub shims: Arc<dyn Shims>,
    /// Control groups.
    pub cgroups: Arc<dyn Cgroups>,
    /// What is used.
    pub statistics: Arc<dyn Statistics>,
    /// Parts of the operator's own.
    pub extensions: Arc<dyn Extensions>,
    /// Archives of containers that ran.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Other runtimes by name.
    pub handlers: Arc<dyn Handlers>,
}
