//! Kubelet and daemon are killed and started again under running pods.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::node::{Node, with_node};
use crate::status::PodStatus;

/// A pod with probes, a sidecar and two containers.
fn add(node: &Node) -> Result<()> {
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    let mut side = node.shell("side", "sleep 1000");
    side["restartPolicy"] = json!("Always");
    let mut main = node.shell("main", "sleep 1000");
    main["livenessProbe"] = probe.clone();
    main["readinessProbe"] = probe;
    let spec = json!({"terminationGracePeriodSeconds": 1, "initContainers": [side], "containers": [main, node.shell("other", "sleep 1000")]});
    node.add("steady", &spec)
}

/// The pod has the same containers still, is ready, and the kubelet does something with pods: one added now comes up.
async fn same(node: &mut Node, before: &PodStatus, round: &str) -> Result<()> {
    node.add(round, &json!({"terminationGracePeriodSeconds": 1, "containers": [node.shell("main", "sleep 1000")]}))?;
    node.ready(round).await?;
    let after = node.ready("steady").await?;
    ensure!(before.lives() == after.lives(), "{round}: {:?} became {:?}", before.lives(), after.lives());
    ensure!(after.lives().iter().all(|(_, restarts)| *restarts == 0), "{round}: {:?}", after.lives());
    ensure!(after.ip() == before.ip(), "{round}: the address");
    node.take(round)
}

#[test]
fn root_pods_outlive_kubelet_and_daemon() {
    with_node(json!({}), async |node| {
        add(node)?;
        let before = node.ready("steady").await?;

        node.kill_kubelet()?;
        node.start_kubelet().await?;
        same(node, &before, "kubelet").await?;

        node.world.daemon.kill()?;
        node.world.daemon.start_again()?;
        node.world.reconnect().await?;
        same(node, &before, "daemon").await?;

        node.kill_kubelet()?;
        node.world.daemon.kill()?;
        node.world.daemon.start_again()?;
        node.world.reconnect().await?;
        node.start_kubelet().await?;
        same(node, &before, "both").await
    });
}

#[test]
fn root_what_ends_while_kubelet_or_daemon_is_away_is_noticed() {
    with_node(json!({}), async |node| {
        add(node)?;
        let before = node.ready("steady").await?;
        let pid = node.world.pid(&before.container("other").id().unwrap_or_default()).await?;
        node.world.daemon.kill()?;
        node.kill_kubelet()?;
        node.world.daemon.host().kill(pid)?;
        node.world.daemon.start_again()?;
        node.world.reconnect().await?;
        node.start_kubelet().await?;
        let after =
            node.until("steady", "restarted", |pod| pod.container("other").restarts() == 1 && pod.is_ready()).await?;
        let end = after.container("other").ended().unwrap_or_default();
        ensure!(end["exitCode"] == json!(137), "how it ended: {end}");
        ensure!(after.container("main").id() == before.container("main").id(), "the others are left alone");
        Ok(())
    });
}

#[test]
fn root_a_daemon_killed_in_the_middle_of_a_pods_start_does_not_keep_it_from_coming_up() {
    with_node(json!({}), async |node| {
        for round in 0..3 {
            let name = format!("middle{round}");
            let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [node.shell("one", "sleep 1000"), node.shell("two", "sleep 1000")]});
            node.add(&name, &spec)?;
            let seen = || Ok(Some(()).filter(|()| node.world.daemon.log().matches("RunPodSandbox").count() > round));
            node.settled("the pod is being made", seen).await?;
            node.world.daemon.kill()?;
            node.world.daemon.start_again()?;
            node.world.reconnect().await?;
            node.ready(&name).await?;
        }
        Ok(())
    });
}
