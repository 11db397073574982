//! Details of a container for collectors of metrics: more files of its cgroup, and its processes' open files.

use std::path::Path;

use podwright_cgroups::{Cgroup, Reader};
use podwright_podsandbox::model::{ContainerDetails, DeviceIo, FilesystemSize, HugePages};
use rustix::process::Pid;

/// Where the kernel names the sizes of huge pages.
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";
/// Where it names block devices by number.
const BLOCK_DEVICES: &str = "/sys/dev/block";
/// Processes of a container whose files are counted, and files of a container that are: a container can have more than can be
/// looked at, and then they are told as these.
const MAX_PROCESSES: usize = 1024;
const MAX_FILES: u64 = 65_536;

/// Reads them; what can not be read is as if it were not used.
pub(super) fn read(
    cgroup: &Cgroup,
    reader: &mut Reader,
    page_sizes: &[String],
    filesystem: &FilesystemSize,
) -> ContainerDetails {
    let found = cgroup.details(reader, page_sizes).unwrap_or_default();
    let pids = cgroup.processes().unwrap_or_default();
    let files = Files::count(&pids);
    let (cpu, memory) = (found.cpu, found.memory);
    ContainerDetails {
        cgroup: cgroup.path(),
        cpu_user_nanoseconds: cpu.user_nanoseconds,
        cpu_system_nanoseconds: cpu.system_nanoseconds,
        cpu_periods: cpu.periods,
        cpu_throttled_periods: cpu.throttled_periods,
        cpu_throttled_nanoseconds: cpu.throttled_nanoseconds,
        cache_bytes: memory.cache_bytes,
        mapped_file_bytes: memory.mapped_file_bytes,
        kernel_bytes: memory.kernel_bytes,
        memory_limit_hits: memory.limit_hits,
        memory_peak_bytes: memory.peak_bytes,
        own_page_faults: memory.own_page_faults,
        own_major_page_faults: memory.own_major_page_faults,
        oom_kills: cgroup.oom_kills().unwrap_or(0),
        threads_limit: found.tasks_limit,
        io: found.io.iter().map(device_io).collect(),
        huge_pages: found.huge_pages.into_iter().map(huge_pages).collect(),
        open_files: files.all,
        sockets: files.sockets,
        open_files_limit: pids.first().and_then(|pid| open_files_limit(*pid)),
        filesystem: filesystem.clone(),
    }
}

/// Sizes of huge pages that the host has, as the files of cgroups name them.
pub(super) fn page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir(HUGE_PAGES).into_iter().flatten().flatten();
    let mut sizes: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(page_size).collect()
}

fn page_size(kib: u64) -> String {
    match kib {
        0..1024 => format!("{kib}KB"),
        1024..1_048_576 => format!("{}MB", kib >> 10),
        1_048_576.. => format!("{}GB", kib >> 20),
    }
}

/// `/dev/NAME` of a block device; the numbers where it has no name.
pub(super) fn device_name(major: u32, minor: u32) -> String {
    let link = std::fs::read_link(Path::new(BLOCK_DEVICES).join(format!("{major}:{minor}")));
    let name = link.ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    // A slash in a name is written as an exclamation mark.
    name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{}", name.replace('!', "/")))
}

fn device_io(io: &podwright_cgroups::DeviceIo) -> DeviceIo {
    DeviceIo {
        device: device_name(io.major, io.minor),
        major: io.major,
        minor: io.minor,
        read_bytes: io.read_bytes,
        written_bytes: io.written_bytes,
        reads: io.reads,
        writes: io.writes,
    }
}

fn huge_pages(pages: podwright_cgroups::HugePages) -> HugePages {
    HugePages { page_size: pages.page_size, usage_bytes: pages.usage_bytes, peak_bytes: pages.peak_bytes }
}

#[derive(Default)]
struct Files {
    all: u64,
    sockets: u64,
}

impl Files {
    fn count(pids: &[Pid]) -> Self {
        let mut files = Self::default();
        for pid in pids.iter().take(MAX_PROCESSES) {
            let directory = format!("/proc/{}/fd", pid.as_raw_nonzero());
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if files.all == MAX_FILES {
                    return files;
                }
                files.all += 1;
                let is_socket =
                    |target: std::path::PathBuf| target.as_os_str().as_encoded_bytes().starts_with(b"socket:");
                files.sockets += u64::from(std::fs::read_link(entry.path()).is_ok_and(is_socket));
            }
        }
        files
    }
}

fn open_files_limit(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).ok()?;
    soft_limit(&text, "Max open files")
}

/// The soft limit in a line `NAME  soft  hard  unit`; `None` for `unlimited` too.
fn soft_limit(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_named_as_cgroups_do() {
        assert_eq!([64, 2048, 1_048_576].map(page_size), ["64KB", "2MB", "1GB"]);
    }

    #[test]
    fn limits_are_read_by_name() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         unlimited            unlimited            bytes     \n";
        assert_eq!(soft_limit(text, "Max open files"), Some(1024));
        assert_eq!(soft_limit(text, "Max locked memory"), None);
        assert_eq!(soft_limit(text, "Max nice priority"), None);
    }

    #[test]
    fn open_files_and_sockets_are_counted() {
        let own = [rustix::process::getpid()];
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let files = Files::count(&own);
        assert!(files.sockets >= 1 && files.all > files.sockets, "{} of {}", files.sockets, files.all);
    }

    #[test]
    fn devices_without_a_name_are_told_by_number() {
        assert_eq!(device_name(0, 4_000_000), "0:4000000");
    }
}
