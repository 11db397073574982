//! What collectors of metrics ask for beyond [`super::Stats`]: more files, and so read only for them.

use super::{Reader, parse};
use crate::{Cgroup, Error};

/// Details of a cgroup and all below it. What the host does not count is 0, absent or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// CPU.
    pub cpu: CpuDetails,
    /// Memory.
    pub memory: MemoryDetails,
    /// Block I/O by device.
    pub io: Vec<DeviceIo>,
    /// Huge pages by size.
    pub huge_pages: Vec<HugePages>,
    /// Limit of threads; `None` if there is none.
    pub tasks_limit: Option<u64>,
}

/// CPU time and how it was held back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuDetails {
    /// In user space.
    pub user_nanoseconds: u64,
    /// In the kernel.
    pub system_nanoseconds: u64,
    /// Periods of the quota that passed.
    pub periods: u64,
    /// Periods in which it ran out.
    pub throttled_periods: u64,
    /// Time held back.
    pub throttled_nanoseconds: u64,
}

/// Memory by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryDetails {
    /// Page cache.
    pub cache_bytes: u64,
    /// Files mapped.
    pub mapped_file_bytes: u64,
    /// The kernel's own.
    pub kernel_bytes: u64,
    /// How often the limit was met.
    pub limit_hits: u64,
    /// Most that was ever used.
    pub peak_bytes: u64,
    /// Page faults of the cgroup itself, without those below; on v2 as with those below.
    pub own_page_faults: u64,
    /// Major ones of these.
    pub own_major_page_faults: u64,
}

/// Block I/O at one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Number of the driver.
    pub major: u32,
    /// Number of the device.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Their size, as `2MB`.
    pub page_size: String,
    /// Used now.
    pub usage_bytes: u64,
    /// Most that was ever used; only v1 keeps it.
    pub peak_bytes: Option<u64>,
}

impl Details {
    /// `page_sizes` names the sizes of huge pages that the host has.
    pub(crate) fn read(cgroup: &Cgroup, reader: &mut Reader, page_sizes: &[String]) -> Result<Self, Error> {
        if cgroup.hierarchy().is_v2() { v2(cgroup, reader, page_sizes) } else { v1(cgroup, reader, page_sizes) }
    }
}

fn v1(cgroup: &Cgroup, reader: &mut Reader, page_sizes: &[String]) -> Result<Details, Error> {
    let mut cpu = CpuDetails {
        user_nanoseconds: reader.number(cgroup, "cpuacct", "cpuacct.usage_user")?.unwrap_or(0),
        system_nanoseconds: reader.number(cgroup, "cpuacct", "cpuacct.usage_sys")?.unwrap_or(0),
        ..CpuDetails::default()
    };
    for (key, value) in reader.text(cgroup, "cpu", "cpu.stat")?.into_iter().flat_map(parse::keyed) {
        match key {
            "nr_periods" => cpu.periods = value,
            "nr_throttled" => cpu.throttled_periods = value,
            "throttled_time" => cpu.throttled_nanoseconds = value,
            _ => {}
        }
    }
    let bytes = reader.text(cgroup, "blkio", "blkio.throttle.io_service_bytes_recursive")?;
    let bytes = bytes.unwrap_or_default().to_owned();
    let operations = reader.text(cgroup, "blkio", "blkio.throttle.io_serviced_recursive")?.unwrap_or_default();
    let io = parse::io_v1(&bytes, operations);
    Ok(Details {
        cpu,
        memory: memory_v1(cgroup, reader)?,
        io,
        huge_pages: huge_pages(cgroup, reader, page_sizes, ["usage_in_bytes", "max_usage_in_bytes"])?,
        tasks_limit: reader.number(cgroup, "pids", "pids.max")?,
    })
}

fn memory_v1(cgroup: &Cgroup, reader: &mut Reader) -> Result<MemoryDetails, Error> {
    let mut memory = MemoryDetails {
        kernel_bytes: reader.number(cgroup, "memory", "memory.kmem.usage_in_bytes")?.unwrap_or(0),
        limit_hits: reader.number(cgroup, "memory", "memory.failcnt")?.unwrap_or(0),
        peak_bytes: reader.number(cgroup, "memory", "memory.max_usage_in_bytes")?.unwrap_or(0),
        ..MemoryDetails::default()
    };
    for (key, value) in reader.text(cgroup, "memory", "memory.stat")?.into_iter().flat_map(parse::keyed) {
        match key {
            "total_cache" => memory.cache_bytes = value,
            "total_mapped_file" => memory.mapped_file_bytes = value,
            "pgfault" => memory.own_page_faults = value,
            "pgmajfault" => memory.own_major_page_faults = value,
            _ => {}
        }
    }
    Ok(memory)
}

fn v2(cgroup: &Cgroup, reader: &mut Reader, page_sizes: &[String]) -> Result<Details, Error> {
    let mut cpu = CpuDetails::default();
    for (key, value) in reader.text(cgroup, "", "cpu.stat")?.into_iter().flat_map(parse::keyed) {
        match key {
            "user_usec" => cpu.user_nanoseconds = value.saturating_mul(1000),
            "system_usec" => cpu.system_nanoseconds = value.saturating_mul(1000),
            "nr_periods" => cpu.periods = value,
            "nr_throttled" => cpu.throttled_periods = value,
            "throttled_usec" => cpu.throttled_nanoseconds = value.saturating_mul(1000),
            _ => {}
        }
    }
    Ok(Details {
        cpu,
        memory: memory_v2(cgroup, reader)?,
        io: reader.text(cgroup, "", "io.stat")?.map(parse::io_v2).unwrap_or_default(),
        huge_pages: huge_pages(cgroup, reader, page_sizes, ["current", ""])?,
        tasks_limit: reader.number(cgroup, "", "pids.max")?,
    })
}

fn memory_v2(cgroup: &Cgroup, reader: &mut Reader) -> Result<MemoryDetails, Error> {
    let events = reader.text(cgroup, "", "memory.events")?.into_iter().flat_map(parse::keyed);
    let limit_hits = events.filter(|(key, _)| *key == "max").map(|(_, value)| value).sum();
    let peak_bytes = reader.number(cgroup, "", "memory.peak")?.unwrap_or(0);
    let mut memory = MemoryDetails { limit_hits, peak_bytes, ..MemoryDetails::default() };
    for (key, value) in reader.text(cgroup, "", "memory.stat")?.into_iter().flat_map(parse::keyed) {
        match key {
            "file" => memory.cache_bytes = value,
            "file_mapped" => memory.mapped_file_bytes = value,
            "kernel" => memory.kernel_bytes = value,
            "pgfault" => memory.own_page_faults = value,
            "pgmajfault" => memory.own_major_page_faults = value,
            _ => {}
        }
    }
    Ok(memory)
}

fn huge_pages(
    cgroup: &Cgroup,
    reader: &mut Reader,
    page_sizes: &[String],
    [usage, peak]: [&str; 2],
) -> Result<Vec<HugePages>, Error> {
    let mut found = Vec::new();
    for page_size in page_sizes {
        let file = |what: &str| format!("hugetlb.{page_size}.{what}");
        let Some(usage_bytes) = reader.number(cgroup, "hugetlb", &file(usage))? else { continue };
        let peak_bytes = reader.number(cgroup, "hugetlb", &file(peak))?;
        found.push(HugePages { page_size: page_size.clone(), usage_bytes, peak_bytes });
    }
    Ok(found)
}
