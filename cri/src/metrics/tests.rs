//! Tests of the table.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use podwright_podsandbox::model::{
    ContainerConfig, ContainerSnapshot, DeviceIo, FilesystemSize, HugePages, LayerUsage, LinkUsage, MemoryUsage,
    NetworkStatus, NetworkUsage, Pressure, Resources, SandboxSnapshot, Stall, SwapUsage, Traffic,
};
use podwright_types::{ContainerId, SandboxId};

use super::*;

/// The names that critest lists, from what kubelet tells by itself.
const EXPECTED: &str = "
blkio_device_usage_total cpu_cfs_periods_total cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total
cpu_system_seconds_total cpu_usage_seconds_total cpu_user_seconds_total file_descriptors fs_inodes_free fs_inodes_total
fs_limit_bytes fs_reads_bytes_total fs_reads_total fs_usage_bytes fs_writes_bytes_total fs_writes_total
hugetlb_max_usage_bytes hugetlb_usage_bytes last_seen memory_cache memory_failcnt memory_failures_total
memory_kernel_usage memory_mapped_file memory_max_usage_bytes memory_rss memory_swap memory_usage_bytes
memory_working_set_bytes network_receive_bytes_total network_receive_errors_total
network_receive_packets_dropped_total network_receive_packets_total network_transmit_bytes_total
network_transmit_errors_total network_transmit_packets_dropped_total network_transmit_packets_total oom_events_total
pressure_cpu_stalled_seconds_total pressure_cpu_waiting_seconds_total pressure_io_stalled_seconds_total
pressure_io_waiting_seconds_total pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total processes
sockets spec_cpu_period spec_cpu_quota spec_cpu_shares spec_memory_limit_bytes spec_memory_reservation_limit_bytes
spec_memory_swap_limit_bytes start_time_seconds threads threads_max ulimits_soft";

fn stats() -> SandboxStats {
    let resources = Resources { cpu_quota_micros: Some(20_000), memory_limit_bytes: Some(-1), ..Resources::default() };
    let (sandbox, id) = (SandboxId::from_random([2; 32]), ContainerId::from_random([1; 32]));
    let config = ContainerConfig { name: "c".into(), user_specified_image: "nginx:1".into(), ..Default::default() };
    let stall = |total_microseconds| Stall { total_microseconds, ..Stall::default() };
    let pressure = Some(Pressure { some: stall(7_900_000), full: stall(3_000_000) });
    let pages = HugePages { page_size: "2MB".into(), usage_bytes: 2, peak_bytes: Some(4) };
    let io = DeviceIo { device: "/dev/sda".into(), major: 8, read_bytes: 5, writes: 6, ..DeviceIo::default() };
    let details = ContainerDetails {
        cgroup: "/pod/c".into(),
        io: vec![io],
        huge_pages: vec![pages],
        open_files_limit: Some(1024),
        filesystem: FilesystemSize { device: "/dev/vda".into(), bytes: 1 << 40, ..FilesystemSize::default() },
        ..ContainerDetails::default()
    };
    let container = ContainerStats {
        container: ContainerSnapshot {
            id,
            sandbox: sandbox.clone(),
            config: Arc::new(config),
            resources: Arc::new(resources),
            state: ContainerState::Running { pid: 1, started_at_nanos: 5_500_000_000 },
            created_at_nanos: 5,
            image_id: "sha256:ab".into(),
            image_ref: String::new(),
            user: None,
            log_path: None,
            stop_signal: 15,
            runtime_spec: "".into(),
            volume_images: Default::default(),
        },
        usage: Some(CgroupUsage {
            at_nanos: 9,
            cpu_nanoseconds: Some(12_999_000_000),
            memory: Some(MemoryUsage { page_faults: 8, ..MemoryUsage::default() }),
            swap: Some(SwapUsage::default()),
            threads: Some(3),
            processes: Some(2),
            cpu_pressure: pressure,
            memory_pressure: pressure,
            io_pressure: pressure,
        }),
        cpu_nanoseconds_per_second: None,
        layer: Some(LayerUsage { at_nanos: 77, bytes: 4096, inodes: 1 }),
        layer_filesystem: "/x".into(),
        details: Some(Box::new(details)),
    };
    let received = Traffic { bytes: 10, packets: 1, ..Traffic::default() };
    let link = LinkUsage { name: "eth0".into(), received, sent: Traffic::default() };
    let config = SandboxConfig { name: "p".into(), namespace: "n".into(), ..SandboxConfig::default() };
    SandboxStats {
        sandbox: SandboxSnapshot {
            id: sandbox,
            config: Arc::new(config),
            state: SandboxState::Ready,
            created_at_nanos: 1,
            network: NetworkStatus::default(),
            netns_path: None,
            pid: 0,
            message: String::new(),
            limits: None,
            handler: None,
        },
        usage: None,
        cpu_nanoseconds_per_second: None,
        network: Some(NetworkUsage { at_nanos: 1, links: vec![link] }),
        containers: vec![container],
    }
}

fn all(metrics: &v1::PodSandboxMetrics) -> impl Iterator<Item = &v1::Metric> {
    metrics.metrics.iter().chain(metrics.container_metrics.iter().flat_map(|container| &container.metrics))
}

#[test]
fn every_name_that_is_expected_has_a_descriptor_and_values_with_its_labels() {
    let keys: BTreeMap<String, usize> =
        descriptors().into_iter().map(|descriptor| (descriptor.name, descriptor.label_keys.len())).collect();
    let expected: HashSet<String> = EXPECTED.split_whitespace().map(|name| format!("container_{name}")).collect();
    assert_eq!(keys.keys().cloned().collect::<HashSet<_>>(), expected);
    assert_eq!(expected.len(), 56);
    let metrics = of_sandbox(&stats(), 100).unwrap();
    assert!(all(&metrics).all(|metric| keys[&metric.name] == metric.label_values.len()));
    assert_eq!(all(&metrics).map(|metric| metric.name.clone()).collect::<HashSet<_>>(), expected);
}

#[test]
fn values_come_with_their_labels_and_times() {
    let metrics = of_sandbox(&stats(), 100).unwrap();
    let get = |name: &str| {
        let found = all(&metrics).filter(|metric| metric.name == name);
        found.map(|m| (m.value.unwrap().value, m.label_values[6..].join(","), m.timestamp)).collect::<Vec<_>>()
    };
    let now = |number, labels: &str| (number, labels.to_owned(), 0);
    assert_eq!(get("container_cpu_usage_seconds_total"), [now(12, "total")]);
    assert_eq!(get("container_fs_usage_bytes"), [(4096, "/dev/vda".to_owned(), 77)]);
    assert_eq!(get("container_blkio_device_usage_total"), [now(5, "/dev/sda,8,0,Read"), now(0, "/dev/sda,8,0,Write")]);
    assert_eq!(get("container_pressure_io_waiting_seconds_total"), [now(7, "")]);
    assert_eq!(get("container_pressure_io_stalled_seconds_total"), [now(3, "")]);
    assert_eq!(get("container_memory_failures_total")[1], now(8, "pgfault,hierarchy"));
    assert_eq!(get("container_network_receive_bytes_total"), [now(10, "eth0")]);
    assert_eq!(get("container_spec_memory_limit_bytes"), [now(0, "")], "unlimited is 0");
    assert_eq!(get("container_spec_cpu_quota"), [now(20_000, "")]);
    assert_eq!(
        (get("container_start_time_seconds"), get("container_last_seen")),
        (vec![now(5, "")], vec![now(100, "")])
    );
    let container = &metrics.container_metrics[0].metrics[0].label_values[..6];
    assert_eq!(container, ["/pod/c", &"01".repeat(32), "nginx:1", "c", "p", "n"]);
    assert_eq!(metrics.metrics[0].label_values[3..6], ["POD", "p", "n"]);
}

#[test]
fn what_does_not_run_has_no_metrics() {
    let mut ended = stats();
    ended.containers[0].container.state = ContainerState::Created;
    assert!(of_sandbox(&ended, 1).unwrap().container_metrics.is_empty());
    ended.sandbox.state = SandboxState::NotReady;
    assert!(of_sandbox(&ended, 1).is_none());
}
