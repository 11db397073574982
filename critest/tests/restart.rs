//! A daemon that is killed, or asked to end, and started again over many pods, with sessions under way: no container notices, no line of a
//! log is missing, sessions end. (One pod, in detail, is in `lifecycle`.)

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use podwright_cri_api::v1::{ContainerState, ListContainersRequest, PodSandboxState};
use podwright_critest::{Cri, Pod, World, read_growing_log, shell, with_world};
use tokio::task::JoinSet;

const PODS: usize = 24;
const AT_ONCE: usize = 6;
const SOON: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Counts, with a process for the pauses.
const COUNTER: &str = "i=0; while :; do echo $i; i=$((i + 1)); sleep 0.2; done";

async fn bring_up(mut calls: Cri, n: usize, image: String) -> Result<(Pod, String)> {
    let pod = calls.run_pod_named(&format!("pod-{n}")).await?;
    let id = calls.run(&pod, &shell("main", &image, COUNTER)).await?;
    calls.wait_for_log(&pod, "main", "0").await?;
    Ok((pod, id))
}

async fn bring_all_up(world: &World) -> Result<Vec<(Pod, String)>> {
    let (mut work, mut made) = (JoinSet::new(), Vec::new());
    for n in 0..PODS {
        if work.len() == AT_ONCE {
            made.extend(work.join_next().await.transpose()?.transpose()?);
        }
        work.spawn(bring_up(world.calls(), n, world.image.clone()));
    }
    while let Some(pod) = work.join_next().await {
        made.push(pod??);
    }
    Ok(made)
}

/// What is told of every container, but for the time of telling.
async fn told(calls: &mut Cri) -> Result<BTreeMap<String, String>> {
    let list = calls.runtime.list_containers(ListContainersRequest::default()).await.context("ListContainers")?;
    let mut all = BTreeMap::new();
    for found in list.into_inner().containers {
        let (status, pid) = (calls.status(&found.id).await?, calls.pid(&found.id).await?);
        all.insert(found.id, format!("pid {pid} {status:?}"));
    }
    for pod in calls.pods().await? {
        let status = calls.pod_status(&pod.id).await?;
        ensure!(status.state() == PodSandboxState::SandboxReady, "{status:?}");
        all.insert(pod.id, format!("{:?} {:?}", status.network, status.created_at));
    }
    Ok(all)
}

/// The log holds every number from 0 on, each once, and goes on.
async fn log_is_whole(world: &World, pod: &Pod) -> Result<()> {
    let path = world.log_path(pod, "main");
    let numbers = || -> Result<Vec<usize>> {
        let lines = read_growing_log(&path)?;
        lines.iter().map(|line| String::from_utf8_lossy(&line.text).parse::<usize>().context("a number")).collect()
    };
    let before = numbers()?.len();
    let end = Instant::now() + SOON;
    while numbers()?.len() <= before {
        ensure!(Instant::now() < end, "{} does not go on", path.display());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let all = numbers()?;
    ensure!(all.iter().copied().eq(0..all.len()), "a gap in {}: {all:?}", path.display());
    Ok(())
}

/// A session of crictl. What it prints stays open for as long as this is there: it must not end because nobody hears it.
struct Session {
    crictl: Child,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn start(world: &World, words: &[&str]) -> Result<Self> {
        let mut command = world.daemon.crictl_command()?;
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut crictl = command.spawn().context("starting crictl")?;
        let output = BufReader::new(crictl.stdout.take().context("no output")?);
        Ok(Self { crictl, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

async fn ends(mut session: Session, what: &str) -> Result<()> {
    let child = &mut session.crictl;
    let end = Instant::now() + SOON;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("{what} hangs after its daemon ended");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

#[allow(clippy::print_stdout)] // Shown with --nocapture; `cargo xtask bench` measures it.
async fn start_again(world: &mut World, how: &str) -> Result<()> {
    let start = Instant::now();
    world.daemon.start_again()?;
    world.reconnect().await?;
    world.pods().await?;
    println!("{how}: {PODS} pods are listed {:?} after the start", start.elapsed());
    Ok(())
}

#[test]
fn root_many_pods_do_not_notice_a_restart() {
    with_world(async |world| {
        let made = bring_all_up(world).await?;
        let before = told(&mut world.calls()).await?;
        ensure!(before.len() == 2 * PODS, "{} objects", before.len());
        for how in ["killed", "asked to end", "killed again"] {
            if how == "asked to end" {
                world.daemon.stop()?
            } else {
                world.daemon.kill()?
            }
            start_again(world, how).await?;
            let after = told(&mut world.calls()).await?;
            for (id, was) in &before {
                ensure!(after.get(id) == Some(was), "{how}: {was}\nbecame {:?}", after.get(id));
            }
            ensure!(after.len() == before.len(), "{how}: {} objects", after.len());
        }
        for (pod, id) in &made {
            log_is_whole(world, pod).await?;
            ensure!(world.status(id).await?.state() == ContainerState::ContainerRunning, "{id}");
        }
        ensure!(world.sh(&made[0].1, "echo here").await? == "here", "exec");
        Ok(())
    });
}

#[test]
fn root_sessions_end_with_the_daemon_and_leave_nothing() {
    with_world(async |world| {
        let image = world.image.clone();
        let pod = world.run_pod_named("sessions").await?;
        let mut talker = shell("talker", &image, "while echo word; do sleep 0.2; done");
        talker.stdin = true;
        let talker = world.run(&pod, &talker).await?;
        for how in ["killed", "asked to end"] {
            let mut exec = Session::start(world, &["exec", "-i", &talker, "sh", "-c", "echo here; exec sleep 3333"])?;
            ensure!(exec.line()? == "here\n", "{how}: the command runs");
            let mut attach = Session::start(world, &["attach", "-i", &talker])?;
            ensure!(attach.line()? == "word\n", "{how}: it is attached");
            if how == "killed" {
                world.daemon.kill()?
            } else {
                world.daemon.stop()?
            }
            ends(exec, "exec").await.context(how)?;
            ends(attach, "attach").await.context(how)?;
            world.daemon.start_again()?;
            world.reconnect().await?;
            let end = Instant::now() + SOON;
            while world.sh(&talker, "ps | grep -c '[s]leep 3333' || true").await? != "0" {
                ensure!(Instant::now() < end, "{how}: the command outlives its session");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let mut again = Session::start(world, &["attach", &talker])?;
            ensure!(again.line()? == "word\n", "{how}: it can be attached to again");
            again.crictl.kill()?;
            again.crictl.wait()?;
        }
        Ok(())
    });
}
