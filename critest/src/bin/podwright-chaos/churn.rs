//! A pod's whole life, again and again: made, one container that ends by itself or is stopped, looked at, removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{ContainerState, ContainerStatus};
use podwright_critest::{Pod, host_port};

use crate::load::Field;
use crate::schedule::Random;
use crate::script::{self, COUNTER, STOPPED_CODE};

/// Numbers that a container logs at once.
const BURST: u64 = 500;
/// First host port; each slot has one.
const FIRST_PORT: i32 = 21_000;
/// Seconds that a container has to end.
const GRACE_SECONDS: i64 = 20;

/// Lives until the end is wanted. A fault is told, and the next life begins.
pub(crate) async fn live(field: Field, ending: Arc<AtomicBool>, name: String, slot: u64, mut random: Random) {
    let mut number = 0;
    while !ending.load(Ordering::SeqCst) {
        let name = format!("{name}-{number}");
        number += 1;
        if let Err(error) = one_life(&field, &name, slot, &mut random).await {
            field.tally.fault(&format!("{name}: {error:#}"));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn one_life(field: &Field, name: &str, slot: u64, random: &mut Random) -> Result<()> {
    let mut config = field.pod_config(name);
    if random.once_in(2) {
        config.port_mappings.push(host_port(FIRST_PORT + i32::try_from(slot)?, 80));
    }
    let pod = field.run_pod(config).await?;
    let address = field.caller.call("PodSandboxStatus", async |mut cri| cri.pod_ip(&pod.id).await).await?;
    ensure!(address.parse::<std::net::IpAddr>().is_ok(), "its address is {address:?}");
    field.tally.check();
    let outcome = match random.below(3) {
        0 => ends_by_itself(field, &pod, random).await,
        1 => is_stopped(field, &pod, random).await,
        _ => is_removed_while_it_runs(field, &pod, random).await,
    };
    let removed = take_away(field, &pod, random).await;
    outcome.and(removed)
}

async fn ends_by_itself(field: &Field, pod: &Pod, random: &mut Random) -> Result<()> {
    let code = random.below(100);
    let id = field.run(pod, "main", &field.image, &script::burst(BURST, code)).await?;
    let status = field.wait(&id).await?;
    expect_code(&status, i32::try_from(code)?)?;
    field.tally.check();
    check_log(field, pod, Some(BURST))
}

async fn is_stopped(field: &Field, pod: &Pod, random: &mut Random) -> Result<()> {
    let id = field.run(pod, "main", &field.image, COUNTER).await?;
    counts(field, pod).await?;
    let heard = field.caller.call("ExecSync", async |mut cri| cri.sh(&id, "echo here").await).await?;
    ensure!(heard == "here", "exec printed {heard:?}");
    field.tally.check();
    tokio::time::sleep(Duration::from_millis(random.below(300))).await;
    field.twice("StopContainer", async |mut cri| cri.stop(&id, GRACE_SECONDS).await).await?;
    expect_code(&field.status(&id).await?, STOPPED_CODE)?;
    field.tally.check();
    check_log(field, pod, None)?;
    if random.once_in(2) {
        field.twice("RemoveContainer", async |mut cri| cri.remove(&id).await).await?;
    }
    Ok(())
}

async fn is_removed_while_it_runs(field: &Field, pod: &Pod, random: &mut Random) -> Result<()> {
    let id = field.run(pod, "main", &field.image, COUNTER).await?;
    ensure!(field.status(&id).await?.state() == ContainerState::ContainerRunning, "it does not run after its start");
    field.tally.check();
    tokio::time::sleep(Duration::from_millis(random.below(200))).await;
    Ok(())
}

/// Waits until the program counts: it has its trap then.
async fn counts(field: &Field, pod: &Pod) -> Result<()> {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while script::count(&field.log(pod, "main"))?.lines == 0 {
        ensure!(tokio::time::Instant::now() < end, "the program logged nothing for 30 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn expect_code(status: &ContainerStatus, code: i32) -> Result<()> {
    ensure!(status.state() == ContainerState::ContainerExited, "it has not ended: {status:?}");
    ensure!(
        status.exit_code == code,
        "its exit code is {} ({}: {}) and not {code}",
        status.exit_code,
        status.reason,
        status.message
    );
    Ok(())
}

fn check_log(field: &Field, pod: &Pod, lines: Option<u64>) -> Result<()> {
    let count = script::count(&field.log(pod, "main")).context("its log")?;
    ensure!(count.ended, "its log stops after {} numbers", count.lines);
    ensure!(lines.is_none_or(|lines| lines == count.lines), "its log has {} numbers", count.lines);
    field.tally.check();
    Ok(())
}

async fn take_away(field: &Field, pod: &Pod, random: &mut Random) -> Result<()> {
    if random.once_in(2) {
        field.stop_pod(&pod.id).await?;
    }
    field.remove_pod(&pod.id).await?;
    std::fs::remove_dir_all(&pod.config.log_directory).context("removing its logs, as kubelet does")
}
