//! Limits: on the host's v1 controllers, and for v2 on a directory with files of the same names, for no controller is left to the
//! cgroup2 tree of a hybrid host.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxNetwork, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};

use super::*;

fn v1(name: &str) -> Option<Scratch> {
    let hierarchy = Hierarchy::detect().unwrap();
    (!hierarchy.is_v2()).then(|| Scratch::new(&hierarchy, name))
}

fn read(cgroup: &Cgroup, controller: &str, file: &str) -> String {
    files::read(&cgroup.directory(controller).unwrap().join(file)).unwrap().trim().to_owned()
}

fn with_memory(limit: Option<i64>, swap: Option<i64>) -> LinuxResources {
    let (mut memory, mut resources) = (LinuxMemory::default(), LinuxResources::default());
    memory.set_limit(limit).set_swap(swap);
    resources.set_memory(Some(memory));
    resources
}

fn with_cpu(set: impl FnOnce(&mut LinuxCpu)) -> LinuxResources {
    let (mut cpu, mut resources) = (LinuxCpu::default(), LinuxResources::default());
    set(&mut cpu);
    resources.set_cpu(Some(cpu));
    resources
}

#[test]
fn root_v1_memory_grows_and_shrinks_in_any_order() {
    let Some(scratch) = v1("memory") else { return };
    const MIB: i64 = 1 << 20;
    let unlimited = (i64::MAX & !0xfff).to_string();
    let none = unlimited.as_str();
    let mib = |n: i64| (n * MIB).to_string();
    for (limit, swap, limit_after, swap_after) in [
        (Some(64 * MIB), Some(64 * MIB), mib(64), mib(64)),
        (Some(256 * MIB), Some(300 * MIB), mib(256), mib(300)),
        (Some(32 * MIB), Some(40 * MIB), mib(32), mib(40)),
        (Some(100 * MIB), None, mib(100), mib(108)),
        (Some(50 * MIB), None, mib(50), mib(58)),
        (None, Some(50 * MIB), mib(50), mib(50)),
        (Some(0), None, mib(50), mib(50)),
        (Some(-1), None, none.to_owned(), none.to_owned()),
        (Some(64 * MIB), None, mib(64), none.to_owned()),
        (None, Some(-1), mib(64), none.to_owned()),
    ] {
        scratch.0.update(&with_memory(limit, swap)).unwrap();
        let after = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"].map(|f| read(&scratch.0, "memory", f));
        assert_eq!(after, [limit_after, swap_after], "after {limit:?} {swap:?}");
    }
    let error = scratch.0.update(&with_memory(Some(64 * MIB), Some(32 * MIB))).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert_eq!(read(&scratch.0, "memory", "memory.limit_in_bytes"), mib(64));
}

#[test]
fn root_v1_quota_and_period_change_below_a_tight_parent() {
    let Some(scratch) = v1("quota") else { return };
    let set = |cgroup: &Cgroup, quota: Option<i64>, period: Option<u64>| {
        cgroup.update(&with_cpu(|cpu| {
            cpu.set_quota(quota).set_period(period);
        }))
    };
    set(&scratch.parent(), Some(50_000), Some(100_000)).unwrap();
    for (quota, period) in [(50_000, 100_000), (5_000, 10_000), (500_000, 1_000_000), (25_000, 50_000), (-1, 100_000)] {
        set(&scratch.0, Some(quota), Some(period)).unwrap();
        assert_eq!(read(&scratch.0, "cpu", "cpu.cfs_quota_us"), quota.to_string());
        assert_eq!(read(&scratch.0, "cpu", "cpu.cfs_period_us"), period.to_string());
    }
    let error = set(&scratch.0, Some(90_000), None).unwrap_err().to_string();
    assert!(error.contains("cpu.cfs_quota_us") && error.contains("90000") && error.contains("parent"), "{error}");
}

#[test]
fn root_v1_takes_cpus_shares_pids_and_devices_to_throttle() {
    let Some(scratch) = v1("various") else { return };
    let mut resources = with_cpu(|cpu| {
        cpu.set_shares(Some(512)).set_burst(Some(0)).set_idle(Some(0)).set_cpus(Some("0".to_owned()));
    });
    let (mut io, mut pids) = (LinuxBlockIo::default(), LinuxPids::default());
    pids.set_limit(77);
    io.set_throttle_read_bps_device(Some(Vec::new()));
    resources.set_pids(Some(pids)).set_block_io(Some(io));
    scratch.0.apply(&resources).unwrap();
    assert_eq!(read(&scratch.0, "cpu", "cpu.shares"), "512");
    assert_eq!(read(&scratch.0, "pids", "pids.max"), "77");
    assert_eq!(read(&scratch.0, "cpuset", "cpuset.cpus"), "0");
    pids.set_limit(-1);
    resources.set_pids(Some(pids));
    scratch.0.update(&resources).unwrap();
    assert_eq!(read(&scratch.0, "pids", "pids.max"), "max");
}

#[test]
fn root_v1_cpusets_below_ours_fill_themselves() {
    let Some(scratch) = v1("cpusets") else { return };
    let own = read(&scratch.0, "cpuset", "cpuset.cpus");
    assert!(!own.is_empty() && !read(&scratch.0, "cpuset", "cpuset.mems").is_empty());
    let below = scratch.0.directory("cpuset").unwrap().join("below");
    fs::create_dir(&below).unwrap();
    let filled = fs::read_to_string(below.join("cpuset.cpus")).unwrap();
    fs::remove_dir(&below).unwrap();
    assert_eq!(filled.trim(), own, "nobody wrote it");
}

#[test]
fn root_a_missing_controller_matters_only_to_a_limit() {
    let Some(hierarchy) = v1_without("pids") else { return };
    let scratch = Scratch::new(&hierarchy, "missing");
    let mut page = LinuxHugepageLimit::default();
    page.set_page_size("2MB".to_owned());
    let mut resources = LinuxResources::default();
    resources.set_hugepage_limits(Some(vec![page.clone()])).set_pids(Some(LinuxPids::default()));
    scratch.0.apply(&resources).unwrap();
    assert_eq!(scratch.0.stats().unwrap().tasks, None);

    let mut pids = LinuxPids::default();
    pids.set_limit(5);
    resources.set_pids(Some(pids));
    assert!(matches!(scratch.0.update(&resources), Err(Error::NoController { controller: "pids", .. })));
    if scratch.0.directory("hugetlb").is_none() {
        page.set_limit(1 << 21);
        resources.set_pids(None).set_hugepage_limits(Some(vec![page]));
        let error = scratch.0.update(&resources).unwrap_err().to_string();
        assert!(error.contains("\"hugetlb\"") && error.contains("2MB"), "{error}");
    }
}

#[test]
fn root_v1_names_the_unified_key_that_it_lacks() {
    let Some(scratch) = v1("unified") else { return };
    let mut resources = LinuxResources::default();
    resources.set_unified(Some([("memory.high".to_owned(), "1".to_owned())].into()));
    let error = scratch.0.update(&resources).unwrap_err().to_string();
    assert!(error.contains("memory.high") && error.contains("v1"), "{error}");
}

#[test]
fn root_v2_enables_what_there_is_down_the_path() {
    let Some(hierarchy) = hierarchies().into_iter().find(Hierarchy::is_v2) else { return };
    let scratch = Scratch::new(&hierarchy, "enable");
    let available = read(&scratch.parent(), "", "cgroup.controllers");
    let enabled = read(&scratch.parent(), "", "cgroup.subtree_control");
    assert_eq!(available, enabled);
    assert_eq!(read(&scratch.0, "", "cgroup.subtree_control"), "");
}

/// A directory with the files of a cgroup, which keep what is written.
fn fake_v2(names: &[&str]) -> (tempfile::TempDir, Cgroup) {
    let directory = tempfile::tempdir().unwrap();
    let leaf = directory.path().join("leaf");
    fs::create_dir(&leaf).unwrap();
    for name in names {
        fs::write(leaf.join(name), "").unwrap();
    }
    let cgroup = Hierarchy::V2(Arc::from(directory.path())).cgroup("/leaf").unwrap();
    (directory, cgroup)
}

#[test]
fn v2_gets_the_values_of_its_own_scales() {
    let names = ["cpu.weight", "cpu.max", "cpu.max.burst", "cpu.idle", "cpuset.cpus", "cpuset.mems", "memory.max"];
    let more =
        ["memory.swap.max", "memory.low", "pids.max", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max", "io.weight", "io.max"];
    let (_directory, cgroup) = fake_v2(&[&names[..], &more, &["memory.high"]].concat());
    let mut resources = with_cpu(|cpu| {
        cpu.set_shares(Some(1024)).set_quota(Some(50_000)).set_period(Some(100_000)).set_burst(Some(10));
        cpu.set_idle(Some(0)).set_cpus(Some("0-1".to_owned())).set_mems(Some(String::new()));
    });
    let (mut memory, mut pids, mut page) =
        (LinuxMemory::default(), LinuxPids::default(), LinuxHugepageLimit::default());
    memory.set_limit(Some(100)).set_swap(Some(150)).set_reservation(Some(60));
    pids.set_limit(-1);
    page.set_page_size("2MB".to_owned()).set_limit(1 << 21);
    let mut io = LinuxBlockIo::default();
    let throttle = LinuxThrottleDeviceBuilder::default().major(8).minor(16).rate(4096_u64).build().unwrap();
    io.set_weight(Some(1000)).set_throttle_write_bps_device(Some(vec![throttle]));
    resources
        .set_memory(Some(memory))
        .set_pids(Some(pids))
        .set_block_io(Some(io))
        .set_hugepage_limits(Some(vec![page]));
    resources.set_unified(Some([("memory.high".to_owned(), "90".to_owned())].into()));
    cgroup.update(&resources).unwrap();
    for (file, value) in [
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10"),
        ("cpu.idle", "0"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", ""),
        ("memory.max", "100"),
        ("memory.swap.max", "50"),
        ("memory.low", "60"),
        ("memory.high", "90"),
        ("pids.max", "max"),
        ("hugetlb.2MB.max", "2097152"),
        ("hugetlb.2MB.rsvd.max", "2097152"),
        ("io.weight", "10000"),
        ("io.max", "8:16 wbps=4096"),
    ] {
        assert_eq!(read(&cgroup, "", file), value, "{file}");
    }
    // Only the period, only the swap: the other half stays.
    cgroup.update(&with_cpu(|cpu| drop(cpu.set_period(Some(20_000)).to_owned()))).unwrap();
    assert_eq!(read(&cgroup, "", "cpu.max"), "50000 20000");
    cgroup.update(&with_memory(None, Some(110))).unwrap();
    assert_eq!(read(&cgroup, "", "memory.swap.max"), "10");
}

#[test]
fn v2_tells_what_it_lacks() {
    let (_directory, cgroup) = fake_v2(&["memory.max", "memory.current"]);
    let refused = |resources: &LinuxResources| cgroup.update(resources).unwrap_err();
    assert!(matches!(
        refused(&with_cpu(|c| drop(c.set_shares(Some(2)).to_owned()))),
        Error::NoController { controller: "cpu", .. }
    ));
    assert!(matches!(refused(&with_memory(Some(5), Some(9))), Error::NoController { controller: "memory", .. }));
    cgroup.update(&with_memory(Some(5), Some(5))).unwrap();
    cgroup.update(&with_memory(Some(5), Some(-1))).unwrap();
    assert!(matches!(refused(&with_memory(Some(9), Some(5))), Error::Invalid(_)));

    fs::write(cgroup.directory("").unwrap().join("memory.current"), "100\n").unwrap();
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(50)).set_check_before_update(Some(true));
    let mut resources = LinuxResources::default();
    resources.set_memory(Some(memory));
    assert!(matches!(refused(&resources), Error::Invalid(_)));

    memory.set_swappiness(Some(60)).set_check_before_update(None);
    resources.set_memory(Some(memory));
    assert!(matches!(refused(&resources), Error::Unsupported { version: "v2", .. }));
    let (mut network, mut io) = (LinuxNetwork::default(), LinuxBlockIo::default());
    network.set_class_id(Some(1));
    resources.set_memory(None).set_network(Some(network));
    assert!(matches!(refused(&resources), Error::Unsupported { .. }));
    let weight = LinuxWeightDeviceBuilder::default().major(8).minor(0).weight(10_u16).build().unwrap();
    io.set_weight_device(Some(vec![weight]));
    resources.set_network(None).set_block_io(Some(io));
    assert!(matches!(refused(&resources), Error::NoController { controller: "io", .. }));

    fs::remove_dir_all(cgroup.directory("").unwrap()).unwrap();
    assert!(refused(&with_memory(Some(5), None)).is_absent(), "a cgroup that is gone is no missing controller");
}
