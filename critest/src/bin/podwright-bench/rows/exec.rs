//! ExecSync of `true`: alone, many at once, and what it costs.

use std::time::Instant;

use anyhow::{Result, ensure};
use podwright_critest::{Cri, container};
use tokio::task::JoinSet;

use super::{Bench, remove_pods};
use crate::machine;
use crate::report::Better;
use crate::sample::number;

const ALONE: &str = "ExecSync true";
const COST: &str = "CPU per ExecSync";
const CROWD: &str = "ExecSync true, 50 at once";

/// Calls one after the other.
const CALLS: usize = 100;
/// Calls whose processor time is counted together: the kernel counts in hundredths of a second.
const COUNTED: usize = 200;
const AT_ONCE: usize = 50;
const ROUNDS: usize = 4;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    if !bench.wants(&[ALONE, COST, CROWD]) {
        return Ok(());
    }
    let mut pods = Vec::new();
    for contender in &mut bench.contenders {
        let pod = contender.cri.run_pod_named("exec").await?;
        let id = contender.cri.run(&pod, &container("main", &contender.image, &["sleep", "100000"])).await?;
        pods.push((pod, id));
    }
    let (mut alone, mut cost, mut crowd) = (bench.empty(), bench.empty(), bench.empty());
    for _ in 0..CALLS {
        for ((contender, (_, id)), (_, samples)) in bench.contenders.iter_mut().zip(&pods).zip(&mut alone) {
            let start = Instant::now();
            call(&mut contender.cri, id).await?;
            samples.push(start.elapsed());
        }
    }
    for ((contender, (_, id)), (_, samples)) in bench.contenders.iter_mut().zip(&pods).zip(&mut cost) {
        let before = machine::cpu();
        for _ in 0..COUNTED {
            call(&mut contender.cri, id).await?;
        }
        samples.push_value(machine::cpu().saturating_sub(before).as_secs_f64() * 1000.0 / number(COUNTED));
    }
    for _ in 0..ROUNDS {
        for ((contender, (_, id)), (_, samples)) in bench.contenders.iter().zip(&pods).zip(&mut crowd) {
            let start = Instant::now();
            at_once(&contender.cri, id).await?;
            samples.push_value(number(AT_ONCE) / start.elapsed().as_secs_f64());
        }
    }
    for (contender, pod) in bench.contenders.iter().zip(pods) {
        remove_pods(&contender.cri, vec![pod], 1).await?;
    }
    bench.add(ALONE, "ms", Better::Less, Some(5.0), alone);
    bench.add(COST, "ms", Better::Less, Some(6.0), cost);
    bench.add(CROWD, "calls/s", Better::More, Some(5.0), crowd);
    Ok(())
}

async fn at_once(cri: &Cri, id: &str) -> Result<()> {
    let mut running = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (mut cri, id) = (cri.clone(), id.to_owned());
        running.spawn(async move { call(&mut cri, &id).await });
    }
    while let Some(outcome) = running.join_next().await {
        outcome??;
    }
    Ok(())
}

async fn call(cri: &mut Cri, id: &str) -> Result<()> {
    let reply = cri.exec(id, &["true"]).await?;
    ensure!(reply.exit_code == 0, "true ended with {}", reply.exit_code);
    Ok(())
}
