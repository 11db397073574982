//! The texts of the files, as cgroups(7) and the kernel's cgroup-v1 and cgroup-v2 documents describe them. No I/O.

use super::{DeviceIo, MemoryStats, Pressure, Stall, SwapStats};

/// What v1 writes for "no limit": the largest number of pages, in bytes, whatever the size of a page.
const V1_UNLIMITED: u64 = i64::MAX as u64 & !0xffff;

/// The lines `key number`.
pub(super) fn keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim_end().parse().ok()?))
    })
}

pub(super) fn memory_v1(usage_bytes: u64, stat: &str) -> (MemoryStats, Option<SwapStats>) {
    let mut memory = MemoryStats { usage_bytes, ..MemoryStats::default() };
    let (mut inactive, mut swap, mut with_swap_limit) = (0, None, None);
    for (key, value) in keyed(stat) {
        match key {
            "hierarchical_memory_limit" => memory.limit_bytes = limited(value),
            "hierarchical_memsw_limit" => with_swap_limit = limited(value),
            "total_inactive_file" => inactive = value,
            "total_rss" => memory.rss_bytes = value,
            "total_pgfault" => memory.page_faults = value,
            "total_pgmajfault" => memory.major_page_faults = value,
            "total_swap" => swap = Some(value),
            _ => {}
        }
    }
    memory.working_set_bytes = usage_bytes.saturating_sub(inactive);
    // v1 limits both together: what is left for swap is above the limit of memory.
    let limit_bytes = with_swap_limit.zip(memory.limit_bytes).map(|(both, memory)| both.saturating_sub(memory));
    (memory, swap.map(|usage_bytes| SwapStats { usage_bytes, limit_bytes }))
}

pub(super) fn limited(value: u64) -> Option<u64> {
    Some(value).filter(|limit| *limit < V1_UNLIMITED)
}

pub(super) fn memory_v2(usage_bytes: u64, limit_bytes: Option<u64>, stat: &str) -> MemoryStats {
    let mut memory = MemoryStats { usage_bytes, limit_bytes, ..MemoryStats::default() };
    let mut inactive = 0;
    for (key, value) in keyed(stat) {
        match key {
            "inactive_file" => inactive = value,
            "anon" => memory.rss_bytes = value,
            "pgfault" => memory.page_faults = value,
            "pgmajfault" => memory.major_page_faults = value,
            _ => {}
        }
    }
    memory.working_set_bytes = usage_bytes.saturating_sub(inactive);
    memory
}

pub(super) fn cpu_usage_v2(stat: &str) -> Option<u64> {
    keyed(stat).find(|(key, _)| *key == "usage_usec").map(|(_, value)| value.saturating_mul(1000))
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. CPUs of older kernels have no `full`.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    let mut found = false;
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("some", values)) => pressure.some = stall(values),
            Some(("full", values)) => pressure.full = stall(values),
            _ => continue,
        }
        found = true;
    }
    found.then_some(pressure)
}

fn stall(values: &str) -> Stall {
    let mut stall = Stall::default();
    for (key, value) in values.split_whitespace().filter_map(|word| word.split_once('=')) {
        let average = || value.parse().unwrap_or(0.0);
        match key {
            "avg10" => stall.average_10 = average(),
            "avg60" => stall.average_60 = average(),
            "avg300" => stall.average_300 = average(),
            "total" => stall.total_microseconds = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    stall
}

/// Lines `8:0 Read 4096` of v1, of bytes and of operations.
pub(super) fn io_v1(bytes: &str, operations: &str) -> Vec<DeviceIo> {
    let mut devices = Vec::new();
    for (device, kind, value) in bytes.lines().filter_map(io_line_v1) {
        match kind {
            "Read" => at(&mut devices, device).read_bytes = value,
            "Write" => at(&mut devices, device).written_bytes = value,
            _ => {}
        }
    }
    for (device, kind, value) in operations.lines().filter_map(io_line_v1) {
        match kind {
            "Read" => at(&mut devices, device).reads = value,
            "Write" => at(&mut devices, device).writes = value,
            _ => {}
        }
    }
    devices
}

fn io_line_v1(line: &str) -> Option<((u32, u32), &str, u64)> {
    let mut words = line.split(' ');
    Some((device(words.next()?)?, words.next()?, words.next()?.parse().ok()?))
}

/// Lines `8:0 rbytes=4096 wbytes=0 rios=1 ...` of v2.
pub(super) fn io_v2(text: &str) -> Vec<DeviceIo> {
    let mut devices = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(number) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => at(&mut devices, number).read_bytes = value,
                "wbytes" => at(&mut devices, number).written_bytes = value,
                "rios" => at(&mut devices, number).reads = value,
                "wios" => at(&mut devices, number).writes = value,
                _ => {}
            }
        }
    }
    devices
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn at(devices: &mut Vec<DeviceIo>, (major, minor): (u32, u32)) -> &mut DeviceIo {
    let index = devices.iter().position(|d| (d.major, d.minor) == (major, minor)).unwrap_or(devices.len());
    if index == devices.len() {
        devices.push(DeviceIo { major, minor, ..DeviceIo::default() });
    }
    #[allow(clippy::indexing_slicing)] // It was pushed, if it was not there.
    &mut devices[index]
}
