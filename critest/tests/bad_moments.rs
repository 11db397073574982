//! Callers that give up, come all at once or contradict each other, and a daemon that is killed meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{
    ContainerState, ExecSyncRequest, PodSandboxConfig, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest,
};
use podwright_critest::{Cri, World, shell, with_world};
use tokio::task::JoinSet;

const AT_ONCE: usize = 50;
/// How long after the start of the work the daemon is killed, in milliseconds.
const KILLED_AFTER: [u64; 6] = [5, 20, 60, 120, 250, 500];
const PODS_PER_KILL: usize = 8;

/// Pod, container, start; the same requests again lead to the same pod.
async fn bring_up(mut calls: Cri, config: PodSandboxConfig, image: String) -> Result<String> {
    let pod = calls.run_pod(config).await?;
    let id = calls.create(&pod, &shell("main", &image, "sleep 1000")).await?;
    calls.start(&id).await?;
    Ok(id)
}

async fn kill_and_start_again(world: &mut World) -> Result<()> {
    world.daemon.kill()?;
    world.daemon.start_again()?;
    world.reconnect().await
}

fn configs(world: &World, round: u64) -> Vec<PodSandboxConfig> {
    (0..PODS_PER_KILL).map(|n| world.pod(&format!("pod-{round}-{n}"))).collect()
}

#[test]
fn root_a_daemon_killed_while_pods_are_made() {
    with_world(async |world| {
        for after in KILLED_AFTER {
            let configs = configs(world, after);
            let mut work = JoinSet::new();
            for config in &configs {
                work.spawn(bring_up(world.calls(), config.clone(), world.image.clone()));
            }
            tokio::time::sleep(Duration::from_millis(after)).await;
            kill_and_start_again(world).await?;
            work.shutdown().await;
            for config in configs {
                let id = bring_up(world.calls(), config, world.image.clone()).await.context("the retry")?;
                ensure!(world.status(&id).await?.state() == ContainerState::ContainerRunning, "after the retry");
                ensure!(world.sh(&id, "echo here").await? == "here", "exec after the retry");
            }
            world.nothing_left().await.with_context(|| format!("killed after {after} ms"))?;
        }
        Ok(())
    });
}

#[test]
fn root_a_daemon_killed_while_pods_are_removed() {
    with_world(async |world| {
        for after in KILLED_AFTER {
            let mut work = JoinSet::new();
            for config in configs(world, after) {
                bring_up(world.calls(), config, world.image.clone()).await?;
            }
            for pod in world.pods().await? {
                let mut calls = world.calls();
                work.spawn(async move { calls.remove_pod(&pod.id).await });
            }
            tokio::time::sleep(Duration::from_millis(after)).await;
            kill_and_start_again(world).await?;
            work.shutdown().await;
            world.nothing_left().await.with_context(|| format!("killed after {after} ms"))?;
        }
        Ok(())
    });
}

#[test]
fn root_a_command_does_not_outlive_the_daemon_that_waited_for_it() {
    with_world(async |world| {
        let pod = world.run_pod_named("command").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let mut calls = world.calls();
        let (cmd, container_id) = (["sleep", "3333"].map(str::to_owned).to_vec(), id.clone());
        let request = ExecSyncRequest { container_id, cmd, timeout: 0 };
        let exec = tokio::spawn(async move { calls.runtime.exec_sync(request).await });
        let count = "ps | grep -c 'sleep 333[3]$' || true";
        while world.sh(&id, count).await? != "1" {}
        kill_and_start_again(world).await?;
        ensure!(exec.await?.is_err(), "the caller learns that the daemon is gone");
        ensure!(world.sh(&id, count).await? == "0", "the command was killed");
        Ok(())
    });
}

#[test]
fn root_callers_that_give_up_and_come_again() {
    with_world(async |world| {
        for patience in [1, 3, 8, 15, 30, 60] {
            let config = world.pod(&format!("patience-{patience}"));
            let mut request =
                tonic::Request::new(RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() });
            request.set_timeout(Duration::from_millis(patience));
            let _ = world.runtime.run_pod_sandbox(request).await;
            let pod = world.run_pod(config.clone()).await.context("the retry")?;
            ensure!(world.run_pod(config).await?.id == pod.id, "the same request is the same pod");
            let config = shell("main", &world.image, "sleep 1000");
            let id = world.create(&pod, &config).await?;
            let mut request = tonic::Request::new(StartContainerRequest { container_id: id.clone() });
            request.set_timeout(Duration::from_millis(patience));
            let _ = world.runtime.start_container(request).await;
            world.start(&id).await?;
            ensure!(world.sh(&id, "echo here").await? == "here", "it runs");
            let mut request = tonic::Request::new(RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() });
            request.set_timeout(Duration::from_millis(patience));
            let _ = world.runtime.remove_pod_sandbox(request).await;
            world.remove_pod(&pod.id).await.context("the removal again")?;
        }
        ensure!(world.pods().await?.is_empty(), "no pod is listed");
        Ok(())
    });
}

#[test]
fn root_fifty_pods_at_once() {
    with_world(async |world| {
        let mut work = JoinSet::new();
        for n in 0..AT_ONCE {
            // Each twice: callers that repeat themselves get one pod.
            let config = world.pod(&format!("crowd-{n}"));
            for _ in 0..2 {
                let (mut calls, config) = (world.calls(), config.clone());
                work.spawn(async move { calls.run_pod(config).await });
            }
        }
        while let Some(outcome) = work.join_next().await {
            outcome??;
        }
        ensure!(world.pods().await?.len() == AT_ONCE, "one pod for each name");
        Ok(())
    });
}

#[test]
fn root_callers_that_contradict_each_other() {
    with_world(async |world| {
        for round in 0..10 {
            let pod = world.run_pod_named(&format!("torn-{round}")).await?;
            let image = world.image.clone();
            let id = world.create(&pod, &shell("main", &image, "sleep 1000")).await?;
            let other = world.run(&pod, &shell("other", &image, "trap '' TERM; sleep 1000")).await?;
            let mut work: JoinSet<Result<()>> = JoinSet::new();
            let (mut starts, mut removes, mut executes) = (world.calls(), world.calls(), world.calls());
            let (start, remove) = (id.clone(), id.clone());
            work.spawn(async move {
                // It may be killed at any moment; all that matters is that it answers.
                drop(starts.runtime.start_container(StartContainerRequest { container_id: start }).await);
                Ok(())
            });
            work.spawn(async move { removes.remove(&remove).await });
            let request =
                ExecSyncRequest { container_id: other.clone(), cmd: vec!["sleep".into(), "1000".into()], timeout: 0 };
            work.spawn(async move {
                drop(executes.runtime.exec_sync(request).await);
                Ok(())
            });
            for grace in [5, 0] {
                let (mut calls, other) = (world.calls(), other.clone());
                work.spawn(async move { calls.stop(&other, grace).await });
            }
            for _ in 0..2 {
                let (mut calls, pod) = (world.calls(), pod.id.clone());
                work.spawn(async move { calls.remove_pod(&pod).await });
            }
            let all = async {
                while let Some(outcome) = work.join_next().await {
                    outcome?.with_context(|| format!("round {round}: Stop and Remove never fail"))?;
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(Duration::from_secs(120), all).await.context("somebody waits for ever")??;
        }
        ensure!(world.pods().await?.is_empty(), "no pod is listed");
        Ok(())
    });
}
