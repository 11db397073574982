//! Many idle pods: what they cost in memory, how long lists and usage take, how soon a new daemon answers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{
    ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest, ListPodSandboxStatsRequest,
};
use podwright_critest::Cri;

use super::{Bench, REMOVED_AT_ONCE, make_pods, remove_pods};
use crate::contender::Contender;
use crate::machine;
use crate::report::Better;
use crate::sample::{Samples, number};

/// Reads of each kind.
const READS: usize = 20;
/// Restarts of each daemon, alone and with pods.
const RESTARTS: usize = 5;
/// Age that usage may have.
const FRESH: Duration = Duration::from_secs(1);
/// Pods that come up at once before they idle.
const AT_ONCE: usize = 8;
const KIB_PER_MIB: f64 = 1024.0;

/// The reads, and how much faster than the best peer each is to be.
const LISTS: [(&str, Option<f64>); 4] = [
    ("ListPodSandbox", Some(1.0)),
    ("ListContainers", Some(1.0)),
    ("ListContainerStats", Some(20.0)),
    ("ListPodSandboxStats", Some(20.0)),
];

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let lists = LISTS.map(|(name, _)| name);
    if !bench.wants(&["memory", "daemon", "first Status"]) && !bench.wants(&lists) {
        return Ok(());
    }
    let many = bench.many;
    restarts(bench, "start of the daemon to its first Status, without pods").await?;
    let mut rows = Rows::new(bench);
    let mut pods = Vec::new();
    for (index, contender) in bench.contenders.iter().enumerate() {
        let (daemon, free) = (contender.pid().map(machine::pss_kib), machine::available_kib());
        let made = make_pods(&contender.cri, &contender.image, "idle", many, AT_ONCE).await?;
        rows.memory(index, contender, daemon, free, many)?;
        pods.push(made);
    }
    let mut reads: Vec<Vec<(String, Samples)>> = LISTS.iter().map(|_| bench.empty()).collect();
    let mut polling = bench.empty();
    for (index, contender) in bench.contenders.iter_mut().enumerate() {
        let before = machine::cpu();
        for _ in 0..READS {
            for (row, taken) in reads.iter_mut().zip(read(&mut contender.cri, many).await?) {
                if let Some((_, samples)) = row.get_mut(index) {
                    samples.push(taken);
                }
            }
        }
        if let Some((_, samples)) = polling.get_mut(index) {
            samples.push_value(machine::cpu().saturating_sub(before).as_secs_f64() * 1000.0 / number(READS));
        }
    }
    rows.add(bench, many);
    for ((name, target), row) in LISTS.into_iter().zip(reads) {
        bench.add(&format!("{name}, {many} pods"), "ms", Better::Less, target, row);
    }
    bench.add(&format!("CPU of reading all four, {many} pods"), "ms", Better::Less, None, polling);
    restarts(bench, &format!("start of the daemon to its first Status, {many} pods")).await?;
    for (contender, pods) in bench.contenders.iter().zip(pods) {
        remove_pods(&contender.cri, pods, REMOVED_AT_ONCE).await?;
    }
    Ok(())
}

async fn restarts(bench: &mut Bench, name: &str) -> Result<()> {
    let mut row = bench.empty();
    for _ in 0..RESTARTS {
        for (contender, (_, samples)) in bench.contenders.iter_mut().zip(&mut row) {
            if let Some(took) = contender.restart().await? {
                samples.push(took);
            }
        }
    }
    bench.add(name, "ms", Better::Less, Some(5.0), row);
    Ok(())
}

/// Rows of memory, while they are filled.
struct Rows {
    supervisors: Vec<(String, Samples)>,
    growth: Vec<(String, Samples)>,
    sum: Vec<(String, Samples)>,
    available: Vec<(String, Samples)>,
    without: Vec<(String, Samples)>,
    with: Vec<(String, Samples)>,
    dirty: Vec<(String, Samples)>,
}

impl Rows {
    fn new(bench: &Bench) -> Self {
        let [supervisors, growth, sum, available, without, with, dirty] = std::array::from_fn(|_| bench.empty());
        Self { supervisors, growth, sum, available, without, with, dirty }
    }

    /// Reads the memory of a contender that has `many` idle pods, and had none when `daemon` and `free` were read.
    fn memory(
        &mut self,
        index: usize,
        contender: &Contender,
        daemon: Option<u64>,
        free: u64,
        many: usize,
    ) -> Result<()> {
        let per_pod = |kib: u64| kib_as_number(kib) / number(many);
        let put = |row: &mut Vec<(String, Samples)>, value: f64| {
            if let Some((_, samples)) = row.get_mut(index) {
                *samples = Samples::one(value);
            }
        };
        put(&mut self.available, per_pod(free.saturating_sub(machine::available_kib())) / KIB_PER_MIB);
        let pids = contender.supervisors()?;
        let shims = per_pod(pids.iter().map(|pid| machine::pss_kib(*pid)).sum());
        put(&mut self.supervisors, shims);
        if let Some(first) = pids.iter().map(|pid| machine::private_dirty_kib(*pid)).max() {
            put(&mut self.dirty, kib_as_number(first));
        }
        if let (Some(before), Some(pid)) = (daemon, contender.pid()) {
            let after = machine::pss_kib(pid);
            let growth = per_pod(after.saturating_sub(before));
            put(&mut self.growth, growth);
            put(&mut self.sum, shims + growth);
            put(&mut self.without, kib_as_number(before) / KIB_PER_MIB);
            put(&mut self.with, kib_as_number(after) / KIB_PER_MIB);
        }
        Ok(())
    }

    fn add(self, bench: &mut Bench, many: usize) {
        bench.add("memory of a pod's supervisors (PSS)", "KiB", Better::Less, None, self.supervisors);
        bench.add("memory by which the daemon grows per pod (PSS)", "KiB", Better::Less, None, self.growth);
        bench.add("memory of both in sum", "KiB", Better::Less, Some(3.0), self.sum);
        bench.add("memory of the machine per pod (MemAvailable)", "MiB", Better::Less, None, self.available);
        bench.add("memory of the daemon without pods (PSS)", "MiB", Better::Less, Some(5.0), self.without);
        bench.add(&format!("memory of the daemon with {many} pods (PSS)"), "MiB", Better::Less, Some(5.0), self.with);
        bench.add("memory that one supervisor alone dirtied, the most", "KiB", Better::Less, None, self.dirty);
    }
}

fn kib_as_number(kib: u64) -> f64 {
    number(usize::try_from(kib).unwrap_or(usize::MAX))
}

/// One of each read; usage must be of now.
async fn read(cri: &mut Cri, many: usize) -> Result<[Duration; 4]> {
    let start = Instant::now();
    let pods = cri.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.context("ListPodSandbox")?;
    let listed = start.elapsed();
    let containers = cri.runtime.list_containers(ListContainersRequest::default()).await.context("ListContainers")?;
    let both = start.elapsed();
    let asked = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let usage = cri.runtime.list_container_stats(ListContainerStatsRequest::default()).await;
    let usage = usage.context("ListContainerStats")?.into_inner().stats;
    let used = start.elapsed();
    let of_pods = cri.runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await;
    let of_pods = of_pods.context("ListPodSandboxStats")?.into_inner().stats.len();
    let end = start.elapsed();
    let counts = [pods.into_inner().items.len(), containers.into_inner().containers.len(), usage.len(), of_pods];
    ensure!(counts.iter().all(|count| *count >= many), "{many} pods are there, and the lists have {counts:?}");
    let oldest = usage.iter().filter_map(|stats| stats.cpu.as_ref()).map(|cpu| cpu.timestamp).min().unwrap_or_default();
    let oldest = Duration::from_nanos(u64::try_from(oldest).unwrap_or_default());
    ensure!(asked.saturating_sub(oldest) <= FRESH, "usage is older than {FRESH:?}: it comes from a cache");
    Ok([listed, both - listed, used - both, end - used])
}
