//! A pod whose shim is killed: it is told, with a reason, and all of it can be cleaned away.

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{PodSandboxState, PodSandboxStatusRequest};
use podwright_critest::{Cri, Pod};

use crate::load::Field;
use crate::script::COUNTER;

/// Exit code of what was killed.
const KILLED: i32 = 137;

/// A pod with a container, and the pid of its shim.
pub(crate) struct Victim {
    pod: Pod,
    id: String,
    pub(crate) shim: u32,
}

impl Victim {
    pub(crate) async fn prepare(field: &Field, name: &str) -> Result<Self> {
        let pod = field.run_pod(field.pod_config(name)).await?;
        let id = field.run(&pod, "main", &field.image, COUNTER).await?;
        let shim = field.caller.call("PodSandboxStatus", async |cri| shim_pid(cri, &pod.id).await).await?;
        Ok(Self { pod, id, shim })
    }

    /// What the daemon says about it, and that it goes away.
    pub(crate) async fn check(self, field: &Field) -> Result<()> {
        let status = field.wait(&self.id).await?;
        ensure!(status.exit_code == KILLED && status.reason == "ShimGone", "its container: {status:?}");
        ensure!(!status.message.is_empty(), "nothing says why its container ended");
        let sandbox = field.caller.call("PodSandboxStatus", async |mut cri| cri.pod_status(&self.pod.id).await).await?;
        ensure!(sandbox.state() == PodSandboxState::SandboxNotready, "its pod: {sandbox:?}");
        (0..3).for_each(|_| field.tally.check());
        field.remove_pod(&self.pod.id).await?;
        std::fs::remove_dir_all(&self.pod.config.log_directory).context("removing its logs, as kubelet does")
    }
}

async fn shim_pid(mut cri: Cri, id: &str) -> Result<u32> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: true };
    let info = cri.runtime.pod_sandbox_status(request).await.context("PodSandboxStatus")?.into_inner().info;
    let info: serde_json::Value = serde_json::from_str(info.get("info").context("no info")?).context("info")?;
    let pid = info.get("pid").and_then(serde_json::Value::as_u64).context("no pid in info")?;
    let pid = u32::try_from(pid)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    ensure!(name.trim().starts_with("podwright-shim"), "process {pid} is {name:?} and no shim");
    Ok(pid)
}
