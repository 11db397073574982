//! cgroup v1: making a cgroup in every hierarchy, and which file of which controller takes a limit, in which order. Memory is in
//! the module below.

mod memory;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxResources};
use rustix::io::Errno;

use crate::{Cgroup, Error, V1Mount, devices, files, limits};

/// Controllers by which the processes of a cgroup are found and held.
const HOLDING: [&str; 2] = ["pids", "freezer"];

pub(crate) fn create(mounts: &[V1Mount], relative: &str, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    mounts.iter().try_for_each(|mount| create_in(mount, relative, made))
}

fn create_in(mount: &V1Mount, relative: &str, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    let directory = mount.directory(relative);
    files::make_directory(&directory, made)?;
    if mount.has("cpuset") {
        inherit_cpuset(&mount.mount_point, &directory)?;
    }
    Ok(())
}

/// Makes the cgroup where its processes are found, elsewhere the one above it, and returns all of them. One of the memory controller would
/// have room for every superblock of the host, one of cpusets is compared with its siblings: both grow with the number of pods.
pub(crate) fn create_to_hold(
    mounts: &[V1Mount],
    relative: &str,
    made: &mut Vec<PathBuf>,
) -> Result<Vec<PathBuf>, Error> {
    let above = relative.rsplit_once('/').map_or("", |(above, _)| above);
    let holds = |mount: &V1Mount| HOLDING.iter().any(|controller| mount.has(controller));
    let everywhere = !mounts.iter().any(holds);
    let create = |mount: &V1Mount| {
        let relative = if everywhere || holds(mount) { relative } else { above };
        create_in(mount, relative, made).map(|()| mount.directory(relative))
    };
    mounts.iter().map(create).collect()
}

/// A new cpuset is empty and takes no process; it is filled from its parent, which may be new itself. Those below it are told to fill
/// themselves: the kernel compares each write with all siblings, and what it does for one grows with the number of pods.
fn inherit_cpuset(top: &Path, directory: &Path) -> Result<(), Error> {
    let files = ["cpuset.cpus", "cpuset.mems"];
    let Some(parent) = directory.parent().filter(|_| directory != top) else { return Ok(()) };
    let mut empty = Vec::new();
    for file in files {
        if files::read(&directory.join(file))?.trim().is_empty() {
            empty.push(file);
        }
    }
    if empty.is_empty() {
        return Ok(());
    }
    inherit_cpuset(top, parent)?;
    for file in empty {
        files::write(&directory.join(file), files::read(&parent.join(file))?.trim())?;
    }
    files::write(&directory.join("cgroup.clone_children"), "1")
}

pub(crate) fn update(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), Error> {
    refuse_unsupported(resources)?;
    if let Some(cpu) = resources.cpu() {
        update_cpu(cgroup, cpu)?;
        update_cpuset(cgroup, cpu)?;
    }
    if let Some(memory) = resources.memory() {
        memory::update(cgroup, memory)?;
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

fn refuse_unsupported(resources: &LinuxResources) -> Result<(), Error> {
    let unsupported = |setting: String| Err(Error::Unsupported { setting, version: "v1" });
    if let Some(key) = resources.unified().iter().flatten().map(|(key, _)| key).min() {
        return unsupported(format!("the file {key:?}, which is one of cgroup v2,"));
    }
    match limits::unsupported_by_both(resources) {
        Some(setting) => unsupported(setting.to_owned()),
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
    if let Some(idle) = cpu.idle() {
        files::write(&needed(cgroup, "cpu", || "idle scheduling".to_owned())?.join("cpu.idle"), &idle.to_string())?;
    }
    let (period, quota) = (cpu.period().filter(|p| *p != 0), cpu.quota().filter(|q| *q != 0));
    write_bandwidth(cgroup, ["cpu.cfs_period_us", "cpu.cfs_quota_us"], period, quota)?;
    if let Some(burst) = cpu.burst() {
        files::write(
            &needed(cgroup, "cpu", || "a CPU burst".to_owned())?.join("cpu.cfs_burst_us"),
            &burst.to_string(),
        )?;
    }
    let (period, runtime) = (cpu.realtime_period().filter(|p| *p != 0), cpu.realtime_runtime().filter(|r| *r != 0));
    write_bandwidth(cgroup, ["cpu.rt_period_us", "cpu.rt_runtime_us"], period, runtime)
}

/// Each write is checked against the parent with the other's old value, so one of the two orders may be refused. Never are both.
fn write_bandwidth(cgroup: &Cgroup, files: [&str; 2], period: Option<u64>, quota: Option<i64>) -> Result<(), Error> {
    if period.is_none() && quota.is_none() {
        return Ok(());
    }
    let directory = needed(cgroup, "cpu", || "a CPU quota".to_owned())?;
    let [period_file, quota_file] = files.map(|file| directory.join(file));
    let write_period = || period.map_or(Ok(()), |p| files::write(&period_file, &p.to_string()));
    let write_quota = || quota.map_or(Ok(()), |q| files::write(&quota_file, &q.to_string()));
    match write_period() {
        Err(error) if error.errno() == Some(Errno::INVAL) && quota.is_some() => {
            write_quota()?;
            write_period()
        }
        Err(error) => Err(error),
        Ok(()) => write_quota(),
    }
}

fn update_cpuset(cgroup: &Cgroup, cpu: &LinuxCpu) -> Result<(), Error> {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            files::write(&needed(cgroup, "cpuset", || format!("{file} {value}"))?.join(file), value)?;
        }
    }
    Ok(())
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
    let (size, value) = (page_size(limit)?, limit.limit().to_string());
    // Pages may be reserved before they are used; older kernels do not count that.
    files::write_if_there(&directory.join(format!("hugetlb.{size}.rsvd.limit_in_bytes")), &value)?;
    files::write(&directory.join(format!("hugetlb.{size}.limit_in_bytes")), &value)
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
    for device in block_io.weight_device().iter().flatten() {
        let Some(weight) = device.weight() else { continue };
        let value = format!("{}:{} {weight}", device.major(), device.minor());
        if !files::write_if_there(&directory()?.join("blkio.bfq.weight_device"), &value)? {
            files::write(&directory()?.join("blkio.weight_device"), &value)?;
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
    let rules = devices::effective(rules)?;
    if rules.is_empty() {
        return Ok(());
    }
    let directory = needed(cgroup, "devices", || "the list of allowed devices".to_owned())?;
    for rules in rules.chunk_by(|one, next| one.allow == next.allow) {
        let file = if rules.iter().all(|rule| rule.allow) { "devices.allow" } else { "devices.deny" };
        files::write_lines(&directory.join(file), rules.iter().map(|rule| rule.to_v1()))?;
    }
    Ok(())
}
