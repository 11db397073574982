//! Limits of cgroup v1: which file of which controller takes them, and in which order.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory, LinuxResources};

use crate::{Cgroup, Error, V1Mount, devices, files};

pub(crate) fn create(mounts: &[V1Mount], relative: &str) -> Result<(), Error> {
    for mount in mounts {
        let directory = mount.directory(relative);
        files::make_directory(&directory)?;
        if mount.has("cpuset") {
            inherit_cpuset(&mount.mount_point, &directory)?;
        }
    }
    Ok(())
}

/// A new cpuset is empty and takes no process; it is filled from its parent, from the top down.
fn inherit_cpuset(top: &Path, directory: &Path) -> Result<(), Error> {
    let Ok(below) = directory.strip_prefix(top) else { return Ok(()) };
    let mut parent = top.to_owned();
    for part in below.components() {
        let child = parent.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if files::read(&child.join(file))?.trim().is_empty() {
                files::write(&child.join(file), files::read(&parent.join(file))?.trim())?;
            }
        }
        parent = child;
    }
    Ok(())
}

pub(crate) fn update(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), Error> {
    if let Some(key) = resources.unified().iter().flat_map(|map| map.keys()).next() {
        return Err(Error::Invalid(format!("{key} is a file of cgroup v2, and this host has v1")));
    }
    if let Some(cpu) = resources.cpu() {
        update_cpu(cgroup, cpu)?;
        update_cpuset(cgroup, cpu)?;
    }
    if let Some(memory) = resources.memory() {
        update_memory(cgroup, memory)?;
    }
    if let Some(limit) = resources.pids().as_ref().map(|pids| pids.limit()).filter(|limit| *limit != 0) {
        let value = if limit < 0 { "max".to_owned() } else { limit.to_string() };
        files::write(&needed(cgroup, "pids", || format!("the limit of {limit} processes"))?.join("pids.max"), &value)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        update_hugepages(cgroup, limit)?;
    }
    match resources.block_io() {
        Some(block_io) => update_block_io(cgroup, block_io),
        None => Ok(()),
    }
}

fn needed(cgroup: &Cgroup, controller: &'static str, limit: impl FnOnce() -> String) -> Result<PathBuf, Error> {
    cgroup.directory(controller).ok_or_else(|| Error::NoController { controller, limit: limit() })
}

fn update_cpu(cgroup: &Cgroup, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        let directory = needed(cgroup, "cpu", || format!("a CPU weight of {shares} shares"))?;
        files::write(&directory.join("cpu.shares"), &shares.to_string())?;
    }
    let (period, quota) = (cpu.period().filter(|p| *p != 0), cpu.quota().filter(|q| *q != 0));
    if period.is_none() && quota.is_none() {
        return Ok(());
    }
    let directory = needed(cgroup, "cpu", || "a CPU quota".to_owned())?;
    let write_period = || period.map_or(Ok(()), |p| files::write(&directory.join("cpu.cfs_period_us"), &p.to_string()));
    let write_quota = || quota.map_or(Ok(()), |q| files::write(&directory.join("cpu.cfs_quota_us"), &q.to_string()));
    // Each write is checked against the parent with the other's old value, so one of the two orders may be refused.
    if write_period().is_ok() {
        return write_quota();
    }
    write_quota()?;
    write_period()
}

fn update_cpuset(cgroup: &Cgroup, cpu: &LinuxCpu) -> Result<(), Error> {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            files::write(&needed(cgroup, "cpuset", || format!("{file} {value}"))?.join(file), value)?;
        }
    }
    Ok(())
}

fn update_memory(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<(), Error> {
    let (limit, swap) = (memory.limit().filter(|l| *l != 0), memory.swap().filter(|s| *s != 0));
    if limit.is_some() || swap.is_some() {
        let directory = needed(cgroup, "memory", || "a memory limit".to_owned())?;
        write_memory_limits(&directory, limit, swap)?;
    }
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        let directory = needed(cgroup, "memory", || "a memory reservation".to_owned())?;
        files::write(&directory.join("memory.soft_limit_in_bytes"), &reservation.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness() {
        let directory = needed(cgroup, "memory", || "a swappiness".to_owned())?;
        files::write(&directory.join("memory.swappiness"), &swappiness.to_string())?;
    }
    Ok(())
}

/// `memory.limit` must never exceed `memory.memsw.limit`: when both rise, the latter goes first.
fn write_memory_limits(directory: &Path, limit: Option<i64>, swap: Option<i64>) -> Result<(), Error> {
    let (limit_file, swap_file) =
        (directory.join("memory.limit_in_bytes"), directory.join("memory.memsw.limit_in_bytes"));
    let write_limit = || limit.map_or(Ok(()), |l| files::write(&limit_file, &l.to_string()));
    let write_swap = || match swap {
        // Without swap accounting the limit holds for memory alone, and there is nothing to write.
        Some(s) => files::write_if_there(&swap_file, &s.to_string()).map(|_| ()),
        // A raised memory limit must not stop at a memsw limit that nobody asked to keep.
        None => Ok(()),
    };
    if write_limit().is_ok() {
        return write_swap();
    }
    write_swap()?;
    write_limit()
}

fn update_hugepages(cgroup: &Cgroup, limit: &LinuxHugepageLimit) -> Result<(), Error> {
    // Kubelet names every page size of the host, mostly with 0: nothing can be used where there is no controller to tell.
    let Some(directory) = cgroup.directory("hugetlb") else {
        return match limit.limit() {
            0 => Ok(()),
            bytes => Err(Error::NoController {
                controller: "hugetlb",
                limit: format!("the limit of {bytes} bytes in pages of {}", limit.page_size()),
            }),
        };
    };
    let size = page_size(limit)?;
    files::write(&directory.join(format!("hugetlb.{size}.limit_in_bytes")), &limit.limit().to_string())
}

/// The page size as part of a file name.
pub(crate) fn page_size(limit: &LinuxHugepageLimit) -> Result<&str, Error> {
    let size = limit.page_size().as_str();
    let unit = size.trim_start_matches(|c: char| c.is_ascii_digit());
    if unit.len() == size.len() || !matches!(unit, "KB" | "MB" | "GB") {
        return Err(Error::Invalid(format!("{size:?} is no page size; it must look like 2MB")));
    }
    Ok(size)
}

fn update_block_io(cgroup: &Cgroup, block_io: &LinuxBlockIo) -> Result<(), Error> {
    let directory = || needed(cgroup, "blkio", || "a limit of block I/O".to_owned());
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        let bfq = directory()?.join("blkio.bfq.weight");
        if !files::write_if_there(&bfq, &weight.to_string())? {
            files::write(&directory()?.join("blkio.weight"), &weight.to_string())?;
        }
    }
    let throttles = [
        ("blkio.throttle.read_bps_device", block_io.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", block_io.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", block_io.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", block_io.throttle_write_iops_device()),
    ];
    for (file, list) in throttles {
        for device in list.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            files::write(&directory()?.join(file), &value)?;
        }
    }
    Ok(())
}

pub(crate) fn apply_devices(cgroup: &Cgroup, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    if rules.is_empty() {
        return Ok(());
    }
    let directory = needed(cgroup, "devices", || "the list of allowed devices".to_owned())?;
    for rule in devices::with_defaults(rules)? {
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        files::write(&directory.join(file), &rule.to_v1())?;
    }
    Ok(())
}
