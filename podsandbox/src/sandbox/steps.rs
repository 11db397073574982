//! The table of a sandbox: from its record to its network, and back.
//!
//! `address` stands below `shim` so that an embedded pod's address is released only after its namespace is gone; plugins get
//! theirs to work in (`network` is undone first). `shim` begins to start it, `namespaces` waits for that; the network is made meanwhile.
//! What the steps above `shim` leave outside is known by the record that `shim` writes: the undoing of `address` looks for it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{Sandbox, files, launch, pin};
use crate::error::EngineError;
use crate::ladder::{Climb, Intent, Outcome, Step};
use crate::owner::owner_mark;
use crate::ports::{Netns, NetworkKind, NetworkRequest, PortError, Shim};
use crate::shared::blocking;

/// Longest wait for a shim to end what it owns.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

pub(super) const FILES: &str = "files";
pub(super) const ADDRESS: &str = "address";
pub(super) const PIN: &str = "pin";
/// Told to the operator's own parts.
pub(crate) const EXTENSIONS: &str = "extensions";
/// The topmost step.
pub(super) const TOP: &str = "containers";

/// Steps whose work the kernel holds. What is left of the others are files.
pub(super) const OF_THE_KERNEL: [&str; 6] = ["cgroup", "shim", "netns", PIN, "namespaces", TOP];

pub(super) const TABLE: &[Step<Sandbox>] = &[
    Step {
        name: "record",
        run: |_| Box::pin(async { Ok(()) }),
        undo: |s| Box::pin(async move { s.delete_record().await }),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: FILES,
        run: |s| Box::pin(write_files(s)),
        undo: |_| Box::pin(async { Ok(()) }),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: "cgroup",
        // The shim makes it.
        run: |s| Box::pin(async move { s.cgroup_parent().map(drop) }),
        undo: |s| Box::pin(remove_cgroup(s)),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: ADDRESS,
        run: |s| Box::pin(choose_network(s)),
        undo: |s| Box::pin(release_address(s)),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: "shim",
        run: |s| Box::pin(launch::begin_launch(s)),
        undo: |s| Box::pin(end_shim(s)),
        intent: |_| Intent::Recorded,
        gate: true,
    },
    Step {
        name: "netns",
        run: |s| Box::pin(launch::make_netns(s)),
        undo: |s| Box::pin(drop_netns(s)),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: PIN,
        run: |s| Box::pin(pin_netns(s)),
        undo: |s| Box::pin(unpin_netns(s)),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: "network",
        run: |s| Box::pin(set_up_network(s)),
        undo: |s| Box::pin(tear_down_network(s)),
        // What plugins are told to make survives a power cut in their attachment's own record.
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: "namespaces",
        run: |s| Box::pin(launch::make_namespaces(s)),
        undo: |s| Box::pin(drop_netns(s)),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: EXTENSIONS,
        run: |s| Box::pin(async move { s.tell_made().await }),
        undo: |s| {
            Box::pin(async move {
                s.tell_stopped().await;
                Ok(())
            })
        },
        intent: |_| Intent::Own,
        gate: false,
    },
    Step {
        name: TOP,
        run: |_| Box::pin(async { Ok(()) }),
        undo: |s| Box::pin(kill_containers(s)),
        intent: |_| Intent::Own,
        // A process that the kernel holds must not keep the rest of the pod.
        gate: false,
    },
];

async fn write_files(sandbox: Arc<Sandbox>) -> Outcome {
    sandbox.choose_handler().await?;
    let host_resolv_conf = sandbox.shared.config.host_resolv_conf.clone();
    let config = sandbox.config.clone();
    blocking("write the pod's files in", &sandbox.shared.sandbox_dir(&sandbox.id), move |dir| {
        files::write(dir, &config, &host_resolv_conf)
    })
    .await
}

async fn remove_cgroup(sandbox: Arc<Sandbox>) -> Outcome {
    match sandbox.cgroup_parent() {
        Ok(parent) => Ok(sandbox.shared.ports.cgroups.remove_pod_parent(&parent).await?),
        // The driver does not take the parent, so nothing was made of it.
        Err(EngineError::Invalid(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn choose_network(sandbox: Arc<Sandbox>) -> Outcome {
    if sandbox.host_network() {
        return Ok(());
    }
    let network = &sandbox.shared.ports.network;
    network.ready().map_err(|why| EngineError::Unavailable(format!("the network is not ready: {why}")))?;
    sandbox.live().durable.network_kind = Some(network.kind_for_new_pods());
    Ok(())
}

async fn release_address(sandbox: Arc<Sandbox>) -> Outcome {
    let kind = sandbox.live().durable.network_kind;
    match kind {
        None => Ok(()),
        Some(NetworkKind::Embedded) => {
            let request = network_request(&sandbox, NetworkKind::Embedded, Netns { fd: None, path: None });
            Ok(sandbox.shared.ports.network.teardown(&request).await?)
        }
        // A daemon that died may have come to these without a word in the record.
        Some(NetworkKind::Cni) => {
            tear_down_network(sandbox.clone()).await?;
            unpin_netns(sandbox).await
        }
    }
}

async fn end_shim(sandbox: Arc<Sandbox>) -> Outcome {
    sandbox.live().shim_ends = true;
    // One that comes up after this would outlive its pod. Whether it came up is asked next.
    drop(launch::launched(&sandbox).await);
    sandbox.live().netns = None;
    if let Some(shim) = connected_shim(&sandbox).await? {
        shut_down(&sandbox, &shim).await?;
    }
    sandbox.live().shim = None;
    sandbox.forget_shim();
    kill_cgroups(&sandbox).await?;
    sandbox.all_lost("its pod was stopped");
    let shm = sandbox.shared.shm_dir(&sandbox.id);
    blocking("remove the pod's shared memory at", &shm, pin::remove_mount_dir).await?;
    sandbox.remove_handler_dir().await?;
    Ok(sandbox.shared.ports.shims.remove_remains(&sandbox.id).await?)
}

async fn shut_down(sandbox: &Arc<Sandbox>, shim: &Arc<dyn Shim>) -> Outcome {
    let text = || format!("its shim did not end within {} s; it is tried again", SHUTDOWN_LIMIT.as_secs());
    match timeout(SHUTDOWN_LIMIT, shim.shutdown()).await {
        Ok(Ok(())) => Ok(()),
        // It may have ended just before, or only this connection to it.
        Ok(Err(PortError::Unavailable(why))) => match sandbox.shared.ports.shims.connect(&sandbox.id).await? {
            None => Ok(()),
            Some(_) => {
                sandbox.live().shim = None;
                Err(EngineError::Unavailable(format!("{why}; it is tried again")))
            }
        },
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(EngineError::TimedOut(text())),
    }
}

async fn connected_shim(sandbox: &Arc<Sandbox>) -> Result<Option<Arc<dyn Shim>>, EngineError> {
    let known = sandbox.live().shim.clone();
    match known {
        Some(shim) => Ok(Some(shim)),
        None => Ok(sandbox.shared.ports.shims.connect(&sandbox.id).await?.map(|(shim, _)| shim)),
    }
}

/// Kills whatever the shim left behind, and removes the cgroups of the pod's members.
async fn kill_cgroups(sandbox: &Arc<Sandbox>) -> Outcome {
    let parent = sandbox.cgroup_parent()?;
    let cgroups = &sandbox.shared.ports.cgroups;
    let mut paths = sandbox.all_containers().iter().map(|c| c.cgroup_path()).collect::<Result<Vec<_>, _>>()?;
    paths.push(sandbox.pause_cgroup(&parent)?.path);
    paths.push(cgroups.shim_path(&parent, &sandbox.id));
    for outcome in join_all(paths.iter().map(|path| cgroups.kill_and_remove(path))).await {
        outcome?;
    }
    Ok(())
}

async fn drop_netns(sandbox: Arc<Sandbox>) -> Outcome {
    sandbox.live().netns = None;
    Ok(())
}

async fn pin_netns(sandbox: Arc<Sandbox>) -> Outcome {
    if !sandbox.has_cni() {
        return Ok(());
    }
    let netns = own_netns(&sandbox)?;
    let root = sandbox.shared.config.root.clone();
    let work = move |path: &Path| pin::pin(&netns, path, &owner_mark(&root).unwrap_or_default());
    blocking("pin the network namespace at", &sandbox.shared.pin_path(&sandbox.id), work).await
}

async fn unpin_netns(sandbox: Arc<Sandbox>) -> Outcome {
    if !sandbox.has_cni() {
        return Ok(());
    }
    blocking("unpin the network namespace at", &sandbox.shared.pin_path(&sandbox.id), pin::unpin).await
}

fn own_netns(sandbox: &Sandbox) -> Result<Arc<OwnedFd>, EngineError> {
    let text = "the shim made no network namespace, though one was asked for; this is a defect of the shim";
    sandbox.live().netns.clone().ok_or_else(|| EngineError::Internal(text.into()))
}

async fn set_up_network(sandbox: Arc<Sandbox>) -> Outcome {
    let kind = sandbox.live().durable.network_kind;
    let Some(kind) = kind else { return Ok(()) };
    let netns = Netns { fd: Some(own_netns(&sandbox)?), path: pinned_path(&sandbox, kind) };
    let status = sandbox.shared.ports.network.setup(&network_request(&sandbox, kind, netns)).await?;
    sandbox.live().durable.network = status;
    Ok(())
}

async fn tear_down_network(sandbox: Arc<Sandbox>) -> Outcome {
    if !sandbox.has_cni() {
        return Ok(());
    }
    let pinned = sandbox.shared.pin_path(&sandbox.id);
    let fd = blocking("open the network namespace at", &pinned, pin::open).await?;
    let netns = Netns { path: fd.is_some().then_some(pinned), fd: fd.map(Arc::new) };
    Ok(sandbox.shared.ports.network.teardown(&network_request(&sandbox, NetworkKind::Cni, netns)).await?)
}

fn pinned_path(sandbox: &Sandbox, kind: NetworkKind) -> Option<PathBuf> {
    match kind {
        NetworkKind::Cni => Some(sandbox.shared.pin_path(&sandbox.id)),
        NetworkKind::Embedded => None,
    }
}

fn network_request(sandbox: &Sandbox, kind: NetworkKind, netns: Netns) -> NetworkRequest {
    let config = &sandbox.config;
    NetworkRequest {
        sandbox: sandbox.id.clone(),
        name: config.name.clone(),
        namespace: config.namespace.clone(),
        uid: config.uid.clone(),
        kind,
        netns,
        port_mappings: config.port_mappings.clone(),
        dns: config.dns.clone(),
        annotations: config.annotations.clone(),
    }
}

async fn kill_containers(sandbox: Arc<Sandbox>) -> Outcome {
    let containers = sandbox.all_containers();
    let outcomes = join_all(containers.iter().map(|c| c.stop_and_tell(Duration::ZERO))).await;
    let mut errors = outcomes.into_iter().filter_map(Result::err);
    let Some(first) = errors.next() else { return Ok(()) };
    let others: String = errors.map(|error| format!("; {error}")).collect();
    Err(first.within(sandbox.describe()).and(&others))
}
