//! Images as volumes: what a container sees of them, what is refused, and how long they stay.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{ContainerConfig, IdMapping, Mount, NamespaceMode, UserNamespace};
use podwright_critest::{Pod, World, image_mount, shell, with_world};
use podwright_testutil::image::{Compression, Format, ImageBuilder, LayerBuilder};

/// Pulls an image of these layers, lowest first; its reference, id and digest.
async fn pull(world: &mut World, name: &str, layers: Vec<LayerBuilder>) -> Result<Volume> {
    let mut image = ImageBuilder::new(Format::Oci);
    for layer in layers {
        image = image.layer(&layer.finish(Compression::Gzip)?);
    }
    let image = image.build();
    let reference = world.registry.push(&image, name, "1")?;
    let id = world.pull(&reference).await?;
    ensure!(id == image.id(), "PullImage gives {id}, the image is {}", image.id());
    let by_digest = format!("{}/{name}@{}", world.registry.address(), image.manifest.digest);
    // What comes from now on is compared with a host that has these images.
    world.count().await?;
    Ok(Volume { reference, id, by_digest })
}

struct Volume {
    reference: String,
    id: String,
    by_digest: String,
}

fn three_layers() -> Vec<LayerBuilder> {
    vec![
        LayerBuilder::new()
            .dir("etc", 0o755)
            .file("etc/below", 0o644, b"below")
            .file("etc/changed", 0o644, b"old")
            .file("etc/removed", 0o644, b"")
            .dir("etc/deep", 0o711)
            .file("etc/deep/file", 0o600, b"deep")
            .file("run.sh", 0o755, b"#!/bin/sh\necho ran\n"),
        LayerBuilder::new().file("etc/changed", 0o644, b"new").whiteout("etc/removed"),
        LayerBuilder::new().file("etc/above", 0o644, b"above").symlink("link", "/etc"),
    ]
}

fn with_mounts(world: &World, name: &str, mounts: Vec<Mount>) -> ContainerConfig {
    ContainerConfig { mounts, ..shell(name, &world.image, "sleep 1000") }
}

/// The reason why a container is refused.
async fn refused(world: &mut World, pod: &Pod, mount: Mount) -> Result<String> {
    let config = with_mounts(world, "refused", vec![mount]);
    let error = world.create(pod, &config).await.err().context("the container was made")?;
    let status = error.downcast_ref::<tonic::Status>().context("no status")?;
    Ok(status.message().to_owned())
}

#[test]
fn root_an_image_is_seen_as_a_readonly_directory() {
    with_world(async |world| {
        let volume = pull(world, "volume", three_layers()).await?;
        let pod = world.run_pod_named("image-volumes").await?;
        let own = world.image.clone();
        let mounts = vec![
            image_mount(&volume.id, "/by/id", ""),
            image_mount(&volume.reference, "/by/tag", "etc"),
            image_mount(&volume.by_digest, "/by/digest", "etc/deep"),
            image_mount(&volume.id, "/by/link", "link"),
            image_mount(&own, "/own", ""),
        ];
        let config = with_mounts(world, "main", mounts);
        let id = world.run(&pod, &config).await?;

        let all = world.sh(&id, "cd /by/id && ls etc && cat etc/changed etc/above").await?;
        ensure!(all == "above\nbelow\nchanged\ndeep\nnewabove", "the whole image: {all}");
        let part = world.sh(&id, "cd /by/tag && ls && cat changed; cd /by/link && ls | wc -l").await?;
        ensure!(part == "above\nbelow\nchanged\ndeep\nnew4", "a part of it: {part}");
        ensure!(
            world.sh(&id, "cat /by/digest/file; stat -c %a /by/digest").await? == "deep711",
            "one layer's directory"
        );
        ensure!(world.sh(&id, "/by/id/run.sh").await? == "ran", "its programs run");
        ensure!(world.sh(&id, "test -x /own/bin/busybox && echo yes").await? == "yes", "the root's own image");
        for path in ["/by/id", "/by/id/etc", "/by/tag", "/by/digest", "/own/bin"] {
            let touched = world.sh(&id, &format!("touch {path}/x 2>&1 || true")).await?;
            ensure!(touched.contains("Read-only file system"), "writing to {path}: {touched}");
        }
        let shown = world.sh(&id, "grep -c ' /\\(by/.*\\|own\\) .*ro,nosuid,nodev' /proc/mounts").await?;
        ensure!(shown == "5", "five read-only mounts: {shown}");

        let status = world.status(&id).await?;
        for mount in status.mounts {
            let image = mount.image.with_context(|| format!("no image for {}", mount.container_path))?;
            let wanted = if mount.container_path == "/own" { &status.image_id } else { &volume.id };
            ensure!(image.image_ref == *wanted, "{}: {}", mount.container_path, image.image_ref);
            ensure!(mount.host_path.is_empty(), "the host's paths stay ours");
        }
        Ok(())
    });
}

#[test]
fn root_what_is_no_directory_of_an_image_is_refused() {
    with_world(async |world| {
        let layer = LayerBuilder::new()
            .dir("dir", 0o755)
            .file("dir/file", 0o644, b"")
            .symlink("out", "../../../../../../../../../tmp")
            .symlink("abs", "/var/lib")
            .symlink("circle", "circle");
        let volume = pull(world, "hostile", vec![layer]).await?;
        let pod = world.run_pod_named("refused").await?;
        let mount = |sub_path: &str| image_mount(&volume.id, "/volume", sub_path);
        for sub_path in ["missing", "dir/file", "dir/file/x", "out", "abs", "circle"] {
            let reason = refused(world, &pod, mount(sub_path)).await?;
            ensure!(reason.starts_with("ImageVolumeMountFailed: "), "{sub_path}: {reason}");
            ensure!(reason.contains("/volume") && reason.contains(sub_path), "{sub_path}: {reason}");
        }
        let writable = Mount { readonly: false, ..mount("") };
        ensure!(refused(world, &pod, writable).await?.starts_with("ImageVolumeMountFailed: "), "a writable one");
        let unknown = image_mount("registry.example/none:1", "/volume", "");
        ensure!(refused(world, &pod, unknown).await?.starts_with("ImageVolumeMountFailed: "), "an unknown image");
        for sub_path in ["..", "dir/../..", "/dir"] {
            ensure!(refused(world, &pod, mount(sub_path)).await?.contains("image_sub_path"), "{sub_path}");
        }
        // The name is free again.
        let config = with_mounts(world, "refused", vec![mount("dir")]);
        let id = world.run(&pod, &config).await?;
        ensure!(world.sh(&id, "ls /volume").await? == "file", "content");
        Ok(())
    });
}

#[test]
fn root_an_image_volume_is_mapped_as_the_pod_is() {
    with_world(async |world| {
        let layer = |file: &str| LayerBuilder::new().dir("etc", 0o700).file_of(file, 0o600, (7, 8), b"secret");
        let volume = pull(world, "mapped", vec![layer("etc/below"), layer("etc/above")]).await?;
        let mapping = || vec![IdMapping { host_id: 500_000, container_id: 0, length: 65_536 }];
        let user = UserNamespace { mode: NamespaceMode::Pod.into(), uids: mapping(), gids: mapping() };
        let mut config = world.pod("mapped");
        let linux = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        linux.namespace_options.get_or_insert_default().userns_options = Some(user.clone());
        let pod = world.run_pod(config).await?;
        let mounts = vec![image_mount(&volume.id, "/whole", ""), image_mount(&volume.id, "/part", "etc")];
        let mut config = with_mounts(world, "main", mounts);
        let linux = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        linux.namespace_options.get_or_insert_default().userns_options = Some(user);
        let id = world.run(&pod, &config).await?;
        let seen =
            world.sh(&id, "stat -c %u:%g /part /part/below /whole/etc/above; cat /part/above /part/below").await?;
        ensure!(seen == "0:0\n7:8\n7:8\nsecretsecret", "owners and content: {seen}");
        let seen = world.sh(&id, "cat /proc/self/uid_map").await?;
        ensure!(seen.contains("500000"), "it has a user namespace: {seen}");
        Ok(())
    });
}

fn layers_on_disk(world: &World) -> Result<usize> {
    let layers: PathBuf = world.daemon.path("root/layers");
    Ok(std::fs::read_dir(&layers).with_context(|| layers.display().to_string())?.count())
}

#[test]
fn root_a_removed_image_stays_while_a_container_mounts_it() {
    with_world(async |world| {
        let before = layers_on_disk(world)?;
        let volume = pull(world, "removed", three_layers()).await?;
        let pod = world.run_pod_named("removed").await?;
        let config = with_mounts(world, "main", vec![image_mount(&volume.id, "/volume", "etc")]);
        let id = world.create(&pod, &config).await?;
        world.remove_image(&volume.reference).await?;
        ensure!(world.image(&volume.id).await?.is_none(), "it is not listed any more");
        world.daemon.kill()?;
        world.daemon.start_again()?;
        world.reconnect().await?;
        ensure!(layers_on_disk(world)? == before + 3, "its layers stay");
        world.start(&id).await?;
        ensure!(world.sh(&id, "cat /volume/changed").await? == "new", "content");
        let status = world.status(&id).await?;
        let image = status.mounts.first().and_then(|mount| mount.image.clone()).context("no image")?;
        ensure!(image.image_ref == volume.id, "its id: {}", image.image_ref);
        let again = refused(world, &pod, image_mount(&volume.reference, "/volume", "")).await?;
        ensure!(again.contains("pull it first"), "no new container mounts it by name: {again}");
        world.remove(&id).await?;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while layers_on_disk(world)? != before {
            ensure!(std::time::Instant::now() < deadline, "its layers are freed");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        world.remove_pod(&pod.id).await?;
        world.count().await
    });
}

#[test]
fn root_an_image_without_layers_is_an_empty_directory() {
    with_world(async |world| {
        let volume = pull(world, "scratch", vec![]).await?;
        let pod = world.run_pod_named("scratch").await?;
        let config = with_mounts(world, "main", vec![image_mount(&volume.id, "/volume", "")]);
        let id = world.run(&pod, &config).await?;
        let shown = world.sh(&id, "ls -A /volume; touch /volume/x 2>&1 || true").await?;
        ensure!(shown.contains("Read-only file system"), "{shown}");
        Ok(())
    });
}
