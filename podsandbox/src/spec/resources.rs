//! Limits of a container as the OCI specification writes them.

use std::path::Path;

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources};

use crate::model::Resources;

/// Whether this host has the unified hierarchy of cgroups alone.
pub(super) fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Whether memory and swap can be limited together.
fn swap_is_limited() -> bool {
    unified() || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
}

/// Without rules for devices.
pub(super) fn resources(limits: &Resources) -> LinuxResources {
    let mut all = LinuxResources::default();
    all.set_devices(None).set_cpu(cpu(limits)).set_memory(memory(limits));
    if let Some(limit) = limits.pids_limit.filter(|limit| *limit != 0) {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit.max(-1));
        all.set_pids(Some(pids));
    }
    if !limits.hugepage_limits.is_empty() {
        all.set_hugepage_limits(Some(hugepages(limits)));
    }
    if !limits.unified.is_empty() {
        all.set_unified(Some(limits.unified.clone().into_iter().collect()));
    }
    all
}

/// Other limits over those of a specification; what these do not say stays.
pub(super) fn over(mut all: LinuxResources, limits: &Resources) -> LinuxResources {
    let new = resources(limits);
    let cpu = new.cpu().clone().map(|mut cpu| {
        if let Some(before) = all.cpu() {
            cpu.set_realtime_runtime(before.realtime_runtime()).set_realtime_period(before.realtime_period());
        }
        cpu
    });
    let memory = new.memory().as_ref().map(|memory| {
        let mut before = (*all.memory()).unwrap_or_default();
        *before.set_limit(memory.limit()).set_swap(memory.swap())
    });
    let (cpu, memory) = (cpu.or_else(|| all.cpu().clone()), memory.or(*all.memory()));
    all.set_cpu(cpu).set_memory(memory);
    all.set_pids(*new.pids()).set_hugepage_limits(new.hugepage_limits().clone()).set_unified(new.unified().clone());
    all
}

fn cpu(limits: &Resources) -> Option<LinuxCpu> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_shares.filter(|v| *v != 0))
        .set_quota(limits.cpu_quota_micros.filter(|v| *v != 0))
        .set_period(limits.cpu_period_micros.filter(|v| *v != 0))
        .set_cpus(text(&limits.cpuset_cpus))
        .set_mems(text(&limits.cpuset_mems));
    (cpu != LinuxCpu::default()).then_some(cpu)
}

/// Without a limit of its own for swap, a container with limited memory gets none.
fn memory(limits: &Resources) -> Option<LinuxMemory> {
    let limit = limits.memory_limit_bytes.filter(|v| *v != 0);
    let swap = limits.memory_swap_limit_bytes.filter(|v| *v != 0).or(limit).filter(|_| swap_is_limited());
    let mut memory = LinuxMemory::default();
    memory.set_limit(limit).set_swap(swap);
    (memory != LinuxMemory::default()).then_some(memory)
}

fn hugepages(limits: &Resources) -> Vec<LinuxHugepageLimit> {
    let one = |(page_size, bytes): (&String, &u64)| {
        let mut limit = LinuxHugepageLimit::default();
        limit.set_page_size(page_size.clone()).set_limit(i64::try_from(*bytes).unwrap_or(i64::MAX));
        limit
    };
    limits.hugepage_limits.iter().map(one).collect()
}
