//! Disks that are full, in blocks or in inodes, and one that became read-only.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{ContainerState, ReopenContainerLogRequest};
use podwright_critest::{Pod, World, WorldBuilder, container, read_growing_log, shell, with_world, with_world_of};
use podwright_testutil::image::{Compression, Format, ImageBuilder, LayerBuilder};
use podwright_testutil::{DaemonBuilder, SmallDisk};
use tonic::Code;

use super::{exhausted, refused};

/// What was deleted is there again only after a sync, on ext4.
const BLOCKS: &str = "for i in 1 2 3; do cat /dev/zero >>filler; sync filler; done";
/// Empty files; a file system that is out of inodes has blocks still.
const INODES: &str = "i=0; while true >f$i; do i=$((i + 1)); done";

/// More than what a file system finds still after it was full.
const LAYER_BYTES: usize = 4 << 20;

/// Takes all that is left, also of what an operation gave back.
fn fill(world: &World, how: &str) -> Result<()> {
    let dir = world.daemon.host().dir().join("disk/full").display().to_string();
    let script = format!("mkdir -p $0; cd $0; {{ {how}; }} 2>/dev/null || true");
    world.daemon.host().run(&["sh", "-c", &script, &dir]).map(drop)
}

fn free(world: &World) -> Result<()> {
    Ok(fs::remove_dir_all(world.daemon.inside("disk/full"))?)
}

/// Puts an image with this file into the registry.
fn push(world: &World, name: &str) -> Result<String> {
    let content = name.as_bytes().repeat(LAYER_BYTES / name.len());
    let layer = LayerBuilder::new().file(name, 0o644, &content).finish(Compression::Gzip)?;
    world.registry.push(&ImageBuilder::new(Format::Oci).layer(&layer).build(), name, "1")
}

fn log(world: &World, pod: &Pod, name: &str) -> PathBuf {
    world.daemon.inside("logs").join(pod_name(pod)).join(format!("{name}.log"))
}

fn pod_name(pod: &Pod) -> &str {
    pod.config.metadata.as_ref().map_or("", |metadata| &metadata.name)
}

async fn until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds()? {
        ensure!(std::time::Instant::now() < end, "it never comes to this: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn wait_for_lines(log: &std::path::Path) -> Result<()> {
    let lines = || read_growing_log(log).map_or(0, |lines| lines.len());
    let before = lines();
    until(&format!("something is added to {}", log.display()), || Ok(lines() > before)).await
}

async fn what_takes_is_refused_and_what_gives_works(world: &mut World, how: &str) -> Result<()> {
    let (spare, wanted, image) = (push(world, "spare")?, push(world, "wanted")?, world.image.clone());
    world.pull(&spare).await?;
    world.count().await?;
    let pod = world.run_pod_named("old").await?;
    let talker = world.run_shell(&pod, "talker", "exec ping 127.0.0.1").await?;
    let quiet = world.run_shell(&pod, "quiet", "trap 'exit 3' TERM; sleep 1000 & wait").await?;
    world.sh_until(&quiet, "grep -qx sleep /proc/[0-9]*/comm").await?;
    let created = world.create(&pod, &shell("created", &image, "true")).await?;
    let other = world.run_pod_named("other").await?;
    world.run(&other, &container("main", &image, &["sleep", "1000"])).await?;
    wait_for_lines(&log(world, &pod, "talker")).await?;

    fill(world, how)?;
    let before = world.daemon.census()?;
    for round in 0..3 {
        exhausted(world.pull(&wanted).await, "a pull", "free")?;
        // ext4 finds some blocks still, enough for a small file or two.
        let made = world.run_pod_named(&format!("new-{round}")).await;
        match made {
            Ok(made) if how == BLOCKS && world.daemon.path("disk.img").exists() => world.remove_pod(&made.id).await?,
            refused => exhausted(refused, "a pod", "free")?,
        }
        let made = world.create(&pod, &container(&format!("new-{round}"), &image, &["true"])).await;
        match made {
            Ok(made) if how == BLOCKS && world.daemon.path("disk.img").exists() => world.remove(&made).await?,
            refused => exhausted(refused, "a container", "free")?,
        }
    }
    world.comes_back_to(&before).await.context("refused calls leave nothing")?;
    ensure!(world.sh(&quiet, "echo here").await? == "here", "exec goes on");

    rotate(world, &pod, &talker, how).await?;
    fill(world, how)?;
    world.stop(&quiet, 20).await?;
    ensure!(world.status(&quiet).await?.exit_code == 3, "it could end by itself");
    for id in [&quiet, &created, &talker] {
        fill(world, how)?;
        world.remove(id).await?;
    }
    fill(world, how)?;
    world.stop_pod(&pod.id).await?;
    fill(world, how)?;
    world.remove_pod(&pod.id).await?;
    fill(world, how)?;
    world.remove_pod(&other.id).await?;
    fill(world, how)?;
    world.remove_image(&spare).await?;
    ensure!(world.image(&spare).await?.is_none(), "the image is gone");

    free(world)?;
    let pod = world.run_pod_named("after").await?;
    let id = world.run_shell(&pod, "main", "echo up; sleep 1000").await?;
    ensure!(world.sh(&id, "echo here").await? == "here", "a pod of after");
    world.pull(&spare).await?;
    Ok(())
}

/// As kubelet rotates: rename, tell, and rename back if that failed.
async fn rotate(world: &mut World, pod: &Pod, id: &str, how: &str) -> Result<()> {
    let path = log(world, pod, "talker");
    let rotated = path.with_extension("1");
    fs::rename(&path, &rotated)?;
    let request = ReopenContainerLogRequest { container_id: id.into() };
    let reopened = world.runtime.reopen_container_log(request).await;
    reopened.context("ReopenContainerLog on a full disk")?;
    ensure!(path.exists(), "the new log is there");
    if how == INODES {
        // It has blocks.
        wait_for_lines(&path).await?;
    }
    free(world)?;
    wait_for_lines(&path).await
}

fn on(disk: SmallDisk, how: &'static str) {
    let builder = WorldBuilder::daemon(DaemonBuilder::default().small_disk(disk));
    with_world_of(builder, async |world| what_takes_is_refused_and_what_gives_works(world, how).await);
}

#[test]
fn root_a_full_tmpfs() {
    on(SmallDisk::Tmpfs("size=48m"), BLOCKS);
}

#[test]
fn root_a_full_ext4() {
    on(SmallDisk::Ext4(64), BLOCKS);
}

#[test]
fn root_no_inodes() {
    on(SmallDisk::Tmpfs("size=64m,nr_inodes=2000"), INODES);
}

#[test]
fn root_a_disk_that_became_read_only() {
    let builder = WorldBuilder::daemon(DaemonBuilder::default().small_disk(SmallDisk::Ext4(64)));
    with_world_of(builder, async |world| {
        let (wanted, image) = (push(world, "wanted")?, world.image.clone());
        let pod = world.run_pod_named("old").await?;
        let id = world.run_shell(&pod, "main", "trap 'exit 3' TERM; while :; do sleep 0.1; done").await?;
        // Written only after the answer; what the disk has of it is what the next daemon knows.
        let record = world.daemon.inside("root/containers").join(&id).join("record.json");
        until("the record says that it runs", || Ok(fs::read_to_string(&record)?.contains("Running"))).await?;
        break_disk(world)?;
        let words = "Read-only";
        refused(world.pull(&wanted).await, "a pull", Code::Internal, words)?;
        refused(world.run_pod_named("new").await, "a pod", Code::FailedPrecondition, words)?;
        let config = container("new", &image, &["true"]);
        refused(world.create(&pod, &config).await, "a container", Code::FailedPrecondition, words)?;
        world.stop(&id, 20).await.context("StopContainer")?;
        ensure!(world.status(&id).await?.exit_code == 3, "it could end by itself");
        // All of it ends but for what is on the disk.
        world.remove(&id).await.context("RemoveContainer")?;
        ensure!(world.status(&id).await.is_err(), "the container is told of still");
        world.stop_pod(&pod.id).await.context("StopPodSandbox")?;

        // A file system that failed has to be mounted anew, so its daemon ends before.
        world.daemon.kill()?;
        mount_again(world)?;
        world.daemon.start_again()?;
        world.reconnect().await?;
        // The record could not be deleted: it is seen again, and the container is removed again.
        ensure!(world.status(&id).await?.state() == ContainerState::ContainerExited, "the container of before");
        world.remove(&id).await?;
        ensure!(world.pods().await?.iter().all(|found| found.id == pod.id), "only the pod of before");
        Ok(())
    });
}

/// Mounted read-only and writable again, as an administrator does it: no restart is needed.
#[test]
fn root_what_is_removed_from_a_read_only_disk_is_deleted_when_it_can_be_written_to() {
    with_world(async |world| {
        let before = world.daemon.census()?;
        let (gone, kept) = (world.run_pod_named("gone").await?, world.run_pod_named("kept").await?);
        let id = world.run_shell(&gone, "main", "sleep 1000").await?;
        let left = world.run_shell(&kept, "left", "sleep 1000").await?;
        let pid = world.pid(&id).await?;
        let shims = world.daemon.path("state/shims");
        make_read_only(world, true)?;
        world.remove(&left).await.context("RemoveContainer")?;
        world.remove_pod(&gone.id).await.context("StopPodSandbox and RemovePodSandbox")?;
        world.remove_pod(&gone.id).await.context("the same again")?;
        ensure!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "its process lives");
        ensure!(!shims.join(format!("{}.sock", gone.id)).exists(), "its shim lives");
        ensure!(world.pods().await?.iter().all(|pod| pod.id == kept.id), "it is listed still");
        ensure!(world.status(&left).await.is_err() && world.pod_status(&gone.id).await.is_err(), "it is told of still");
        ensure!(world.daemon.inside("root/sandboxes").join(&gone.id).exists(), "the disk can be written to");
        let why = world.daemon.podwright(&["why", &gone.id])?;
        ensure!(String::from_utf8_lossy(&why.stdout).contains("removed"), "{why:?}");
        make_read_only(world, false)?;
        world.remove_pod(&kept.id).await?;
        // Nobody asks again.
        world.comes_back_to(&before).await
    });
}

/// What pods have below the root directory, all but images.
fn make_read_only(world: &World, read_only: bool) -> Result<()> {
    let how = if read_only {
        "mount --bind $name $name; mount -o remount,bind,ro $name"
    } else {
        "i=0; until umount $name; do i=$((i + 1)); [ $i -lt 600 ]; sleep 0.1; done"
    };
    let script = format!("set -e; cd $0; for name in sandboxes containers networks; do {how}; done");
    world.daemon.host().run(&["sh", "-c", &script, &world.daemon.path("root").display().to_string()]).map(drop)
}

/// An error that the kernel finds, in the place of one of the hardware.
fn break_disk(world: &World) -> Result<()> {
    // What was not written back yet would be lost with the error, as in a power cut.
    let script = "cd $0; sync -f disk; device=$(findmnt -n -o SOURCE disk); echo 1 >/sys/fs/ext4/${device#/dev/}/trigger_fs_error
        i=0; while touch disk/x 2>/dev/null; do i=$((i + 1)); [ $i -lt 1000 ]; sleep 0.01; done";
    let dir = world.daemon.host().dir().display().to_string();
    world.daemon.host().run(&["sh", "-c", script, &dir]).map(drop)
}

fn mount_again(world: &World) -> Result<()> {
    let script = "set -e; cd $0; for name in root logs disk; do umount $name; done
        e2fsck -p disk.img || [ $? -lt 4 ]; mount -o loop disk.img disk
        for name in root logs; do mount --bind disk/$name $name; done";
    let dir = world.daemon.host().dir().display().to_string();
    world.daemon.host().run(&["sh", "-c", script, &dir]).map(drop)
}
