//! Clients of the CRI, and the calls that tests make, with errors that say which one failed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use podwright_cri_api::v1::image_service_client::ImageServiceClient;
use podwright_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use podwright_cri_api::v1::{
    ContainerConfig, ContainerState, ContainerStatus, ContainerStatusRequest, CreateContainerRequest, ExecSyncRequest,
    ExecSyncResponse, Image, ImageSpec, ImageStatusRequest, ListPodSandboxRequest, PodSandbox, PodSandboxConfig,
    PodSandboxStatus, PodSandboxStatusRequest, PullImageRequest, RemoveContainerRequest, RemoveImageRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};

use podwright_testutil::Daemon;
use tonic::transport::Channel;

use crate::config::{Pod, pod_config};
use crate::logs::{LogLine, read_log};

/// How often a state is looked at that nothing announces.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Seconds that exec gets.
const EXEC_LIMIT_SECONDS: i64 = 60;

/// Largest message that clients take, as kubelet's.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Clients of a daemon. Cheap to clone, for calls side by side.
#[derive(Debug, Clone)]
pub struct Cri {
    /// RuntimeService.
    pub runtime: RuntimeServiceClient<Channel>,
    /// ImageService.
    pub images: ImageServiceClient<Channel>,
    logs: PathBuf,
    cgroup_parent: String,
}

impl Cri {
    /// Connects to a daemon.
    ///
    /// # Errors
    /// The socket can not be reached.
    pub async fn connect(daemon: &Daemon) -> Result<Self> {
        Ok(Self::over(daemon.channel().await?, daemon.path("logs"), daemon.host().cgroup_parent()))
    }

    /// Clients over a connection; pods log below `logs`.
    #[must_use]
    pub fn over(channel: Channel, logs: PathBuf, cgroup_parent: String) -> Self {
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::new(channel),
            logs,
            cgroup_parent,
        }
    }

    /// Pulls an image and returns its reference.
    ///
    /// # Errors
    /// The call failed.
    pub async fn pull(&mut self, image: &str) -> Result<String> {
        let request = PullImageRequest {
            image: Some(ImageSpec { image: image.into(), ..Default::default() }),
            ..Default::default()
        };
        let reply = self.images.pull_image(request).await.with_context(|| format!("PullImage {image}"))?;
        Ok(reply.into_inner().image_ref)
    }

    /// What is told of an image; `None` if it is not there.
    ///
    /// # Errors
    /// The call failed.
    pub async fn image(&mut self, image: &str) -> Result<Option<Image>> {
        let image = Some(ImageSpec { image: image.into(), ..Default::default() });
        let request = ImageStatusRequest { image, verbose: false };
        Ok(self.images.image_status(request).await.context("ImageStatus")?.into_inner().image)
    }

    /// Removes an image.
    ///
    /// # Errors
    /// The call failed.
    pub async fn remove_image(&mut self, image: &str) -> Result<()> {
        let image = Some(ImageSpec { image: image.into(), ..Default::default() });
        self.images.remove_image(RemoveImageRequest { image }).await.context("RemoveImage")?;
        Ok(())
    }

    /// A pod configuration for this host.
    #[must_use]
    pub fn pod(&self, name: &str) -> PodSandboxConfig {
        pod_config(&self.logs, &self.cgroup_parent, name)
    }

    /// Makes a pod.
    ///
    /// # Errors
    /// The call failed.
    pub async fn run_pod(&mut self, config: PodSandboxConfig) -> Result<Pod> {
        self.run_pod_by("", config).await
    }

    /// Makes a pod that a runtime handler runs.
    ///
    /// # Errors
    /// The call failed.
    pub async fn run_pod_by(&mut self, handler: &str, config: PodSandboxConfig) -> Result<Pod> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.into() };
        let id = self.runtime.run_pod_sandbox(request).await.context("RunPodSandbox")?.into_inner().pod_sandbox_id;
        Ok(Pod { id, config })
    }

    /// Makes an ordinary pod of this name.
    ///
    /// # Errors
    /// The call failed.
    pub async fn run_pod_named(&mut self, name: &str) -> Result<Pod> {
        let config = self.pod(name);
        self.run_pod(config).await
    }

    /// Stops and removes a pod.
    ///
    /// # Errors
    /// A call failed.
    pub async fn remove_pod(&mut self, id: &str) -> Result<()> {
        self.stop_pod(id).await?;
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.runtime.remove_pod_sandbox(request).await.context("RemovePodSandbox")?;
        Ok(())
    }

    /// Stops a pod.
    ///
    /// # Errors
    /// The call failed.
    pub async fn stop_pod(&mut self, id: &str) -> Result<()> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.runtime.stop_pod_sandbox(request).await.context("StopPodSandbox")?;
        Ok(())
    }

    /// All pods.
    ///
    /// # Errors
    /// The call failed.
    pub async fn pods(&mut self) -> Result<Vec<PodSandbox>> {
        let reply = self.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.context("ListPodSandbox")?;
        Ok(reply.into_inner().items)
    }

    /// State of a pod.
    ///
    /// # Errors
    /// The call failed.
    pub async fn pod_status(&mut self, id: &str) -> Result<PodSandboxStatus> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        let reply = self.runtime.pod_sandbox_status(request).await.context("PodSandboxStatus")?;
        reply.into_inner().status.context("PodSandboxStatus without status")
    }

    /// Address of a pod.
    ///
    /// # Errors
    /// It has none.
    pub async fn pod_ip(&mut self, id: &str) -> Result<String> {
        let ip = self.pod_status(id).await?.network.context("a pod without network")?.ip;
        ensure!(!ip.is_empty(), "pod {id} has no address");
        Ok(ip)
    }

    /// Makes a container.
    ///
    /// # Errors
    /// The call failed.
    pub async fn create(&mut self, pod: &Pod, config: &ContainerConfig) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.config.clone()),
        };
        Ok(self.runtime.create_container(request).await.context("CreateContainer")?.into_inner().container_id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// The call failed.
    pub async fn start(&mut self, id: &str) -> Result<()> {
        let request = StartContainerRequest { container_id: id.into() };
        self.runtime.start_container(request).await.context("StartContainer")?;
        Ok(())
    }

    /// Makes and starts a container.
    ///
    /// # Errors
    /// A call failed.
    pub async fn run(&mut self, pod: &Pod, config: &ContainerConfig) -> Result<String> {
        let id = self.create(pod, config).await?;
        self.start(&id).await?;
        Ok(id)
    }

    /// Stops a container within `seconds`.
    ///
    /// # Errors
    /// The call failed.
    pub async fn stop(&mut self, id: &str, seconds: i64) -> Result<()> {
        let request = StopContainerRequest { container_id: id.into(), timeout: seconds };
        self.runtime.stop_container(request).await.context("StopContainer")?;
        Ok(())
    }

    /// Removes a container.
    ///
    /// # Errors
    /// The call failed.
    pub async fn remove(&mut self, id: &str) -> Result<()> {
        let request = RemoveContainerRequest { container_id: id.into() };
        self.runtime.remove_container(request).await.context("RemoveContainer")?;
        Ok(())
    }

    /// State of a container.
    ///
    /// # Errors
    /// The call failed.
    pub async fn status(&mut self, id: &str) -> Result<ContainerStatus> {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        let reply = self.runtime.container_status(request).await.context("ContainerStatus")?;
        reply.into_inner().status.context("ContainerStatus without status")
    }

    /// Process 1 of a running container, as the host numbers it.
    ///
    /// # Errors
    /// The call failed, or does not tell.
    pub async fn pid(&mut self, id: &str) -> Result<u32> {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: true };
        let info = self.runtime.container_status(request).await.context("ContainerStatus")?.into_inner().info;
        let info: serde_json::Value = serde_json::from_str(info.get("info").context("no info")?).context("info")?;
        let pid = info.get("pid").and_then(serde_json::Value::as_u64).context("no pid in info")?;
        Ok(u32::try_from(pid)?)
    }

    /// Waits for the end of a container.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn wait(&mut self, id: &str, limit_seconds: u64) -> Result<ContainerStatus> {
        let end = Instant::now() + Duration::from_secs(limit_seconds);
        loop {
            let status = self.status(id).await?;
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "container {id} did not end within {limit_seconds} s");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs a container to its end.
    ///
    /// # Errors
    /// A call failed, or it did not end in time.
    pub async fn run_to_end(&mut self, pod: &Pod, config: &ContainerConfig) -> Result<ContainerStatus> {
        let id = self.run(pod, config).await?;
        self.wait(&id, 60).await
    }

    /// Runs a command in a container.
    ///
    /// # Errors
    /// The call failed.
    pub async fn exec(&mut self, id: &str, words: &[&str]) -> Result<ExecSyncResponse> {
        let request = ExecSyncRequest {
            container_id: id.into(),
            cmd: words.iter().map(|word| (*word).to_owned()).collect(),
            timeout: EXEC_LIMIT_SECONDS,
        };
        Ok(self.runtime.exec_sync(request).await.with_context(|| format!("ExecSync {words:?}"))?.into_inner())
    }

    /// Runs a shell script in a container and returns what it printed, without the last line feed.
    ///
    /// # Errors
    /// The call or the script failed.
    pub async fn sh(&mut self, id: &str, script: &str) -> Result<String> {
        let reply = self.exec(id, &["sh", "-c", script]).await?;
        if reply.exit_code != 0 {
            bail!("{script}: exit code {}: {}", reply.exit_code, String::from_utf8_lossy(&reply.stderr));
        }
        Ok(String::from_utf8_lossy(&reply.stdout).trim_end_matches('\n').to_owned())
    }

    /// Waits in a container until a shell's condition holds: a container that has started need not yet have come to its last command.
    ///
    /// # Errors
    /// The call failed, or the condition did not come true in time.
    pub async fn sh_until(&mut self, id: &str, condition: &str) -> Result<()> {
        let script = format!("until {condition}; do sleep 0.02; done");
        self.sh(id, &script).await.with_context(|| format!("waiting for: {condition}")).map(drop)
    }

    /// Path of a container's log.
    #[must_use]
    pub fn log_path(&self, pod: &Pod, container: &str) -> PathBuf {
        PathBuf::from(&pod.config.log_directory).join(format!("{container}.log"))
    }

    /// What a container logged, as text, full lines only.
    ///
    /// # Errors
    /// The log is not there, or not in the format.
    pub fn log_text(&self, pod: &Pod, container: &str) -> Result<String> {
        let lines = read_log(&self.log_path(pod, container))?;
        Ok(lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect::<Vec<_>>().join("\n"))
    }

    /// Waits until an entry of a container's log contains `text`.
    ///
    /// # Errors
    /// It did not come in time.
    pub async fn wait_for_log(&self, pod: &Pod, container: &str, text: &str) -> Result<LogLine> {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let found = read_log(&self.log_path(pod, container))?
                .into_iter()
                .find(|line| String::from_utf8_lossy(&line.text).contains(text));
            if let Some(line) = found {
                return Ok(line);
            }
            ensure!(Instant::now() < end, "{text} did not appear in the log: {}", self.log_text(pod, container)?);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
