//! A runtime that is measured: started in a host of its own, with a registry, an image and the same chain of CNI plugins; or one
//! that runs already.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use podwright_cri_api::v1::{StatusRequest, VersionRequest};
use podwright_critest::Cri;
use podwright_testutil::image::{Format, Image, ImageBuilder};
use podwright_testutil::{Daemon, Registry, TestHost, base, cni_bin_dir};
use serde_json::json;
use tonic::transport::Endpoint;

use crate::{machine, plugin};
pub(crate) use podwright_critest::containerd::found;
use podwright_critest::containerd::{Containerd, chain};

/// Time for a daemon to answer.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two tries to reach it; a start is measured to a millisecond.
const LOOK: Duration = Duration::from_millis(1);

/// Peers that this program starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// containerd with runc.
    ContainerdRunc,
    /// containerd with crun.
    ContainerdCrun,
}

impl Kind {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ContainerdRunc => "containerd-runc",
            Self::ContainerdCrun => "containerd-crun",
        }
    }

    /// Its OCI runtime.
    pub(crate) fn runtime(self) -> &'static str {
        match self {
            Self::ContainerdRunc => "runc",
            Self::ContainerdCrun => "crun",
        }
    }
}

/// Who runs the daemon.
enum Server {
    /// Ours: one on the embedded network, and one on the plugins.
    Ours {
        daemon: Box<Daemon>,
        plugins: Box<Daemon>,
    },
    Containerd(Box<Containerd>),
    /// Somebody else.
    Given(TestHost),
}

/// A runtime under measurement.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// What it says of itself.
    pub(crate) version: String,
    /// On its best network.
    pub(crate) cri: Cri,
    /// On the chain of CNI plugins.
    pub(crate) chain: Cri,
    pub(crate) image: String,
    /// The same image as the runtime on the plugins knows it.
    pub(crate) chain_image: String,
    pub(crate) registry: Registry,
    // Last: ends the processes.
    server: Server,
}

impl Contender {
    /// Podwright, in the build that xtask made.
    pub(crate) async fn ours() -> Result<Self> {
        let host = TestHost::new()?;
        let registry = Registry::start_in(&host)?;
        let image = registry.push(&base::busybox()?, "busybox", "bench")?;
        let daemon = Daemon::builder().log_level("warn").start_in(host)?;
        daemon.trust(&registry)?;
        let beside = TestHost::new()?;
        lay_plugins(&beside)?;
        let its_registry = Registry::start_in(&beside)?;
        its_registry.push(&base::busybox()?, "busybox", "bench")?;
        let bin = beside.dir().join("cni/bin");
        let plugins = Daemon::builder().cni().cni_bin_dir(&bin).log_level("warn").start_in(beside)?;
        plugins.trust(&its_registry)?;
        std::fs::write(plugins.path("net.d/10-bench.conflist"), chain().to_string()).context("writing a conflist")?;
        let (cri, mut chained) = (Cri::connect(&daemon).await?, Cri::connect(&plugins).await?);
        let chained_image = its_registry.reference("busybox", "bench");
        chained.pull(&chained_image).await?;
        network_ready(&mut chained).await?;
        let server = Server::Ours { daemon: Box::new(daemon), plugins: Box::new(plugins) };
        let mut ours = Self::over("podwright", cri, image, registry, server).await?;
        (ours.chain, ours.chain_image) = (chained, chained_image);
        ours.cri.pull(&ours.image.clone()).await?;
        Ok(ours)
    }

    /// A peer of Debian's packages, which must be installed or in PATH.
    pub(crate) async fn peer(kind: Kind) -> Result<Self> {
        let host = TestHost::new()?;
        lay_plugins(&host)?;
        let registry = Registry::start_in(&host)?;
        let image = registry.push(&base::busybox()?, "busybox", "bench")?;
        let pause = registry.push(&pause()?, "pause", "bench")?;
        let containerd = Containerd::start(host, &found(kind.runtime())?, &pause)?;
        let mut cri = connect(&containerd.endpoint(), containerd.dir(), containerd.host().cgroup_parent()).await?;
        cri.pull(&image).await?;
        network_ready(&mut cri).await?;
        let server = Server::Containerd(Box::new(containerd));
        Self::over(kind.name(), cri, image, registry, server).await
    }

    /// A runtime that somebody else started on this host. Its processes are not known, so rows of its memory and start are left out.
    pub(crate) async fn given(name: &str, endpoint: &str) -> Result<Self> {
        let host = TestHost::new()?;
        let registry = Registry::builder().start()?;
        let image = registry.push(&base::busybox()?, "busybox", "bench")?;
        let mut cri = connect(endpoint, host.dir(), host.cgroup_parent()).await?;
        cri.pull(&image).await?;
        Self::over(name, cri, image, registry, Server::Given(host)).await
    }

    /// One whose best network is the chain of plugins.
    async fn over(name: &str, cri: Cri, image: String, registry: Registry, server: Server) -> Result<Self> {
        let mut asked = cri.clone();
        let version = asked.runtime.version(VersionRequest::default()).await.context("Version")?.into_inner();
        let version = format!("{} {}", version.runtime_name, version.runtime_version);
        let (chain, chain_image) = (cri.clone(), image.clone());
        Ok(Self { name: name.into(), version, cri, chain, image, chain_image, registry, server })
    }

    /// Chooses between plugins as they are and plugins that note their time.
    pub(crate) fn time_plugins(&self, timed: bool) -> Result<()> {
        self.plugins().map_or(Ok(()), |base| plugin::use_plugins(&base, timed))
    }

    /// Time that its timed plugins took so far; none where they can not be timed.
    pub(crate) fn plugins_took(&self) -> Option<Duration> {
        self.plugins().map(|base| plugin::taken(&base))
    }

    fn plugins(&self) -> Option<PathBuf> {
        match &self.server {
            Server::Ours { plugins, .. } => Some(plugins.path("cni")),
            Server::Containerd(containerd) => Some(containerd.dir().join("cni")),
            Server::Given(_) => None,
        }
    }

    /// Puts an image into its registry.
    pub(crate) fn push(&self, image: &Image, name: &str) -> Result<String> {
        self.registry.push(image, name, "bench")
    }

    /// The daemon's pid, where it is known.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.server {
            Server::Ours { daemon, .. } => daemon.pid(),
            Server::Containerd(containerd) => Some(containerd.pid()),
            Server::Given(_) => None,
        }
    }

    /// The host that it runs in.
    pub(crate) fn host(&self) -> &TestHost {
        match &self.server {
            Server::Ours { daemon, .. } => daemon.host(),
            Server::Containerd(containerd) => containerd.host(),
            Server::Given(host) => host,
        }
    }

    /// Our daemon on the embedded network.
    pub(crate) fn daemon(&self) -> Option<&Daemon> {
        match &self.server {
            Server::Ours { daemon, .. } => Some(daemon),
            Server::Containerd(_) | Server::Given(_) => None,
        }
    }

    /// Removes all pods, unless somebody else's may be among them.
    pub(crate) async fn remove_all(&mut self) -> Result<()> {
        if matches!(self.server, Server::Given(_)) {
            return Ok(());
        }
        for cri in [&mut self.cri, &mut self.chain] {
            for pod in cri.pods().await? {
                cri.remove_pod(&pod.id).await?;
            }
        }
        Ok(())
    }

    /// Its processes that belong to pods, but for the sleeping workload.
    pub(crate) fn supervisors(&self) -> Result<Vec<u32>> {
        let host = self.host();
        let marks = [host.dir().display().to_string(), host.cgroup_parent()];
        let mut found = machine::processes(&marks)?;
        // The registry and the daemon have the directory in their command lines too.
        let outside = |pid: &u32| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            ["podwrightd", "containerd", "docker-registry", "sh", "nsenter", "podwright-bench"].contains(&comm.trim())
        };
        found.retain(|pid| !outside(pid));
        Ok(found)
    }

    /// Ends the daemon and starts it again; returns the time until its first Status. `None` where it is not ours to end.
    pub(crate) async fn restart(&mut self) -> Result<Option<Duration>> {
        let endpoint = match &mut self.server {
            Server::Ours { daemon, .. } => {
                daemon.kill()?;
                format!("unix://{}", daemon.path("podwright.sock").display())
            }
            Server::Containerd(containerd) => {
                containerd.kill()?;
                containerd.endpoint()
            }
            Server::Given(_) => return Ok(None),
        };
        let start = Instant::now();
        let (logs, parent) = match &mut self.server {
            Server::Ours { daemon, .. } => {
                daemon.start_again()?;
                (daemon.path("logs"), daemon.host().cgroup_parent())
            }
            Server::Containerd(containerd) => {
                containerd.start_again()?;
                (containerd.dir().to_owned(), containerd.host().cgroup_parent())
            }
            Server::Given(_) => return Ok(None),
        };
        let cri = connect(&endpoint, &logs, parent).await?;
        let took = start.elapsed();
        if !matches!(self.server, Server::Ours { .. }) {
            self.chain = cri.clone();
        }
        self.cri = cri;
        Ok(Some(took))
    }
}

/// Clients of an endpoint, as soon as its Status answers.
async fn connect(endpoint: &str, logs: &Path, cgroup_parent: String) -> Result<Cri> {
    let end = Instant::now() + READY_WITHIN;
    loop {
        let channel = Endpoint::from_shared(endpoint.to_owned()).context("making an endpoint")?.connect().await;
        let error = match channel {
            Ok(channel) => {
                let mut cri = Cri::over(channel, logs.join("logs"), cgroup_parent.clone());
                match cri.runtime.status(StatusRequest::default()).await {
                    Ok(_) => return Ok(cri),
                    Err(status) => anyhow::Error::from(status),
                }
            }
            Err(error) => error.into(),
        };
        if Instant::now() > end {
            return Err(error.context(format!("{endpoint} did not answer within {READY_WITHIN:?}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// For runtimes that keep a container per pod: busybox that sleeps, as the workload does, so that it is not counted either.
fn pause() -> Result<Image> {
    let builder = ImageBuilder::new(Format::Oci).layer(&base::busybox_layer()?);
    Ok(builder.set("Cmd", json!(["sleep", "100000"])).build())
}

async fn network_ready(cri: &mut Cri) -> Result<()> {
    let end = Instant::now() + READY_WITHIN;
    loop {
        let status = cri.runtime.status(StatusRequest::default()).await.context("Status")?.into_inner().status;
        let conditions = status.unwrap_or_default().conditions;
        match conditions.iter().find(|condition| condition.r#type == "NetworkReady") {
            Some(condition) if condition.status => return Ok(()),
            other if Instant::now() > end => anyhow::bail!("the network did not get ready: {other:?}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The plugins of critest/go.mod, where the runtimes of a host find them.
fn lay_plugins(host: &TestHost) -> Result<()> {
    plugin::install(&host.dir().join("cni"), &cni_bin_dir()?)
}
