//! The table of metrics. Names, kinds and labels are those of cAdvisor, which kubelet and dashboards know; seconds are whole,
//! because the API has no fractions.

use podwright_cri_api::v1::MetricType;
use podwright_podsandbox::model::{DeviceIo, HugePages, LayerUsage, LinkUsage, MemoryUsage, Pressure, Traffic};

use super::Sample;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const MICROS_PER_SECOND: u64 = 1_000_000;
/// What the kernel has where nobody set it.
const DEFAULT_CPU_PERIOD_MICROS: u64 = 100_000;
const DEFAULT_CPU_SHARES: u64 = 1024;

/// A metric and how to get its values of a sample.
pub(super) struct Metric<F> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    /// Labels beside those that all have.
    pub(super) labels: &'static [&'static str],
    pub(super) values: F,
}

/// A value with its own labels.
pub(super) struct Value {
    pub(super) number: u64,
    pub(super) labels: Vec<String>,
    /// When it was read; 0 for now.
    pub(super) at_nanos: i64,
}

fn one(number: u64) -> Vec<Value> {
    vec![Value { number, labels: Vec::new(), at_nanos: 0 }]
}

fn labelled<const N: usize>(number: u64, labels: [&str; N]) -> Value {
    Value { number, labels: labels.iter().map(|label| (*label).to_owned()).collect(), at_nanos: 0 }
}

fn or_none(number: Option<u64>) -> Vec<Value> {
    number.map(one).unwrap_or_default()
}

fn seconds(nanoseconds: u64) -> Vec<Value> {
    one(nanoseconds / NANOS_PER_SECOND)
}

fn stall(pressure: Option<Pressure>, total: fn(Pressure) -> u64) -> Vec<Value> {
    or_none(pressure.map(|pressure| total(pressure) / MICROS_PER_SECOND))
}

fn waiting(pressure: Pressure) -> u64 {
    pressure.some.total_microseconds
}

fn stalled(pressure: Pressure) -> u64 {
    pressure.full.total_microseconds
}

fn memory(sample: &Sample<'_>, number: fn(&MemoryUsage) -> u64) -> Vec<Value> {
    or_none(sample.usage.memory.as_ref().map(number))
}

/// A limit that the caller gave; 0 for none.
fn limit(bytes: Option<i64>) -> Vec<Value> {
    one(bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
}

fn on_filesystem(sample: &Sample<'_>, number: u64) -> Vec<Value> {
    vec![labelled(number, [&sample.details.filesystem.device])]
}

/// What was counted before has its own time.
fn layer(sample: &Sample<'_>, layer: LayerUsage) -> Value {
    Value { at_nanos: layer.at_nanos, ..labelled(layer.bytes, [&sample.details.filesystem.device]) }
}

fn by_device(sample: &Sample<'_>, number: fn(&DeviceIo) -> u64) -> Vec<Value> {
    sample.details.io.iter().map(|io| labelled(number(io), [&io.device])).collect()
}

fn device_usage(sample: &Sample<'_>) -> Vec<Value> {
    let of_device = |io: &DeviceIo| {
        let (major, minor) = (io.major.to_string(), io.minor.to_string());
        let value = |bytes, operation| labelled(bytes, [&*io.device, &*major, &*minor, operation]);
        [value(io.read_bytes, "Read"), value(io.written_bytes, "Write")]
    };
    sample.details.io.iter().flat_map(of_device).collect()
}

fn failures(sample: &Sample<'_>) -> Vec<Value> {
    let Some(memory) = &sample.usage.memory else { return Vec::new() };
    vec![
        labelled(sample.details.own_page_faults, ["pgfault", "container"]),
        labelled(memory.page_faults, ["pgfault", "hierarchy"]),
        labelled(sample.details.own_major_page_faults, ["pgmajfault", "container"]),
        labelled(memory.major_page_faults, ["pgmajfault", "hierarchy"]),
    ]
}

/// A reservation is a number that the caller wrote to memory.min.
fn reservation(sample: &Sample<'_>) -> Vec<Value> {
    let written = sample.stats.container.resources.unified.get("memory.min");
    one(written.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0))
}

/// How to get the values of a container.
pub(super) type OfContainer = fn(&Sample<'_>) -> Vec<Value>;
/// How to get the value of a link.
pub(super) type OfLink = fn(&LinkUsage) -> Vec<Value>;

type Row = Metric<OfContainer>;

const fn gauge(name: &'static str, help: &'static str, values: OfContainer) -> Row {
    Metric { name, help, kind: MetricType::Gauge, labels: &[], values }
}

const fn counter(name: &'static str, help: &'static str, values: OfContainer) -> Row {
    Metric { name, help, kind: MetricType::Counter, labels: &[], values }
}

const fn by(labels: &'static [&'static str], row: Row) -> Row {
    Metric { labels, ..row }
}

const DEVICE: &[&str] = &["device"];

/// Metrics of containers.
pub(super) const CONTAINERS: &[Row] = &[
    by(
        &["cpu"],
        counter("container_cpu_usage_seconds_total", "CPU time used, in seconds", |s| {
            let nanoseconds = s.usage.cpu_nanoseconds.unwrap_or(0);
            vec![labelled(nanoseconds / NANOS_PER_SECOND, ["total"])]
        }),
    ),
    counter("container_cpu_user_seconds_total", "CPU time used by programs, in seconds", |s| {
        seconds(s.details.cpu_user_nanoseconds)
    }),
    counter("container_cpu_system_seconds_total", "CPU time used by the kernel, in seconds", |s| {
        seconds(s.details.cpu_system_nanoseconds)
    }),
    counter("container_cpu_cfs_periods_total", "Periods of the CPU quota that passed", |s| one(s.details.cpu_periods)),
    counter("container_cpu_cfs_throttled_periods_total", "Periods in which the CPU quota ran out", |s| {
        one(s.details.cpu_throttled_periods)
    }),
    counter("container_cpu_cfs_throttled_seconds_total", "Time held back by the CPU quota, in seconds", |s| {
        seconds(s.details.cpu_throttled_nanoseconds)
    }),
    gauge("container_memory_usage_bytes", "Memory in use, page cache included", |s| memory(s, |m| m.usage_bytes)),
    gauge("container_memory_working_set_bytes", "Memory in use that can not be dropped at once", |s| {
        memory(s, |m| m.working_set_bytes)
    }),
    gauge("container_memory_rss", "Anonymous memory in bytes", |s| memory(s, |m| m.rss_bytes)),
    gauge("container_memory_cache", "Page cache in bytes", |s| one(s.details.cache_bytes)),
    gauge("container_memory_mapped_file", "Mapped files in bytes", |s| one(s.details.mapped_file_bytes)),
    gauge("container_memory_kernel_usage", "Memory of the kernel itself in bytes", |s| one(s.details.kernel_bytes)),
    gauge("container_memory_swap", "Swap in use in bytes", |s| {
        one(s.usage.swap.as_ref().map_or(0, |swap| swap.usage_bytes))
    }),
    gauge("container_memory_max_usage_bytes", "Most memory that was ever in use", |s| one(s.details.memory_peak_bytes)),
    counter("container_memory_failcnt", "How often the memory limit was met", |s| one(s.details.memory_limit_hits)),
    by(
        &["failure_type", "scope"],
        counter("container_memory_failures_total", "Page faults, all and those that read a disk", failures),
    ),
    counter("container_oom_events_total", "Processes that were killed for want of memory", |s| {
        one(s.details.oom_kills)
    }),
    by(
        &["pagesize"],
        gauge("container_hugetlb_usage_bytes", "Huge pages in use, in bytes", |s| {
            s.details.huge_pages.iter().map(|pages| labelled(pages.usage_bytes, [&pages.page_size])).collect()
        }),
    ),
    by(
        &["pagesize"],
        gauge("container_hugetlb_max_usage_bytes", "Most huge pages that were ever in use, in bytes", |s| {
            let peak = |pages: &HugePages| Some(labelled(pages.peak_bytes?, [&pages.page_size]));
            s.details.huge_pages.iter().filter_map(peak).collect()
        }),
    ),
    counter("container_pressure_cpu_waiting_seconds_total", "Time in which some tasks waited for a CPU", |s| {
        stall(s.usage.cpu_pressure, waiting)
    }),
    counter("container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited for a CPU", |s| {
        stall(s.usage.cpu_pressure, stalled)
    }),
    counter("container_pressure_memory_waiting_seconds_total", "Time in which some tasks waited for memory", |s| {
        stall(s.usage.memory_pressure, waiting)
    }),
    counter("container_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory", |s| {
        stall(s.usage.memory_pressure, stalled)
    }),
    counter("container_pressure_io_waiting_seconds_total", "Time in which some tasks waited for I/O", |s| {
        stall(s.usage.io_pressure, waiting)
    }),
    counter("container_pressure_io_stalled_seconds_total", "Time in which all tasks waited for I/O", |s| {
        stall(s.usage.io_pressure, stalled)
    }),
    by(
        DEVICE,
        gauge("container_fs_usage_bytes", "What the container wrote over its image, in bytes", |s| {
            s.stats.layer.into_iter().map(|usage| layer(s, usage)).collect()
        }),
    ),
    by(
        DEVICE,
        gauge("container_fs_limit_bytes", "Size of the file system that it writes to", |s| {
            on_filesystem(s, s.details.filesystem.bytes)
        }),
    ),
    by(
        DEVICE,
        gauge("container_fs_inodes_total", "Inodes of the file system that it writes to", |s| {
            on_filesystem(s, s.details.filesystem.inodes)
        }),
    ),
    by(
        DEVICE,
        gauge("container_fs_inodes_free", "Free inodes of the file system that it writes to", |s| {
            on_filesystem(s, s.details.filesystem.free_inodes)
        }),
    ),
    by(DEVICE, counter("container_fs_reads_total", "Reads", |s| by_device(s, |io| io.reads))),
    by(DEVICE, counter("container_fs_reads_bytes_total", "Bytes read", |s| by_device(s, |io| io.read_bytes))),
    by(DEVICE, counter("container_fs_writes_total", "Writes", |s| by_device(s, |io| io.writes))),
    by(DEVICE, counter("container_fs_writes_bytes_total", "Bytes written", |s| by_device(s, |io| io.written_bytes))),
    by(
        &["device", "major", "minor", "operation"],
        counter("container_blkio_device_usage_total", "Bytes read from and written to block devices", device_usage),
    ),
    gauge("container_processes", "Processes", |s| or_none(s.usage.processes)),
    gauge("container_threads", "Threads", |s| or_none(s.usage.threads.or(s.usage.processes))),
    gauge("container_threads_max", "Limit of threads; 0 without one", |s| one(s.details.threads_limit.unwrap_or(0))),
    gauge("container_file_descriptors", "Open file descriptors", |s| one(s.details.open_files)),
    gauge("container_sockets", "Open sockets", |s| one(s.details.sockets)),
    by(
        &["ulimit"],
        gauge("container_ulimits_soft", "Soft limits of the first process", |s| {
            s.details.open_files_limit.into_iter().map(|limit| labelled(limit, ["max_open_files"])).collect()
        }),
    ),
    gauge(
        "container_last_seen",
        "When the container was last seen, in seconds since the epoch",
        |s| one(s.now_seconds),
    ),
    gauge("container_start_time_seconds", "When the container was started, in seconds since the epoch", |s| {
        seconds(u64::try_from(s.started_at_nanos).unwrap_or(0))
    }),
    gauge("container_spec_cpu_period", "Period of the CPU quota in microseconds", |s| {
        let period = s.stats.container.resources.cpu_period_micros.filter(|period| *period != 0);
        one(period.unwrap_or(DEFAULT_CPU_PERIOD_MICROS))
    }),
    gauge("container_spec_cpu_quota", "CPU quota in microseconds per period", |s| {
        let quota = s.stats.container.resources.cpu_quota_micros.and_then(|quota| u64::try_from(quota).ok());
        or_none(quota.filter(|quota| *quota != 0))
    }),
    gauge("container_spec_cpu_shares", "CPU shares", |s| {
        let shares = s.stats.container.resources.cpu_shares.filter(|shares| *shares != 0);
        one(shares.unwrap_or(DEFAULT_CPU_SHARES))
    }),
    gauge("container_spec_memory_limit_bytes", "Memory limit; 0 without one", |s| {
        limit(s.stats.container.resources.memory_limit_bytes)
    }),
    gauge("container_spec_memory_swap_limit_bytes", "Limit of memory and swap together; 0 without one", |s| {
        limit(s.stats.container.resources.memory_swap_limit_bytes)
    }),
    gauge("container_spec_memory_reservation_limit_bytes", "Reserved memory; 0 without any", reservation),
];

const fn link(name: &'static str, help: &'static str, values: OfLink) -> Metric<OfLink> {
    Metric { name, help, kind: MetricType::Counter, labels: &["interface"], values }
}

fn of(link: &LinkUsage, direction: Traffic, number: fn(Traffic) -> u64) -> Vec<Value> {
    vec![labelled(number(direction), [&link.name])]
}

/// Metrics of the links of pods.
pub(super) const LINKS: &[Metric<OfLink>] = &[
    link("container_network_receive_bytes_total", "Bytes received", |l| of(l, l.received, |t| t.bytes)),
    link("container_network_receive_packets_total", "Packets received", |l| of(l, l.received, |t| t.packets)),
    link("container_network_receive_errors_total", "Errors on receipt", |l| of(l, l.received, |t| t.errors)),
    link("container_network_receive_packets_dropped_total", "Packets dropped on receipt", |l| {
        of(l, l.received, |t| t.dropped)
    }),
    link("container_network_transmit_bytes_total", "Bytes sent", |l| of(l, l.sent, |t| t.bytes)),
    link("container_network_transmit_packets_total", "Packets sent", |l| of(l, l.sent, |t| t.packets)),
    link("container_network_transmit_errors_total", "Errors on sending", |l| of(l, l.sent, |t| t.errors)),
    link("container_network_transmit_packets_dropped_total", "Packets dropped on sending", |l| {
        of(l, l.sent, |t| t.dropped)
    }),
];
