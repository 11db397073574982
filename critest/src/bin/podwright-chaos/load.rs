//! The load of an arena: pods that live through everything, pods that come and go, images that are pulled and removed. Owns what
//! these share.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{ContainerState, ContainerStatus, PodSandboxConfig};
use podwright_critest::{Pod, pod_config};
use tokio::task::JoinSet;
use tonic::Code;

use crate::call::{Caller, code_of};
use crate::images::Gallery;
use crate::schedule::Random;
use crate::tally::Tally;
use crate::{churn, images};

/// Pods that come and go, at a time.
const CHURNING: u64 = 3;
/// Pulls at a time.
const PULLING: u64 = 2;
/// How often a state is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What everybody in an arena knows.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) caller: Caller,
    pub(crate) tally: Tally,
    /// busybox; pulled before, and never removed.
    pub(crate) image: String,
    pub(crate) logs: PathBuf,
    pub(crate) cgroup_parent: String,
    pub(crate) gallery: Arc<Gallery>,
}

impl Field {
    /// A pod of this name, as kubelet describes it.
    pub(crate) fn pod_config(&self, name: &str) -> PodSandboxConfig {
        pod_config(&self.logs, &self.cgroup_parent, name)
    }

    /// Makes a pod. One whose shim was killed before we heard of it is replaced by the next attempt, as kubelet does it.
    pub(crate) async fn run_pod(&self, mut config: PodSandboxConfig) -> Result<Pod> {
        loop {
            let made = self.twice("RunPodSandbox", async |mut cri| Ok(cri.run_pod(config.clone()).await?.id)).await;
            match made {
                Ok(id) => {
                    self.tally.pod();
                    return Ok(Pod { id, config });
                }
                Err(error) if code_of(&error) == Some(Code::AlreadyExists) => {
                    self.remove_attempts(&config).await.context("removing a pod that is not ready")?;
                    config.metadata.get_or_insert_default().attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn remove_attempts(&self, config: &PodSandboxConfig) -> Result<()> {
        let uid = config.metadata.clone().unwrap_or_default().uid;
        let pods = self.caller.call("ListPodSandbox", async |mut cri| cri.pods().await).await?;
        for pod in pods.iter().filter(|pod| pod.metadata.as_ref().is_some_and(|metadata| metadata.uid == uid)) {
            self.remove_pod(&pod.id).await?;
        }
        Ok(())
    }

    /// Makes and starts a container with a shell script.
    pub(crate) async fn run(&self, pod: &Pod, name: &str, image: &str, script: &str) -> Result<String> {
        let config = podwright_critest::shell(name, image, script);
        let make = async |mut cri: podwright_critest::Cri| cri.create(pod, &config).await;
        let id = self.twice("CreateContainer", make).await?;
        self.twice("StartContainer", async |mut cri| cri.start(&id).await).await?;
        Ok(id)
    }

    /// Calls until it succeeds, and then once more with the same arguments, as kubelet does that did not hear the answer: that has to
    /// succeed too, with the same result.
    pub(crate) async fn twice<T: PartialEq + Debug>(
        &self,
        what: &str,
        call: impl AsyncFn(podwright_critest::Cri) -> Result<T>,
    ) -> Result<T> {
        let first = self.caller.call(what, &call).await?;
        let again = self.caller.call(&format!("{what}, repeated"), &call).await?;
        ensure!(first == again, "{what} answered {first:?}, and repeated {again:?}");
        self.tally.check();
        Ok(first)
    }

    pub(crate) async fn status(&self, id: &str) -> Result<ContainerStatus> {
        self.caller.call("ContainerStatus", async |mut cri| cri.status(id).await).await
    }

    /// Waits for the end of a container.
    pub(crate) async fn wait(&self, id: &str) -> Result<ContainerStatus> {
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.status(id).await?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            ensure!(tokio::time::Instant::now() < end, "the container did not end: {status:?}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(crate) async fn stop_pod(&self, id: &str) -> Result<()> {
        self.twice("StopPodSandbox", async |mut cri| cri.stop_pod(id).await).await
    }

    pub(crate) async fn remove_pod(&self, id: &str) -> Result<()> {
        self.twice("StopPodSandbox, RemovePodSandbox", async |mut cri| cri.remove_pod(id).await).await
    }

    /// Path of a container's log.
    pub(crate) fn log(&self, pod: &Pod, container: &str) -> PathBuf {
        PathBuf::from(&pod.config.log_directory).join(format!("{container}.log"))
    }
}

/// The pods and pulls that come and go.
pub(crate) struct Load {
    ending: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Begins; `round` makes names that were not there before.
    pub(crate) fn start(field: &Field, round: u64, seed: u64) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for slot in 0..CHURNING {
            let random = Random::new(seed ^ (round << 8) ^ slot);
            tasks.spawn_local(churn::live(
                field.clone(),
                ending.clone(),
                format!("churn-{round}-{slot}"),
                slot,
                random,
            ));
        }
        for slot in 0..PULLING {
            let random = Random::new(seed ^ (round << 8) ^ (slot + 100));
            tasks.spawn_local(images::live(
                field.clone(),
                ending.clone(),
                format!("pull-{round}-{slot}"),
                slot,
                random,
            ));
        }
        Self { ending, tasks }
    }

    /// Lets everybody finish what they do.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.ending.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a part of the load broke off")?;
        }
        Ok(())
    }
}
