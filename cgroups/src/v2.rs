//! Limits of cgroup v2: which file takes them, and how values of the v1 scale that OCI uses are converted.

use std::fs::File;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources};

use crate::{Error, devices, files, limits, v1};

/// Makes the cgroup, and enables every available controller on the way down to it.
pub(crate) fn create(root: &Path, relative: &str, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    let mut directory = root.to_owned();
    for part in relative.split('/') {
        enable_controllers(&directory)?;
        directory.push(part);
        files::make_directory(&directory, made)?;
    }
    Ok(())
}

fn enable_controllers(directory: &Path) -> Result<(), Error> {
    let available = files::read(&directory.join("cgroup.controllers"))?;
    let file = directory.join("cgroup.subtree_control");
    let enabled = files::read(&file)?;
    let missing: Vec<&str> =
        available.split_whitespace().filter(|name| !enabled.split_whitespace().any(|e| e == *name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let all = missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    if files::write(&file, &all).is_err() {
        // One that refuses (rt tasks keep cpu out) must not keep the others away; a limit that needs it says so itself.
        for name in missing {
            let _ = files::write(&file, &format!("+{name}"));
        }
    }
    Ok(())
}

pub(crate) fn update(directory: &Path, resources: &LinuxResources) -> Result<(), Error> {
    refuse_unsupported(resources)?;
    if let Some(cpu) = resources.cpu() {
        update_cpu(directory, cpu)?;
    }
    if let Some(memory) = resources.memory() {
        update_memory(directory, memory)?;
    }
    if let Some(limit) = resources.pids().as_ref().map(|pids| pids.limit()).filter(|limit| *limit != 0) {
        write(directory, "pids", "pids.max", &max_or(limit))?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let (size, value) = (v1::page_size(limit)?, limit.limit().to_string());
        // Pages may be reserved before they are used; older kernels do not count that.
        files::write_if_there(&directory.join(format!("hugetlb.{size}.rsvd.max")), &value)?;
        let file = format!("hugetlb.{size}.max");
        match limit.limit() {
            0 => files::write_if_there(&directory.join(file), &value).map(|_| ())?,
            _ => write(directory, "hugetlb", &file, &value)?,
        }
    }
    if let Some(block_io) = resources.block_io() {
        update_io(directory, block_io)?;
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort_unstable();
    unified.iter().try_for_each(|(key, value)| update_unified(directory, key, value))
}

fn refuse_unsupported(resources: &LinuxResources) -> Result<(), Error> {
    let cpu = resources.cpu().as_ref();
    let memory = resources.memory().as_ref();
    let setting =
        if cpu.is_some_and(|c| c.realtime_runtime().unwrap_or(0) != 0 || c.realtime_period().unwrap_or(0) != 0) {
            "a limit of real-time CPU"
        } else if memory.is_some_and(|memory| memory.disable_oom_killer() == Some(true)) {
            "disabling the OOM killer"
        } else if memory.is_some_and(|memory| memory.swappiness().is_some()) {
            "memory swappiness"
        } else if memory.is_some_and(|memory| memory.kernel_tcp().unwrap_or(0) != 0) {
            "a limit of TCP buffers"
        } else if let Some(setting) = limits::unsupported_by_both(resources) {
            setting
        } else {
            return Ok(());
        };
    Err(Error::Unsupported { setting: setting.to_owned(), version: "v2" })
}

/// A missing file means that its controller is, if the cgroup itself is there.
fn write(directory: &Path, controller: &'static str, file: &str, value: &str) -> Result<(), Error> {
    match files::write(&directory.join(file), value) {
        Err(error) if error.is_absent() && directory.is_dir() => {
            Err(Error::NoController { controller, limit: format!("{file} = {value}") })
        }
        result => result,
    }
}

fn max_or(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

fn update_cpu(directory: &Path, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        write(directory, "cpu", "cpu.weight", &weight_of_shares(shares).to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        write(directory, "cpu", "cpu.idle", &idle.to_string())?;
    }
    let (period, quota) = (cpu.period().filter(|p| *p != 0), cpu.quota().filter(|q| *q != 0));
    let value = match (quota, period) {
        (None, None) => None,
        (Some(quota), None) => Some(max_or(quota)),
        (Some(quota), Some(period)) => Some(format!("{} {period}", max_or(quota))),
        (None, Some(period)) => {
            let now = files::read_if_there(&directory.join("cpu.max"))?.unwrap_or_default();
            Some(format!("{} {period}", now.split_whitespace().next().unwrap_or("max")))
        }
    };
    if let Some(value) = value {
        write(directory, "cpu", "cpu.max", &value)?;
    }
    if let Some(burst) = cpu.burst() {
        write(directory, "cpu", "cpu.max.burst", &burst.to_string())?;
    }
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            write(directory, "cpuset", file, value)?;
        }
    }
    Ok(())
}

/// Shares 2 to 262144 as a weight of 1 to 10000, by a curve through (2, 1), (1024, 100) and (262144, 10000): the default of one
/// scale is the default of the other.
#[must_use]
pub fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
    let log = (shares as f64).log2();
    let weight = 10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = (weight - 1e-9).ceil() as u64;
    weight
}

fn update_memory(directory: &Path, memory: &LinuxMemory) -> Result<(), Error> {
    let (limit, swap) = (memory.limit().filter(|l| *l != 0), memory.swap().filter(|s| *s != 0));
    limits::check_memory_usage(&directory.join("memory.current"), memory)?;
    if let Some(swap) = swap {
        let value = swap_alone(directory, limit, swap)?;
        // Without swap accounting there is no file; then only a wish for swap is an error.
        if !files::write_if_there(&directory.join("memory.swap.max"), &value)? && value != "0" && value != "max" {
            return Err(Error::NoController { controller: "memory", limit: format!("{value} bytes of swap") });
        }
    }
    if let Some(limit) = limit {
        write(directory, "memory", "memory.max", &max_or(limit))?;
    }
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        write(directory, "memory", "memory.low", &max_or(reservation))?;
    }
    Ok(())
}

/// `swap` counts memory and swap together, as v1 does; v2 limits swap alone.
fn swap_alone(directory: &Path, limit: Option<i64>, swap: i64) -> Result<String, Error> {
    if swap < 0 {
        return Ok("max".to_owned());
    }
    let limit = match limit {
        Some(limit) => Some(limit),
        None => files::read_if_there(&directory.join("memory.max"))?.and_then(|text| text.trim().parse().ok()),
    };
    match limit.filter(|limit| (0..=swap).contains(limit)) {
        Some(limit) => Ok((swap - limit).to_string()),
        None => Err(Error::Invalid(format!(
            "memory and swap together of {swap} bytes is less than the limit of memory alone; lower that first"
        ))),
    }
}

fn update_io(directory: &Path, block_io: &LinuxBlockIo) -> Result<(), Error> {
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0)
        && !files::write_if_there(&directory.join("io.bfq.weight"), &weight.to_string())?
    {
        write(directory, "io", "io.weight", &io_weight(weight).to_string())?;
    }
    for device in block_io.weight_device().iter().flatten() {
        let Some(weight) = device.weight() else { continue };
        let number = format!("{}:{}", device.major(), device.minor());
        if !files::write_if_there(&directory.join("io.bfq.weight"), &format!("{number} {weight}"))? {
            write(directory, "io", "io.weight", &format!("{number} {}", io_weight(weight)))?;
        }
    }
    let throttles = [
        ("rbps", block_io.throttle_read_bps_device()),
        ("wbps", block_io.throttle_write_bps_device()),
        ("riops", block_io.throttle_read_iops_device()),
        ("wiops", block_io.throttle_write_iops_device()),
    ];
    for (key, list) in throttles {
        for device in list.iter().flatten() {
            write(
                directory,
                "io",
                "io.max",
                &format!("{}:{} {key}={}", device.major(), device.minor(), device.rate()),
            )?;
        }
    }
    Ok(())
}

/// 10 to 1000 becomes 1 to 10000.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9_999 / 990
}

fn update_unified(directory: &Path, key: &str, value: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !key.contains('.') || key.starts_with('.') || !key.chars().all(plain) || key.starts_with("cgroup.") {
        return Err(Error::Invalid(format!("{key:?} is no file of a controller of cgroup v2")));
    }
    match files::write(&directory.join(key), value) {
        Err(error) if error.is_absent() && directory.is_dir() => Err(Error::Unsupported {
            setting: format!("the file {key:?} (its controller is not enabled, or the kernel lacks it)"),
            version: "v2",
        }),
        result => result,
    }
}

pub(crate) fn apply_devices(directory: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    let rules = devices::effective(rules)?;
    if rules.is_empty() {
        return Ok(());
    }
    let failed = |step: &str| {
        let step = step.to_owned();
        move |cause: std::io::Error| Error::file(step, directory, cause)
    };
    let program = devices::program(&rules)?;
    let program = podwright_sys::load_device_program(&program)
        .map_err(|errno| failed("load the device program for")(errno.into()))?;
    let cgroup = File::open(directory).map_err(failed("open"))?;
    podwright_sys::attach_device_program(&cgroup, &program)
        .map_err(|errno| failed("attach the device program to")(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_both_scales_meet() {
        assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 100, 10_000]);
        assert!((2..262_144).step_by(97).all(|s| weight_of_shares(s) <= weight_of_shares(s + 97)));
    }

    #[test]
    fn unified_keys_stay_in_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("memory.high"), "").unwrap();
        update_unified(directory.path(), "memory.high", "5").unwrap();
        for bad in ["../x.y", "a/b.c", "cgroup.procs", ".x", "nodot", ""] {
            assert!(update_unified(directory.path(), bad, "5").is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn swap_is_told_apart_from_memory() {
        let directory = tempfile::tempdir().unwrap();
        for file in ["memory.max", "memory.swap.max"] {
            std::fs::write(directory.path().join(file), "").unwrap();
        }
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(100));
        memory.set_swap(Some(150));
        update_memory(directory.path(), &memory).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("memory.swap.max")).unwrap(), "50");
        memory.set_swap(Some(50));
        assert!(update_memory(directory.path(), &memory).is_err());
    }
}
