//! Who makes cgroups: one of the two drivers, chosen at start.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use podwright_cgroups::Hierarchy;
use podwright_podsandbox::ports::{Cgroups, PortError};
use podwright_types::ContainerId;

use super::{Cgroupfs, SystemdCgroups};
use crate::config::CgroupDriverChoice;

/// Exists where systemd runs the machine; see sd_booted(3).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// One of the two drivers.
#[derive(Debug, Clone)]
pub(crate) enum CgroupDriver {
    /// Ours.
    Cgroupfs(Arc<Cgroupfs>),
    /// systemd.
    Systemd(Arc<SystemdCgroups>),
}

impl CgroupDriver {
    /// Chooses.
    pub(crate) fn open(choice: CgroupDriverChoice) -> anyhow::Result<Self> {
        let hierarchy = Hierarchy::detect().context("cannot find the cgroups of this host")?;
        let systemd = match choice {
            CgroupDriverChoice::Auto => hierarchy.is_v2() && Path::new(SYSTEMD_RUNS).is_dir(),
            CgroupDriverChoice::Cgroupfs => false,
            CgroupDriverChoice::Systemd => {
                anyhow::ensure!(hierarchy.is_v2(), "the cgroup driver systemd needs cgroup v2; use cgroupfs here");
                true
            }
        };
        if systemd {
            return Ok(Self::Systemd(Arc::new(SystemdCgroups::new(hierarchy))));
        }
        let driver = Cgroupfs::open(hierarchy).context("cannot make the cgroup of the pods")?;
        Ok(Self::Cgroupfs(Arc::new(driver)))
    }

    /// As the CRI tells it.
    pub(crate) fn kind(&self) -> podwright_cri::CgroupDriver {
        match self {
            Self::Cgroupfs(_) => podwright_cri::CgroupDriver::Cgroupfs,
            Self::Systemd(_) => podwright_cri::CgroupDriver::Systemd,
        }
    }

    /// As the configuration spells it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Cgroupfs(_) => "cgroupfs",
            Self::Systemd(_) => "systemd",
        }
    }

    /// The cgroups of this host.
    pub(crate) fn hierarchy(&self) -> Hierarchy {
        match self {
            Self::Cgroupfs(driver) => driver.hierarchy().clone(),
            Self::Systemd(driver) => driver.hierarchy().clone(),
        }
    }

    /// For the engine.
    pub(crate) fn cgroups(&self) -> Arc<dyn Cgroups> {
        match self {
            Self::Cgroupfs(driver) => driver.clone(),
            Self::Systemd(driver) => driver.clone(),
        }
    }

    /// Puts a waiting process where it belongs, with the limits of its OCI specification if it has one.
    pub(super) async fn place(&self, path: &str, pid: i32, spec: Option<&str>) -> Result<(), PortError> {
        match (self, spec) {
            (Self::Systemd(driver), Some(spec)) => driver.place_limited(path, pid, spec).await,
            (Self::Systemd(driver), None) => driver.place(path, pid).await,
            (Self::Cgroupfs(driver), _) => driver.place(path, pid).await,
        }
    }

    /// After the shim wrote changed limits.
    pub(super) async fn limits_changed(&self, container: &ContainerId, resources: &str) -> Result<(), PortError> {
        match self {
            Self::Systemd(driver) => driver.limits_changed(container, resources).await,
            Self::Cgroupfs(_) => Ok(()),
        }
    }

    /// Marks the cgroup of the pod whose shim will be at this path, if it is one of ours in a place that daemons share.
    pub(super) async fn mark(&self, shim_path: &str, mark: &str) {
        match self {
            Self::Cgroupfs(driver) => driver.mark(shim_path, mark).await,
            Self::Systemd(_) => (),
        }
    }

    /// At the end of the daemon.
    pub(crate) fn close(&self) {
        match self {
            Self::Cgroupfs(driver) => driver.close(),
            Self::Systemd(_) => (),
        }
    }
}
