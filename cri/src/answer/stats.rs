//! What containers and sandboxes use, as messages. What the host does not count stays absent.

use podwright_cri_api::v1;
use podwright_podsandbox::model::{
    CgroupUsage, ContainerStats, LayerUsage, LinkUsage, MemoryUsage, NetworkUsage, Pressure, SandboxStats, Stall,
    SwapUsage,
};

use super::{container, sandbox};

/// A container. One that does not run is told with what it wrote alone.
pub(crate) fn container_stats(stats: &ContainerStats) -> v1::ContainerStats {
    let (config, usage) = (&stats.container.config, stats.usage.as_ref());
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: stats.container.id.to_string(),
            metadata: Some(container::metadata(config)),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }),
        cpu: usage.map(|usage| cpu(usage, stats.cpu_nanoseconds_per_second)),
        memory: usage.and_then(memory),
        writable_layer: stats.layer.map(|layer| v1::FilesystemUsage {
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: stats.layer_filesystem.to_string_lossy().into_owned() }),
            ..layer_usage(layer)
        }),
        swap: usage.and_then(|usage| Some(swap(usage.at_nanos, usage.swap.as_ref()?))),
        io: usage.and_then(io),
    }
}

/// A sandbox with its containers. Its Linux part is always there: clients rely on it.
pub(crate) fn sandbox_stats(stats: &SandboxStats) -> v1::PodSandboxStats {
    let (config, usage) = (&stats.sandbox.config, stats.usage.as_ref());
    let process = |usage: &CgroupUsage| {
        let process_count = Some(number(usage.processes?));
        Some(v1::ProcessUsage { timestamp: usage.at_nanos, process_count })
    };
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: stats.sandbox.id.to_string(),
            metadata: Some(sandbox::metadata(config)),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: usage.map(|usage| cpu(usage, stats.cpu_nanoseconds_per_second)),
            memory: usage.and_then(memory),
            network: stats.network.as_ref().map(network),
            process: usage.and_then(process),
            containers: stats.containers.iter().map(container_stats).collect(),
            io: usage.and_then(io),
        }),
        windows: None,
    }
}

fn number(value: u64) -> v1::UInt64Value {
    v1::UInt64Value { value }
}

fn cpu(usage: &CgroupUsage, rate: Option<u64>) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: usage.at_nanos,
        usage_core_nano_seconds: usage.cpu_nanoseconds.map(number),
        usage_nano_cores: rate.map(number),
        psi: usage.cpu_pressure.as_ref().map(pressure),
    }
}

fn memory(usage: &CgroupUsage) -> Option<v1::MemoryUsage> {
    let memory = usage.memory.as_ref()?;
    Some(v1::MemoryUsage {
        timestamp: usage.at_nanos,
        working_set_bytes: Some(number(memory.working_set_bytes)),
        available_bytes: available(memory).map(number),
        usage_bytes: Some(number(memory.usage_bytes)),
        rss_bytes: Some(number(memory.rss_bytes)),
        page_faults: Some(number(memory.page_faults)),
        major_page_faults: Some(number(memory.major_page_faults)),
        psi: usage.memory_pressure.as_ref().map(pressure),
    })
}

/// Absent without a limit, as kubelet has it.
fn available(memory: &MemoryUsage) -> Option<u64> {
    memory.limit_bytes.map(|limit| limit.saturating_sub(memory.working_set_bytes))
}

fn swap(timestamp: i64, swap: &SwapUsage) -> v1::SwapUsage {
    v1::SwapUsage {
        timestamp,
        swap_available_bytes: swap.limit_bytes.map(|limit| number(limit.saturating_sub(swap.usage_bytes))),
        swap_usage_bytes: Some(number(swap.usage_bytes)),
    }
}

/// The message has nothing but the pressure.
fn io(usage: &CgroupUsage) -> Option<v1::IoUsage> {
    let psi = usage.io_pressure.as_ref().map(pressure)?;
    Some(v1::IoUsage { timestamp: usage.at_nanos, psi: Some(psi) })
}

fn pressure(pressure: &Pressure) -> v1::PsiStats {
    let data = |stall: Stall| v1::PsiData {
        total: stall.total_microseconds,
        avg10: stall.average_10,
        avg60: stall.average_60,
        avg300: stall.average_300,
    };
    v1::PsiStats { full: Some(data(pressure.full)), some: Some(data(pressure.some)) }
}

fn layer_usage(layer: LayerUsage) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: layer.at_nanos,
        fs_id: None,
        used_bytes: Some(number(layer.bytes)),
        inodes_used: Some(number(layer.inodes)),
    }
}

fn network(usage: &NetworkUsage) -> v1::NetworkUsage {
    v1::NetworkUsage {
        timestamp: usage.at_nanos,
        default_interface: usage.links.first().map(link),
        // Clients add the default one themselves.
        interfaces: usage.links.iter().skip(1).map(link).collect(),
    }
}

fn link(link: &LinkUsage) -> v1::NetworkInterfaceUsage {
    v1::NetworkInterfaceUsage {
        name: link.name.clone(),
        rx_bytes: Some(number(link.received.bytes)),
        rx_errors: Some(number(link.received.errors)),
        tx_bytes: Some(number(link.sent.bytes)),
        tx_errors: Some(number(link.sent.errors)),
    }
}
