//! Limits of the daemon and of a pod: open files, processes, memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::ContainerState;
use podwright_critest::{Cri, World, container, linux, shell, with_world};
use tokio::task::JoinSet;

use super::exhausted;

/// More than any limit here allows.
const MANY: usize = 200;
/// Pods that are being made while the daemon is killed.
const CROWD: usize = 20;

fn pid(world: &World) -> Result<u32> {
    world.daemon.pid().context("the daemon does not run")
}

fn limit_files(world: &World, files: usize) -> Result<()> {
    let status =
        Command::new("prlimit").arg(format!("--pid={}", pid(world)?)).arg(format!("--nofile={files}:")).status()?;
    ensure!(status.success(), "prlimit failed");
    Ok(())
}

fn open_files(world: &World) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", pid(world)?))?.count())
}

/// Processor time that the daemon used, in ticks of 10 ms.
fn ticks(world: &World) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid(world)?))?;
    let (_, rest) = stat.rsplit_once(") ").context("stat")?;
    rest.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().context("stat")).sum()
}

#[test]
fn root_no_files_for_the_daemon() {
    with_world(async |world| {
        let image = world.image.clone();
        let pod = world.run_pod_named("first").await?;
        let id = world.run(&pod, &container("main", &image, &["sleep", "1000"])).await?;
        limit_files(world, open_files(world)? + 110)?;
        let mut made = Vec::new();
        let refusal = loop {
            ensure!(made.len() < MANY, "the limit is never reached");
            match world.run_pod_named(&format!("pod-{}", made.len())).await {
                Ok(pod) => made.push(pod),
                Err(error) => break Err::<(), _>(error),
            }
        };
        exhausted(refusal, "a pod", "limit of open files")?;
        exhausted(world.create(&pod, &shell("no", &image, "true")).await, "a container", "limit of open files")?;
        exhausted(world.exec(&id, &["true"]).await, "exec", "limit of open files")?;
        ensure!(world.pods().await?.len() == made.len() + 1, "what was refused is not listed");

        // Clients that find no room wait, and the daemon does not spin meanwhile.
        let mut clients = Vec::new();
        for _ in 0..MANY {
            clients.push(std::os::unix::net::UnixStream::connect(world.daemon.path("podwright.sock")));
        }
        let (before, start) = (ticks(world)?, Instant::now());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (used, passed) = (Duration::from_millis(10 * (ticks(world)? - before)), start.elapsed());
        ensure!(used < passed / 4, "the daemon used {used:?} of processor time in {passed:?}, for clients that wait");
        ensure!(world.status(&id).await?.state() == ContainerState::ContainerRunning, "connected clients are served");

        world.stop(&id, 0).await?;
        world.remove(&id).await?;
        for pod in made {
            world.remove_pod(&pod.id).await?;
        }
        drop(clients);
        // The daemon learns of clients that left one after the other.
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            match world.run_pod_named("again").await {
                Ok(again) => return world.remove_pod(&again.id).await,
                Err(error) => ensure!(Instant::now() < end, "with files to spare: {error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

/// The cgroup of a controller, on v1 or v2.
fn cgroup(controller: &str, path: &str) -> PathBuf {
    let top = Path::new("/sys/fs/cgroup");
    let v2 = top.join("cgroup.controllers").exists();
    top.join(if v2 { "" } else { controller }).join(path.trim_start_matches('/'))
}

#[test]
fn root_no_processes_for_a_container() {
    with_world(async |world| {
        let image = world.image.clone();
        let pod = world.run_pod_named("few").await?;
        let id = world.run(&pod, &container("main", &image, &["sleep", "1000"])).await?;
        let limit = cgroup("pids", &world.daemon.host().cgroup_parent()).join("pids.max");
        let before = world.daemon.census()?;
        fs::write(&limit, "1").with_context(|| format!("writing {}", limit.display()))?;
        let refused = world.create(&pod, &shell("no", &image, "true")).await?;
        exhausted(world.start(&refused).await, "a start", "pids.max")?;
        world.remove(&refused).await?;
        let refused = world.run_pod_named("none").await;
        if refused.is_err() {
            exhausted(refused, "a pod", "pids.max")?;
        } else {
            world.remove_pod(&refused?.id).await?;
        }
        world.comes_back_to(&before).await?;
        ensure!(world.status(&id).await?.state() == ContainerState::ContainerRunning, "others go on");
        world.stop(&id, 0).await?;
        world.remove(&id).await?;
        fs::write(&limit, "max")?;
        let id = world.run_shell(&pod, "again", "sleep 1000").await?;
        ensure!(world.sh(&id, "echo here").await? == "here", "with processes to spare");
        Ok(())
    });
}

/// A cgroup for the daemon alone, removed with the value.
struct Cage {
    directory: PathBuf,
    outside: PathBuf,
}

impl Cage {
    fn new(world: &World, controller: &str) -> Result<Self> {
        let outside = cgroup(controller, "");
        let directory = outside.join(format!("{}-daemon", world.daemon.host().id()));
        fs::create_dir(&directory)?;
        let cage = Self { directory, outside };
        fs::write(cage.directory.join("cgroup.procs"), pid(world)?.to_string())?;
        Ok(cage)
    }

    fn set(&self, names: &[&str], value: &str) -> Result<()> {
        let file = names.iter().map(|name| self.directory.join(name)).find(|path| path.exists());
        let file = file.with_context(|| format!("none of {names:?} in {}", self.directory.display()))?;
        fs::write(&file, value).with_context(|| format!("writing {value} to {}", file.display()))
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        for pid in fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(self.outside.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.directory);
    }
}

#[test]
fn root_no_processes_and_threads_for_the_daemon() {
    with_world(async |world| {
        let image = world.image.clone();
        let pod = world.run_pod_named("first").await?;
        let id = world.run(&pod, &container("main", &image, &["sleep", "1000"])).await?;
        let cage = Cage::new(world, "pids")?;
        cage.set(&["pids.max"], "1")?;
        let before = world.daemon.census()?;
        exhausted(world.run_pod_named("none").await, "a pod", "pids.max")?;
        world.comes_back_to(&before).await?;
        ensure!(world.sh(&id, "echo here").await? == "here", "pods that run go on");
        world.stop(&id, 0).await?;
        world.remove(&id).await?;
        world.remove_pod(&pod.id).await?;
        cage.set(&["pids.max"], "max")?;
        let pod = world.run_pod_named("again").await?;
        world.remove_pod(&pod.id).await
    });
}

async fn bring_up(mut calls: Cri, name: String, image: String) -> Result<()> {
    let pod = calls.run_pod_named(&name).await?;
    let mut config = container("main", &image, &["sleep", "1000"]);
    linux(&mut config).0.oom_score_adj = 0;
    calls.run(&pod, &config).await.map(drop)
}

#[test]
fn root_a_daemon_that_is_killed_for_want_of_memory() {
    with_world(async |world| {
        let pod = world.run_pod_named("first").await?;
        let id = world.run_shell(&pod, "main", "i=0; while echo $i; do i=$((i + 1)); sleep 0.02; done").await?;
        let cage = Cage::new(world, "memory")?;
        let mut work = JoinSet::new();
        // What it has already counts elsewhere; it gets little more.
        cage.set(&["memory.max", "memory.limit_in_bytes"], "2097152")?;
        for n in 0..CROWD {
            work.spawn(bring_up(world.calls(), format!("crowd-{n}"), world.image.clone()));
        }
        // The daemon keeps the output of a command, up to 16 MiB.
        for _ in 0..2 {
            let (mut calls, id) = (world.calls(), id.clone());
            work.spawn(async move { calls.exec(&id, &["head", "-c", "16000000", "/dev/zero"]).await.map(drop) });
        }
        while work.join_next().await.is_some() {}
        let end = Instant::now() + Duration::from_secs(90);
        while !world.daemon.was_killed()? {
            ensure!(Instant::now() < end, "2 MiB were enough for 32");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(cage);
        world.daemon.start_again()?;
        world.reconnect().await?;
        ensure!(
            world.status(&id).await?.state() == ContainerState::ContainerRunning,
            "nothing happened to the first pod"
        );
        ensure!(world.sh(&id, "echo here").await? == "here", "exec");
        bring_up(world.calls(), "crowd-0".into(), world.image.clone()).await.context("the retry")?;
        Ok(())
    });
}
