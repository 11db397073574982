//! What containers and pods use, on the real kernel: numbers that follow what a container does. Made so that it holds on both
//! versions of cgroups.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1;
use podwright_cri_api::v1::{ContainerStats, LinuxPodSandboxStats, Metric, NamespaceMode};
use podwright_critest::{Pod, World, WorldBuilder, linux, shell, with_world, with_world_of};
use podwright_testutil::Daemon;
use serde_json::Value;

/// What the container writes, and what it keeps in memory.
const WRITTEN_BYTES: u64 = 3 << 20;
const KEPT_BYTES: u64 = 8 << 20;
/// More than the time that two reads take that share their span.
const A_WHILE: Duration = Duration::from_millis(1100);
/// For the next count of a writable layer.
const COUNTED_WITHIN: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Waits for `/go`, then works: writes to its root, keeps memory, forks, speaks to the host, burns CPU.
const WORK: &str = "\
while [ ! -e /go ]; do sleep 0.05; done
dd if=/dev/zero of=/written bs=1M count=3 2>/dev/null; sync
dd if=/dev/zero of=/dev/shm/kept bs=1M count=8 2>/dev/null
sleep 1000 & sleep 1000 &
i=0; while [ $i -lt 20 ]; do nc -w 1 $(cat /go) 9 </dev/null >/dev/null 2>&1; i=$((i+1)); done
i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done
echo worked
exec sleep 1000";

fn value(number: Option<v1::UInt64Value>) -> Result<u64> {
    Ok(number.context("a number is missing")?.value)
}

async fn container(world: &World, id: &str) -> Result<ContainerStats> {
    let request = v1::ContainerStatsRequest { container_id: id.into() };
    let reply = world.calls().runtime.container_stats(request).await.context("ContainerStats")?;
    reply.into_inner().stats.context("no stats")
}

async fn pod(world: &World, id: &str) -> Result<LinuxPodSandboxStats> {
    let request = v1::PodSandboxStatsRequest { pod_sandbox_id: id.into() };
    let reply = world.calls().runtime.pod_sandbox_stats(request).await.context("PodSandboxStats")?;
    reply.into_inner().stats.and_then(|stats| stats.linux).context("no stats")
}

async fn metrics(world: &World, pod: &str) -> Result<v1::PodSandboxMetrics> {
    let request = v1::ListPodSandboxMetricsRequest {};
    let reply = world.calls().runtime.list_pod_sandbox_metrics(request).await.context("ListPodSandboxMetrics")?;
    let mut all = reply.into_inner().pod_metrics.into_iter();
    all.find(|metrics| metrics.pod_sandbox_id == pod).context("the pod has no metrics")
}

/// The first of a name whose label values contain `label`.
fn metric(metrics: &v1::PodSandboxMetrics, name: &str, label: &str) -> Result<u64> {
    let containers = metrics.container_metrics.iter().flat_map(|container| &container.metrics);
    let fits = |m: &&Metric| m.name == name && (label.is_empty() || m.label_values.iter().any(|l| l == label));
    let found = metrics.metrics.iter().chain(containers).find(fits);
    value(found.with_context(|| format!("no {name} {label}"))?.value)
}

#[test]
fn root_numbers_follow_what_a_container_does() {
    with_world(async |world| follows(world, true).await);
}

#[test]
fn root_numbers_follow_in_a_bridged_pod() {
    let builder = WorldBuilder::daemon(Daemon::builder().bridge_chain("1.0.0"));
    with_world_of(builder, async |world| follows(world, false).await);
}

async fn follows(world: &mut World, embedded: bool) -> Result<()> {
    let pod_made = world.run_pod_named("busy").await?;
    let mut config = shell("main", &world.image.clone(), WORK);
    linux(&mut config).0.memory_limit_in_bytes = 256 << 20;
    let id = world.run(&pod_made, &config).await?;
    let (before, pod_before) = (container(world, &id).await?, pod(world, &pod_made.id).await?);
    // The host's address in the pod's range.
    let address = world.pod_ip(&pod_made.id).await?;
    let mut parts = address.split('.');
    let gateway = format!("{}.{}.0.1", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    world.sh(&id, &format!("echo {gateway} > /going && mv /going /go")).await?;
    world.wait_for_log(&pod_made, "main", "worked").await?;
    tokio::time::sleep(A_WHILE).await;
    let (mut after, pod_after) = (container(world, &id).await?, pod(world, &pod_made.id).await?);
    // A layer is counted again only some time after its last count, the longer that took. Of the CPU these looks tell nothing.
    let end = Instant::now() + COUNTED_WITHIN;
    let inodes = |stats: &ContainerStats| value(stats.writable_layer.as_ref().and_then(|layer| layer.inodes_used));
    while inodes(&after)? == inodes(&before)? {
        ensure!(Instant::now() < end, "what is written is not counted: {after:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
        after.writable_layer = container(world, &id).await?.writable_layer;
    }

    of_container(&before, &after)?;
    of_pod(&pod_before, &pod_after, &after)?;
    let seen = metrics(world, &pod_made.id).await?;
    of_metrics(&seen, &after)?;
    ensure!(metric(&seen, "container_network_transmit_packets_total", "eth0")? >= 20);
    if embedded {
        // The counters of the host's end are those of the pod's.
        let text = world.sh(&id, "cat /sys/class/net/eth0/statistics/tx_bytes").await?;
        let told = pod(world, &pod_made.id).await?.network.and_then(|n| n.default_interface).context("no link")?;
        ensure!(text.parse::<u64>()? <= value(told.tx_bytes)?, "{text} in the pod, {:?} told", told.tx_bytes);
    }
    ended(world, &pod_made, &id).await
}

fn of_container(before: &ContainerStats, after: &ContainerStats) -> Result<()> {
    let (old, new) = (before.cpu.as_ref().context("no cpu")?, after.cpu.as_ref().context("no cpu")?);
    ensure!(new.timestamp > old.timestamp);
    let burnt = value(new.usage_core_nano_seconds)? - value(old.usage_core_nano_seconds)?;
    ensure!(burnt > 50_000_000, "only {burnt} ns of CPU");
    ensure!(value(new.usage_nano_cores)? > 0);
    let memory = after.memory.as_ref().context("no memory")?;
    let (usage, working_set) = (value(memory.usage_bytes)?, value(memory.working_set_bytes)?);
    ensure!(usage >= working_set && working_set >= KEPT_BYTES, "{memory:?}");
    ensure!(value(memory.available_bytes)? == (256 << 20) - working_set, "{memory:?}");
    ensure!(value(memory.rss_bytes)? > 0 && value(memory.page_faults)? > 0, "{memory:?}");
    let (old, new) =
        (before.writable_layer.as_ref().context("no layer")?, after.writable_layer.as_ref().context("no layer")?);
    let written = value(new.used_bytes)? - value(old.used_bytes)?;
    ensure!((WRITTEN_BYTES..2 * WRITTEN_BYTES).contains(&written), "{written} bytes were written");
    ensure!(value(new.inodes_used)? == value(old.inodes_used)? + 2, "two files");
    let mountpoint = &new.fs_id.as_ref().context("no file system")?.mountpoint;
    ensure!(Path::new(mountpoint).is_dir(), "{mountpoint} can not be statted");
    let pressure = Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && Path::new("/proc/pressure/cpu").exists();
    let told = after.cpu.as_ref().is_some_and(|cpu| cpu.psi.is_some());
    ensure!(told == pressure && after.io.is_some() == pressure, "PSI is told where the kernel has it");
    Ok(())
}

fn of_pod(before: &LinuxPodSandboxStats, after: &LinuxPodSandboxStats, container: &ContainerStats) -> Result<()> {
    let cpu = |stats: &LinuxPodSandboxStats| value(stats.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds));
    let of_container = value(container.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds))?;
    ensure!(cpu(after)? > cpu(before)? && cpu(after)? >= of_container);
    ensure!(value(after.memory.as_ref().and_then(|memory| memory.working_set_bytes))? >= KEPT_BYTES);
    let process = after.process.as_ref().context("no processes")?;
    ensure!(value(process.process_count)? == 3, "three times sleep: {process:?}");
    let link =
        |stats: &LinuxPodSandboxStats| stats.network.clone().and_then(|n| n.default_interface).context("no link");
    let (old, new) = (link(before)?, link(after)?);
    ensure!(new.name == "eth0", "{new:?}");
    // Each attempt is at least a packet each way.
    let sent = value(new.tx_bytes)? - value(old.tx_bytes)?;
    let received = value(new.rx_bytes)? - value(old.rx_bytes)?;
    ensure!(sent >= 20 * 40 && received >= 20 * 40, "sent {sent}, received {received}");
    ensure!(after.containers.len() == 1);
    Ok(())
}

/// Every metric that is promised has a value, but for those that this kernel does not count.
fn of_metrics(metrics: &v1::PodSandboxMetrics, stats: &ContainerStats) -> Result<()> {
    ensure!(metric(metrics, "container_processes", "main")? == 3);
    ensure!(metric(metrics, "container_threads", "main")? == 3);
    ensure!(metric(metrics, "container_file_descriptors", "")? >= 3);
    ensure!(metric(metrics, "container_spec_memory_limit_bytes", "")? == 256 << 20);
    ensure!(metric(metrics, "container_fs_usage_bytes", "")? >= WRITTEN_BYTES);
    ensure!(metric(metrics, "container_memory_max_usage_bytes", "")? >= KEPT_BYTES);
    ensure!(metric(metrics, "container_fs_limit_bytes", "")? > WRITTEN_BYTES);
    let faults = value(stats.memory.as_ref().and_then(|memory| memory.page_faults))?;
    ensure!(metric(metrics, "container_memory_failures_total", "hierarchy")? >= faults);
    ensure!(metric(metrics, "container_ulimits_soft", "max_open_files")? > 0);
    Ok(())
}

/// One that ended keeps what it wrote and uses nothing.
async fn ended(world: &mut World, made: &Pod, id: &str) -> Result<()> {
    world.stop(id, 0).await?;
    let stats = container(world, id).await?;
    ensure!(stats.cpu.is_none() && stats.memory.is_none(), "{stats:?}");
    ensure!(value(stats.writable_layer.context("no layer")?.used_bytes)? >= WRITTEN_BYTES);
    let usage = world.images.image_fs_info(v1::ImageFsInfoRequest {}).await?.into_inner();
    let written = usage.container_filesystems.first().context("no file system of the containers")?;
    ensure!(value(written.used_bytes)? >= WRITTEN_BYTES && value(written.inodes_used)? > 2, "{written:?}");
    ensure!(metrics(world, &made.id).await?.container_metrics.is_empty());
    world.stop_pod(&made.id).await?;
    let stats = pod(world, &made.id).await?;
    ensure!(stats.cpu.is_none() && stats.network.is_none() && stats.containers.len() == 1, "{stats:?}");
    let reply = world.calls().runtime.list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {}).await?;
    ensure!(reply.into_inner().pod_metrics.is_empty(), "a stopped pod has no metrics");
    Ok(())
}

#[test]
fn root_pods_that_share_a_cgroup_are_told_apart() {
    with_world(async |world| {
        let mut config = world.pod("on-the-host");
        let options = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        options.namespace_options.get_or_insert_default().set_network(NamespaceMode::Node);
        let on_host = world.run_pod(config).await?;
        let other = world.run_pod_named("other").await?;
        let image = world.image.clone();
        let keep = "dd if=/dev/zero of=/dev/shm/kept bs=1M count=8 2>/dev/null; echo kept; exec sleep 1000";
        let mut config = shell("main", &image, keep);
        let options = linux(&mut config).1.namespace_options.get_or_insert_default();
        options.set_network(NamespaceMode::Node);
        world.run(&on_host, &config).await?;
        world.run(&other, &shell("main", &image, "exec sleep 1000")).await?;
        world.wait_for_log(&on_host, "main", "kept").await?;
        let (on_host, other) = (pod(world, &on_host.id).await?, pod(world, &other.id).await?);
        let memory = |stats: &LinuxPodSandboxStats| value(stats.memory.as_ref().and_then(|m| m.working_set_bytes));
        ensure!(memory(&on_host)? >= KEPT_BYTES && memory(&other)? < KEPT_BYTES, "{on_host:?} {other:?}");
        ensure!(on_host.network.is_none(), "the host's traffic is not the pod's");
        ensure!(other.network.is_some());
        Ok(())
    });
}

#[test]
fn root_crictl_shows_usage() {
    with_world(async |world| {
        let made = world.run_pod_named("shown").await?;
        let image = world.image.clone();
        let id = world.run(&made, &shell("main", &image, "exec sleep 1000")).await?;
        world.run_to_end(&made, &shell("over", &image, "true")).await?;
        let json = |words: &[&str]| -> Result<Value> { Ok(serde_json::from_str(&world.daemon.crictl(words)?)?) };
        let length = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_array).map(Vec::len);

        let short = id.get(..13).context("a short id")?;
        let table = world.daemon.crictl(&["stats"])?;
        ensure!(table.contains(short) && table.lines().count() == 2, "only what runs: {table}");
        ensure!(length(&json(&["stats", "-o", "json"])?, "/stats") == Some(2));
        ensure!(length(&json(&["stats", "-o", "json", "--id", short])?, "/stats") == Some(1));
        ensure!(length(&json(&["stats", "-o", "json", "--pod", &made.id])?, "/stats") == Some(2));
        let none = json(&["stats", "-o", "json", "--label", "no=label"])?;
        ensure!(length(&none, "/stats").unwrap_or(0) == 0, "{none}");

        let pods = world.daemon.crictl(&["statsp"])?;
        ensure!(pods.contains(made.id.get(..13).context("a short id")?), "{pods}");
        ensure!(length(&json(&["statsp", "-o", "json"])?, "/stats") == Some(1));
        ensure!(length(&json(&["metricdescs"])?, "/descriptors") == Some(56));
        let metrics = json(&["metricsp"])?;
        ensure!(length(&metrics, "/podMetrics") == Some(1), "{metrics}");
        ensure!(length(&metrics, "/podMetrics/0/containerMetrics") == Some(1), "{metrics}");
        Ok(())
    });
}
