//! Pods that live through a whole round of strikes and must notice none of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{ContainerState, PodSandboxState};
use podwright_critest::Pod;
use tokio::time::{Instant, sleep};

use crate::load::Field;
use crate::script::{self, COUNTER, STOPPED_CODE};

/// Pods of this kind in a round.
const PODS: usize = 2;
/// Longest time without a new number in the log; they come ten times a second.
const COUNTS_WITHIN: Duration = Duration::from_secs(20);

/// One of them.
pub(crate) struct Steady {
    pod: Pod,
    id: String,
    pid: u32,
    started_at: i64,
}

/// Makes them.
pub(crate) async fn start(field: &Field, round: u64) -> Result<Vec<Steady>> {
    let mut all = Vec::with_capacity(PODS);
    for number in 0..PODS {
        let pod = field.run_pod(field.pod_config(&format!("steady-{round}-{number}"))).await?;
        let id = field.run(&pod, "main", &field.image, COUNTER).await?;
        let pid = pid(field, &id).await?;
        let started_at = field.status(&id).await?.started_at;
        let steady = Steady { pod, id, pid, started_at };
        steady.counts_on(field, 0).await?;
        all.push(steady);
    }
    Ok(all)
}

async fn pid(field: &Field, id: &str) -> Result<u32> {
    field.caller.call("ContainerStatus", async |mut cri| cri.pid(id).await).await
}

impl Steady {
    /// Looks whether it is as it was, and goes on.
    pub(crate) async fn check(&self, field: &Field) -> Result<()> {
        let so_far = script::count(&field.log(&self.pod, "main")).context("its log")?.lines;
        let status = field.status(&self.id).await?;
        ensure!(status.state() == ContainerState::ContainerRunning, "it does not run any more: {status:?}");
        ensure!(
            status.started_at == self.started_at,
            "it was started at {} and at {}",
            self.started_at,
            status.started_at
        );
        let pid = pid(field, &self.id).await?;
        ensure!(pid == self.pid, "its process was {} and is {pid}", self.pid);
        let sandbox = field.caller.call("PodSandboxStatus", async |mut cri| cri.pod_status(&self.pod.id).await).await?;
        ensure!(sandbox.state() == PodSandboxState::SandboxReady, "its pod is not ready any more: {sandbox:?}");
        let heard = field.caller.call("ExecSync", async |mut cri| cri.sh(&self.id, "echo here").await).await?;
        ensure!(heard == "here", "exec printed {heard:?}");
        self.counts_on(field, so_far).await?;
        (0..5).for_each(|_| field.tally.check());
        Ok(())
    }

    /// Waits for the next number.
    async fn counts_on(&self, field: &Field, so_far: u64) -> Result<()> {
        let end = Instant::now() + COUNTS_WITHIN;
        while script::count(&field.log(&self.pod, "main")).context("its log")?.lines <= so_far {
            ensure!(Instant::now() < end, "its log has stopped after {so_far} numbers");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends it and looks at its whole log.
    pub(crate) async fn end(self, field: &Field) -> Result<()> {
        field.twice("StopContainer", async |mut cri| cri.stop(&self.id, 20).await).await?;
        let status = field.status(&self.id).await?;
        ensure!(status.exit_code == STOPPED_CODE, "its exit code is {} ({})", status.exit_code, status.message);
        ensure!(script::count(&field.log(&self.pod, "main"))?.ended, "its log does not say that it ended");
        (0..2).for_each(|_| field.tally.check());
        field.remove_pod(&self.pod.id).await?;
        std::fs::remove_dir_all(&self.pod.config.log_directory).context("removing its logs, as kubelet does")
    }

    /// Its name, for faults.
    pub(crate) fn name(&self) -> &str {
        self.pod.config.metadata.as_ref().map_or("", |metadata| &metadata.name)
    }
}
