//! The start of a pod's shim, which runs beside the making of its network, and the namespaces that the shim is asked for.
//!
//! The network namespace is made here and given to the shim, so that neither waits for the other. Where it has to belong to the pod's
//! user namespace, or sysctls of the network have to be written before there is any link, the shim makes it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_util::FutureExt;
use tracing::Instrument;

use super::{Making, Sandbox, files};
use crate::error::EngineError;
use crate::ladder::Outcome;
use crate::model::{NamespaceMode, SandboxConfig};
use crate::ports::{CgroupPlacement, CreatePod, LaunchShim, Shim};
use crate::record;
use crate::shared::blocking;

/// How the names of sysctls of the network begin.
const NETWORK_SYSCTLS: &str = "net.";

/// Begins to start the shim. [`launched`] waits for it.
pub(super) async fn begin_launch(sandbox: Arc<Sandbox>) -> Outcome {
    let cgroup_path = sandbox.shared.ports.cgroups.shim_path(&sandbox.cgroup_parent()?, &sandbox.id);
    let task = tokio::spawn(launch(sandbox.clone(), cgroup_path).instrument(tracing::Span::current()));
    let ended_early = |e| EngineError::Internal(format!("start the shim: the task ended early: {e}; repeat"));
    let launching: Making = async move { task.await.unwrap_or_else(|e| Err(ended_early(e))) }.boxed().shared();
    sandbox.live().launching = Some(launching);
    Ok(())
}

async fn launch(sandbox: Arc<Sandbox>, cgroup_path: String) -> Outcome {
    let request = LaunchShim { sandbox: sandbox.id.clone(), cgroup_path };
    let (shim, place) = tokio::join!(sandbox.shared.ports.shims.launch(&request), places(&sandbox));
    let (shim, events) = shim?;
    sandbox.adopt_shim(shim, events);
    place
}

/// Where the shim is to mount the pod's shared memory, and another runtime is to keep its state.
async fn places(sandbox: &Sandbox) -> Outcome {
    sandbox.make_handler_dir().await?;
    if sandbox.config.namespaces.ipc == NamespaceMode::Node {
        return Ok(());
    }
    let place = sandbox.shared.shm_dir(&sandbox.id);
    blocking("make the place of the pod's shared memory at", &place, record::private_dir).await
}

/// Waits until the shim has started, or could not be.
pub(super) async fn launched(sandbox: &Sandbox) -> Outcome {
    let launching = sandbox.live().launching.clone();
    let Some(launching) = launching else { return Ok(()) };
    let outcome = launching.await;
    sandbox.live().launching = None;
    outcome
}

/// Whether the network namespace is one that only the shim can make.
fn shim_makes_netns(config: &SandboxConfig) -> bool {
    config.namespaces.user.is_some() || config.sysctls.keys().any(|name| name.starts_with(NETWORK_SYSCTLS))
}

/// Makes the pod's network namespace, if it has its own.
pub(super) async fn make_netns(sandbox: Arc<Sandbox>) -> Outcome {
    if sandbox.host_network() {
        return Ok(());
    }
    let netns = if shim_makes_netns(&sandbox.config) {
        make_pod(&sandbox).await?
    } else {
        Some(sandbox.shared.ports.network.make_namespace().await?)
    };
    sandbox.live().netns = netns.map(Arc::new);
    Ok(())
}

/// Makes the other namespaces. From then on the shim holds all of them.
pub(super) async fn make_namespaces(sandbox: Arc<Sandbox>) -> Outcome {
    make_pod(&sandbox).await?;
    sandbox.live().netns = None;
    Ok(())
}

/// What the shim does not have yet, it makes.
async fn make_pod(sandbox: &Arc<Sandbox>) -> Result<Option<OwnedFd>, EngineError> {
    launched(sandbox).await?;
    let gone = || EngineError::Unavailable("its shim is gone".into());
    let shim: Arc<dyn Shim> = sandbox.live().shim.clone().ok_or_else(gone)?;
    let pod = shim.create_pod(&pod_request(sandbox)?).await?;
    let mut live = sandbox.live();
    live.shim_pid = shim.pid();
    live.pause_pid = pod.pause_pid;
    Ok(pod.netns)
}

fn pod_request(sandbox: &Sandbox) -> Result<CreatePod, EngineError> {
    let (config, modes) = (&sandbox.config, &sandbox.config.namespaces);
    let own_network = !sandbox.host_network();
    let own_ipc = modes.ipc != NamespaceMode::Node;
    let shared_pid = modes.pid == NamespaceMode::Pod;
    let pause = sandbox.pause_cgroup(&sandbox.cgroup_parent()?)?;
    Ok(CreatePod {
        hostname: own_network.then(|| files::hostname(config, &sandbox.id)),
        network: own_network,
        netns: sandbox.live().netns.clone(),
        ipc: own_ipc,
        pid: shared_pid,
        user: modes.user.clone(),
        sysctls: config.sysctls.clone(),
        shm: own_ipc.then(|| (sandbox.shared.shm_dir(&sandbox.id), sandbox.shared.config.shm_bytes)),
        pause_cgroup: shared_pid.then_some(pause),
        mount_label: crate::spec::shared_label(sandbox.shared.config.selinux, config, &sandbox.id)?,
    })
}

impl Sandbox {
    /// Where the pause process goes: a leaf beside the pod's containers, named by the sandbox.
    pub(super) fn pause_cgroup(&self, parent: &str) -> Result<CgroupPlacement, EngineError> {
        let cgroups = &self.shared.ports.cgroups;
        let as_container =
            self.id.as_str().parse().map_err(|e| EngineError::Internal(format!("name a cgroup: {e}")))?;
        Ok(CgroupPlacement { path: cgroups.container_path(parent, &as_container), deferred: cgroups.deferred() })
    }
}
