//! `cargo xtask bench`: start-up, throughput and memory, measured on release builds. Started by xtask, which builds them.
//!
//! Prints a table and its conditions; judges nothing.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // It is a program for a terminal.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use podwright_cri_api::v1::{ListContainerStatsRequest, ListPodSandboxMetricsRequest, ListPodSandboxStatsRequest};
use podwright_critest::{Cri, Pod, container};
use podwright_testutil::image::{Compression, Format, ImageBuilder, LayerBuilder};
use podwright_testutil::{Daemon, Registry, TestHost, base};
use tokio::task::JoinSet;

const PARALLEL: usize = 16;
const LAYERS: usize = 6;
/// Reads of usage.
const READS: usize = 50;
const PULL_BYTES: usize = 200 << 20;

#[derive(Parser)]
struct Arguments {
    /// Pods made one after the other, and pods that stay idle for the measurement of memory.
    #[arg(long, default_value_t = 100)]
    pods: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let pods = Arguments::parse().pods.max(1);
    let host = TestHost::new()?;
    let registry = Registry::start_in(&host)?;
    let image = registry.push(&base::busybox()?, "busybox", "bench")?;
    let daemon = Daemon::builder().log_level("warn").start_in(host)?;
    daemon.trust(&registry)?;
    let mut cri = Cri::connect(&daemon).await?;
    cri.pull(&image).await?;
    conditions()?;
    sequential(&mut cri, &image, pods).await?;
    parallel(&cri, &image, pods).await?;
    memory(&daemon, &mut cri, &image, pods).await?;
    pull(&mut cri, &registry).await
}

fn conditions() -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
    let cpus = std::thread::available_parallelism()?;
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown");
    let cgroups = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" };
    println!("kernel {}, {cpus} CPUs ({model}), cgroup {cgroups}, embedded network, release builds,", kernel.trim());
    println!("busybox from a registry on 127.0.0.1; the client shares the CPUs with the daemon\n");
    Ok(())
}

/// Times of one kind of call.
struct Times {
    name: &'static str,
    taken: Vec<Duration>,
}

impl Times {
    fn print(mut self) {
        self.taken.sort_unstable();
        let at = |percent: usize| {
            let index = (self.taken.len() * percent / 100).min(self.taken.len().saturating_sub(1));
            self.taken.get(index).copied().unwrap_or_default().as_secs_f64() * 1000.0
        };
        println!("{:<34} p50 {:>8.2} ms   p95 {:>8.2} ms", self.name, at(50), at(95));
    }
}

async fn sequential(cri: &mut Cri, image: &str, pods: usize) -> Result<()> {
    let names = [
        "RunPodSandbox",
        "CreateContainer",
        "StartContainer",
        "sandbox + create + start",
        "ExecSync (true)",
        "StopContainer (kill)",
        "RemoveContainer",
        "StopPodSandbox",
        "RemovePodSandbox",
    ];
    let mut all = names.map(|name| Times { name, taken: Vec::with_capacity(pods) });
    for number in 0..pods {
        for (times, taken) in all.iter_mut().zip(one_pod(cri, image, number).await?) {
            times.taken.push(taken);
        }
    }
    println!("{pods} pods, one after the other");
    all.into_iter().for_each(Times::print);
    Ok(())
}

async fn one_pod(cri: &mut Cri, image: &str, number: usize) -> Result<[Duration; 9]> {
    let config = container("main", image, &["sleep", "1000"]);
    let start = Instant::now();
    let pod = cri.run_pod_named(&format!("seq-{number}")).await?;
    let ran = start.elapsed();
    let id = cri.create(&pod, &config).await?;
    let created = start.elapsed();
    cri.start(&id).await?;
    let started = start.elapsed();
    cri.exec(&id, &["true"]).await?;
    let executed = start.elapsed();
    cri.stop(&id, 0).await?;
    let stopped = start.elapsed();
    cri.remove(&id).await?;
    let removed = start.elapsed();
    cri.stop_pod(&pod.id).await?;
    let pod_stopped = start.elapsed();
    cri.remove_pod(&pod.id).await?;
    let end = start.elapsed();
    Ok([
        ran,
        created - ran,
        started - created,
        started,
        executed - started,
        stopped - executed,
        removed - stopped,
        pod_stopped - removed,
        end - pod_stopped,
    ])
}

async fn parallel(cri: &Cri, image: &str, pods: usize) -> Result<()> {
    let start = Instant::now();
    let made = make_pods(cri, image, "par", pods).await?;
    let took = start.elapsed().as_secs_f64();
    println!("\n{pods} pods, {PARALLEL} at a time: {:.1} pods/s to running", as_f64(pods) / took);
    let start = Instant::now();
    remove_pods(cri, made).await?;
    println!("{:<34} {:.1} pods/s", "their removal:", as_f64(pods) / start.elapsed().as_secs_f64());
    Ok(())
}

async fn make_pods(cri: &Cri, image: &str, prefix: &str, count: usize) -> Result<Vec<Pod>> {
    let mut made = Vec::with_capacity(count);
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() >= PARALLEL {
            made.extend(running.join_next().await.transpose()?.transpose()?);
        }
        let (mut cri, config) = (cri.clone(), container("main", image, &["sleep", "1000"]));
        let name = format!("{prefix}-{number}");
        running.spawn(async move {
            let pod = cri.run_pod_named(&name).await?;
            cri.run(&pod, &config).await?;
            anyhow::Ok(pod)
        });
    }
    while let Some(pod) = running.join_next().await {
        made.push(pod??);
    }
    Ok(made)
}

async fn remove_pods(cri: &Cri, pods: Vec<Pod>) -> Result<()> {
    let mut running = JoinSet::new();
    for pod in pods {
        if running.len() >= PARALLEL {
            running.join_next().await.transpose()?.transpose()?;
        }
        let mut cri = cri.clone();
        running.spawn(async move { cri.remove_pod(&pod.id).await });
    }
    while let Some(outcome) = running.join_next().await {
        outcome??;
    }
    Ok(())
}

async fn memory(daemon: &Daemon, cri: &mut Cri, image: &str, pods: usize) -> Result<()> {
    let made = make_pods(cri, image, "idle", pods).await?;
    let pid = daemon.pid().context("the daemon runs")?;
    let shims: u64 = shims(daemon)?.into_iter().map(pss_kib).sum();
    println!("\n{pods} idle pods of one container each");
    println!("{:<34} {:>8.1} KiB PSS per pod", "shims and log writers", as_f64(usize::try_from(shims)?) / as_f64(pods));
    println!("{:<34} {:>8.1} MiB PSS", "daemon", as_f64(usize::try_from(pss_kib(pid))?) / 1024.0);
    usage(cri).await?;
    remove_pods(cri, made).await
}

/// Reads of what all these pods use, each right after the other.
async fn usage(cri: &mut Cri) -> Result<()> {
    let names = ["ListContainerStats", "ListPodSandboxStats", "ListPodSandboxMetrics"];
    let mut all = names.map(|name| Times { name, taken: Vec::with_capacity(READS) });
    for _ in 0..READS {
        let start = Instant::now();
        cri.runtime.list_container_stats(ListContainerStatsRequest::default()).await.context("ListContainerStats")?;
        let containers = start.elapsed();
        cri.runtime
            .list_pod_sandbox_stats(ListPodSandboxStatsRequest::default())
            .await
            .context("ListPodSandboxStats")?;
        let sandboxes = start.elapsed();
        let request = ListPodSandboxMetricsRequest {};
        cri.runtime.list_pod_sandbox_metrics(request).await.context("ListPodSandboxMetrics")?;
        let taken = [containers, sandboxes - containers, start.elapsed() - sandboxes];
        all.iter_mut().zip(taken).for_each(|(times, taken)| times.taken.push(taken));
    }
    all.into_iter().for_each(Times::print);
    Ok(())
}

/// All processes that run the shim's code, the forks that write logs included.
fn shims(daemon: &Daemon) -> Result<Vec<u32>> {
    // Other daemons may run on this machine: only processes of this test's cgroup.
    let cgroup = daemon.host().cgroup_parent();
    let ours = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(&cgroup));
    let entries = fs::read_dir("/proc").context("listing /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let ours = |pid: &u32| ours(*pid) && !fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|n| n == "sleep\n");
    Ok(pids.filter(ours).collect())
}

fn pss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

async fn pull(cri: &mut Cri, registry: &Registry) -> Result<()> {
    let mut builder = ImageBuilder::new(Format::Oci);
    for number in 0..LAYERS {
        let content = half_random(PULL_BYTES / LAYERS, u64::try_from(number)? + 1);
        let mut layer = LayerBuilder::new();
        for (part, chunk) in content.chunks(256 << 10).enumerate() {
            layer = layer.file(&format!("data/{number}/{part}"), 0o644, chunk);
        }
        builder = builder.layer(&layer.finish(Compression::Gzip)?);
    }
    let image = builder.build();
    let compressed: usize = image.layers.iter().map(|layer| layer.blob.bytes.len()).sum();
    let reference = registry.push(&image, "big", "1")?;
    let start = Instant::now();
    cri.pull(&reference).await?;
    let took = start.elapsed().as_secs_f64();
    println!(
        "\npull of {} MiB in {LAYERS} layers ({} MiB compressed): {took:.2} s, with the registry on the same CPUs",
        PULL_BYTES >> 20,
        compressed >> 20
    );
    Ok(())
}

/// Bytes that shrink to about half, as programs do: random ones, each followed by a zero.
fn half_random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
    }
    bytes.truncate(length);
    bytes
}

#[allow(clippy::cast_precision_loss)] // Small counts.
fn as_f64(count: usize) -> f64 {
    count as f64
}
