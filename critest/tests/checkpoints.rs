//! Containers that are written to archives, and go on from them.
//!
//! With CRIU where one works on this host: `PODWRIGHT_CRIU`, or the one that is installed. Where there is none the tests that need one say
//! so and end.

#![allow(clippy::print_stdout)] // A test that tries nothing says so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::security_profile::ProfileType;
use podwright_cri_api::v1::{CheckpointContainerRequest, ContainerConfig, ContainerState, Int64Value, SecurityProfile};
use podwright_critest::{Pod, World, WorldBuilder, linux, shell, with_world, with_world_of};
use podwright_testutil::{Daemon, criu};
use tonic::Code;

/// A CRIU for tests of containers that go on from archives. There is none as long as the configuration refuses that.
fn criu_for_restores() -> Option<PathBuf> {
    println!("skipped: making containers from checkpoint archives is not ready, and the configuration refuses it");
    None
}

fn builder(criu: &Path, restore: bool) -> WorldBuilder {
    let lines = format!("[checkpoint]\ncriu = {criu:?}\nrestore = {restore}\n");
    WorldBuilder::daemon(Daemon::builder().config(&lines))
}

/// A program that counts, and says how far it is when it is asked.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo count $i; echo $i > /new; mv /new /count; sleep 0.2; done";

async fn checkpoint(world: &mut World, id: &str, to: &Path, seconds: i64) -> Result<(), tonic::Status> {
    let request = CheckpointContainerRequest {
        container_id: id.to_owned(),
        location: to.display().to_string(),
        timeout: seconds,
    };
    world.runtime.checkpoint_container(request).await.map(drop)
}

/// Names in an archive.
fn entries(archive: &Path) -> Result<Vec<String>> {
    let output = Command::new("tar").arg("-tf").arg(archive).output().context("run tar")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

async fn still_counts(world: &mut World, pod: &Pod, id: &str) -> Result<()> {
    let now: u64 = world.sh(id, "cat /count").await?.trim().parse().context("how far it is")?;
    world.wait_for_log(pod, "main", &format!("count {}", now + 3)).await?;
    Ok(())
}

#[test]
fn root_a_running_container_is_written_to_an_archive_and_goes_on() {
    let Some(criu) = criu() else { return };
    with_world_of(builder(&criu, false), async |world| {
        let pod = world.run_pod_named("counts").await?;
        let image = world.image.clone();
        let id = world.run(&pod, &shell("main", &image, COUNTER)).await?;
        world.wait_for_log(&pod, "main", "count 3").await?;
        world.sh(&id, "echo kept > /kept; rm /bin/ls; mkdir -p /tmp/deep").await?;
        let archive = world.daemon.path("out.tar");
        checkpoint(world, &id, &archive, 0).await?;
        let names = entries(&archive)?;
        for wanted in [
            "config.dump",
            "spec.dump",
            "rootfs-diff.tar",
            "stats-dump",
            "checkpoint/inventory.img",
            "checkpoint/pstree.img",
        ] {
            ensure!(names.iter().any(|name| name == wanted), "{wanted} is not among {names:?}");
        }
        ensure!(fs::metadata(&archive)?.permissions().mode() & 0o777 == 0o600, "others can read it");
        still_counts(world, &pod, &id).await?;
        // Again, over the first one; and it can be stopped after that as ever.
        checkpoint(world, &id, &archive, 30).await?;
        still_counts(world, &pod, &id).await?;
        ensure!(world.status(&id).await?.state() == ContainerState::ContainerRunning, "it runs");
        let left = fs::read_dir(world.daemon.path("root/containers").join(&id))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<Vec<_>>>()?;
        ensure!(!left.iter().any(|name| name == "checkpoint"), "{left:?}");
        world.stop(&id, 0).await?;
        let error = checkpoint(world, &id, &archive, 0).await.err().context("a checkpoint of an ended container")?;
        ensure!(error.code() == Code::FailedPrecondition, "{error}");
        Ok(())
    });
}

#[test]
fn root_what_can_not_be_checkpointed_is_said_and_goes_on() {
    let Some(criu) = criu() else { return };
    with_world_of(builder(&criu, false), async |world| {
        let pod = world.run_pod_named("refused").await?;
        let image = world.image.clone();
        let archive = world.daemon.path("out.tar");
        let mut config = shell("terminal", &image, "sleep 1000");
        config.tty = true;
        let id = world.run(&pod, &config).await?;
        let error = checkpoint(world, &id, &archive, 0).await.err().context("a terminal")?;
        ensure!(error.code() == Code::FailedPrecondition && error.message().contains("terminal"), "{error}");
        let id = world.run(&pod, &shell("main", &image, COUNTER)).await?;
        world.wait_for_log(&pod, "main", "count 2").await?;
        for (bad, code) in [
            ("/nowhere/at/all/out.tar", Code::InvalidArgument),
            ("/", Code::InvalidArgument),
            ("out.tar", Code::InvalidArgument),
        ] {
            let error = checkpoint(world, &id, Path::new(bad), 0).await.err().context(bad)?;
            ensure!(error.code() == code, "{bad}: {error}");
            still_counts(world, &pod, &id).await?;
        }
        let error = checkpoint(world, &id, &archive, -1).await.err().context("less than no time")?;
        ensure!(error.code() == Code::InvalidArgument, "{error}");
        ensure!(!archive.exists(), "an archive of nothing");
        Ok(())
    });
}

/// A CRIU that hangs is killed at the deadline of the request.
#[test]
fn root_a_criu_that_hangs_is_given_up_on() {
    let top = tempfile::tempdir().expect("a directory for the test");
    let program = top.path().join("criu");
    podwright_testutil::write_program(&program, "#!/bin/sh\nexec sleep 1000\n").expect("a program for the test");
    with_world_of(builder(&program, false), async |world| {
        let pod = world.run_pod_named("hangs").await?;
        let image = world.image.clone();
        let id = world.run(&pod, &shell("main", &image, COUNTER)).await?;
        world.wait_for_log(&pod, "main", "count 2").await?;
        let archive = world.daemon.path("out.tar");
        let error = checkpoint(world, &id, &archive, 1).await.err().context("a CRIU that hangs")?;
        ensure!(error.code() == Code::DeadlineExceeded, "{error}");
        ensure!(!archive.exists(), "an archive of nothing");
        still_counts(world, &pod, &id).await
    });
}

/// While CRIU works, the whole pod's packets are kept away. A checkpoint that fails at its end must not leave it so.
#[test]
fn root_a_failed_checkpoint_leaves_the_pod_its_network() {
    let Some(criu) = criu() else { return };
    with_world_of(builder(&criu, false), async |world| {
        let pod = world.run_pod_named("network").await?;
        let image = world.image.clone();
        let id = world.run(&pod, &shell("main", &image, COUNTER)).await?;
        world.wait_for_log(&pod, "main", "count 2").await?;
        let deep = "i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done";
        world.sh(&id, &format!("mkdir /deep; cd /deep; {deep}")).await?;
        let ping = "ping -c 1 -W 5 127.0.0.1 >/dev/null && echo heard";
        ensure!(world.sh(&id, ping).await? == "heard", "there is a network");
        let archive = world.daemon.path("out.tar");
        let error = checkpoint(world, &id, &archive, 0).await.err().context("directories too deep for an archive")?;
        ensure!(error.code() == Code::ResourceExhausted && error.message().contains("nested deeper"), "{error}");
        ensure!(!archive.exists(), "an archive of nothing");
        ensure!(world.sh(&id, ping).await? == "heard", "the pod's packets are kept away");
        still_counts(world, &pod, &id).await?;
        // What stood in the way is gone, and so is every trace of the failure.
        world.sh(&id, "rm -r /deep").await?;
        checkpoint(world, &id, &archive, 0).await?;
        still_counts(world, &pod, &id).await
    });
}

#[test]
fn root_without_criu_it_is_said_what_to_install() {
    with_world_of(builder(Path::new("/nowhere/criu"), false), async |world| {
        let pod = world.run_pod_named("without").await?;
        let image = world.image.clone();
        let id = world.run(&pod, &shell("main", &image, "sleep 1000")).await?;
        let archive = world.daemon.path("out.tar");
        let error = checkpoint(world, &id, &archive, 0).await.err().context("a checkpoint without CRIU")?;
        ensure!(error.code() == Code::FailedPrecondition, "{error}");
        ensure!(error.message().contains("/nowhere/criu; install it"), "{error}");
        Ok(())
    });
}

#[test]
fn root_archives_make_no_containers() {
    with_world(async |world| {
        let pod = world.run_pod_named("off").await?;
        let error = world.create(&pod, &shell("restored", "/tmp/a.tar", "true")).await.err().context("a restore")?;
        ensure!(format!("{error:#}").contains("is not ready"), "{error:#}");
        Ok(())
    });
}

/// A container that goes on from an archive; its command is that of its image and not executed.
fn from_archive(name: &str, archive: &Path) -> ContainerConfig {
    shell(name, &archive.display().to_string(), "exit 77")
}

/// An archive of a container that counts, which is gone.
async fn archive_of(world: &mut World, pod: &Pod, change: impl FnOnce(&mut ContainerConfig)) -> Result<PathBuf> {
    let image = world.image.clone();
    let mut config = shell("main", &image, COUNTER);
    change(&mut config);
    let id = world.run(pod, &config).await?;
    world.wait_for_log(pod, "main", "count 3").await?;
    let archive = world.daemon.path("out.tar");
    checkpoint(world, &id, &archive, 0).await?;
    world.remove(&id).await?;
    Ok(archive)
}

#[test]
fn root_a_container_goes_on_from_its_archive() {
    let Some(criu) = criu_for_restores() else { return };
    with_world_of(builder(&criu, true), async |world| {
        let pod = world.run_pod_named("first").await?;
        let image = world.image.clone();
        let mut config = shell("main", &image, COUNTER);
        linux(&mut config).1.seccomp = filtered();
        let id = world.run(&pod, &config).await?;
        world.wait_for_log(&pod, "main", "count 5").await?;
        world.sh(&id, "echo kept > /kept; echo not > /dev/shm/not").await?;
        let archive = world.daemon.path("out.tar");
        checkpoint(world, &id, &archive, 0).await?;
        // Another pod: other namespaces, another address, another log.
        let other = world.run_pod_named("second").await?;
        let mut config = from_archive("main", &archive);
        linux(&mut config).1.seccomp = filtered();
        let id = world.run(&other, &config).await?;
        let line = world.wait_for_log(&other, "main", "count").await?;
        let text = String::from_utf8(line.text)?;
        let first: u64 = text.trim_start_matches("count ").trim().parse().with_context(|| text.clone())?;
        ensure!(first >= 5, "it began anew: {text}");
        still_counts(world, &other, &id).await?;
        ensure!(world.sh(&id, "cat /kept; ls /dev/shm").await? == "kept", "its files, and not the pod's");
        ensure!(!world.status(&id).await?.image_ref.is_empty(), "its image");
        // It is a container as any other: its limits, its stop, its end.
        ensure!(world.sh(&id, "cat /proc/1/comm").await? == "sh", "process 1");
        let filter = world.sh(&id, "grep Seccomp: /proc/1/status").await?;
        ensure!(filter == "Seccomp:\t2", "{filter}");
        world.daemon.kill()?;
        world.daemon.start_again()?;
        world.reconnect().await?;
        still_counts(world, &other, &id).await?;
        // A checkpoint of what was restored.
        checkpoint(world, &id, &archive, 0).await?;
        world.stop(&id, 0).await?;
        ensure!(world.status(&id).await?.exit_code == 137, "it was killed");
        world.remove(&id).await
    });
}

fn filtered() -> Option<SecurityProfile> {
    Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), ..Default::default() })
}

/// What a restore that is refused leaves: an ended container with the reason, and no process.
async fn refused(world: &mut World, pod: &Pod, config: &ContainerConfig, words: &str) -> Result<()> {
    let id = world.create(pod, config).await?;
    let error = world.start(&id).await.err().with_context(|| format!("a start that should fail: {words}"))?;
    ensure!(format!("{error:#}").contains(words), "{words}: {error:#}");
    let status = world.status(&id).await?;
    ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
    let cgroups = Command::new("find").args(["/sys/fs/cgroup", "-name", &id]).output()?;
    ensure!(cgroups.stdout.is_empty(), "a cgroup is left: {}", String::from_utf8_lossy(&cgroups.stdout));
    world.remove(&id).await
}

/// Nothing of an archive is believed: what it would bring back is compared with the request, by the kernel's own account.
#[test]
fn root_an_archive_gets_no_more_than_the_request_grants() {
    let Some(criu) = criu_for_restores() else { return };
    with_world_of(builder(&criu, true), async |world| {
        let mut config = world.pod("powerful");
        let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        security.privileged = true;
        let powerful = world.run_pod(config).await?;
        let archive = archive_of(world, &powerful, |config| {
            linux(config).1.privileged = true;
        })
        .await?;
        let pod = world.run_pod_named("modest").await?;
        refused(world, &pod, &from_archive("main", &archive), "not what was asked for").await?;

        let archive = archive_of(world, &pod, |_| ()).await?;
        let mut config = from_archive("user", &archive);
        linux(&mut config).1.run_as_user = Some(Int64Value { value: 1000 });
        refused(world, &pod, &config, "runs as somebody else").await?;
        let mut config = from_archive("mounts", &archive);
        let volume = world.daemon.path("volume");
        fs::create_dir_all(&volume)?;
        config.mounts.push(podwright_critest::mount(&volume, "/volume"));
        refused(world, &pod, &config, "/volume").await?;
        let mut config = from_archive("readonly", &archive);
        linux(&mut config).1.readonly_rootfs = true;
        refused(world, &pod, &config, "is not ro").await?;
        let mut config = from_archive("filter", &archive);
        linux(&mut config).1.seccomp = filtered();
        refused(world, &pod, &config, "no system call filter").await?;
        let mut config = from_archive("terminal", &archive);
        config.tty = true;
        refused(world, &pod, &config, "terminal").await?;
        // And as it was, it goes on.
        let id = world.run(&pod, &from_archive("main", &archive)).await?;
        still_counts(world, &pod, &id).await
    });
}

/// containerd's CVE-2026-53492, -50195, -53489 and CRI-O's CVE-2024-8676 on a node that restores: an archive's specification, devices,
/// log path and tags are not looked at, and what is broken makes no container.
#[test]
fn root_hostile_archives_make_no_container() {
    let Some(criu) = criu_for_restores() else { return };
    with_world_of(builder(&criu, true), async |world| {
        let pod = world.run_pod_named("hostile").await?;
        let good = archive_of(world, &pod, |_| ()).await?;
        let dir = world.daemon.path("unpacked");
        fs::create_dir_all(&dir)?;
        let tar = |words: &[&str]| -> Result<()> {
            let output = Command::new("tar").args(words).current_dir(&dir).output()?;
            ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        };
        let good_path = good.display().to_string();
        tar(&["-xf", &good_path])?;
        let bad = world.daemon.path("bad.tar");
        let bad_path = bad.display().to_string();
        let config = fs::read_to_string(dir.join("config.dump"))?;
        let image = world.image.clone();
        ensure!(config.contains(&image), "{config}");

        // A tag that lies: of an image that is not here. Nothing is fetched for an archive.
        fs::write(dir.join("config.dump"), config.replace(&image, "registry.example/evil:1"))?;
        tar(&["-cf", &bad_path, "."])?;
        let error = world.create(&pod, &from_archive("tag", &bad)).await.err().context("a tag that lies")?;
        ensure!(format!("{error:#}").contains("registry.example/evil:1"), "{error:#}");
        fs::write(dir.join("config.dump"), &config)?;

        // Links in the place of files.
        for name in ["checkpoint/inventory.img", "rootfs-diff.tar", "config.dump"] {
            let kept = fs::read(dir.join(name))?;
            fs::remove_file(dir.join(name))?;
            std::os::unix::fs::symlink("/etc/passwd", dir.join(name))?;
            tar(&["-cf", &bad_path, "."])?;
            let error = world.create(&pod, &from_archive("link", &bad)).await.err().context(name)?;
            ensure!(!format!("{error:#}").contains("root:"), "{name}: {error:#}");
            fs::remove_file(dir.join(name))?;
            fs::write(dir.join(name), kept)?;
        }

        // Cut off, and no archive at all.
        let whole = fs::read(&good)?;
        fs::write(&bad, whole.get(..whole.len() / 2).unwrap_or_default())?;
        ensure!(world.create(&pod, &from_archive("cut", &bad)).await.is_err(), "half an archive");
        fs::write(&bad, b"x")?;
        ensure!(world.create(&pod, &from_archive("rubbish", &bad)).await.is_err(), "no archive");

        // Rubbish for CRIU: the start fails in words, and nothing is left.
        let kept = fs::read(dir.join("checkpoint/pstree.img"))?;
        fs::write(dir.join("checkpoint/pstree.img"), b"rubbish")?;
        tar(&["-cf", &bad_path, "."])?;
        refused(world, &pod, &from_archive("processes", &bad), "CRIU").await?;
        fs::write(dir.join("checkpoint/pstree.img"), kept)?;

        // Another specification, with a device, a mount of the node, and another log: nobody reads it.
        let spec = r#"{"mounts": [{"destination": "/stolen", "source": "/", "options": ["rbind"]}], "linux": {"devices": [{"path": "/dev/stolen"}]}}"#;
        fs::write(dir.join("spec.dump"), spec)?;
        fs::write(dir.join("status.dump"), r#"{"logPath": "/etc/passwd"}"#)?;
        tar(&["-cf", &bad_path, "."])?;
        let id = world.run(&pod, &from_archive("main", &bad)).await?;
        still_counts(world, &pod, &id).await?;
        ensure!(world.sh(&id, "ls -d /stolen /dev/stolen 2>/dev/null; true").await?.is_empty(), "of the archive");
        Ok(())
    });
}
