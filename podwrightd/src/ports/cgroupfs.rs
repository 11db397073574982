//! [`Cgroups`] by the files of the cgroup file systems. The shim makes the cgroups of containers; here they are named, and
//! removed where a shim could not.

use std::time::Duration;

use async_trait::async_trait;
use oci_spec::runtime::LinuxResources;
use podwright_cgroups::{Error, Hierarchy};
use podwright_podsandbox::ports::{Cgroups, PortError};
use podwright_types::{ContainerId, SandboxId};

use super::{errno_of, failed_with, whole_text};

/// Pauses between attempts to remove a cgroup whose processes are being killed: their end is told by no event on v1.
const PAUSES_MILLIS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 400, 800];

/// The cgroup of pods that bring none. One for all daemons of a host: those that are killed leave no more than it.
const OWN: &str = "/podwright";

/// The driver without systemd.
#[derive(Debug, Clone)]
pub(crate) struct Cgroupfs {
    hierarchy: Hierarchy,
}

impl Cgroupfs {
    /// Makes the cgroup for pods that bring none.
    pub(crate) fn open(hierarchy: Hierarchy) -> Result<Self, Error> {
        hierarchy.cgroup(OWN)?.create()?;
        Ok(Self { hierarchy })
    }

    pub(crate) fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Marks the pod's cgroup above a shim's path, if it is ours.
    pub(crate) async fn mark(&self, shim_path: &str, mark: &str) {
        let Some((parent, _)) = shim_path.rsplit_once('/').filter(|(parent, _)| is_own(parent)) else { return };
        let (hierarchy, parent, mark) = (self.hierarchy.clone(), parent.to_owned(), mark.to_owned());
        let _ = blocking(move || {
            super::mark::put(&hierarchy, &parent, &mark);
            Ok(())
        })
        .await;
    }

    /// Removes it again if no pod is left in it, at the end of the daemon. The kernel keeps one that is not empty.
    pub(crate) fn close(&self) {
        let Ok(own) = self.hierarchy.cgroup(OWN) else { return };
        let directories = match &self.hierarchy {
            Hierarchy::V1(mounts) => {
                mounts.iter().filter_map(|m| m.controllers.first()).filter_map(|c| own.directory(c)).collect()
            }
            Hierarchy::V2(_) => Vec::from_iter(own.directory("")),
        };
        for directory in directories {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// Kills what is in a cgroup and removes it; tried until its processes are gone.
pub(crate) fn kill_and_remove(hierarchy: &Hierarchy, path: &str) -> Result<(), PortError> {
    let cgroup = hierarchy.cgroup(path).map_err(|error| converted(&error))?;
    let attempt = || cgroup.kill_all().and_then(|()| cgroup.remove());
    for pause in PAUSES_MILLIS {
        match attempt() {
            Err(Error::Busy { .. }) => std::thread::sleep(Duration::from_millis(pause)),
            other => return other.map_err(|error| converted(&error)),
        }
    }
    attempt().map_err(|error| converted(&error))
}

pub(crate) fn converted(error: &Error) -> PortError {
    let text = whole_text(error);
    match error {
        Error::Invalid(_) => PortError::Invalid(text),
        Error::Busy { .. } => PortError::TimedOut(text),
        _ => failed_with(errno_of(error), text),
    }
}

/// Whether a pod's cgroup is one that we made.
fn is_own(pod_parent: &str) -> bool {
    pod_parent.strip_prefix(OWN).is_some_and(|rest| rest.starts_with('/'))
}

#[async_trait]
impl Cgroups for Cgroupfs {
    fn pod_parent(&self, parent: &str, sandbox: &SandboxId) -> Result<String, PortError> {
        if parent.is_empty() {
            return Ok(format!("{OWN}/{sandbox}"));
        }
        if std::path::Path::new(parent).extension().is_some_and(|kind| kind == "slice") && !parent.starts_with('/') {
            let hint = "configure the same cgroup driver for kubelet and podwrightd";
            return Err(PortError::Invalid(format!("the cgroup parent {parent:?} is one of systemd; {hint}")));
        }
        Ok(self.hierarchy.cgroup(parent).map_err(|error| converted(&error))?.path())
    }

    fn container_path(&self, pod_parent: &str, container: &ContainerId) -> String {
        format!("{}/{container}", pod_parent.trim_end_matches('/'))
    }

    fn shim_path(&self, pod_parent: &str, sandbox: &SandboxId) -> String {
        format!("{}/podwright-shim-{sandbox}", pod_parent.trim_end_matches('/'))
    }

    async fn kill_and_remove(&self, path: &str) -> Result<(), PortError> {
        let (hierarchy, path) = (self.hierarchy.clone(), path.to_owned());
        blocking(move || kill_and_remove(&hierarchy, &path)).await
    }

    async fn remove_pod_parent(&self, pod_parent: &str) -> Result<(), PortError> {
        if !is_own(pod_parent) {
            return Ok(());
        }
        let cgroup = self.hierarchy.cgroup(pod_parent).map_err(|error| converted(&error))?;
        blocking(move || cgroup.remove().map_err(|error| converted(&error))).await
    }

    async fn limit_pod_parent(&self, pod_parent: &str, resources: &str) -> Result<(), PortError> {
        if !is_own(pod_parent) {
            return Ok(());
        }
        let unreadable = |cause| PortError::Invalid(format!("limits of cgroup {pod_parent}: {cause}"));
        let resources: LinuxResources = serde_json::from_str(resources).map_err(unreadable)?;
        let cgroup = self.hierarchy.cgroup(pod_parent).map_err(|error| converted(&error))?;
        let write = move || cgroup.create().and_then(|()| cgroup.update(&resources));
        blocking(move || write().map_err(|error| converted(&error))).await
    }

    async fn place(&self, _path: &str, _pid: i32) -> Result<(), PortError> {
        Ok(())
    }
}

/// Runs what blocks for a moment off the threads of the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    let lost = |cause| PortError::Failed(format!("a task for cgroup files ended without an answer: {cause}"));
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}
