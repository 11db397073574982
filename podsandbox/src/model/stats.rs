//! What sandboxes and containers use. `None` and empty: the host does not count it, or it is not there.

use std::path::PathBuf;

use super::{ContainerSnapshot, SandboxSnapshot};

/// What is read of a control group and all below it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CgroupUsage {
    /// When it was read, in nanoseconds since the epoch.
    pub at_nanos: i64,
    /// CPU time since it was made, in nanoseconds.
    pub cpu_nanoseconds: Option<u64>,
    /// Memory.
    pub memory: Option<MemoryUsage>,
    /// Swap.
    pub swap: Option<SwapUsage>,
    /// Threads.
    pub threads: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
    /// Waiting for a CPU.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for I/O.
    pub io_pressure: Option<Pressure>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// All of it, page cache included.
    pub usage_bytes: u64,
    /// Without the page cache that can be dropped first.
    pub working_set_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from a disk.
    pub major_page_faults: u64,
    /// The limit, if there is one.
    pub limit_bytes: Option<u64>,
}

/// Swap, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwapUsage {
    /// Swapped out.
    pub usage_bytes: u64,
    /// The limit, if there is one.
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
    /// In all, in microseconds.
    pub total_microseconds: u64,
    /// Percent of the last 10 seconds.
    pub average_10: f64,
    /// Percent of the last 60 seconds.
    pub average_60: f64,
    /// Percent of the last 300 seconds.
    pub average_300: f64,
}

/// What a container wrote over its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerUsage {
    /// When it was counted, in nanoseconds since the epoch.
    pub at_nanos: i64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files, directories and others.
    pub inodes: u64,
}

/// What all containers wrote over their images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayersUsage {
    /// The directory that holds it.
    pub directory: PathBuf,
    /// Bytes on the disk; of containers that were never counted none.
    pub bytes: u64,
    /// Files, directories and others.
    pub inodes: u64,
}

/// Traffic of a network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// When it was read, in nanoseconds since the epoch.
    pub at_nanos: i64,
    /// Its links without loopback, the one with the default route first.
    pub links: Vec<LinkUsage>,
}

/// Traffic of one link, as the pod sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkUsage {
    /// Name in the pod.
    pub name: String,
    /// What came in.
    pub received: Traffic,
    /// What went out.
    pub sent: Traffic,
}

/// Counts of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were bad.
    pub errors: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// A container with what it uses.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// Whose it is.
    pub container: ContainerSnapshot,
    /// What its processes use; `None` if it does not run.
    pub usage: Option<CgroupUsage>,
    /// CPU time in nanoseconds per second, of late.
    pub cpu_nanoseconds_per_second: Option<u64>,
    /// What it wrote; `None` if that was never counted.
    pub layer: Option<LayerUsage>,
    /// The file system of what it wrote, by a path on it.
    pub layer_filesystem: PathBuf,
    /// Everything else, if it was asked for and the container runs.
    pub details: Option<Box<ContainerDetails>>,
}

/// A sandbox with what it uses.
#[derive(Debug, Clone)]
pub struct SandboxStats {
    /// Whose it is.
    pub sandbox: SandboxSnapshot,
    /// What its processes use; `None` if it is not ready.
    pub usage: Option<CgroupUsage>,
    /// CPU time in nanoseconds per second, of late.
    pub cpu_nanoseconds_per_second: Option<u64>,
    /// Its traffic; `None` on the host's network, and if it could not be read.
    pub network: Option<NetworkUsage>,
    /// Its containers.
    pub containers: Vec<ContainerStats>,
}

/// What collectors of metrics ask for beyond [`CgroupUsage`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerDetails {
    /// Path of its control group, as `/a/b`.
    pub cgroup: String,
    /// CPU time in user space, in nanoseconds.
    pub cpu_user_nanoseconds: u64,
    /// CPU time in the kernel, in nanoseconds.
    pub cpu_system_nanoseconds: u64,
    /// Periods of the CPU quota that passed.
    pub cpu_periods: u64,
    /// Periods in which it ran out.
    pub cpu_throttled_periods: u64,
    /// Time held back, in nanoseconds.
    pub cpu_throttled_nanoseconds: u64,
    /// Page cache.
    pub cache_bytes: u64,
    /// Files mapped.
    pub mapped_file_bytes: u64,
    /// Memory of the kernel itself.
    pub kernel_bytes: u64,
    /// How often the memory limit was met.
    pub memory_limit_hits: u64,
    /// Most memory ever used.
    pub memory_peak_bytes: u64,
    /// Page faults, without those of control groups below where the kernel tells them apart.
    pub own_page_faults: u64,
    /// Major ones of these.
    pub own_major_page_faults: u64,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Limit of threads.
    pub threads_limit: Option<u64>,
    /// Block I/O by device.
    pub io: Vec<DeviceIo>,
    /// Huge pages by size.
    pub huge_pages: Vec<HugePages>,
    /// Open files of its processes, sockets included.
    pub open_files: u64,
    /// Open sockets of its processes.
    pub sockets: u64,
    /// Soft limit of open files of its first process; `None` if there is none.
    pub open_files_limit: Option<u64>,
    /// The file system of what it writes.
    pub filesystem: FilesystemSize,
}

/// Block I/O at one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// `/dev/NAME`, or the numbers where it has no name.
    pub device: String,
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
    /// Most that was ever used.
    pub peak_bytes: Option<u64>,
}

/// A file system as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesystemSize {
    /// `/dev/NAME`, or the numbers of the device where it has no name.
    pub device: String,
    /// Its size.
    pub bytes: u64,
    /// Inodes that it can have.
    pub inodes: u64,
    /// Inodes that are free.
    pub free_inodes: u64,
}
