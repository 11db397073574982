//! Logs: how fast containers can write, and what that costs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use podwright_critest::shell;
use tokio::task::JoinSet;

use super::{Bench, REMOVED_AT_ONCE, remove_pods};
use crate::contender::Contender;
use crate::machine;
use crate::report::{Better, Row};
use crate::sample::number;

const ONE: &str = "log of one container";
const MANY: &str = "logs of 50 containers at once";
const COST: &str = "CPU per GB of one log";

/// What one container writes while it is alone.
const ALONE: Text = Text { doublings: 6, repeats: 32 };
/// What each of many writes.
const IN_A_CROWD: Text = Text { doublings: 3, repeats: 5 };
const CROWD: usize = 50;
const ROUNDS: usize = 3;
/// Lines that are made one by one.
const FIRST_LINES: usize = 1000;
const LINE_BYTES: usize = 100;
const BYTES_PER_MIB: f64 = 1_048_576.0;

/// What a container writes: a part of so many lines, so often.
#[derive(Clone, Copy)]
struct Text {
    doublings: u32,
    repeats: usize,
}

impl Text {
    fn bytes(self) -> usize {
        (FIRST_LINES << self.doublings) * self.repeats * LINE_BYTES
    }

    /// Makes the part in memory first, and writes it with few calls: else it is busybox that is measured, which writes each line of
    /// `yes` by itself, and starts a program for each `cat`.
    fn script(self) -> String {
        let Self { doublings, repeats } = self;
        let line = "x".repeat(LINE_BYTES - 1);
        format!(
            "cd /dev/shm; yes {line} | head -n {FIRST_LINES} > part; \
             i=0; while [ $i -lt {doublings} ]; do cat part part > twice; mv twice part; i=$((i+1)); done; \
             i=0; while [ $i -lt {repeats} ]; do cat part; i=$((i+1)); done"
        )
    }
}

pub(super) async fn measure(bench: &mut Bench) {
    if !bench.wants(&[ONE, MANY, COST]) {
        return;
    }
    let mut part = bench.part("logs");
    let (mut one, mut many, mut cost) = (bench.lanes(), bench.lanes(), bench.lanes());
    for round in 0..ROUNDS {
        for (index, contender) in bench.contenders.iter().enumerate() {
            let names = (format!("log-alone-{round}"), format!("log-crowd-{round}"));
            let alone = write(contender, &names.0, 1, ALONE);
            if let Some((took, cpu)) = part.step(index, alone).await {
                let bytes = number(ALONE.bytes());
                one.push_value(index, bytes / BYTES_PER_MIB / took.as_secs_f64());
                cost.push_value(index, cpu.as_secs_f64() / bytes * 1e9);
            }
            let crowd = write(contender, &names.1, CROWD, IN_A_CROWD);
            if let Some((took, _)) = part.step(index, crowd).await {
                let bytes = number(CROWD * IN_A_CROWD.bytes());
                many.push_value(index, bytes / BYTES_PER_MIB / took.as_secs_f64());
            }
        }
    }
    part.tidy(&mut bench.contenders).await;
    bench.add(Row::new(ONE, "MiB/s", Better::More, one.after(&part)).times(3.0));
    bench.add(Row::new(MANY, "MiB/s", Better::More, many.after(&part)).times(3.0));
    bench.add(Row::new(COST, "s", Better::Less, cost.after(&part)).times(3.0));
}

/// Lets containers write lines. Returns the time until all have ended and all is in their logs, and the processor time of that.
async fn write(contender: &Contender, name: &str, containers: usize, text: Text) -> Result<(Duration, Duration)> {
    let (cri, script) = (&contender.cri, text.script());
    let mut pods = Vec::new();
    for number in 0..containers {
        let mut cri = cri.clone();
        let pod = cri.run_pod_named(&format!("{name}-{number}")).await?;
        let id = cri.create(&pod, &shell("main", &contender.image, &script)).await?;
        pods.push((pod, id));
    }
    let (before, start) = (machine::cpu(), Instant::now());
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
    let (took, cpu) = (start.elapsed(), machine::cpu().saturating_sub(before));
    for (pod, _) in &pods {
        let size = std::fs::metadata(cri.log_path(pod, "main"))?.len();
        ensure!(size >= u64::try_from(text.bytes())?, "a log has {size} bytes only");
    }
    remove_pods(cri, pods, REMOVED_AT_ONCE).await?;
    Ok((took, cpu))
}
