//! What a cgroup uses: the numbers of both versions under one set of names, read with as few files as there are. What only a
//! collector of metrics asks for is in `details`. Rates and history are left to the caller.

mod details;
mod parse;
mod processes;
mod reader;

use std::path::Path;

use crate::{Cgroup, Error};

pub use details::{CpuDetails, Details, DeviceIo, HugePages, MemoryDetails};
pub use reader::Reader;

/// Usage of a cgroup and all below it. `None` where the host does not account for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// CPU time since it was made.
    pub cpu_usage_nanoseconds: Option<u64>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Swap; with v1 only where the kernel counts it.
    pub swap: Option<SwapStats>,
    /// Threads of its processes.
    pub tasks: Option<u64>,
    /// Waiting for a CPU; v2 only.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory; v2 only.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for I/O; v2 only.
    pub io_pressure: Option<Pressure>,
}

/// Memory of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// All of it, page cache included.
    pub usage_bytes: u64,
    /// Usage without the page cache that can be dropped first (`inactive_file`).
    pub working_set_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Page faults, major ones included.
    pub page_faults: u64,
    /// Page faults that read from a disk.
    pub major_page_faults: u64,
    /// The limit; `None` if there is none.
    pub limit_bytes: Option<u64>,
}

/// Swap of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwapStats {
    /// Swapped out.
    pub usage_bytes: u64,
    /// The limit of swap alone; `None` if there is none.
    pub limit_bytes: Option<u64>,
}

/// Pressure stall information of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited.
    pub full: Stall,
}

/// How long tasks waited.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Since the cgroup was made, in microseconds.
    pub total_microseconds: u64,
    /// Percent of the last 10 seconds.
    pub average_10: f64,
    /// Percent of the last 60 seconds.
    pub average_60: f64,
    /// Percent of the last 300 seconds.
    pub average_300: f64,
}

impl Stats {
    pub(crate) fn read(cgroup: &Cgroup, reader: &mut Reader) -> Result<Self, Error> {
        let stats = if cgroup.hierarchy().is_v2() { v2(cgroup, reader)? } else { v1(cgroup, reader)? };
        // A file is missing without its controller, or with the whole cgroup.
        if stats.cpu_usage_nanoseconds.is_none() && stats.memory.is_none() && !cgroup.exists() {
            let cause = rustix::io::Errno::NOENT;
            return Err(Error::file("read the usage of cgroup", Path::new(&cgroup.path()), cause));
        }
        Ok(stats)
    }
}

/// `memory.stat` of v1 has the limits too, so that four files suffice.
fn v1(cgroup: &Cgroup, reader: &mut Reader) -> Result<Stats, Error> {
    let cpu_usage_nanoseconds = reader.number(cgroup, "cpuacct", "cpuacct.usage")?;
    let usage = reader.number(cgroup, "memory", "memory.usage_in_bytes")?;
    let tasks = reader.number(cgroup, "pids", "pids.current")?;
    let stat = reader.text(cgroup, "memory", "memory.stat")?;
    let memory = usage.zip(stat).map(|(usage, stat)| parse::memory_v1(usage, stat));
    let (memory, swap) = memory.map_or((None, None), |(memory, swap)| (Some(memory), swap));
    Ok(Stats { cpu_usage_nanoseconds, memory, swap, tasks, ..Stats::default() })
}

fn v2(cgroup: &Cgroup, reader: &mut Reader) -> Result<Stats, Error> {
    let mut pressure = |file| reader.text(cgroup, "", file).map(|text| text.and_then(parse::pressure));
    let (cpu_pressure, memory_pressure, io_pressure) =
        (pressure("cpu.pressure")?, pressure("memory.pressure")?, pressure("io.pressure")?);
    let cpu = reader.text(cgroup, "", "cpu.stat")?.and_then(parse::cpu_usage_v2);
    let usage = reader.number(cgroup, "", "memory.current")?;
    let limit_bytes = reader.number(cgroup, "", "memory.max")?;
    let tasks = reader.number(cgroup, "", "pids.current")?;
    let swap_usage = reader.number(cgroup, "", "memory.swap.current")?;
    let swap_limit = match swap_usage {
        Some(_) => reader.number(cgroup, "", "memory.swap.max")?,
        None => None,
    };
    let stat = reader.text(cgroup, "", "memory.stat")?;
    Ok(Stats {
        cpu_usage_nanoseconds: cpu,
        memory: usage.zip(stat).map(|(usage, stat)| parse::memory_v2(usage, limit_bytes, stat)),
        swap: swap_usage.map(|usage_bytes| SwapStats { usage_bytes, limit_bytes: swap_limit }),
        tasks,
        cpu_pressure,
        memory_pressure,
        io_pressure,
    })
}

#[cfg(test)]
mod tests;
