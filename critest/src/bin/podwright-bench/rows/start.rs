//! Pods one after the other: how long each takes to come and to go, on each network.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Bench, READY, pod_of, workload};
use crate::contender::Contender;
use crate::lane::Lanes;
use crate::report::{Better, Row};

pub(super) const START: &str = "sandbox + create + start";
const STEADY: &str = "p95 of sandbox + create + start to its p50";
pub(super) const OWN: &str = "the same on one CNI chain, less the plugins' time";
const PLUGINS: &str = "the plugins' time in it";
pub(super) const HOST: &str = "the same, host network";
const END: &str = "stop container + stop pod + remove pod";

/// The single steps, in the order of [`Life::steps`].
const STEPS: [&str; 7] = [
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

/// Where pods are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    /// The contender's best: ours is embedded, peers have the plugins.
    Best,
    Chain,
    Host,
}

impl Network {
    /// Part of the pods' names: a log that an earlier pod of the same name left would say at once that this one is ready.
    fn word(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Chain => "chain",
            Self::Host => "host",
        }
    }
}

/// Times of one pod's life.
struct Life {
    steps: [Duration; STEPS.len()],
    up: Duration,
    down: Duration,
    /// What plugins took while it came up.
    plugins: Option<Duration>,
}

pub(super) async fn measure(bench: &mut Bench) {
    if bench.wants(&[START, STEADY, END]) || bench.wants(&STEPS) {
        best(bench).await;
    }
    if bench.wants(&[OWN, PLUGINS]) {
        chain(bench).await;
    }
    if bench.wants(&[HOST]) {
        host(bench).await;
    }
}

async fn best(bench: &mut Bench) {
    let mut part = bench.part("pods one after the other, each on its best network");
    let mut steps: Vec<Lanes> = STEPS.iter().map(|_| bench.lanes()).collect();
    let (mut up, mut down) = (bench.lanes(), bench.lanes());
    for number in 0..bench.pods {
        for (index, contender) in bench.contenders.iter_mut().enumerate() {
            let Some(life) = part.step(index, life(contender, Network::Best, number)).await else { continue };
            for (row, taken) in steps.iter_mut().zip(life.steps) {
                row.push(index, taken);
            }
            up.push(index, life.up);
            down.push(index, life.down);
        }
    }
    part.tidy(&mut bench.contenders).await;
    for (name, row) in STEPS.into_iter().zip(steps) {
        bench.add(Row::new(name, "ms", Better::Less, row.after(&part)));
    }
    let mut steady = bench.lanes();
    for (index, lane) in up.get().iter().enumerate().filter(|(_, lane)| lane.samples.len() > 0) {
        steady.push_value(index, lane.samples.at(95) / lane.samples.at(50));
    }
    bench.add(Row::new(START, "ms", Better::Less, up.after(&part)).times(10.0));
    bench.add(Row::new(STEADY, "times", Better::Less, steady.after(&part)).at_most(2.0));
    bench.add(Row::new(END, "ms", Better::Less, down.after(&part)).times(10.0));
}

async fn chain(bench: &mut Bench) {
    let mut part = bench.part("pods one after the other, all on one CNI chain");
    let (mut own, mut plugins) = (bench.lanes(), bench.lanes());
    for (index, contender) in bench.contenders.iter().enumerate() {
        part.step(index, async { contender.time_plugins(true) }).await;
    }
    for number in 0..bench.pods.div_ceil(2) {
        for (index, contender) in bench.contenders.iter_mut().enumerate() {
            let Some(life) = part.step(index, life(contender, Network::Chain, number)).await else { continue };
            // A contender whose plugins are not ours to time has no such row.
            if let Some(taken) = life.plugins {
                own.push(index, life.up.saturating_sub(taken));
                plugins.push(index, taken);
            }
        }
    }
    for (index, contender) in bench.contenders.iter().enumerate() {
        part.step(index, async { contender.time_plugins(false) }).await;
    }
    part.tidy(&mut bench.contenders).await;
    bench.add(Row::new(OWN, "ms", Better::Less, own.after(&part)).times(8.0));
    bench.add(Row::new(PLUGINS, "ms", Better::Less, plugins.after(&part)));
}

async fn host(bench: &mut Bench) {
    let mut part = bench.part("pods one after the other, on the host's network");
    let mut up = bench.lanes();
    for number in 0..bench.pods.div_ceil(2) {
        for (index, contender) in bench.contenders.iter_mut().enumerate() {
            if let Some(life) = part.step(index, life(contender, Network::Host, number)).await {
                up.push(index, life.up);
            }
        }
    }
    part.tidy(&mut bench.contenders).await;
    bench.add(Row::new(HOST, "ms", Better::Less, up.after(&part)).times(8.0));
}

async fn life(contender: &mut Contender, network: Network, number: usize) -> Result<Life> {
    let image = match network {
        Network::Best | Network::Host => contender.image.clone(),
        Network::Chain => contender.chain_image.clone(),
    };
    let mut cri = if network == Network::Chain { contender.chain.clone() } else { contender.cri.clone() };
    let config = pod_of(&cri, &format!("{}-{number}", network.word()), network == Network::Host);
    let container = workload(&image);
    let plugins_before = contender.plugins_took();
    let start = Instant::now();
    let pod = cri.run_pod(config).await?;
    let ran = start.elapsed();
    let id = cri.create(&pod, &container).await?;
    let created = start.elapsed();
    cri.start(&id).await?;
    let up = start.elapsed();
    let plugins = contender.plugins_took().zip(plugins_before).map(|(after, before)| after.saturating_sub(before));
    cri.wait_for_log(&pod, "main", READY).await?;
    let start = Instant::now();
    cri.stop(&id, 10).await?;
    let stopped = start.elapsed();
    cri.remove(&id).await?;
    let removed = start.elapsed();
    cri.stop_pod(&pod.id).await?;
    let pod_stopped = start.elapsed();
    cri.remove_pod(&pod.id).await?;
    let end = start.elapsed();
    let steps =
        [ran, created - ran, up - created, stopped, removed - stopped, pod_stopped - removed, end - pod_stopped];
    // Removing the container is no part of what peers were measured by.
    Ok(Life { steps, up, down: end - (removed - stopped), plugins })
}
