//! Memory limits of cgroup v1: `memory.limit_in_bytes` may never exceed `memory.memsw.limit_in_bytes`, which counts memory and
//! swap together, so the order of the two writes matters.

use std::path::Path;

use oci_spec::runtime::LinuxMemory;

use super::needed;
use crate::{Cgroup, Error, files, limits};

const LIMIT: &str = "memory.limit_in_bytes";
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
/// "No limit" reads as the largest number of whole pages; nobody asks for half of that.
const UNLIMITED: u64 = i64::MAX as u64 / 2;

pub(super) fn update(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<(), Error> {
    let (limit, swap) = (memory.limit().filter(|l| *l != 0), memory.swap().filter(|s| *s != 0));
    if limit.is_some() || swap.is_some() {
        let directory = needed(cgroup, "memory", || "a memory limit".to_owned())?;
        limits::check_memory_usage(&directory.join("memory.usage_in_bytes"), memory)?;
        write_limits(&directory, limit, swap)?;
    }
    let write = |file: &str, value: String| {
        let directory = needed(cgroup, "memory", || format!("{file} = {value}"))?;
        files::write(&directory.join(file), &value)
    };
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        write("memory.soft_limit_in_bytes", reservation.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness() {
        write("memory.swappiness", swappiness.to_string())?;
    }
    if let Some(limit) = memory.kernel_tcp().filter(|l| *l != 0) {
        write("memory.kmem.tcp.limit_in_bytes", limit.to_string())?;
    }
    if let Some(disabled) = memory.disable_oom_killer() {
        write("memory.oom_control", u8::from(disabled).to_string())?;
    }
    Ok(())
}

/// Limits in bytes, negative for none; `swap` counts memory and swap together.
fn write_limits(directory: &Path, limit: Option<i64>, swap: Option<i64>) -> Result<(), Error> {
    let now = read_limit(&directory.join(LIMIT))?.unwrap_or(u64::MAX);
    let Some(swap_now) = read_limit(&directory.join(WITH_SWAP))? else {
        return write_without_swap(directory, limit, swap);
    };
    let wanted = limit.map_or(now, bytes);
    let swap_wanted = match swap {
        Some(swap) => bytes(swap),
        // Nobody asked about swap: it stays as large as it is, as with v2.
        None if wanted == u64::MAX || swap_now == u64::MAX => u64::MAX,
        None => wanted.saturating_add(swap_now.saturating_sub(now)),
    };
    if swap_wanted < wanted {
        return Err(Error::Invalid(format!(
            "memory and swap together of {swap_wanted} bytes is less than the {wanted} bytes of memory alone; raise it"
        )));
    }
    let write_limit = || if wanted == now { Ok(()) } else { write(&directory.join(LIMIT), wanted) };
    let write_swap = || if swap_wanted == swap_now { Ok(()) } else { write(&directory.join(WITH_SWAP), swap_wanted) };
    if swap_wanted >= now {
        write_swap()?;
        return write_limit();
    }
    write_limit()?;
    write_swap()
}

/// The kernel does not account for swap (`swapaccount=0`).
fn write_without_swap(directory: &Path, limit: Option<i64>, swap: Option<i64>) -> Result<(), Error> {
    if let Some(swap) = swap.filter(|swap| *swap >= 0 && Some(*swap) != limit) {
        let limit = format!("the limit of {swap} bytes for memory and swap (boot with swapaccount=1)");
        return Err(Error::NoController { controller: "memory", limit });
    }
    limit.map_or(Ok(()), |limit| write(&directory.join(LIMIT), bytes(limit)))
}

fn bytes(limit: i64) -> u64 {
    u64::try_from(limit).ok().filter(|limit| *limit < UNLIMITED).unwrap_or(u64::MAX)
}

fn write(path: &Path, limit: u64) -> Result<(), Error> {
    files::write(path, &if limit == u64::MAX { "-1".to_owned() } else { limit.to_string() })
}

/// `None` if the file is not there.
fn read_limit(path: &Path) -> Result<Option<u64>, Error> {
    let text = files::read_if_there(path)?;
    Ok(text.map(|text| text.trim().parse().ok().filter(|limit| *limit < UNLIMITED).unwrap_or(u64::MAX)))
}
