//! What sandboxes and containers use: says what is to be read, lets the port read it all at once, and makes rates of it.

mod rate;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use podwright_types::SandboxId;

use crate::container::Container;
use crate::model::{
    CgroupUsage, ContainerSnapshot, ContainerState, ContainerStats, LayersUsage, MemoryUsage, NamespaceMode,
    SandboxState, SandboxStats, SwapUsage,
};
use crate::ports::{ContainerReading, ContainerSubject, ReadRequest, SandboxReading, SandboxSubject};
use crate::sandbox::Sandbox;
use crate::shared::Shared;

pub(crate) use rate::Rate;

/// Reads containers.
pub(crate) async fn of_containers(shared: &Shared, containers: Vec<Arc<Container>>) -> Vec<ContainerStats> {
    let containers: Vec<_> = containers.into_iter().map(|c| (c.snapshot(), c)).collect();
    let request = ReadRequest {
        containers: containers.iter().map(|(snapshot, c)| subject(snapshot, c)).collect(),
        ..ReadRequest::default()
    };
    let reply = shared.ports.statistics.read(request).await;
    let readings = reply.containers.into_iter();
    containers.into_iter().zip(readings).map(|((snapshot, c), reading)| container(&c, snapshot, reading)).collect()
}

/// Counts the writable layers that are due, and sums the last counts of all.
pub(crate) async fn of_layers(shared: &Shared, containers: Vec<Arc<Container>>) -> LayersUsage {
    let subjects = containers.iter().map(|c| ContainerSubject { cgroup: None, layer: c.layer_count.clone() });
    let request = ReadRequest { containers: subjects.collect(), ..ReadRequest::default() };
    shared.ports.statistics.read(request).await;
    let nothing = LayersUsage { directory: layers_directory(shared), bytes: 0, inodes: 0 };
    containers.iter().filter_map(|c| c.layer_count.last()).fold(nothing, |sum, layer| LayersUsage {
        bytes: sum.bytes.saturating_add(layer.bytes),
        inodes: sum.inodes.saturating_add(layer.inodes),
        ..sum
    })
}

fn layers_directory(shared: &Shared) -> PathBuf {
    shared.config.root.join("containers")
}

/// Reads sandboxes with their containers, and with `details` those of containers.
pub(crate) async fn of_sandboxes(shared: &Shared, sandboxes: Vec<Arc<Sandbox>>, details: bool) -> Vec<SandboxStats> {
    let parents = parents(shared);
    let mut request = ReadRequest { details, ..ReadRequest::default() };
    let mut members = Vec::with_capacity(sandboxes.len());
    for sandbox in &sandboxes {
        let containers: Vec<_> =
            sandbox.all_containers().into_iter().filter(|c| c.visible()).map(|c| (c.snapshot(), c)).collect();
        request.containers.extend(containers.iter().map(|(snapshot, c)| subject(snapshot, c)));
        request.sandboxes.push(sandbox_subject(sandbox, &parents));
        members.push(containers);
    }
    let reply = shared.ports.statistics.read(request).await;
    let (mut of_containers, mut of_sandboxes) = (reply.containers.into_iter(), reply.sandboxes.into_iter());
    let all = sandboxes.iter().zip(members).map(|(sandbox, members)| {
        let reading = of_sandboxes.next().unwrap_or_default();
        let containers = members
            .into_iter()
            .map(|(snapshot, c)| container(&c, snapshot, of_containers.next().unwrap_or_default()))
            .collect();
        of_sandbox(sandbox, reading, containers)
    });
    all.collect()
}

/// How many ready sandboxes each control group of a caller holds. Kubelet gives one to each pod, people one to all.
fn parents(shared: &Shared) -> HashMap<String, usize> {
    let mut parents = HashMap::new();
    for sandbox in shared.sandboxes.all() {
        if !sandbox.config.cgroup_parent.is_empty() && sandbox.state() == SandboxState::Ready {
            *parents.entry(sandbox.config.cgroup_parent.clone()).or_default() += 1;
        }
    }
    parents
}

fn subject(snapshot: &ContainerSnapshot, container: &Container) -> ContainerSubject {
    let runs = matches!(snapshot.state, ContainerState::Running { .. });
    ContainerSubject {
        cgroup: if runs { container.cgroup_path().ok() } else { None },
        layer: container.layer_count.clone(),
    }
}

fn sandbox_subject(sandbox: &Sandbox, parents: &HashMap<String, usize>) -> SandboxSubject {
    let id: SandboxId = sandbox.id.clone();
    if sandbox.state() != SandboxState::Ready {
        return SandboxSubject { id, cgroup: None, network: None };
    }
    // A cgroup that others are in too says nothing of this pod, and our own has nothing but its containers and the shim.
    let alone = parents.get(&sandbox.config.cgroup_parent) == Some(&1);
    let kind = sandbox.live().durable.network_kind;
    let network = match sandbox.config.namespaces.network {
        NamespaceMode::Node => None,
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target(_) => {
            kind.map(|kind| (kind, sandbox.shared.pin_path(&sandbox.id)))
        }
    };
    SandboxSubject { cgroup: if alone { sandbox.cgroup_parent().ok() } else { None }, network, id }
}

fn container(container: &Container, snapshot: ContainerSnapshot, reading: ContainerReading) -> ContainerStats {
    let began = match snapshot.state {
        ContainerState::Running { started_at_nanos, .. } => Some(started_at_nanos),
        ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Unknown => None,
    };
    let layer_filesystem = layers_directory(container.shared());
    ContainerStats {
        cpu_nanoseconds_per_second: rate(&container.rate, reading.usage.as_ref(), began),
        usage: reading.usage,
        layer: container.layer_count.last(),
        layer_filesystem,
        details: reading.details,
        container: snapshot,
    }
}

fn of_sandbox(sandbox: &Sandbox, reading: SandboxReading, containers: Vec<ContainerStats>) -> SandboxStats {
    let snapshot = sandbox.snapshot();
    let summed = || sum(containers.iter().filter_map(|c| c.usage.as_ref()));
    let rates = containers.iter().filter_map(|c| c.cpu_nanoseconds_per_second);
    let (usage, cpu_nanoseconds_per_second) = match (snapshot.state, reading.usage) {
        (SandboxState::NotReady, _) => (None, None),
        (SandboxState::Ready, Some(usage)) => {
            let rate = rate(&sandbox.rate, Some(&usage), Some(sandbox.created_at_nanos));
            // Processes are those of the containers: the shim is in the pod's cgroup too.
            (Some(CgroupUsage { processes: summed().processes, ..usage }), rate)
        }
        // A container that ended leaves the sum, which falls then; the sum of the rates is right still.
        (SandboxState::Ready, None) => (Some(summed()), rates.reduce(u64::saturating_add)),
    };
    SandboxStats { sandbox: snapshot, usage, cpu_nanoseconds_per_second, network: reading.network, containers }
}

fn rate(rate: &Rate, usage: Option<&CgroupUsage>, began: Option<i64>) -> Option<u64> {
    let usage = usage?;
    rate.next(usage.at_nanos, usage.cpu_nanoseconds?, began)
}

/// The sum of several; what one does not have counts as nothing. Shares of time can not be summed.
fn sum<'a>(usages: impl Iterator<Item = &'a CgroupUsage>) -> CgroupUsage {
    let mut total = CgroupUsage {
        at_nanos: crate::util::now_nanos(),
        cpu_nanoseconds: Some(0),
        memory: Some(MemoryUsage::default()),
        processes: Some(0),
        ..CgroupUsage::default()
    };
    for usage in usages {
        total.at_nanos = total.at_nanos.min(usage.at_nanos);
        total.cpu_nanoseconds = added(total.cpu_nanoseconds, usage.cpu_nanoseconds);
        total.threads = added(total.threads, usage.threads);
        total.processes = added(total.processes, usage.processes);
        if let (Some(total), Some(memory)) = (&mut total.memory, &usage.memory) {
            add_memory(total, memory);
        }
        if let Some(swap) = &usage.swap {
            let total = total.swap.get_or_insert_with(SwapUsage::default);
            total.usage_bytes = total.usage_bytes.saturating_add(swap.usage_bytes);
        }
    }
    total
}

fn added(total: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (total, more) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    }
}

fn add_memory(total: &mut MemoryUsage, more: &MemoryUsage) {
    total.usage_bytes = total.usage_bytes.saturating_add(more.usage_bytes);
    total.working_set_bytes = total.working_set_bytes.saturating_add(more.working_set_bytes);
    total.rss_bytes = total.rss_bytes.saturating_add(more.rss_bytes);
    total.page_faults = total.page_faults.saturating_add(more.page_faults);
    total.major_page_faults = total.major_page_faults.saturating_add(more.major_page_faults);
}
