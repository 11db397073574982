//! One pod whose volume never answers: what others notice of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{ContainerState, ListContainersRequest, StatusRequest};
use podwright_critest::{Pod, container, mount, shell};
use podwright_testutil::HungMount;

use super::{Bench, OURS};
use crate::contender::Contender;
use crate::report::{Better, Row};
use crate::sample::Samples;

const ROWS: [&str; 4] = [
    "one pod hangs: p95 of Status to that without",
    "one pod hangs: p95 of ListPodSandbox to that without",
    "one pod hangs: p95 of ListContainers to that without",
    "one pod hangs: p95 of another pod's start to that without",
];
/// How often a pod hangs and is let go again: what the machine does beside is the same for both.
const ROUNDS: usize = 4;
/// Starts with the pod hung, and as many without, in a round.
const CALLS: usize = 15;
/// Reads for each of these: they take well under a millisecond, so the 95th of a hundred would be chance.
const READS: usize = 20;
/// Time for a container to come to its volume, and to end when that is gone.
const SOON: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);

type Taken = [Samples; ROWS.len()];

pub(super) async fn measure(bench: &mut Bench) {
    if !bench.wants(&ROWS) {
        return;
    }
    let mut part = bench.part("a pod that hangs");
    let (mut without, mut with) = (Taken::default(), Taken::default());
    if let Some(contender) = bench.contenders.get_mut(OURS) {
        for round in 0..ROUNDS {
            part.step(OURS, calls(contender, &format!("free-{round}"), &mut without)).await;
            part.step(OURS, beside(contender, round, &mut with)).await;
        }
    }
    part.tidy(&mut bench.contenders).await;
    for ((name, without), with) in ROWS.into_iter().zip(without).zip(with) {
        let mut row = bench.lanes();
        if without.len() > 0 {
            row.push_value(OURS, with.at(95) / without.at(95));
        }
        let row = Row::new(name, "times", Better::Less, row.after(&part)).at_most(1.5);
        bench.add(row.alone("Ours alone: the ratio is to ourselves."));
    }
}

/// The calls while a container waits for a volume that does not answer.
async fn beside(contender: &mut Contender, round: usize, taken: &mut Taken) -> Result<()> {
    let daemon = contender.daemon().context("our daemon")?;
    let path = daemon.path(&format!("volumes/dead-{round}"));
    let hung = HungMount::new(contender.host(), &path)?;
    let mut config = shell("main", &contender.image, "cat /dead/file; exit 0");
    config.mounts = vec![mount(&path, "/dead")];
    let pod = contender.cri.run_pod_named(&format!("hung-{round}")).await?;
    let id = contender.cri.run(&pod, &config).await?;
    let end = Instant::now() + SOON;
    while hung.waiting() == 0 {
        ensure!(Instant::now() < end, "the container does not come to its volume");
        tokio::time::sleep(LOOK).await;
    }
    let outcome = calls(contender, &format!("beside-{round}"), taken).await;
    let state = contender.cri.status(&id).await?.state();
    drop(hung);
    outcome?;
    ensure!(state == ContainerState::ContainerRunning, "the container did not hang all the time: {state:?}");
    contender.cri.wait(&id, SOON.as_secs()).await?;
    contender.cri.remove_pod(&pod.id).await?;
    contender.host().run(&["umount", "-l", &path.display().to_string()]).map(drop)
}

async fn calls(contender: &mut Contender, name: &str, taken: &mut Taken) -> Result<()> {
    let [status, pods, containers, starts] = taken;
    for number in 0..CALLS {
        for _ in 0..READS {
            let start = Instant::now();
            contender.cri.runtime.status(StatusRequest::default()).await.context("Status")?;
            status.push(start.elapsed());
            let start = Instant::now();
            contender.cri.pods().await?;
            pods.push(start.elapsed());
            let start = Instant::now();
            contender.cri.runtime.list_containers(ListContainersRequest::default()).await.context("ListContainers")?;
            containers.push(start.elapsed());
        }
        let start = Instant::now();
        let pod = another(contender, &format!("{name}-{number}")).await?;
        starts.push(start.elapsed());
        contender.cri.remove_pod(&pod.id).await?;
    }
    Ok(())
}

async fn another(contender: &mut Contender, name: &str) -> Result<Pod> {
    let pod = contender.cri.run_pod_named(name).await?;
    contender.cri.run(&pod, &container("main", &contender.image, &["sleep", "100000"])).await?;
    Ok(pod)
}
