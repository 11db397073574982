//! Tests on samples of the kernel's files.

use super::parse;
use super::*;

const MEMORY_V1: &str = "\
cache 81920
rss 4096
pgfault 10
pgmajfault 1
inactive_file 1
hierarchical_memory_limit 67108864
hierarchical_memsw_limit 100663296
total_cache 8192000
total_rss 12288000
total_mapped_file 4096
total_swap 8192
total_pgfault 1234
total_pgmajfault 12
total_inactive_file 2000000
total_active_file 6192000
";

#[test]
fn memory_of_v1_is_that_of_the_whole_tree() {
    let (memory, swap) = parse::memory_v1(20_480_000, MEMORY_V1);
    let expected = MemoryStats {
        usage_bytes: 20_480_000,
        working_set_bytes: 18_480_000,
        rss_bytes: 12_288_000,
        page_faults: 1234,
        major_page_faults: 12,
        limit_bytes: Some(64 << 20),
    };
    assert_eq!(memory, expected);
    assert_eq!(swap, Some(SwapStats { usage_bytes: 8192, limit_bytes: Some(32 << 20) }));
}

#[test]
fn a_limit_as_large_as_v1_can_write_is_none() {
    let stat = "hierarchical_memory_limit 9223372036854771712\nhierarchical_memsw_limit 9223372036854771712\n";
    let (memory, swap) = parse::memory_v1(1, stat);
    assert_eq!((memory.limit_bytes, swap), (None, None));
    let pages_of_64k = "hierarchical_memory_limit 9223372036854710272\n";
    assert_eq!(parse::memory_v1(1, pages_of_64k).0.limit_bytes, None);
}

#[test]
fn memory_of_v2() {
    let stat = "anon 300\nfile 9000\nkernel 70\ninactive_file 5000\nactive_file 4000\npgfault 8\npgmajfault 2\n";
    let memory = parse::memory_v2(9370, Some(1 << 20), stat);
    assert_eq!((memory.working_set_bytes, memory.rss_bytes), (4370, 300));
    assert_eq!((memory.page_faults, memory.major_page_faults, memory.limit_bytes), (8, 2, Some(1 << 20)));
    // The files are read one after the other, so the cache may be more than all.
    assert_eq!(parse::memory_v2(10, None, "inactive_file 11\n").working_set_bytes, 0);
}

#[test]
fn cpu_of_v2_is_in_microseconds() {
    assert_eq!(parse::cpu_usage_v2("usage_usec 12345\nuser_usec 1\n"), Some(12_345_000));
    assert_eq!(parse::cpu_usage_v2("rubbish\n\n"), None);
}

#[test]
fn pressure_has_both_lines_or_one() {
    let text = "some avg10=1.50 avg60=0.25 avg300=0.01 total=777\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=7\n";
    let pressure = parse::pressure(text).unwrap();
    let some = Stall { total_microseconds: 777, average_10: 1.5, average_60: 0.25, average_300: 0.01 };
    assert_eq!(pressure.some, some);
    assert_eq!((pressure.full.total_microseconds, pressure.full.average_10), (7, 0.5));
    let cpu = parse::pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n").unwrap();
    assert_eq!((cpu.some.total_microseconds, cpu.full), (5, Stall::default()));
    assert_eq!(parse::pressure(""), None);
}

#[test]
fn io_of_both_versions_is_by_device() {
    let bytes = "8:0 Read 10\n8:0 Write 5\n8:0 Total 15\n8:16 Read 1\nTotal 16\n";
    let operations = "8:0 Read 3\n8:0 Write 1\n8:0 Sync 4\nTotal 4\n";
    let v2 = "8:0 rbytes=10 wbytes=5 rios=3 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=0\n";
    let first = DeviceIo { major: 8, minor: 0, read_bytes: 10, written_bytes: 5, reads: 3, writes: 1 };
    let second = DeviceIo { major: 8, minor: 16, read_bytes: 1, ..DeviceIo::default() };
    assert_eq!(parse::io_v1(bytes, operations), [first, second]);
    assert_eq!(parse::io_v2(v2), [first, second]);
    assert!(parse::io_v1("", "x").is_empty() && parse::io_v2("rubbish\n\n8:x rbytes=1\n").is_empty());
}

#[test]
fn files_of_v2_are_read_from_their_directory() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("pod/c");
    std::fs::create_dir_all(&directory).unwrap();
    let pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
    for (file, text) in [
        ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 9\nnr_throttled 4\nthrottled_usec 8\n"),
        ("memory.current", "4096\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 10\nfile 20\nfile_mapped 5\nkernel 30\npgfault 6\n"),
        ("memory.events", "low 0\nhigh 0\nmax 17\noom 0\noom_kill 0\n"),
        ("memory.peak", "8192\n"),
        ("memory.swap.current", "7\n"),
        ("memory.swap.max", "70\n"),
        ("pids.current", "1\n"),
        ("pids.max", "100\n"),
        ("cpu.pressure", pressure),
        ("hugetlb.2MB.current", "2097152\n"),
    ] {
        std::fs::write(directory.join(file), text).unwrap();
    }
    let hierarchy = crate::Hierarchy::V2(root.path().into());
    let cgroup = hierarchy.cgroup("/pod/c").unwrap();
    let mut reader = Reader::default();
    let stats = cgroup.stats_with(&mut reader).unwrap();
    assert_eq!((stats.cpu_usage_nanoseconds, stats.tasks), (Some(5000), Some(1)));
    assert_eq!(stats.memory.as_ref().unwrap().limit_bytes, None);
    assert_eq!(stats.swap, Some(SwapStats { usage_bytes: 7, limit_bytes: Some(70) }));
    assert_eq!(stats.cpu_pressure.unwrap().some.total_microseconds, 3);
    assert_eq!(stats.io_pressure, None, "the file is not there");
    assert_eq!(cgroup.process_count(&stats).unwrap(), 1);

    let details = cgroup.details(&mut reader, &["2MB".to_owned(), "1GB".to_owned()]).unwrap();
    assert_eq!((details.cpu.system_nanoseconds, details.cpu.throttled_nanoseconds), (2000, 8000));
    assert_eq!((details.memory.limit_hits, details.memory.peak_bytes, details.memory.kernel_bytes), (17, 8192, 30));
    assert_eq!(details.tasks_limit, Some(100));
    let pages = HugePages { page_size: "2MB".to_owned(), usage_bytes: 2 << 20, peak_bytes: None };
    assert_eq!(details.huge_pages, [pages]);
    assert!(hierarchy.cgroup("/pod/gone").unwrap().stats_with(&mut reader).unwrap_err().is_absent());
}
