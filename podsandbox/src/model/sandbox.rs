//! A pod sandbox: its configuration as asked for, and its state as told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use podwright_types::{ContainerId, SandboxId};
use serde::{Deserialize, Serialize};

use super::{IdMapping, Resources, SecurityConfig};

/// Everything that a pod sandbox is made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Name of the pod.
    pub name: String,
    /// Kubernetes namespace, or the project of another front end.
    pub namespace: String,
    /// Unique id of the pod, given by the caller.
    pub uid: String,
    /// How often this pod was tried; with name, namespace and uid it is the key of the sandbox.
    pub attempt: u32,
    /// Hostname inside; empty on the host's network.
    pub hostname: String,
    /// Directory of the containers' logs, absolute; empty if nothing is to be logged.
    pub log_directory: PathBuf,
    /// What resolv.conf says; `None` leaves the host's.
    pub dns: Option<DnsConfig>,
    /// Ports of the host that lead into the pod.
    pub port_mappings: Vec<PortMapping>,
    /// Labels of the caller, returned unchanged.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the caller, returned unchanged. They never become control keys.
    pub annotations: BTreeMap<String, String>,
    /// Name of the runtime handler; empty for the built-in one.
    pub runtime_handler: String,
    /// Cgroup under which the pod's cgroups are made, as `/a/b` (cgroupfs) or `x-y.slice` (systemd); empty for our own.
    pub cgroup_parent: String,
    /// Sysctls of the pod's namespaces, dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// How the namespaces are shared.
    pub namespaces: NamespaceModes,
    /// Security of the sandbox itself; containers bring their own.
    pub security: SecurityConfig,
    /// What the sandbox costs beyond its containers.
    pub overhead: Option<Resources>,
    /// Sum of the containers' resources.
    pub resources: Option<Resources>,
}

/// A runtime that runs a pod's containers in place of the built-in one, as it was configured when the pod was made: the pod keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// Its name.
    pub name: String,
    /// How it is spoken to.
    pub kind: HandlerKind,
    /// Its program, absolute.
    pub path: PathBuf,
    /// Directory of its own state; `None` for one of ours. Each pod gets a directory below it.
    pub root: Option<PathBuf>,
    /// Arguments before each of its commands.
    pub options: Vec<String>,
    /// How long one of its commands may take, in seconds.
    pub deadline_seconds: u32,
}

/// How a runtime is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandlerKind {
    /// By the OCI command line: crun, runc.
    Oci,
}

/// Lines of a resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// `search` domains.
    pub searches: Vec<String>,
    /// `options`.
    pub options: Vec<String>,
}

/// Transport protocol of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One port of the host that leads into the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port inside the pod.
    pub container_port: u16,
    /// Port on the host; never 0 here (front ends drop mappings without one).
    pub host_port: u16,
    /// Address of the host to bind to; `None` for all.
    pub host_ip: Option<IpAddr>,
}

/// Whose namespace a process uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceMode {
    /// The pod's own, shared by its containers.
    #[default]
    Pod,
    /// One for each container.
    Container,
    /// The host's.
    Node,
    /// That of another container of the same pod (pid only).
    Target(ContainerId),
}

/// How each kind of namespace is shared. UTS follows the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceModes {
    /// Network: `Pod` or `Node`.
    pub network: NamespaceMode,
    /// Process ids: any mode.
    pub pid: NamespaceMode,
    /// System V IPC, POSIX queues and /dev/shm: `Pod` or `Node`.
    pub ipc: NamespaceMode,
    /// User ids; `None` is the host's.
    pub user: Option<UserNamespace>,
}

impl Default for NamespaceModes {
    fn default() -> Self {
        Self { network: NamespaceMode::Pod, pid: NamespaceMode::Container, ipc: NamespaceMode::Pod, user: None }
    }
}

/// Mappings of a pod's own user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// Mappings of user ids.
    pub uids: Vec<IdMapping>,
    /// Mappings of group ids.
    pub gids: Vec<IdMapping>,
}

/// Where a sandbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// Its namespaces and network are up.
    Ready,
    /// It is stopped, or its shim is gone.
    NotReady,
}

/// Limits of a pod as a whole, as the caller told them last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLimits {
    /// What the pod needs beside its containers.
    pub overhead: Resources,
    /// The sum of its containers' limits.
    pub containers: Resources,
}

/// Addresses of a pod; the first is the primary one. Empty on the host's network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Addresses, IPv4 and IPv6.
    pub addresses: Vec<IpAddr>,
}

/// A sandbox as it is now, answered from memory.
#[derive(Debug, Clone)]
pub struct SandboxSnapshot {
    /// Id.
    pub id: SandboxId,
    /// Configuration as asked for.
    pub config: Arc<SandboxConfig>,
    /// State.
    pub state: SandboxState,
    /// Nanoseconds since the epoch.
    pub created_at_nanos: i64,
    /// Addresses.
    pub network: NetworkStatus,
    /// Pinned network namespace, where there is one.
    pub netns_path: Option<PathBuf>,
    /// Pid of the pause process where there is one, else of the shim; 0 when stopped.
    pub pid: i32,
    /// Why it is not ready, where that is not its being stopped as asked; empty otherwise.
    pub message: String,
    /// Limits that were told after it was made.
    pub limits: Option<Arc<PodLimits>>,
    /// What its runtime handler stands for; `None` for the built-in one.
    pub handler: Option<Arc<Handler>>,
}
