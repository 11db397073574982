//! What a cgroup uses: the numbers of both versions under one set of names. Rates and history are left to the caller.

use std::path::Path;

use crate::{Cgroup, Error, files};

/// Usage of a cgroup and all below it. `None` where the host does not account for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time since it was made.
    pub cpu_usage_nanoseconds: Option<u64>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Block I/O since it was made.
    pub io: Option<IoStats>,
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

/// Block I/O of a cgroup, over all devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// File and key names that differ between the versions.
struct Names {
    usage: &'static str,
    limit: &'static str,
    inactive_file: &'static str,
    anonymous: &'static str,
    faults: &'static str,
    major_faults: &'static str,
}

const V1: Names = Names {
    usage: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    inactive_file: "total_inactive_file",
    anonymous: "total_rss",
    faults: "total_pgfault",
    major_faults: "total_pgmajfault",
};
const V2: Names = Names {
    usage: "memory.current",
    limit: "memory.max",
    inactive_file: "inactive_file",
    anonymous: "anon",
    faults: "pgfault",
    major_faults: "pgmajfault",
};
/// What v1 writes for "no limit": the largest number of pages, in bytes, whatever the size of a page.
const V1_UNLIMITED: u64 = i64::MAX as u64 & !0xffff;

impl Stats {
    pub(crate) fn read(cgroup: &Cgroup) -> Result<Self, Error> {
        if !cgroup.exists() {
            let cause = rustix::io::Errno::NOENT;
            return Err(Error::file("read the usage of cgroup", Path::new(&cgroup.path()), cause));
        }
        let v2 = cgroup.hierarchy().is_v2();
        Ok(Self {
            cpu_usage_nanoseconds: if v2 { cpu_v2(cgroup)? } else { number(cgroup, "cpuacct", "cpuacct.usage")? },
            memory: memory(cgroup, if v2 { &V2 } else { &V1 })?,
            tasks: number(cgroup, "pids", "pids.current")?,
            io: if v2 {
                text(cgroup, "io", "io.stat")?.map(|text| io_v2(&text))
            } else {
                text(cgroup, "blkio", "blkio.throttle.io_service_bytes_recursive")?.map(|text| io_v1(&text))
            },
        })
    }
}

fn text(cgroup: &Cgroup, controller: &str, file: &str) -> Result<Option<String>, Error> {
    cgroup.directory(controller).map_or(Ok(None), |directory| files::read_if_there(&directory.join(file)))
}

fn number(cgroup: &Cgroup, controller: &str, file: &str) -> Result<Option<u64>, Error> {
    Ok(text(cgroup, controller, file)?.and_then(|text| text.trim().parse().ok()))
}

fn cpu_v2(cgroup: &Cgroup) -> Result<Option<u64>, Error> {
    let text = text(cgroup, "cpu", "cpu.stat")?;
    Ok(text
        .and_then(|text| files::keyed_number(&text, "usage_usec"))
        .map(|microseconds| microseconds.saturating_mul(1000)))
}

fn memory(cgroup: &Cgroup, names: &Names) -> Result<Option<MemoryStats>, Error> {
    let usage = number(cgroup, "memory", names.usage)?;
    let (Some(usage_bytes), Some(stat)) = (usage, text(cgroup, "memory", "memory.stat")?) else { return Ok(None) };
    let value = |key| files::keyed_number(&stat, key).unwrap_or(0);
    Ok(Some(MemoryStats {
        usage_bytes,
        working_set_bytes: usage_bytes.saturating_sub(value(names.inactive_file)),
        rss_bytes: value(names.anonymous),
        page_faults: value(names.faults),
        major_page_faults: value(names.major_faults),
        limit_bytes: number(cgroup, "memory", names.limit)?.filter(|limit| *limit < V1_UNLIMITED),
    }))
}

/// Lines `8:0 Read 4096`.
fn io_v1(text: &str) -> IoStats {
    let mut stats = IoStats::default();
    for line in text.lines() {
        let mut words = line.split(' ').skip(1);
        let (kind, bytes) = (words.next(), words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0));
        match kind {
            Some("Read") => stats.read_bytes = stats.read_bytes.saturating_add(bytes),
            Some("Write") => stats.written_bytes = stats.written_bytes.saturating_add(bytes),
            _ => {}
        }
    }
    stats
}

/// Lines `8:0 rbytes=4096 wbytes=0 rios=1 ...`.
fn io_v2(text: &str) -> IoStats {
    let sum = |key: &str| {
        let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    };
    IoStats { read_bytes: sum("rbytes="), written_bytes: sum("wbytes=") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_of_both_versions_is_summed_over_devices() {
        let v1 = "8:0 Read 10\n8:0 Write 5\n8:0 Total 15\n8:16 Read 1\nTotal 16\n";
        let v2 = "8:0 rbytes=10 wbytes=5 rios=3 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=0\n";
        let expected = IoStats { read_bytes: 11, written_bytes: 5 };
        assert_eq!([io_v1(v1), io_v2(v2)], [expected, expected]);
        assert_eq!([io_v1(""), io_v2("rubbish\n\n")], [IoStats::default(); 2]);
    }
}
