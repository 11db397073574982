//! [`Cgroups`] by systemd: a scope for each container and shim, a slice for each pod that brings none.

use std::collections::BTreeMap;

use async_trait::async_trait;
use podwright_cgroups::{Hierarchy, scope_name, systemd_path};
use podwright_podsandbox::model::Resources;
use podwright_podsandbox::ports::{Cgroups, PortError};
use podwright_types::{ContainerId, SandboxId};
use serde_json::Value;

use super::cgroupfs::{blocking, converted, kill_and_remove};
use super::whole_text;
use crate::systemd::{ScopeLimits, Systemd, SystemdError};

/// Prefix of our units.
const PREFIX: &str = "podwright";
/// Prefix of the shims' scopes.
const SHIM_PREFIX: &str = "podwright-shim";

/// The driver with systemd.
#[derive(Debug)]
pub(crate) struct SystemdCgroups {
    systemd: Systemd,
    hierarchy: Hierarchy,
}

impl SystemdCgroups {
    pub(crate) fn new(hierarchy: Hierarchy) -> Self {
        Self { systemd: Systemd::default(), hierarchy }
    }

    pub(crate) fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Puts a waiting process into a scope with the limits of an OCI specification (JSON).
    pub(super) async fn place_limited(&self, path: &str, pid: i32, spec: &str) -> Result<(), PortError> {
        let spec: Value = serde_json::from_str(spec).unwrap_or_default();
        let resources = spec.pointer("/linux/resources").cloned().unwrap_or_default();
        self.start_scope(path, pid, &ScopeLimits::from(&limits_of(&resources))).await
    }

    /// Tells systemd of changed limits (OCI `linux.resources`, JSON), so that it does not write the old ones again.
    pub(super) async fn limits_changed(&self, container: &ContainerId, resources: &str) -> Result<(), PortError> {
        let resources: Value = serde_json::from_str(resources).unwrap_or_default();
        let unit = scope_name(PREFIX, container.as_str());
        let limits = ScopeLimits::from(&limits_of(&resources));
        self.systemd.update_scope(&unit, &limits).await.map_err(|error| refused(&error))
    }

    async fn start_scope(&self, path: &str, pid: i32, limits: &ScopeLimits) -> Result<(), PortError> {
        let pid = u32::try_from(pid).map_err(|_| PortError::Invalid(format!("{pid} is not the id of a process")))?;
        let (slice, unit) = slice_and_unit(path)?;
        self.systemd.start_scope(&unit, &slice, pid, limits).await.map_err(|error| refused(&error))
    }
}

fn refused(error: &SystemdError) -> PortError {
    let text = whole_text(error);
    match error {
        SystemdError::Connect(_) => PortError::Unavailable(text),
        SystemdError::TimedOut { .. } => PortError::TimedOut(text),
        SystemdError::Refused { .. } | SystemdError::Job { .. } => PortError::Failed(text),
    }
}

/// The slice and the scope that `slice:prefix:name` means.
fn slice_and_unit(path: &str) -> Result<(String, String), PortError> {
    systemd_path(path).map_err(|error| converted(&error))?;
    let mut parts = path.splitn(3, ':');
    let (slice, prefix, name) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    Ok((slice.to_owned(), scope_name(prefix, name)))
}

/// The limits that systemd has a property for.
fn limits_of(resources: &Value) -> Resources {
    let signed = |pointer: &str| resources.pointer(pointer).and_then(Value::as_i64);
    let text = |pointer: &str| resources.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let unsigned = |pointer: &str| resources.pointer(pointer).and_then(Value::as_u64);
    Resources {
        memory_limit_bytes: signed("/memory/limit"),
        memory_swap_limit_bytes: signed("/memory/swap"),
        cpu_shares: unsigned("/cpu/shares"),
        cpu_quota_micros: signed("/cpu/quota"),
        cpu_period_micros: unsigned("/cpu/period"),
        pids_limit: signed("/pids/limit"),
        cpuset_cpus: text("/cpu/cpus"),
        cpuset_mems: text("/cpu/mems"),
        unified: unified(resources),
        ..Resources::default()
    }
}

/// Files of cgroup v2 that were asked for by name.
fn unified(resources: &Value) -> BTreeMap<String, String> {
    let files = resources.pointer("/unified").and_then(Value::as_object).into_iter().flatten();
    files.filter_map(|(file, value)| Some((file.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether a pod's slice is one that we made.
fn is_own(pod_parent: &str) -> bool {
    let own = pod_parent.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-'));
    own.and_then(|rest| rest.strip_suffix(".slice")).is_some_and(|id| id.parse::<SandboxId>().is_ok())
}

fn own_slice(sandbox: &SandboxId) -> String {
    format!("{PREFIX}-{sandbox}.slice")
}

#[async_trait]
impl Cgroups for SystemdCgroups {
    fn pod_parent(&self, parent: &str, sandbox: &SandboxId) -> Result<String, PortError> {
        if parent.is_empty() {
            return Ok(own_slice(sandbox));
        }
        // Kubelet gives a name, others a whole path whose last part says it all.
        let slice = parent.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        match podwright_cgroups::expand_slice(slice) {
            Ok(_) => Ok(slice.to_owned()),
            Err(error) => Err(PortError::Invalid(format!(
                "{}; configure the same cgroup driver for kubelet and podwrightd",
                whole_text(&error)
            ))),
        }
    }

    fn container_path(&self, pod_parent: &str, container: &ContainerId) -> String {
        format!("{pod_parent}:{PREFIX}:{container}")
    }

    fn shim_path(&self, pod_parent: &str, sandbox: &SandboxId) -> String {
        format!("{pod_parent}:{SHIM_PREFIX}:{sandbox}")
    }

    fn deferred(&self) -> bool {
        true
    }

    async fn kill_and_remove(&self, path: &str) -> Result<(), PortError> {
        let (_, unit) = slice_and_unit(path)?;
        let files = systemd_path(path).map_err(|error| converted(&error))?;
        let hierarchy = self.hierarchy.clone();
        // The kernel kills all at once; systemd would send SIGTERM first and wait.
        blocking(move || kill_and_remove(&hierarchy, &files)).await?;
        self.systemd.stop_unit(&unit).await.map_err(|error| refused(&error))
    }

    async fn remove_pod_parent(&self, pod_parent: &str) -> Result<(), PortError> {
        if !is_own(pod_parent) {
            return Ok(());
        }
        self.systemd.stop_unit(pod_parent).await.map_err(|error| refused(&error))
    }

    async fn limit_pod_parent(&self, pod_parent: &str, resources: &str) -> Result<(), PortError> {
        if !is_own(pod_parent) {
            return Ok(());
        }
        let resources: Value = serde_json::from_str(resources).unwrap_or_default();
        let limits = ScopeLimits::from(&limits_of(&resources));
        self.systemd.update_scope(pod_parent, &limits).await.map_err(|error| refused(&error))
    }

    async fn place(&self, path: &str, pid: i32) -> Result<(), PortError> {
        self.start_scope(path, pid, &ScopeLimits::default()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver() -> SystemdCgroups {
        SystemdCgroups::new(Hierarchy::V2(std::path::Path::new("/sys/fs/cgroup").into()))
    }

    #[test]
    fn units_are_named_after_what_is_in_them() {
        let (sandbox, container) = (SandboxId::from_random([1; 32]), ContainerId::from_random([2; 32]));
        let parent = driver().pod_parent("/kubepods.slice/kubepods-besteffort.slice", &sandbox).unwrap();
        assert_eq!(parent, "kubepods-besteffort.slice");
        let (slice, unit) = slice_and_unit(&driver().container_path(&parent, &container)).unwrap();
        assert_eq!((slice.as_str(), unit), ("kubepods-besteffort.slice", format!("podwright-{container}.scope")));
        let (_, unit) = slice_and_unit(&driver().shim_path(&own_slice(&sandbox), &sandbox)).unwrap();
        assert_eq!(unit, format!("podwright-shim-{sandbox}.scope"));
        assert!(matches!(driver().pod_parent("/kubepods/pod1", &sandbox), Err(PortError::Invalid(_))));
    }

    #[tokio::test]
    async fn slices_of_others_stay() {
        // Would fail, as no systemd is asked for one that is not ours.
        driver().remove_pod_parent("kubepods-besteffort.slice").await.unwrap();
    }

    #[test]
    fn limits_are_read_from_the_specification() {
        let resources = serde_json::json!({
            "memory": { "limit": 5, "swap": -1 }, "pids": { "limit": 7 }, "unified": { "memory.high": "9" }
        });
        let limits = limits_of(&resources);
        assert_eq!(limits.unified.get("memory.high").map(String::as_str), Some("9"));
        assert_eq!(
            (limits.memory_limit_bytes, limits.memory_swap_limit_bytes, limits.pids_limit),
            (Some(5), Some(-1), Some(7))
        );
    }
}
