//! Two hundred pods made and removed: the host is what it was.

use anyhow::{Context, Result, ensure};
use podwright_critest::{World, WorldBuilder, host_port, shell, with_world, with_world_of};
use podwright_testutil::Daemon;
use tokio::task::JoinSet;

const EMBEDDED_PODS: usize = 200;
/// Plugins are programs: each pod starts some twenty of them.
const BRIDGED_PODS: usize = 40;
const AT_A_TIME: usize = 8;
/// After them the daemon has what it keeps: threads, buffers, connections.
const WARM_UP_PODS: usize = 200;
/// What the allocator may keep in pieces; 10 KiB for each pod would be more.
const SLACK_KIBIBYTES: usize = 2048;

/// What the daemon holds itself.
#[derive(Debug)]
struct Own {
    files: usize,
    kibibytes: usize,
}

impl Own {
    fn of(daemon: &Daemon) -> Result<Self> {
        let proc = format!("/proc/{}", daemon.pid().context("the daemon does not run")?);
        let status = std::fs::read_to_string(format!("{proc}/status"))?;
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        let kibibytes = anonymous.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { files: std::fs::read_dir(format!("{proc}/fd"))?.count(), kibibytes })
    }
}

#[test]
fn root_two_hundred_pods_leave_nothing() {
    with_world(async |world| {
        make_and_remove(world, WARM_UP_PODS).await?;
        let before = Own::of(&world.daemon)?;
        make_and_remove(world, EMBEDDED_PODS).await?;
        let after = Own::of(&world.daemon)?;
        ensure!(after.files <= before.files, "the daemon keeps files open: {before:?}, then {after:?}");
        ensure!(after.kibibytes <= before.kibibytes + SLACK_KIBIBYTES, "the daemon grows: {before:?}, then {after:?}");
        Ok(())
    });
}

#[test]
fn root_bridged_pods_leave_nothing() {
    let builder = WorldBuilder::daemon(Daemon::builder().bridge_chain("1.1.0"));
    with_world_of(builder, async |world| make_and_remove(world, BRIDGED_PODS).await);
}

async fn make_and_remove(world: &mut World, count: usize) -> Result<()> {
    let image = world.image.clone();
    for start in (0..count).step_by(AT_A_TIME) {
        let mut batch = JoinSet::new();
        for number in start..(start + AT_A_TIME).min(count) {
            let mut config = world.pod(&format!("pod-{number}"));
            config.port_mappings.push(host_port(20_000 + i32::try_from(number)?, 80));
            let mut calls = world.calls();
            let image = image.clone();
            batch.spawn(async move {
                let pod = calls.run_pod(config).await?;
                calls.run(&pod, &shell("main", &image, "sleep 1000")).await?;
                calls.remove_pod(&pod.id).await
            });
        }
        while let Some(outcome) = batch.join_next().await {
            outcome??;
        }
    }
    ensure!(world.pods().await?.is_empty(), "no pod is listed");
    world.nothing_left().await
}
