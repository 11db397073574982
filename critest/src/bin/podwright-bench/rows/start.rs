//! Pods one after the other: how long each takes to come and to go, on each network.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Bench, READY, pod_of, workload};
use crate::contender::Contender;
use crate::report::Better;
use crate::sample::Samples;

const START: &str = "sandbox + create + start";
const OWN: &str = "the same on one CNI chain, less the plugins' time";
const HOST: &str = "the same, host network";
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

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    if bench.wants(&[START, END]) || bench.wants(&STEPS) {
        best(bench).await?;
    }
    if bench.wants(&[OWN]) {
        chain(bench).await?;
    }
    if bench.wants(&[HOST]) {
        host(bench).await?;
    }
    Ok(())
}

async fn host(bench: &mut Bench) -> Result<()> {
    let mut host = bench.empty();
    for number in 0..bench.pods {
        for (contender, (_, samples)) in bench.contenders.iter_mut().zip(&mut host) {
            samples.push(life(contender, Network::Host, number).await?.up);
        }
    }
    bench.add(HOST, "ms", Better::Less, Some(8.0), host);
    Ok(())
}

async fn best(bench: &mut Bench) -> Result<()> {
    let mut steps: Vec<Vec<(String, Samples)>> = STEPS.iter().map(|_| bench.empty()).collect();
    let (mut up, mut down) = (bench.empty(), bench.empty());
    for number in 0..bench.pods {
        for (index, contender) in bench.contenders.iter_mut().enumerate() {
            let life = life(contender, Network::Best, number).await?;
            for (row, taken) in steps.iter_mut().zip(life.steps) {
                push(row, index, taken);
            }
            push(&mut up, index, life.up);
            push(&mut down, index, life.down);
        }
    }
    for (name, row) in STEPS.into_iter().zip(steps) {
        bench.add(name, "ms", Better::Less, None, row);
    }
    bench.add(START, "ms", Better::Less, Some(10.0), up);
    bench.add(END, "ms", Better::Less, Some(10.0), down);
    Ok(())
}

async fn chain(bench: &mut Bench) -> Result<()> {
    let mut own = bench.empty();
    for contender in &bench.contenders {
        contender.time_plugins(true)?;
    }
    for number in 0..bench.pods {
        for (contender, (_, samples)) in bench.contenders.iter_mut().zip(&mut own) {
            let life = life(contender, Network::Chain, number).await?;
            // A contender whose plugins are not ours to time has no such row.
            if let Some(plugins) = life.plugins {
                samples.push(life.up.saturating_sub(plugins));
            }
        }
    }
    for contender in &bench.contenders {
        contender.time_plugins(false)?;
    }
    bench.add(OWN, "ms", Better::Less, Some(8.0), own);
    Ok(())
}

fn push(row: &mut [(String, Samples)], index: usize, taken: Duration) {
    if let Some((_, samples)) = row.get_mut(index) {
        samples.push(taken);
    }
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
