//! One pod's life as kubelet leads it: sandbox, container, start, exec, stop, remove.

use anyhow::{Context, Result, ensure};
use podwright_critest::{Cri, World, host_port, shell};
use tokio::task::JoinSet;

/// Pods at a time, where there are several.
pub(crate) const AT_ONCE: u32 = 4;
/// One pod of so many has the host's network.
const HOST_NETWORK_EACH: u32 = 3;
/// One pod of so many has a host port.
const HOST_PORT_EACH: u32 = 4;
/// `NamespaceMode::NODE`.
const NODE: i32 = 2;
/// First of the host ports; pods that live at the same time have different ones.
const FIRST_PORT: i32 = 22_000;

/// Leads `count` lives, the first with this number, `at_once` at a time.
pub(crate) async fn live(world: &World, first: u32, count: u32, at_once: u32) -> Result<()> {
    let mut under_way = JoinSet::new();
    for number in first..first + count {
        if under_way.len() >= at_once as usize {
            ended(under_way.join_next().await)?;
        }
        let (cri, image) = (world.calls(), world.image.clone());
        under_way.spawn(async move { one_life(cri, &image, number).await.with_context(|| format!("pod {number}")) });
    }
    while !under_way.is_empty() {
        ended(under_way.join_next().await)?;
    }
    Ok(())
}

fn ended(outcome: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    outcome.context("no pod is under way")?.context("a life broke off")?
}

async fn one_life(mut cri: Cri, image: &str, number: u32) -> Result<()> {
    let mut config = cri.pod(&format!("soak-{number}"));
    if number.is_multiple_of(HOST_NETWORK_EACH) {
        let linux = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        linux.namespace_options.get_or_insert_default().network = NODE;
    } else if number.is_multiple_of(HOST_PORT_EACH) {
        config.port_mappings.push(host_port(FIRST_PORT + i32::try_from(number % 1000)?, 80));
    }
    let pod = cri.run_pod(config).await?;
    let id = cri.run(&pod, &shell("main", image, "echo begun; exec sleep 1000")).await?;
    let said = cri.sh(&id, "echo here").await?;
    ensure!(said == "here", "exec printed {said:?}");
    cri.stop(&id, 0).await?;
    cri.remove(&id).await?;
    cri.remove_pod(&pod.id).await?;
    std::fs::remove_dir_all(&pod.config.log_directory).context("removing its logs, as kubelet does")
}
