//! `update`.

use std::io::Read as _;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::arguments::UpdateOptions;
use crate::container;
use crate::status::{Status, status};
use crate::store::Store;

/// Largest document of limits, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Changes limits; what is not named stays as it is.
pub(crate) fn update(store: &Store, options: &UpdateOptions) -> Result<()> {
    let (place, record) = store.find(&options.id)?;
    if status(&place, &record)? == Status::Stopped {
        bail!("cannot update container {:?}: container not running", options.id);
    }
    let resources = match options.resources.as_deref() {
        Some(path) if path.as_os_str() == "-" => read(std::io::stdin(), "stdin")?,
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
            read(file, &path.display().to_string())?
        }
        None => named(options)?,
    };
    container::cgroup(&record)?.update(&resources).with_context(|| format!("cannot update container {:?}", options.id))
}

fn read(from: impl std::io::Read, name: &str) -> Result<LinuxResources> {
    let mut text = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut text).with_context(|| format!("reading the limits of {name}"))?;
    if text.len() as u64 > MAX_BYTES {
        bail!("the limits of {name} are more than {MAX_BYTES} bytes");
    }
    serde_json::from_slice(&text).with_context(|| format!("understanding the limits of {name}"))
}

fn named(options: &UpdateOptions) -> Result<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(options.cpu_shares)
        .set_quota(options.cpu_quota)
        .set_period(options.cpu_period)
        .set_burst(options.cpu_burst)
        .set_realtime_runtime(options.cpu_rt_runtime)
        .set_realtime_period(options.cpu_rt_period)
        .set_cpus(options.cpuset_cpus.clone())
        .set_mems(options.cpuset_mems.clone())
        .set_idle(options.cpu_idle);
    resources.set_cpu(Some(cpu));
    let size = |text: &Option<String>| text.as_deref().map(bytes).transpose();
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(size(&options.memory)?)
        .set_reservation(size(&options.memory_reservation)?)
        .set_swap(size(&options.memory_swap)?);
    resources.set_memory(Some(memory));
    if let Some(limit) = options.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    if let Some(weight) = options.blkio_weight {
        let mut block_io = LinuxBlockIo::default();
        block_io.set_weight(Some(weight));
        resources.set_block_io(Some(block_io));
    }
    Ok(resources)
}

/// A number of bytes with a unit, as 64m.
fn bytes(text: &str) -> Result<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let plain = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match plain.chars().last() {
        Some('k') => (plain.trim_end_matches('k'), 10),
        Some('m') => (plain.trim_end_matches('m'), 20),
        Some('g') => (plain.trim_end_matches('g'), 30),
        Some('t') => (plain.trim_end_matches('t'), 40),
        _ => (plain, 0),
    };
    let number = digits.parse::<i64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.with_context(|| format!("{text:?} is no number of bytes; write 67108864 or 64m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in
            [("67108864", 64 << 20), ("64m", 64 << 20), ("64MB", 64 << 20), ("1g", 1 << 30), ("-1", -1)]
        {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "m", "1x", "1mm1", "99999999999g"] {
            assert!(bytes(bad).is_err(), "{bad:?} was taken");
        }
    }
}
