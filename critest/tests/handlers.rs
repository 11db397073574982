//! Runtime handlers: pods that another runtime runs behave as those of ours. podwright-oci is always there; crun and runc are tried where
//! they are installed (cargo xtask setup); mocks do what broken runtimes do.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use podwright_cri_api::v1::{
    ContainerState, ContainerStatsRequest, LinuxContainerResources, PodSandboxStatusRequest, StatusRequest,
    UpdateContainerResourcesRequest,
};
use podwright_critest::handlers::{drop_in, runtime};
use podwright_critest::{World, WorldBuilder, linux, mount, must, shell, with_world_of};
use podwright_testutil::{Daemon, program, write_program};

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn builder(dir: &Path) -> WorldBuilder {
    WorldBuilder::daemon(Daemon::builder().config(&format!("[runtimes]\ndirs = [{dir:?}]\n")))
}

async fn handlers(world: &mut World) -> Result<(Vec<(String, bool)>, String)> {
    let status = world.runtime.status(StatusRequest { verbose: true }).await.context("Status")?.into_inner();
    let features = |handler: &podwright_cri_api::v1::RuntimeHandler| {
        handler.features.as_ref().is_some_and(|features| features.recursive_read_only_mounts)
    };
    let listed = status.runtime_handlers.iter().map(|handler| (handler.name.clone(), features(handler))).collect();
    Ok((listed, status.info.get("brokenRuntimeHandlers").cloned().unwrap_or_default()))
}

/// The list, once it holds this.
async fn listed(world: &mut World, wanted: (&str, bool)) -> Result<(Vec<(String, bool)>, String)> {
    let until = Instant::now() + LONG;
    loop {
        let (listed, problems) = handlers(world).await?;
        if listed.iter().any(|(name, known)| (name.as_str(), *known) == wanted) {
            return Ok((listed, problems));
        }
        ensure!(Instant::now() < until, "{wanted:?} is not in {listed:?}; {problems}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn memory_in_use(world: &mut World, id: &str) -> Result<u64> {
    let request = ContainerStatsRequest { container_id: id.into() };
    let stats = world.runtime.container_stats(request).await.context("ContainerStats")?.into_inner().stats;
    let memory = stats.and_then(|stats| stats.memory).and_then(|memory| memory.working_set_bytes);
    Ok(memory.context("no memory is told")?.value)
}

fn memory_limit(world: &World, id: &str) -> Result<String> {
    let parent = world.daemon.host().cgroup_parent();
    let places = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
    let mut files = places.iter().map(|(top, file)| PathBuf::from(format!("{top}{parent}/{id}/{file}")));
    match files.find(|file| file.exists()) {
        Some(file) => Ok(fs::read_to_string(file)?.trim().to_owned()),
        None => bail!("the container has no cgroup of its own"),
    }
}

/// The life of a pod: what is asked of every runtime alike.
async fn life(world: &mut World, dir: &Path, name: &str, program: &Path) -> Result<()> {
    drop_in(dir, name, program, "deadline_seconds = 60\n")?;
    let volume = world.daemon.path("volumes").join(name);
    fs::create_dir_all(&volume)?;
    fs::write(volume.join("file"), "of the host\n")?;

    let config = world.pod(name);
    let pod = world.run_pod_by(name, config).await?;
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let status = world.runtime.pod_sandbox_status(request).await?.into_inner();
    ensure!(status.status.is_some_and(|status| status.runtime_handler == name), "the status tells another handler");
    let info = status.info.get("info").cloned().unwrap_or_default();
    ensure!(info.contains(&program.display().to_string()), "inspectp does not name the program: {info}");

    let mut config =
        shell("main", &world.image, "trap 'echo bye; exit 5' TERM; echo up; echo err >&2; while :; do sleep 0.1; done");
    config.mounts = vec![mount(&volume, "/volume")];
    config.envs.push(podwright_cri_api::v1::KeyValue { key: "A".into(), value: "b c".into() });
    linux(&mut config).0.memory_limit_in_bytes = 128 << 20;
    linux(&mut config).1.run_as_user = Some(podwright_cri_api::v1::Int64Value { value: 4711 });
    linux(&mut config).1.seccomp = Some(podwright_cri_api::v1::SecurityProfile::default());
    let id = world.run(&pod, &config).await?;
    world.wait_for_log(&pod, "main", "up").await?;
    world.wait_for_log(&pod, "main", "err").await?;
    ensure!(world.sh(&id, "id -u; cat /volume/file; echo \"$A\"").await? == "4711\nof the host\nb c", "what it sees");
    ensure!(world.sh(&id, "grep Seccomp: /proc/self/status").await?.ends_with('2'), "no system call filter");
    ensure!(world.sh(&id, "hostname").await? == pod.config.hostname, "another UTS namespace");
    ensure!(world.exec(&id, &["sh", "-c", "echo to stderr >&2; exit 9"]).await?.exit_code == 9, "exit code");
    ensure!(memory_limit(world, &id)? == (128 << 20).to_string(), "outside of its limits");
    ensure!(memory_in_use(world, &id).await? > 0, "no usage");
    let update = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources { memory_limit_in_bytes: 96 << 20, ..Default::default() }),
        ..Default::default()
    };
    world.runtime.update_container_resources(update).await.context("UpdateContainerResources")?;
    ensure!(memory_limit(world, &id)? == (96 << 20).to_string(), "the update did not arrive");

    // The next daemon finds it, and needs no file of the handler any more.
    fs::remove_file(dir.join(format!("{name}.toml")))?;
    world.daemon.kill()?;
    world.daemon.start_again()?;
    world.reconnect().await?;
    ensure!(world.status(&id).await?.state() == ContainerState::ContainerRunning, "lost by the restart");
    ensure!(world.sh(&id, "echo still here").await? == "still here", "exec after the restart");
    world.stop(&id, 30).await?;
    let ended = world.status(&id).await?;
    ensure!(ended.exit_code == 5, "{ended:?}");
    ensure!(world.log_text(&pod, "main")?.contains("bye"), "the last words are missing");

    let mut hungry = shell("hungry", &world.image, "x=a; while :; do x=$x$x; done");
    linux(&mut hungry).0.memory_limit_in_bytes = 32 << 20;
    let ended = world.run_to_end(&pod, &hungry).await?;
    ensure!(ended.reason == "OOMKilled" && ended.exit_code == 137, "{ended:?}");

    let absent = podwright_critest::container("absent", &world.image, &["/there/is/none"]);
    let id = world.create(&pod, &absent).await?;
    let error = format!("{:#}", world.start(&id).await.err().context("a program that is not there was started")?);
    ensure!(error.contains("/there/is/none"), "{error}");
    ensure!(world.status(&id).await?.reason == "StartError", "{:?}", world.status(&id).await?);
    world.remove_pod(&pod.id).await
}

#[allow(clippy::print_stdout)] // A test that tries nothing says so.
fn with_runtime(name: &'static str) {
    let top = must(tempfile::tempdir().context("make a directory for the test"));
    let dir = top.path().to_owned();
    let Some(program) = must(runtime(name, top.path())) else {
        println!("{name} is not installed (cargo xtask setup): not tried");
        return;
    };
    with_world_of(builder(top.path()), async move |world| life(world, &dir, name, &program).await);
    // crun gives its container's user the streams that it has.
    let null = must(fs::metadata("/dev/null").context("look at the node's null device"));
    assert_eq!((null.uid(), null.mode() & 0o777), (0, 0o666), "the node's null device");
}

#[test]
fn root_podwright_oci_runs_pods() {
    with_runtime("podwright-oci");
}

#[test]
fn root_crun_runs_pods() {
    with_runtime("crun");
}

#[test]
fn root_runc_runs_pods() {
    with_runtime("runc");
}

#[test]
fn root_handlers_are_read_when_they_are_asked_for() {
    let top = tempfile::tempdir().expect("a directory for the test");
    let dir = top.path().to_owned();
    with_world_of(builder(top.path()), async move |world| {
        let config = world.pod("pod");
        let error = format!("{:#}", world.run_pod_by("own", config.clone()).await.err().context("an unknown handler")?);
        ensure!(error.contains("own.toml") && error.contains(&dir.display().to_string()), "{error}");
        ensure!(handlers(world).await?.0.iter().all(|(name, _)| name.is_empty()), "handlers without files");

        drop_in(&dir, "own", &program("podwright-oci")?, "")?;
        fs::write(dir.join("broken.toml"), "[runtime")?;
        // What the runtime answers is in the list as soon as it is known.
        let (listed, problems) = listed(world, ("own", true)).await?;
        ensure!(listed.len() == 2, "{listed:?}");
        ensure!(problems.contains("broken.toml"), "{problems}");
        let error =
            format!("{:#}", world.run_pod_by("broken", config.clone()).await.err().context("a broken handler")?);
        ensure!(error.contains("broken.toml"), "{error}");
        let checked = world.daemon.podwright(&["check"])?;
        ensure!(String::from_utf8_lossy(&checked.stdout).contains("broken.toml"), "{checked:?}");
        let pod = world.run_pod_by("own", config).await?;
        world.remove_pod(&pod.id).await
    });
}

#[test]
fn root_a_handler_that_misbehaves_fails_one_request() {
    let top = tempfile::tempdir().expect("a directory for the test");
    let dir = top.path().to_owned();
    with_world_of(builder(top.path()), async move |world| {
        let mock = dir.join("mock");
        // A mock of a runtime that hangs at whatever it is asked.
        write_program(&mock, "#!/bin/sh\n# A mock of an OCI runtime that hangs.\nsleep 1000 & sleep 1000\n")?;
        drop_in(&dir, "hangs", &mock, "deadline_seconds = 1\n")?;
        let (listed, _) = handlers(world).await?;
        ensure!(listed.contains(&("hangs".to_owned(), false)), "{listed:?}");
        let config = world.pod("pod");
        let pod = world.run_pod_by("hangs", config).await?;
        let config = shell("main", &world.image, "true");
        let id = world.create(&pod, &config).await?;
        let error = format!("{:#}", world.start(&id).await.err().context("a runtime that hangs started something")?);
        ensure!(error.contains("hangs") && error.contains("within 1 s"), "{error}");
        // Nobody else is held up, and the pod can be removed.
        let other = world.run_pod_named("other").await?;
        let image = world.image.clone();
        ensure!(world.run_to_end(&other, &shell("main", &image, "exit 3")).await?.exit_code == 3, "a pod of ours");
        world.remove_pod(&pod.id).await
    });
}
