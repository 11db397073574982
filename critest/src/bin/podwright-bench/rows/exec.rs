//! ExecSync of `true`: alone, many at once, and what it costs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use podwright_critest::{Cri, Pod, container};
use tokio::task::JoinSet;

use super::{Bench, remove_pods};
use crate::contender::Contender;
use crate::machine;
use crate::report::{Better, Row};
use crate::sample::number;

pub(super) const ALONE: &str = "ExecSync true";
const COST: &str = "CPU per ExecSync";
const CROWD: &str = "ExecSync true, 50 at once";

/// Calls one after the other.
const CALLS: usize = 100;
/// Calls whose processor time is counted together: the kernel counts in hundredths of a second.
const COUNTED: usize = 200;
const AT_ONCE: usize = 50;
const ROUNDS: usize = 4;

pub(super) async fn measure(bench: &mut Bench) {
    if !bench.wants(&[ALONE, COST, CROWD]) {
        return;
    }
    let mut part = bench.part("ExecSync");
    let mut pods = Vec::new();
    for (index, contender) in bench.contenders.iter_mut().enumerate() {
        pods.push(part.step(index, pod(contender)).await);
    }
    let (mut alone, mut cost, mut crowd) = (bench.lanes(), bench.lanes(), bench.lanes());
    for _ in 0..CALLS {
        for (index, (contender, pod)) in bench.contenders.iter_mut().zip(&pods).enumerate() {
            let Some((_, id)) = pod else { continue };
            if let Some(taken) = part.step(index, timed(&mut contender.cri, id)).await {
                alone.push(index, taken);
            }
        }
    }
    for (index, (contender, pod)) in bench.contenders.iter_mut().zip(&pods).enumerate() {
        let Some((_, id)) = pod else { continue };
        if let Some(milliseconds) = part.step(index, counted(&mut contender.cri, id)).await {
            cost.push_value(index, milliseconds);
        }
    }
    for _ in 0..ROUNDS {
        for (index, (contender, pod)) in bench.contenders.iter().zip(&pods).enumerate() {
            let Some((_, id)) = pod else { continue };
            if let Some(rate) = part.step(index, at_once(&contender.cri, id)).await {
                crowd.push_value(index, rate);
            }
        }
    }
    for (index, (contender, pod)) in bench.contenders.iter().zip(pods).enumerate() {
        part.step(index, remove_pods(&contender.cri, pod.into_iter().collect(), 1)).await;
    }
    part.tidy(&mut bench.contenders).await;
    bench.add(Row::new(ALONE, "ms", Better::Less, alone.after(&part)).times(5.0));
    bench.add(Row::new(COST, "ms", Better::Less, cost.after(&part)).times(6.0));
    bench.add(Row::new(CROWD, "calls/s", Better::More, crowd.after(&part)).times(5.0));
}

async fn pod(contender: &mut Contender) -> Result<(Pod, String)> {
    let pod = contender.cri.run_pod_named("exec").await?;
    let id = contender.cri.run(&pod, &container("main", &contender.image, &["sleep", "100000"])).await?;
    Ok((pod, id))
}

async fn timed(cri: &mut Cri, id: &str) -> Result<Duration> {
    let start = Instant::now();
    call(cri, id).await?;
    Ok(start.elapsed())
}

/// Milliseconds of processor time of one call.
async fn counted(cri: &mut Cri, id: &str) -> Result<f64> {
    let before = machine::cpu();
    for _ in 0..COUNTED {
        call(cri, id).await?;
    }
    Ok(machine::cpu().saturating_sub(before).as_secs_f64() * 1000.0 / number(COUNTED))
}

/// Calls that end in a second.
async fn at_once(cri: &Cri, id: &str) -> Result<f64> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (mut cri, id) = (cri.clone(), id.to_owned());
        running.spawn(async move { call(&mut cri, &id).await });
    }
    while let Some(outcome) = running.join_next().await {
        outcome??;
    }
    Ok(number(AT_ONCE) / start.elapsed().as_secs_f64())
}

async fn call(cri: &mut Cri, id: &str) -> Result<()> {
    let reply = cri.exec(id, &["true"]).await?;
    ensure!(reply.exit_code == 0, "true ended with {}", reply.exit_code);
    Ok(())
}
