//! Many idle pods, more and more of them: what they cost in memory, how long lists and usage take, how soon a new daemon answers.

mod memory;
mod reads;

use std::time::Duration;

use anyhow::{Context, Result};
use podwright_critest::Pod;

use super::{Bench, REMOVED_AT_ONCE, make_pods, remove_pods};
use crate::contender::Contender;
use crate::lane::Part;
use crate::report::{Better, Row};
use memory::Memory;

/// Restarts of each daemon without pods.
const RESTARTS: usize = 5;
/// Restarts with all pods.
const RESTARTS_WITH_PODS: usize = 3;
/// Pods at which is measured, on the way to all.
const STAGES: [usize; 3] = [50, 100, 500];
/// Pods from which on lists are worth a look.
const ENOUGH_FOR_LISTS: usize = 100;
/// Pods that come up at once before they idle.
const AT_ONCE: usize = 8;

/// How long each daemon is left alone before its memory is read: the rows are about idle ones.
const SETTLE: Duration = Duration::from_secs(3);

const ALONE: &str = "start of the daemon to its first Status, without pods";

pub(super) async fn measure(bench: &mut Bench) {
    let with_pods = format!("start of the daemon to its first Status, {} pods", bench.many);
    let pods = bench.wants(&["memory", &with_pods]) || reads::wanted(bench);
    if bench.wants(&[ALONE]) || pods {
        let part = bench.part("starts of the daemon, without pods");
        restarts(bench, part, ALONE, RESTARTS).await;
    }
    if pods {
        grow(bench, &with_pods).await;
    }
}

async fn grow(bench: &mut Bench, with_pods: &str) {
    let many = bench.many;
    let stages: Vec<usize> = STAGES.into_iter().filter(|stage| *stage < many).chain([many]).collect();
    let mut part = bench.part(&format!("idle pods, up to {many}"));
    tokio::time::sleep(SETTLE).await;
    let mut memory = Memory::new(bench);
    let mut pods: Vec<Vec<(Pod, String)>> = bench.contenders.iter().map(|_| Vec::new()).collect();
    for stage in stages {
        let mut of_stage = bench.part(&format!("{stage} idle pods"));
        for (index, (contender, pods)) in bench.contenders.iter().zip(&mut pods).enumerate() {
            if let Some(growth) = part.step(index, more(contender, pods, stage)).await {
                tokio::time::sleep(SETTLE).await;
                memory.look(index, contender, growth);
            } else {
                of_stage.fail(index, format!("it did not come to {stage} pods"));
            }
        }
        memory.add_daemon(bench, stage, &of_stage);
        if stage >= ENOUGH_FOR_LISTS || stage == many {
            reads::measure(bench, &mut of_stage, &pods, stage).await;
        }
    }
    for (index, contender) in bench.contenders.iter().enumerate() {
        part.step(index, async { memory.look_at_supervisors(index, contender, many) }).await;
    }
    memory.add(bench, &part);
    let restarted = bench.part(&format!("starts of the daemon, {many} pods"));
    restarts(bench, restarted, with_pods, RESTARTS_WITH_PODS).await;
    bench.part("removing the idle pods");
    for (index, (contender, pods)) in bench.contenders.iter().zip(pods).enumerate() {
        part.step(index, remove_pods(&contender.cri, pods, REMOVED_AT_ONCE)).await;
    }
    part.tidy(&mut bench.contenders).await;
}

/// Brings a contender to `stage` pods. Returns by how many KiB the machine's free memory fell.
async fn more(contender: &Contender, pods: &mut Vec<(Pod, String)>, stage: usize) -> Result<u64> {
    let free = crate::machine::available_kib();
    let prefix = format!("idle-{stage}");
    let missing = stage.saturating_sub(pods.len());
    let made = make_pods(&contender.cri, &contender.image, &prefix, missing, AT_ONCE).await;
    pods.extend(made.context("making idle pods")?);
    Ok(free.saturating_sub(crate::machine::available_kib()))
}

async fn restarts(bench: &mut Bench, mut part: Part, name: &str, count: usize) {
    let mut row = bench.lanes();
    for _ in 0..count {
        for (index, contender) in bench.contenders.iter_mut().enumerate() {
            if let Some(Some(took)) = part.step(index, contender.restart()).await {
                row.push(index, took);
            }
        }
    }
    bench.add(Row::new(name, "ms", Better::Less, row.after(&part)).times(5.0));
}
