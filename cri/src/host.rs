//! What the front end has to know of the node and can not ask the engine: given to it by the daemon.

use async_trait::async_trait;
use serde_json::Value;

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// We do, by the files of the cgroup file system.
    Cgroupfs,
    /// systemd does, asked over D-Bus.
    Systemd,
}

/// What is true of this daemon for as long as it runs.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Version of the daemon.
    pub version: String,
    /// Who makes cgroups.
    pub cgroup_driver: CgroupDriver,
    /// The kernel can make a mount read-only with all below it.
    pub recursive_read_only_mounts: bool,
    /// Pods may have user namespaces of their own.
    pub user_namespaces: bool,
    /// The configuration in force, for `Status` with `verbose`.
    pub config: Value,
}

/// The network, for people.
#[derive(Debug, Clone, Default)]
pub struct NetworkReport {
    /// The loaded configuration.
    pub config: Value,
    /// How the last load went: `OK`, or the error.
    pub last_load_status: String,
}

/// A runtime handler beside the built-in one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandlerInfo {
    /// Its name.
    pub name: String,
    /// It makes mounts that are read-only with all below them.
    pub recursive_read_only_mounts: bool,
    /// It runs pods with user namespaces of their own.
    pub user_namespaces: bool,
}

/// The handlers beside the built-in one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandlersReport {
    /// Those that can be used.
    pub handlers: Vec<HandlerInfo>,
    /// What is wrong with the configuration of others, for people.
    pub problems: Vec<String>,
}

/// What the daemon does for the front end.
#[async_trait]
pub trait Host: Send + Sync {
    /// What is true for as long as the daemon runs.
    fn info(&self) -> &NodeInfo;

    /// Takes over the pod addresses that the cluster gave this node, as `UpdateRuntimeConfig` brings them (CIDRs, one for
    /// each family; none if the client knows none yet).
    ///
    /// # Errors
    /// Why they can not be used, in words.
    async fn set_pod_cidrs(&self, cidrs: Vec<String>) -> Result<(), String>;

    /// The network, for people.
    fn network_report(&self) -> NetworkReport;

    /// The runtime handlers that are configured now. Answers soon, with what is known.
    async fn handlers(&self) -> HandlersReport {
        HandlersReport::default()
    }
}
