//! Things that never answer: a file system, a CNI plugin. One pod suffers, others and the lists go on, and stopping the pod says which
//! process waits for what. (Registries that hang are in `bad_input`, clients that do not read in `streaming` and in the shim's tests.)

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use podwright_cri_api::v1::{ContainerConfig, ContainerState, ListContainersRequest, ListPodSandboxStatsRequest};
use podwright_critest::{Cri, World, WorldBuilder, container, mount, shell, with_world, with_world_of};
use podwright_testutil::{Daemon, HungMount, write_program};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

/// Far more than what any call takes that does not hang.
const SOON: Duration = Duration::from_secs(40);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + 3 * SOON;
    while !holds().await? {
        ensure!(Instant::now() < end, "it never comes to this: {what}");
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// One life of a pod beside what hangs, and all that looks at every pod. Returns how long each took, for people.
async fn others_go_on(calls: &mut Cri, image: &str, name: &str) -> Result<[Duration; 3]> {
    let work = async {
        let start = Instant::now();
        let pod = calls.run_pod_named(name).await?;
        let id = calls.run(&pod, &container("main", image, &["sleep", "1000"])).await?;
        ensure!(calls.sh(&id, "echo here").await? == "here", "exec");
        calls.stop(&id, 0).await?;
        calls.remove_pod(&pod.id).await?;
        let lived = start.elapsed();
        let start = Instant::now();
        for pod in calls.pods().await? {
            calls.pod_status(&pod.id).await?;
        }
        calls.runtime.list_containers(ListContainersRequest::default()).await.context("ListContainers")?;
        let listed = start.elapsed();
        let start = Instant::now();
        calls.runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await.context("stats")?;
        anyhow::Ok([lived, listed, start.elapsed()])
    };
    timeout(SOON, work).await.with_context(|| format!("{name}: another pod hangs, too"))?
}

#[allow(clippy::print_stdout)] // Shown with --nocapture.
fn show(when: &str, [lived, listed, read]: [Duration; 3]) {
    println!("{when}: a pod's life {lived:?}, lists and statuses {listed:?}, usage {read:?}");
}

fn on_volume(name: &str, image: &str, script: &str, host_path: &std::path::Path) -> ContainerConfig {
    ContainerConfig { mounts: vec![mount(host_path, "/dead")], ..shell(name, image, script) }
}

fn late<T>(outcome: Result<T>, words: &[&str]) -> Result<()> {
    let error = outcome.err().context("it succeeded")?;
    let status = error.downcast_ref::<Status>().with_context(|| format!("no status in {error:?}"))?;
    ensure!(status.code() == Code::DeadlineExceeded, "{status:?}");
    for word in words {
        ensure!(status.message().contains(word), "it does not say {word:?}: {}", status.message());
    }
    Ok(())
}

#[test]
fn root_a_process_that_the_kernel_holds() {
    with_world(async |world| {
        let image = world.image.clone();
        show("before", others_go_on(&mut world.calls(), &image, "before").await?);
        let hung = HungMount::new(world.daemon.host(), &world.daemon.path("volumes/dead"))?;
        let victim = world.run_pod_named("victim").await?;
        let reader = on_volume("reader", &image, "cat /dead/file; sleep 1000", hung.path());
        let reader = world.run(&victim, &reader).await?;
        let neighbour = world.run(&victim, &container("neighbour", &image, &["sleep", "1000"])).await?;
        until("the volume is read", async || Ok(hung.waiting() > 0)).await?;
        show("while a volume hangs", others_go_on(&mut world.calls(), &image, "beside-reading").await?);

        let (mut calls, id) = (world.calls(), victim.id.clone());
        let stop = tokio::spawn(async move { calls.stop_pod(&id).await });
        until("the neighbour ends", async || {
            Ok(world.calls().status(&neighbour).await?.state() == ContainerState::ContainerExited)
        })
        .await?;
        show("while its pod is stopped", others_go_on(&mut world.calls(), &image, "beside-stopping").await?);
        let stopped = timeout(3 * SOON, stop).await.context("StopPodSandbox never ends")??;
        late(stopped, &["(cat, state D", "waiting in", "SIGKILL"])?;
        let state = world.status(&reader).await?.state();
        ensure!(state != ContainerState::ContainerExited, "a process of it lives, and it is {state:?}");

        drop(hung);
        until("the container ends", async || {
            Ok(world.calls().status(&reader).await?.state() == ContainerState::ContainerExited)
        })
        .await?;
        // Nobody asks again.
        let socket = world.daemon.path("state/shims").join(format!("{}.sock", victim.id));
        until("the stop is finished", async || Ok(!socket.exists())).await?;
        unmount(world)
    });
}

#[test]
fn root_a_volume_that_is_dead_before_the_start() {
    with_world(async |world| {
        let image = world.image.clone();
        let hung = HungMount::new(world.daemon.host(), &world.daemon.path("volumes/dead"))?;
        let victim = world.run_pod_named("victim").await?;
        let config = on_volume("reader", &image, "true", &hung.path().join("directory"));
        for _ in 0..2 {
            late(world.create(&victim, &config).await, &["volumes/dead/directory", "does not answer"])?;
        }
        others_go_on(&mut world.calls(), &image, "beside").await?;
        let id = world.run(&victim, &container("fine", &image, &["sleep", "1000"])).await?;
        ensure!(world.sh(&id, "echo here").await? == "here", "the rest of the pod");
        world.remove_pod(&victim.id).await?;
        drop(hung);
        unmount(world)
    });
}

fn unmount(world: &World) -> Result<()> {
    let path = world.daemon.path("volumes/dead").display().to_string();
    world.daemon.host().run(&["umount", "-l", &path]).map(drop)
}

/// Never comes back from an ADD for the pod `victim`.
const PLUGIN: &str = "#!/bin/sh
case $CNI_COMMAND,$CNI_ARGS in
    ADD,*K8S_POD_NAME=victim*) : >\"$(dirname \"$0\")/called\"; exec sleep 1000 ;;
    ADD,*) echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.99.0.9/24\"}]}' ;;
esac
";

#[test]
fn root_a_plugin_that_never_returns() {
    let builder = Daemon::builder().bridge_chain("1.0.0").config("[network.cni]\ntimeout_seconds = 45\n");
    with_world_of(WorldBuilder::daemon(builder), async |world| {
        let image = world.image.clone();
        let (conflist, plugin) = (world.daemon.path("net.d/10-testnet.conflist"), world.daemon.path("plugins/slow"));
        write_program(&plugin, PLUGIN)?;
        fs::write(&conflist, r#"{"cniVersion":"1.0.0","name":"slow","plugins":[{"type":"slow"}]}"#)?;
        let mut calls = world.calls();
        let victim = tokio::spawn(async move { calls.run_pod_named("victim").await });
        until("the plugin runs", async || Ok(world.daemon.path("plugins/called").exists())).await?;
        others_go_on(&mut world.calls(), &image, "beside").await?;
        let why = world.daemon.podwright(&["why", "default/victim"])?;
        let why = String::from_utf8_lossy(&why.stdout).into_owned();
        ensure!(why.contains("being made") && why.contains("  ok      shim\n"), "its steps: {why}");
        ensure!(why.contains("network, which waits for ADD of the CNI plugin slow"), "what it waits for: {why}");
        if victim.is_finished() {
            bail!("the victim ended before: {:?}", victim.await);
        }
        let error =
            timeout(3 * SOON, victim).await.context("RunPodSandbox never ends")??.err().context("it started")?;
        ensure!(format!("{error:#}").contains("no answer within"), "{error:#}");
        Ok(())
    });
}
