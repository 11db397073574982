//! Images as the CRI tells them: one id in all calls, users, pins, usage.

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{Image, ImageFsInfoRequest, ImageFsInfoResponse, ListContainersRequest, ListImagesRequest};
use podwright_critest::{World, WorldBuilder, shell, with_world, with_world_of};
use podwright_testutil::{Daemon, Registry, base};
use serde_json::json;

async fn listed(world: &mut World, id: &str) -> Result<Option<Image>> {
    let images = world.images.list_images(ListImagesRequest::default()).await.context("ListImages")?.into_inner();
    Ok(images.images.into_iter().find(|image| image.id == id))
}

#[test]
fn root_an_image_has_one_id_in_all_calls_and_from_all_registries() {
    with_world(async |world| {
        let other = Registry::start_in(world.daemon.host())?;
        world.daemon.trust(&other)?;
        let image = base::variant("same", |builder| builder)?;
        let names = [world.registry.push(&image, "one/app", "1")?, other.push(&image, "two/app", "2")?];
        for name in &names {
            ensure!(world.pull(name).await? == image.id(), "{name}: PullImage");
        }
        let digests = [
            format!("{}/one/app@{}", world.registry.address(), image.manifest.digest),
            format!("{}/two/app@{}", other.address(), image.manifest.digest),
        ];
        let told = world.image(image.id()).await?.context("no status by id")?;
        ensure!(told.id == image.id() && told.size > 0, "by id: {told:?}");
        for (list, wanted) in [(&told.repo_tags, &names), (&told.repo_digests, &digests)] {
            ensure!(list.len() == 2 && wanted.iter().all(|name| list.contains(name)), "{list:?} is not {wanted:?}");
        }
        let hex = image.id().trim_start_matches("sha256:").to_owned();
        let tagged = format!("{}@{}", names[0], image.manifest.digest);
        let short = hex.get(..12).unwrap_or_default().to_owned();
        for name in names.iter().chain(&digests).chain([&hex, &short, &tagged]) {
            ensure!(world.image(name).await?.as_ref() == Some(&told), "the status of {name}");
        }
        ensure!(listed(world, image.id()).await?.as_ref() == Some(&told), "the list");

        world.count().await?;
        let pod = world.run_pod_named("ids").await?;
        let mut config = shell("main", image.id(), "sleep 1000");
        config.image.get_or_insert_default().user_specified_image.clone_from(&names[1]);
        let id = world.run(&pod, &config).await?;
        let status = world.status(&id).await?;
        ensure!(status.image_id == image.id(), "ContainerStatus: {}", status.image_id);
        let spec = status.image.context("no image")?;
        ensure!(spec.user_specified_image == names[1], "as the user wrote it: {}", spec.user_specified_image);
        let list = world.runtime.list_containers(ListContainersRequest::default()).await?.into_inner().containers;
        ensure!(list.iter().all(|container| container.image_id == image.id()), "ListContainers");
        world.remove_pod(&pod.id).await?;

        world.remove_image(&names[0]).await?;
        for name in names.iter().chain(&digests).map(String::as_str).chain([image.id()]) {
            ensure!(world.image(name).await?.is_none(), "{name} is still there");
        }
        world.remove_image(&names[1]).await?;
        drop(other);
        world.count().await
    });
}

#[test]
fn root_users_of_images_are_told_and_used() {
    with_world(async |world| {
        let pod = world.run_pod_named("users").await?;
        for (user, uid, name, runs_as) in [
            ("", Some(0), "", "0:0"),
            ("1002", Some(1002), "", "1002:0"),
            ("www-data", None, "www-data", "33:33"),
            ("1003:1004", Some(1003), "", "1003:1004"),
            ("www-data:1004", None, "www-data", "33:1004"),
        ] {
            let image = base::variant(&format!("user {user}"), |builder| builder.set("User", json!(user)))?;
            let tag = if user.is_empty() { "none".to_owned() } else { user.replace(':', "-") };
            let reference = world.registry.push(&image, "user", &tag)?;
            let id = world.pull(&reference).await?;
            let told = world.image(&id).await?.context("no status")?;
            ensure!(told.uid.as_ref().map(|uid| uid.value) == uid && told.username == name, "{user}: {told:?}");
            let container = world.run(&pod, &shell(&format!("as-{tag}"), &id, "sleep 1000")).await?;
            let shown = world.sh(&container, "echo $(id -u):$(id -g)").await?;
            ensure!(shown == runs_as, "{user}: runs as {shown}");
            world.remove(&container).await?;
            world.remove_image(&id).await?;
        }
        world.remove_pod(&pod.id).await?;
        world.count().await
    });
}

#[test]
fn root_pinned_images_are_told_and_can_be_removed_on_purpose() {
    let builder = WorldBuilder::daemon(Daemon::builder().config("pinned = [\"*/pause:*\"]\n"));
    with_world_of(builder, async |world| {
        let image = base::variant("pinned", |builder| builder)?;
        let plain = world.registry.push(&image, "team/app", "1")?;
        let id = world.pull(&plain).await?;
        ensure!(!world.image(&id).await?.context("no status")?.pinned, "an ordinary image is not pinned");
        let pause = world.registry.push(&image, "team/pause", "3")?;
        world.pull(&pause).await?;
        ensure!(world.image(&plain).await?.context("no status")?.pinned, "one name is enough");
        ensure!(listed(world, &id).await?.context("not listed")?.pinned, "the list tells it too");
        world.remove_image(&pause).await?;
        ensure!(world.image(&id).await?.is_none(), "removed by its name");
        world.count().await
    });
}

async fn usage(world: &mut World) -> Result<ImageFsInfoResponse> {
    Ok(world.images.image_fs_info(ImageFsInfoRequest {}).await.context("ImageFsInfo")?.into_inner())
}

#[test]
fn root_usage_follows_pulls_and_removals() {
    with_world(async |world| {
        let bytes = |usage: &ImageFsInfoResponse| {
            usage.image_filesystems.first().and_then(|fs| fs.used_bytes.as_ref()).map_or(0, |value| value.value)
        };
        let before = usage(world).await?;
        for fs in before.image_filesystems.iter().chain(&before.container_filesystems) {
            let at = fs.fs_id.as_ref().context("no file system")?.mountpoint.clone();
            ensure!(std::path::Path::new(&at).is_dir(), "{at} can be looked at");
            ensure!(fs.used_bytes.is_some() && fs.inodes_used.is_some() && fs.timestamp > 0, "{fs:?}");
        }
        let sizes = (before.image_filesystems.len(), before.container_filesystems.len());
        ensure!(sizes == (1, 1), "one of each: {sizes:?}");
        let image = base::variant("usage", |builder| builder)?;
        let reference = world.registry.push(&image, "usage", "1")?;
        world.pull(&reference).await?;
        ensure!(bytes(&usage(world).await?) > bytes(&before), "a pull shows");
        world.remove_image(&reference).await?;
        ensure!(bytes(&usage(world).await?) == bytes(&before), "a removal shows");
        world.count().await
    });
}
