//! The configuration: its keys, their defaults, and how a file and the flags become one.
//!
//! Every key has a default, so that the file need not exist. Unknown keys and values out of range are errors that point at
//! their line. What the keys do is left to the crates that they configure.

mod default_file;
mod values;

use std::path::{Path, PathBuf};

use podwright_cni::{NetworkMode, Prefix};
use podwright_imageservice::Pin;
use serde::{Deserialize, Serialize};

pub(crate) use default_file::DEFAULT_FILE;
pub(crate) use values::{CgroupDriverChoice, ListenAddress, LogFormat, LogLevel, LoopbackAddress, Mtu, Positive};

/// Everything that can be configured. Tables and keys of the TOML file carry the same names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Records, images and writable layers.
    pub root: PathBuf,
    /// Sockets and pids; may be lost at a reboot.
    pub state: PathBuf,
    /// Where the CRI is served.
    pub listen: ListenAddress,
    /// The shim's binary; empty: beside podwrightd, then `/usr/libexec/podwright/podwright-shim`.
    pub shim: PathBuf,
    /// Logs of the daemon itself.
    pub log: LogConfig,
    /// Exec, attach and port forwarding.
    pub streaming: StreamingConfig,
    /// Control groups.
    pub cgroup: CgroupConfig,
    /// Pod networks.
    pub network: NetworkConfig,
    /// Images and registries.
    pub images: ImagesConfig,
    /// Pods.
    pub pods: PodsConfig,
    /// What containers are confined by beyond what each asks for.
    pub security: SecurityConfig,
    /// Devices by name.
    pub cdi: CdiConfig,
    /// Hooks by directory.
    pub hooks: HooksConfig,
    /// Checkpoints of containers.
    pub checkpoint: CheckpointConfig,
    /// Plugins.
    pub nri: NriConfig,
    /// Other runtimes by name.
    pub runtimes: RuntimesConfig,
    /// How long a stop waits for calls in flight, in seconds.
    pub drain_seconds: Positive,
}

/// Logs of the daemon itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// Least level that is written.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
}

/// Exec, attach and port forwarding.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StreamingConfig {
    /// Where clients are served. Port 0 is any that is free.
    pub address: LoopbackAddress,
}

/// Control groups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CgroupConfig {
    /// Who makes them. Must be what kubelet has as `cgroupDriver`.
    pub driver: CgroupDriverChoice,
}

/// Pod networks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NetworkConfig {
    /// Which network new pods get.
    pub mode: NetworkMode,
    /// Plugins.
    pub cni: CniConfig,
    /// The embedded network.
    pub embedded: EmbeddedConfig,
}

/// CNI plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CniConfig {
    /// Directories with conflists, in order.
    pub conf_dirs: Vec<PathBuf>,
    /// Directories with plugins, in order.
    pub bin_dirs: Vec<PathBuf>,
    /// Time limit of one ADD or DEL with all its plugins, in seconds.
    pub timeout_seconds: Positive,
}

/// The embedded network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EmbeddedConfig {
    /// IPv4 range of the pods; absent: a free /16 of 10.192.0.0/10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_pool: Option<Prefix>,
    /// IPv6 range of the pods; absent: a unique local /64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_pool: Option<Prefix>,
    /// Whether pods get IPv6 addresses.
    pub ipv6: bool,
    /// MTU of the pods' links, in bytes; absent: that of the default route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
}

/// Images and registries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ImagesConfig {
    /// Directory of `<host>/hosts.toml` files, as containerd reads them.
    pub hosts_dir: PathBuf,
    /// containers-registries.conf(5), which podman reads too; empty: none.
    pub registries_conf: PathBuf,
    /// Docker's `config.json` with credentials; empty: none.
    pub docker_config: PathBuf,
    /// Directory of private keys that open encrypted layers; empty: none.
    pub decryption_keys_dir: PathBuf,
    /// Policy of signatures (`policy.json`) of images; empty: none.
    pub signature_policy: PathBuf,
    /// Directory of `<namespace>.json`, policies in its place; empty: none.
    pub signature_policy_dir: PathBuf,
    /// Directory of files that tell where signatures are.
    pub registries_dir: PathBuf,
    /// Images that are never collected.
    pub pinned: Vec<Pin>,
    /// Layers that one pull downloads at a time.
    pub downloads_per_pull: Positive,
    /// Layers that all pulls together download at a time.
    pub downloads_total: Positive,
    /// Largest layer after decompression, in MiB.
    pub max_layer_mebibytes: Positive,
}

/// Pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PodsConfig {
    /// Where network namespaces are pinned for CNI plugins.
    pub netns_dir: PathBuf,
    /// Resolver configuration of pods that bring none.
    pub resolv_conf: PathBuf,
    /// Size of a pod's /dev/shm, in MiB.
    pub shm_mebibytes: Positive,
}

/// What containers are confined by beyond what each asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SecurityConfig {
    /// Whether containers and their files get SELinux labels, where the host has SELinux and its policy knows containers.
    pub selinux: bool,
}

/// Devices by name (Container Device Interface).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CdiConfig {
    /// Directories with specifications; a later one goes before an earlier one.
    pub spec_dirs: Vec<PathBuf>,
}

impl Default for CdiConfig {
    fn default() -> Self {
        Self { spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()] }
    }
}

/// Checkpoints of containers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CheckpointConfig {
    /// CRIU's binary.
    pub criu: PathBuf,
    /// Whether containers may go on from archives. Refused as long as a restore that is refused is not safe; see [`Config::check`].
    pub restore: bool,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { criu: podwright_criu::DEFAULT_PROGRAM.into(), restore: false }
    }
}

/// OCI hooks by directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HooksConfig {
    /// Directories with hooks; a file of a later one replaces that of the same name of an earlier one.
    pub dirs: Vec<PathBuf>,
}

impl Default for HooksConfig {
    fn default() -> Self {
        Self { dirs: vec!["/usr/share/containers/oci/hooks.d".into(), "/etc/containers/oci/hooks.d".into()] }
    }
}

/// Plugins of the Node Resource Interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NriConfig {
    /// Whether there may be any.
    pub enabled: bool,
    /// Where they dial in; empty: nowhere.
    pub socket: PathBuf,
    /// Directory of those that are launched.
    pub plugin_dir: PathBuf,
    /// Directory of their configurations.
    pub config_dir: PathBuf,
    /// For one to register, to be configured and to be told all that is there, each, in seconds.
    pub registration_seconds: Positive,
    /// For one to answer a request, in seconds.
    pub request_seconds: Positive,
}

impl Default for NriConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: "/var/run/nri/nri.sock".into(),
            plugin_dir: "/opt/nri/plugins".into(),
            config_dir: "/etc/nri/conf.d".into(),
            registration_seconds: Positive::of(5),
            request_seconds: Positive::of(2),
        }
    }
}

/// Other runtimes by name (RuntimeClass handlers).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RuntimesConfig {
    /// Directories with drop-in files; a file of a later one replaces that of the same name of an earlier one.
    pub dirs: Vec<PathBuf>,
}

impl Default for RuntimesConfig {
    fn default() -> Self {
        Self { dirs: vec!["/etc/podwright/runtimes.d".into()] }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/podwright".into(),
            state: "/run/podwright".into(),
            listen: ListenAddress::default(),
            shim: PathBuf::new(),
            log: LogConfig::default(),
            streaming: StreamingConfig::default(),
            cgroup: CgroupConfig::default(),
            network: NetworkConfig::default(),
            images: ImagesConfig::default(),
            pods: PodsConfig::default(),
            security: SecurityConfig::default(),
            cdi: CdiConfig::default(),
            hooks: HooksConfig::default(),
            checkpoint: CheckpointConfig::default(),
            nri: NriConfig::default(),
            runtimes: RuntimesConfig::default(),
            drain_seconds: Positive::of(30),
        }
    }
}

impl Default for CniConfig {
    fn default() -> Self {
        Self {
            conf_dirs: vec!["/etc/cni/net.d".into()],
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            timeout_seconds: Positive::of(100),
        }
    }
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { ipv4_pool: None, ipv6_pool: None, ipv6: true, mtu: None }
    }
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            hosts_dir: "/etc/podwright/certs.d".into(),
            registries_conf: "/etc/containers/registries.conf".into(),
            docker_config: PathBuf::new(),
            decryption_keys_dir: "/etc/podwright/keys".into(),
            signature_policy: PathBuf::new(),
            signature_policy_dir: PathBuf::new(),
            registries_dir: "/etc/containers/registries.d".into(),
            pinned: Vec::new(),
            downloads_per_pull: Positive::of(4),
            downloads_total: Positive::of(8),
            max_layer_mebibytes: Positive::of(64 << 10),
        }
    }
}

impl Default for PodsConfig {
    fn default() -> Self {
        Self { netns_dir: "/run/netns".into(), resolv_conf: "/etc/resolv.conf".into(), shm_mebibytes: Positive::of(64) }
    }
}

impl Default for SecurityConfig {
    fn default() -> Self {
        Self { selinux: true }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can not be read.
    #[error("cannot read the configuration {path}; name another file with --config, or none to run on defaults")]
    Read {
        /// Path.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file says something that can not be.
    #[error("{path}:{line}:{column}: {message}\n{excerpt}")]
    Invalid {
        /// Path.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The line, and a mark under the place.
        excerpt: String,
    },
    /// A path is relative.
    #[error("{key} is {path:?}; give an absolute path, as the daemon's working directory is /")]
    RelativePath {
        /// Key.
        key: &'static str,
        /// Value.
        path: PathBuf,
    },
    /// Containers are to go on from archives.
    #[error(
        "checkpoint.restore is true, and making containers from checkpoint archives is not ready: a forged archive could run \
         processes outside of its container; leave it false (writing checkpoints does not need it)"
    )]
    RestoreNotReady,
}

impl Config {
    /// Reads a file that must exist.
    ///
    /// # Errors
    /// It can not be read, or a key or value is wrong; the error points at the line.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        let config = Self::parse(path, &text)?;
        config.check()?;
        Ok(config)
    }

    /// Reads the text of a file; `path` is for messages only.
    ///
    /// # Errors
    /// A key or value is wrong; the error points at the line.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let (line, column, excerpt) = locate(text, offset);
            ConfigError::Invalid { path: path.to_owned(), line, column, message: error.message().to_owned(), excerpt }
        })
    }

    /// Refuses what can be read and can not be served.
    ///
    /// # Errors
    /// Names the first key with such a value.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.checkpoint.restore {
            return Err(ConfigError::RestoreNotReady);
        }
        self.check_paths()
    }

    /// Refuses relative paths, in which the daemon would find something else after a change of directory.
    ///
    /// # Errors
    /// Names the first key with one.
    fn check_paths(&self) -> Result<(), ConfigError> {
        let single = [
            ("root", &self.root),
            ("state", &self.state),
            ("shim", &self.shim),
            ("images.hosts_dir", &self.images.hosts_dir),
            ("images.registries_conf", &self.images.registries_conf),
            ("images.docker_config", &self.images.docker_config),
            ("images.decryption_keys_dir", &self.images.decryption_keys_dir),
            ("images.signature_policy", &self.images.signature_policy),
            ("images.signature_policy_dir", &self.images.signature_policy_dir),
            ("images.registries_dir", &self.images.registries_dir),
            ("pods.netns_dir", &self.pods.netns_dir),
            ("pods.resolv_conf", &self.pods.resolv_conf),
            ("checkpoint.criu", &self.checkpoint.criu),
        ];
        let conf_dirs = self.network.cni.conf_dirs.iter().map(|dir| ("network.cni.conf_dirs", dir));
        let bin_dirs = self.network.cni.bin_dirs.iter().map(|dir| ("network.cni.bin_dirs", dir));
        let spec_dirs = self.cdi.spec_dirs.iter().map(|dir| ("cdi.spec_dirs", dir));
        let hook_dirs = self.hooks.dirs.iter().map(|dir| ("hooks.dirs", dir));
        let runtime_dirs = self.runtimes.dirs.iter().map(|dir| ("runtimes.dirs", dir));
        let own_parts = spec_dirs.chain(hook_dirs).chain(runtime_dirs);
        let mut all = single.into_iter().chain(conf_dirs).chain(bin_dirs).chain(own_parts);
        match all.find(|(_, path)| !path.as_os_str().is_empty() && !path.is_absolute()) {
            Some((key, path)) => Err(ConfigError::RelativePath { key, path: path.clone() }),
            None => Ok(()),
        }
    }
}

/// Line and column of a byte offset, and the line with a mark under it.
fn locate(text: &str, offset: usize) -> (usize, usize, String) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    let content = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let gutter = line.to_string();
    let excerpt = format!("{gutter} | {content}\n{} | {}^", " ".repeat(gutter.len()), " ".repeat(column - 1));
    (line, column, excerpt)
}

#[cfg(test)]
mod tests;
