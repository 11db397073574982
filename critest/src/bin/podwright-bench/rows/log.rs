//! Logs: how fast containers can write, and what that costs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use podwright_critest::{Cri, shell};
use tokio::task::JoinSet;

use super::{Bench, REMOVED_AT_ONCE, remove_pods};
use crate::machine;
use crate::report::{Better, Row};
use crate::sample::number;

const ONE: &str = "log of one container";
const MANY: &str = "logs of 50 containers at once";
const COST: &str = "CPU per GB of one log";

/// Lines of 100 bytes each that one container writes.
const LINES: usize = 2_000_000;
const CROWD: usize = 50;
const LINE_BYTES: usize = 100;
const BYTES_PER_MIB: f64 = 1_048_576.0;

pub(super) async fn measure(bench: &mut Bench) {
    if !bench.wants(&[ONE, MANY, COST]) {
        return;
    }
    let mut part = bench.part("logs");
    let (mut one, mut many, mut cost) = (bench.lanes(), bench.lanes(), bench.lanes());
    let bytes = number(LINES * LINE_BYTES);
    for (index, contender) in bench.contenders.iter().enumerate() {
        let before = machine::cpu();
        let Some(took) = part.step(index, write(&contender.cri, &contender.image, 1, LINES)).await else { continue };
        let cpu = machine::cpu().saturating_sub(before);
        one.push_value(index, bytes / BYTES_PER_MIB / took.as_secs_f64());
        cost.push_value(index, cpu.as_secs_f64() / bytes * 1e9);
        let crowd = write(&contender.cri, &contender.image, CROWD, LINES / CROWD);
        if let Some(took) = part.step(index, crowd).await {
            many.push_value(index, bytes / BYTES_PER_MIB / took.as_secs_f64());
        }
    }
    part.tidy(&mut bench.contenders).await;
    bench.add(Row::new(ONE, "MiB/s", Better::More, one.after(&part)).times(3.0));
    bench.add(Row::new(MANY, "MiB/s", Better::More, many.after(&part)).times(3.0));
    bench.add(Row::new(COST, "s", Better::Less, cost.after(&part)).times(3.0));
}

/// Lets containers write lines and returns the time until all have ended and all is in their logs.
async fn write(cri: &Cri, image: &str, containers: usize, lines: usize) -> Result<Duration> {
    let text = "x".repeat(LINE_BYTES - 1);
    // Made in memory first: busybox writes each line of `yes` by itself, which would be what is measured.
    let script = format!(
        "yes {text} | head -n 1000 > /dev/shm/part; i=0; while [ $i -lt {} ]; do cat /dev/shm/part; i=$((i+1)); done",
        lines / 1000
    );
    let mut pods = Vec::new();
    for number in 0..containers {
        let mut cri = cri.clone();
        let pod = cri.run_pod_named(&format!("log-{containers}-{number}")).await?;
        let id = cri.create(&pod, &shell("main", image, &script)).await?;
        pods.push((pod, id));
    }
    let start = Instant::now();
    let mut running = JoinSet::new();
    for (_, id) in &pods {
        let (mut cri, id) = (cri.clone(), id.clone());
        running.spawn(async move {
            cri.start(&id).await?;
            cri.wait(&id, 300).await
        });
    }
    while let Some(outcome) = running.join_next().await {
        let status = outcome??;
        ensure!(status.exit_code == 0, "a container that writes lines ended with {}", status.exit_code);
    }
    let took = start.elapsed();
    for (pod, _) in &pods {
        let size = std::fs::metadata(cri.log_path(pod, "main"))?.len();
        ensure!(size >= u64::try_from(lines * LINE_BYTES)?, "a log has {size} bytes only");
    }
    remove_pods(cri, pods, REMOVED_AT_ONCE).await?;
    Ok(took)
}
