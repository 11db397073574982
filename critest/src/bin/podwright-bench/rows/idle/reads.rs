//! Lists and usage of all pods: how long each takes, what kubelet's polling costs, and that nobody answers with old usage.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{
    ContainerStats, ListContainerStatsRequest, ListContainersRequest, ListPodSandboxStatsRequest, PodSandboxStats,
};
use podwright_critest::{Cri, Pod};

use super::Bench;
use crate::lane::{Lanes, Part};
use crate::machine;
use crate::report::{Better, Row};
use crate::sample::number;

/// Reads of each kind.
const READS: usize = 20;
/// Age that usage may have.
const FRESH: Duration = Duration::from_secs(1);
/// Processor time that a burst in a container certainly takes.
const BURST_NANOSECONDS: u64 = 1_000_000;
/// A loop that takes longer.
const BURST: &str = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";
/// kubelet lists pods and containers every second, and asks for usage every ten.
const LISTS_PER_USAGE: usize = 10;
/// Pods that are polled in all: more rounds with few, as the kernel counts in hundredths of a second.
const POLLED_PODS: usize = 2_000;

/// The reads, and how much faster than the best peer each is to be.
const READ: [(&str, f64); 4] =
    [("ListPodSandbox", 1.0), ("ListContainers", 1.0), ("ListContainerStats", 20.0), ("ListPodSandboxStats", 20.0)];
const POLLING: &str = "CPU of kubelet's polling, per second";

pub(super) fn wanted(bench: &Bench) -> bool {
    bench.wants(&READ.map(|(name, _)| name)) || bench.wants(&[POLLING])
}

/// Measures with `many` pods of each contender.
pub(super) async fn measure(bench: &mut Bench, part: &mut Part, pods: &[Vec<(Pod, String)>], many: usize) {
    if !wanted(bench) {
        return;
    }
    let mut rows: Vec<Lanes> = READ.iter().map(|_| bench.lanes()).collect();
    let mut polling = bench.lanes();
    for (index, (contender, pods)) in bench.contenders.iter_mut().zip(pods).enumerate() {
        let Some((pod, id)) = pods.first() else { continue };
        part.step(index, is_measured_when_asked(&mut contender.cri, &pod.id, id)).await;
        for _ in 0..READS {
            if let Some(taken) = part.step(index, read(&mut contender.cri, many)).await {
                rows.iter_mut().zip(taken).for_each(|(row, taken)| row.push(index, taken));
            }
        }
        if let Some(cost) = part.step(index, poll(&mut contender.cri, POLLED_PODS.div_ceil(many))).await {
            polling.push_value(index, cost);
        }
    }
    for ((name, times), row) in READ.into_iter().zip(rows) {
        bench.add(Row::new(format!("{name}, {many} pods"), "ms", Better::Less, row.after(part)).times(times));
    }
    let name = format!("{POLLING}, {many} pods");
    bench.add(Row::new(name, "ms", Better::Less, polling.after(part)).times(20.0));
}

async fn container_stats(cri: &mut Cri) -> Result<Vec<ContainerStats>> {
    let reply = cri.runtime.list_container_stats(ListContainerStatsRequest::default()).await;
    Ok(reply.context("ListContainerStats")?.into_inner().stats)
}

async fn pod_stats(cri: &mut Cri) -> Result<Vec<PodSandboxStats>> {
    let reply = cri.runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await;
    Ok(reply.context("ListPodSandboxStats")?.into_inner().stats)
}

async fn list_pods(cri: &mut Cri) -> Result<usize> {
    Ok(cri.pods().await?.len())
}

async fn list_containers(cri: &mut Cri) -> Result<usize> {
    let reply = cri.runtime.list_containers(ListContainersRequest::default()).await.context("ListContainers")?;
    Ok(reply.into_inner().containers.len())
}

/// One of each read; usage must be of now.
async fn read(cri: &mut Cri, many: usize) -> Result<[Duration; READ.len()]> {
    let start = Instant::now();
    let pods = list_pods(cri).await?;
    let listed = start.elapsed();
    let containers = list_containers(cri).await?;
    let both = start.elapsed();
    let asked = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let usage = container_stats(cri).await?;
    let used = start.elapsed();
    let asked_for_pods = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let usage_of_pods = pod_stats(cri).await?;
    let end = start.elapsed();
    let counts = [pods, containers, usage.len(), usage_of_pods.len()];
    ensure!(counts.iter().all(|count| *count >= many), "{many} pods are there, and the lists have {counts:?}");
    is_fresh("ListContainerStats", asked, usage.iter().flat_map(times_of_container))?;
    is_fresh("ListPodSandboxStats", asked_for_pods, usage_of_pods.iter().flat_map(times_of_pod))?;
    Ok([listed, both - listed, used - both, end - used])
}

/// When the processor time and the memory of a container were read.
fn times_of_container(stats: &ContainerStats) -> Vec<i64> {
    let cpu = stats.cpu.as_ref().map(|cpu| cpu.timestamp);
    cpu.into_iter().chain(stats.memory.as_ref().map(|memory| memory.timestamp)).collect()
}

/// The same of a pod, and of its containers in the same answer.
fn times_of_pod(stats: &PodSandboxStats) -> Vec<i64> {
    let Some(linux) = &stats.linux else { return vec![0] };
    let own = linux.cpu.as_ref().map(|cpu| cpu.timestamp);
    let own = own.into_iter().chain(linux.memory.as_ref().map(|memory| memory.timestamp));
    own.chain(linux.containers.iter().flat_map(times_of_container)).collect()
}

/// No row is won by answering from a cache.
fn is_fresh(call: &str, asked: Duration, times: impl Iterator<Item = i64>) -> Result<()> {
    let oldest = times.min().with_context(|| format!("{call} tells no times"))?;
    let age = asked.saturating_sub(Duration::from_nanos(u64::try_from(oldest).unwrap_or_default()));
    ensure!(age <= FRESH, "usage of {call} is {age:?} old: it comes from a cache");
    Ok(())
}

/// A time of now can be written beside an old value. So a container works for a moment, and both calls have to know of it at once.
async fn is_measured_when_asked(cri: &mut Cri, pod: &str, id: &str) -> Result<()> {
    let before = used(cri, pod, id).await?;
    cri.sh(id, BURST).await.context("working in a container")?;
    let after = used(cri, pod, id).await?;
    for (call, before, after) in [("ListContainerStats", before.0, after.0), ("ListPodSandboxStats", before.1, after.1)]
    {
        let grown = after.saturating_sub(before);
        ensure!(grown >= BURST_NANOSECONDS, "{call} grew by {grown} ns over a burst of work: it comes from a cache");
    }
    Ok(())
}

/// Nanoseconds of processor time of a container, and of its pod.
async fn used(cri: &mut Cri, pod: &str, id: &str) -> Result<(u64, u64)> {
    let containers = container_stats(cri).await?;
    let container = containers.iter().find(|stats| stats.attributes.as_ref().is_some_and(|its| its.id == id));
    let container = container.and_then(|stats| stats.cpu.as_ref()?.usage_core_nano_seconds.as_ref());
    let pods = pod_stats(cri).await?;
    let of_pod = pods.iter().find(|stats| stats.attributes.as_ref().is_some_and(|its| its.id == pod));
    let of_pod = of_pod.and_then(|stats| stats.linux.as_ref()?.cpu.as_ref()?.usage_core_nano_seconds.as_ref());
    let (container, of_pod) = (container.context("no usage of a container")?, of_pod.context("no usage of a pod")?);
    Ok((container.value, of_pod.value))
}

/// Milliseconds of processor time that a second of kubelet's polling takes.
async fn poll(cri: &mut Cri, rounds: usize) -> Result<f64> {
    let before = machine::cpu();
    for _ in 0..rounds {
        for _ in 0..LISTS_PER_USAGE {
            list_pods(cri).await?;
            list_containers(cri).await?;
        }
        container_stats(cri).await?;
        pod_stats(cri).await?;
    }
    let used = machine::cpu().saturating_sub(before).as_secs_f64() * 1000.0;
    Ok(used / number(rounds * LISTS_PER_USAGE))
}

#[cfg(test)]
mod tests {
    use podwright_cri_api::v1::{CpuUsage, LinuxPodSandboxStats};

    use super::*;

    #[test]
    fn usage_that_is_older_than_a_second_is_refused() {
        let asked = Duration::from_secs(100);
        let at = |milliseconds: i64| milliseconds * 1_000_000;
        is_fresh("a call", asked, [at(99_100), at(100_050)].into_iter()).unwrap();
        assert!(is_fresh("a call", asked, [at(98_900), at(100_050)].into_iter()).is_err(), "one of them is old");
        assert!(is_fresh("a call", asked, [0].into_iter()).is_err(), "no time");
        assert!(is_fresh("a call", asked, std::iter::empty()).is_err(), "nothing");
    }

    #[test]
    fn the_times_of_a_pod_are_those_of_its_containers_too() {
        let cpu = |timestamp| Some(CpuUsage { timestamp, ..Default::default() });
        let containers = vec![ContainerStats { cpu: cpu(2), ..Default::default() }];
        let linux = LinuxPodSandboxStats { cpu: cpu(1), containers, ..Default::default() };
        assert_eq!(times_of_pod(&PodSandboxStats { linux: Some(linux), ..Default::default() }), [1, 2]);
        assert_eq!(times_of_pod(&PodSandboxStats::default()), [0], "a pod without usage is not fresh");
    }
}
