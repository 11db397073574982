//! What kubelet removes: images when the disk is full, containers and pods that are gone.

use anyhow::ensure;
use podwright_testutil::base;
use serde_json::json;

use crate::node::{READ_ONLY, with_node};

#[test]
fn root_pressure_on_the_disk_removes_the_images_that_nobody_uses() {
    // What any disk has not: the kubelet is always short of it.
    let config = json!({
        "evictionHard": {"imagefs.available": "99.9999%"}, "evictionPressureTransitionPeriod": "5s",
        "imageMinimumGCAge": "1s",
    });
    with_node(config, async |node| {
        let unused = node.world.registry.push(&base::busybox()?, "unused", "1")?;
        // Another tag of the same image would keep it; this one has a content of its own.
        let other = node.world.registry.push(&other()?, "other", "1")?;
        node.add(
            "user",
            &json!({"terminationGracePeriodSeconds": 1, "containers": [node.shell("main", "sleep 1000")]}),
        )?;
        let before = node.ready("user").await?;
        node.world.pull(&unused).await?;
        node.world.pull(&other).await?;
        let gone = || {
            let images = node.world.daemon.crictl(&["images", "-o", "json"])?;
            Ok(Some(()).filter(|()| !images.contains(&other)))
        };
        node.settled("the unused image is removed", gone).await?;
        let image = node.world.image.clone();
        ensure!(node.world.image(&image).await?.is_some(), "the image in use stays");
        let after = node.ready("user").await?;
        ensure!(before.lives() == after.lives(), "static pods are not evicted");
        let node_says = node.get(READ_ONLY, "/stats/summary")?;
        ensure!(node_says.contains("imageFs"), "{node_says}");
        Ok(())
    });
}

#[test]
fn root_pods_that_are_gone_leave_no_sandbox_and_no_directory() {
    with_node(json!({}), async |node| {
        node.add(
            "short",
            &json!({"terminationGracePeriodSeconds": 1, "containers": [node.shell("main", "sleep 1000")]}),
        )?;
        let pod = node.ready("short").await?;
        let dir = node.world.daemon.path("kubelet/pods").join(pod.uid());
        ensure!(dir.exists(), "the pod's directory is where it is looked for");
        node.take("short")?;
        let gone = || Ok(Some(()).filter(|()| !dir.exists()));
        node.settled("its directory is gone", gone).await?;
        let daemon = &node.world.daemon;
        let gone = || Ok(Some(()).filter(|()| daemon.crictl(&["pods", "-q"]).is_ok_and(|all| all.is_empty())));
        node.settled("its sandbox is collected", gone).await?;
        ensure!(daemon.crictl(&["ps", "-aq"])?.is_empty(), "containers are left");
        Ok(())
    });
}

/// An image that shares nothing with busybox's but its layer.
fn other() -> anyhow::Result<podwright_testutil::image::Image> {
    use podwright_testutil::image::{Compression, Format, ImageBuilder, LayerBuilder};
    let layer = LayerBuilder::new().file("other", 0o644, b"something else").finish(Compression::Gzip)?;
    Ok(ImageBuilder::new(Format::Oci).layer(&layer).build())
}
