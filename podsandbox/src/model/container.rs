//! A container: its configuration as asked for, and its state as told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podwright_types::{ContainerId, SandboxId};
use serde::{Deserialize, Serialize};

use super::{ResolvedUser, SecurityConfig};

/// Everything that a container is made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Name within the pod.
    pub name: String,
    /// How often this container was tried; with the sandbox and the name it is the key of the container.
    pub attempt: u32,
    /// Image to run: an image id, or a reference that is present.
    pub image: String,
    /// An archive from which it goes on; its image is then the one that the archive names, which must be present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<PathBuf>,
    /// The image as the user wrote it; empty if the caller did not say.
    pub user_specified_image: String,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Arguments; replaces the image's command when not empty (see the OCI image specification, and Kubernetes' table of
    /// command, args, ENTRYPOINT and CMD).
    pub args: Vec<String>,
    /// Working directory inside; empty takes the image's.
    pub working_directory: String,
    /// Environment, `(name, value)`; wins over the image's. Values are bytes.
    #[serde(with = "environment")]
    pub environment: Vec<(String, Vec<u8>)>,
    /// Mounts, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Fully qualified CDI device names.
    pub cdi_devices: Vec<String>,
    /// Labels of the caller, returned unchanged.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the caller, returned unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Log file below the sandbox's log directory; empty to log nothing.
    pub log_path: PathBuf,
    /// Keeps stdin open for clients that attach.
    pub stdin: bool,
    /// Closes stdin after the first client detached.
    pub stdin_once: bool,
    /// Gives the process a terminal.
    pub terminal: bool,
    /// Signal that stops it, as a Linux signal number; `None` takes the image's, then SIGTERM.
    pub stop_signal: Option<i32>,
    /// Limits.
    pub resources: Resources,
    /// Security.
    pub security: SecurityConfig,
    /// Sharing of the pid namespace for this container (the rest follows the sandbox).
    pub pid_mode: super::NamespaceMode,
}

/// Values as text where they are, which a record of numbers would make four times as long.
mod environment {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Value {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(all: &[(String, Vec<u8>)], to: S) -> Result<S::Ok, S::Error> {
        let value = |bytes: &Vec<u8>| match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(bytes.clone()),
        };
        to.collect_seq(all.iter().map(|(name, bytes)| (name, value(bytes))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, Vec<u8>)>, D::Error> {
        let bytes = |value| match value {
            Value::Text(text) => text.into_bytes(),
            Value::Bytes(bytes) => bytes,
        };
        let all = Vec::<(String, Value)>::deserialize(from)?;
        Ok(all.into_iter().map(|(name, value)| (name, bytes(value))).collect())
    }
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path on the host.
    Host(PathBuf),
    /// An image's root, or a directory below it.
    Image {
        /// Image id or reference that is present.
        image: String,
        /// Directory below the image's root; empty for the root.
        sub_path: PathBuf,
    },
}

impl Mount {
    /// Image and directory of an image that is mounted as a volume.
    #[must_use]
    pub fn image(&self) -> Option<(&str, &Path)> {
        match &self.source {
            MountSource::Host(_) => None,
            MountSource::Image { image, sub_path } => Some((image, sub_path)),
        }
    }
}

/// How mounts travel between a mount and its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// None.
    #[default]
    Private,
    /// From the host to the container (`rslave`).
    HostToContainer,
    /// Both ways (`rshared`).
    Bidirectional,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside.
    pub destination: PathBuf,
    /// Where it comes from.
    pub source: MountSource,
    /// No writes through this mount.
    pub readonly: bool,
    /// No writes through any mount below it either.
    pub recursive_readonly: bool,
    /// Propagation.
    pub propagation: Propagation,
    /// Relabel for SELinux.
    pub selinux_relabel: bool,
    /// Mappings of user ids for this mount.
    pub uid_mappings: Vec<IdMapping>,
    /// Mappings of group ids for this mount.
    pub gid_mappings: Vec<IdMapping>,
}

/// A range of ids inside and outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id on the host.
    pub host_id: u32,
    /// First id inside.
    pub container_id: u32,
    /// How many.
    pub length: u32,
}

/// A device of the host, given to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host; a directory gives every device below it.
    pub host_path: PathBuf,
    /// Path inside.
    pub container_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Limits of a container. `None` or an empty map: not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CFS period in microseconds.
    pub cpu_period_micros: Option<u64>,
    /// CFS quota in microseconds per period; negative is unlimited.
    pub cpu_quota_micros: Option<i64>,
    /// Relative weight, cgroup v1 scale (2 to 262144).
    pub cpu_shares: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit_bytes: Option<i64>,
    /// Memory plus swap in bytes; negative is unlimited.
    pub memory_swap_limit_bytes: Option<i64>,
    /// `oom_score_adj` of the processes.
    pub oom_score_adj: Option<i32>,
    /// CPUs, as `0-3,7`; empty for all.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Limit in bytes by page size (`2MB`, `1GB`).
    pub hugepage_limits: BTreeMap<String, u64>,
    /// cgroup v2 files and what is written to them.
    pub unified: BTreeMap<String, String>,
    /// Processes; 0 or less is unlimited.
    pub pids_limit: Option<i64>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + n after signal n.
    pub code: i32,
    /// Nanoseconds since the epoch.
    pub finished_at_nanos: i64,
    /// The kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// In words, where the code alone does not tell (a start that failed, a shim that died).
    pub message: String,
    /// CamelCase word, as `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
}

/// Where a container stands, with what is known there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Prepared, not started.
    Created,
    /// Its process runs.
    Running {
        /// Pid in the host's namespace.
        pid: i32,
        /// Nanoseconds since the epoch.
        started_at_nanos: i64,
    },
    /// Its process has ended; everything else is kept until removal.
    Exited {
        /// Nanoseconds since the epoch; `None` if it never started.
        started_at_nanos: Option<i64>,
        /// How it ended.
        exit: Exit,
    },
    /// Its shim is gone and nothing can be said of it.
    Unknown,
}

/// A container as it is now, answered from memory.
#[derive(Debug, Clone)]
pub struct ContainerSnapshot {
    /// Id.
    pub id: ContainerId,
    /// Sandbox that it belongs to.
    pub sandbox: SandboxId,
    /// Configuration as asked for.
    pub config: Arc<ContainerConfig>,
    /// Limits in force: those of the configuration, with later updates.
    pub resources: Arc<Resources>,
    /// State.
    pub state: ContainerState,
    /// Nanoseconds since the epoch.
    pub created_at_nanos: i64,
    /// Id of the image: `sha256:` and the digest of its configuration.
    pub image_id: String,
    /// Repository digest of the image where known, else its id.
    pub image_ref: String,
    /// Ids of the images that it mounts as volumes, in the order of those mounts.
    pub volume_images: Vec<String>,
    /// The user that runs it; known once it was started.
    pub user: Option<ResolvedUser>,
    /// Absolute path of the log; `None` if nothing is logged.
    pub log_path: Option<PathBuf>,
    /// Signal in force for a stop, as a Linux signal number.
    pub stop_signal: i32,
    /// The OCI runtime specification it runs with, JSON.
    pub runtime_spec: Arc<str>,
}
