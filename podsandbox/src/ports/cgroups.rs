//! Control groups, as far as the life of a pod needs them outside of a shim.

use async_trait::async_trait;

use super::PortError;

/// Control groups of the host.
#[async_trait]
pub trait Cgroups: Send + Sync {
    /// The name of a pod's cgroup: below `parent` as the caller gave it, or our own when that is empty. The pod's shim makes it.
    ///
    /// # Errors
    /// `Invalid` if `parent` does not fit the driver (`/a/b` for cgroupfs, `x.slice` for systemd).
    fn pod_parent(&self, parent: &str, sandbox: &podwright_types::SandboxId) -> Result<String, PortError>;

    /// The path of a container's cgroup (cgroupfs) or `slice:prefix:name` (systemd), as `linux.cgroupsPath` has it.
    fn container_path(&self, pod_parent: &str, container: &podwright_types::ContainerId) -> String;

    /// The path of the shim's own leaf, beside the pod's containers.
    fn shim_path(&self, pod_parent: &str, sandbox: &podwright_types::SandboxId) -> String;

    /// Whether a new process waits until [`Cgroups::place`] was called with its pid (systemd driver).
    fn deferred(&self) -> bool {
        false
    }

    /// Kills whatever is in the cgroup and removes it and all below; absent is success.
    async fn kill_and_remove(&self, path: &str) -> Result<(), PortError>;

    /// Removes what `pod_parent` named, if it is our own and empty; absent is success.
    async fn remove_pod_parent(&self, pod_parent: &str) -> Result<(), PortError>;

    /// Writes limits (OCI `linux.resources`, JSON) to what `pod_parent` named, if it is our own; another is left alone.
    async fn limit_pod_parent(&self, pod_parent: &str, resources: &str) -> Result<(), PortError>;

    /// Makes a systemd scope around a process that waits (systemd driver); does nothing with cgroupfs.
    async fn place(&self, path: &str, pid: i32) -> Result<(), PortError>;
}
