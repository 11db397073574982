//! What critest plays on: a registry with its images and a daemon that pulls from it, in a host of its own or in this one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use podwright_critest::containerd::Containerd;
use podwright_critest::{Cri, handlers};
use podwright_testutil::{Census, Daemon, Registry, RegistryBuilder, TestHost, cni_bin_dir, program};

use crate::{Arguments, images};

/// Directories of the daemon that hold nothing when there are no pods.
const WITHOUT_PODS: [&str; 4] = ["root/sandboxes", "root/containers", "root/networks", "state"];
/// Time for what ends by itself.
const SETTLED_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(200);

/// Registry and daemon; they end with this value.
pub(crate) struct Stage {
    place: Place,
    // Last: the daemon pulls from it.
    _registry: Registry,
}

enum Place {
    /// A daemon of our own in a host of its own.
    Own { daemon: Box<Daemon>, before: Census },
    /// containerd with our OCI runtime.
    Containerd(Box<Containerd>),
    /// One that runs already.
    Given { endpoint: String, scratch: tempfile::TempDir },
}

impl Stage {
    /// Starts what critest needs.
    pub(crate) async fn set(arguments: &Arguments) -> Result<Self> {
        match (&arguments.endpoint, &arguments.hosts_dir) {
            _ if arguments.contender.is_some() => Self::containerd(&arguments.parts),
            (Some(endpoint), Some(hosts)) => Self::given(endpoint, hosts, &arguments.parts),
            _ => Self::own(&arguments.parts, arguments.handler.as_deref()),
        }
    }

    fn own(parts: &Path, handler: Option<&str>) -> Result<Self> {
        let host = TestHost::new()?;
        let registry = Registry::start_in(&host)?;
        images::push(&registry, parts).context("making the images")?;
        let runtimes = host.dir().join("runtimes.d");
        std::fs::create_dir_all(&runtimes).with_context(|| format!("making {}", runtimes.display()))?;
        if let Some(name) = handler {
            let program = handlers::runtime(name, &runtimes)?.with_context(|| format!("{name} is not in PATH"))?;
            handlers::drop_in(&runtimes, name, &program, "")?;
        }
        let daemon = Daemon::builder().config(&format!("[runtimes]\ndirs = [{runtimes:?}]\n")).start_in(host)?;
        daemon.mirror_all(&registry)?;
        std::fs::create_dir_all(daemon.path("tmp"))?;
        let before = census(&daemon)?;
        Ok(Self { place: Place::Own { daemon: Box::new(daemon), before }, _registry: registry })
    }

    fn given(endpoint: &str, hosts: &Path, parts: &Path) -> Result<Self> {
        let registry = RegistryBuilder::default().start()?;
        images::push(&registry, parts).context("making the images")?;
        mirror_all(hosts, &registry)?;
        let scratch = tempfile::tempdir()?;
        Ok(Self { place: Place::Given { endpoint: endpoint.into(), scratch }, _registry: registry })
    }

    fn containerd(parts: &Path) -> Result<Self> {
        let host = TestHost::new()?;
        let registry = Registry::start_in(&host)?;
        images::push(&registry, parts).context("making the images")?;
        let plugins = host.dir().join("cni");
        std::fs::create_dir_all(&plugins).with_context(|| format!("making {}", plugins.display()))?;
        std::os::unix::fs::symlink(cni_bin_dir()?, plugins.join("bin")).context("showing it the plugins")?;
        mirror_all(&host.dir().join("certs.d"), &registry)?;
        std::fs::create_dir_all(host.dir().join("tmp")).context("making a directory for critest")?;
        let containerd = Containerd::start(host, &program("podwright-oci")?, "registry.k8s.io/pause:3.10")?;
        let until = std::time::Instant::now() + SETTLED_WITHIN;
        while !containerd.dir().join("containerd.sock").exists() {
            ensure!(std::time::Instant::now() < until, "containerd did not listen within {SETTLED_WITHIN:?}");
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(Self { place: Place::Containerd(Box::new(containerd)), _registry: registry })
    }

    /// `unix://…` of the daemon.
    pub(crate) fn endpoint(&self) -> String {
        match &self.place {
            Place::Own { daemon, .. } => daemon.endpoint(),
            Place::Containerd(containerd) => containerd.endpoint(),
            Place::Given { endpoint, .. } => endpoint.clone(),
        }
    }

    /// Where plugins dial the daemon, where it is ours.
    pub(crate) fn nri_socket(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Own { daemon, .. } => Some(daemon.path("nri.sock")),
            Place::Containerd(_) | Place::Given { .. } => None,
        }
    }

    /// A directory for critest's own files, which daemon and containers reach.
    pub(crate) fn scratch(&self) -> PathBuf {
        match &self.place {
            Place::Own { daemon, .. } => daemon.path("tmp"),
            Place::Containerd(containerd) => containerd.dir().join("tmp"),
            Place::Given { scratch, .. } => scratch.path().into(),
        }
    }

    /// A command in the namespaces of the daemon's host.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match &self.place {
            Place::Own { daemon, .. } => daemon.host().command(program),
            Place::Containerd(containerd) => containerd.host().command(program),
            Place::Given { .. } => Command::new(program),
        }
    }

    /// The daemon's log, where it is ours.
    pub(crate) fn log(&self) -> Option<String> {
        match &self.place {
            Place::Own { daemon, .. } => Some(daemon.log()),
            Place::Containerd(containerd) => std::fs::read_to_string(containerd.dir().join("containerd.log")).ok(),
            Place::Given { .. } => None,
        }
    }

    /// Removes pods that failed specs left, and compares the host with what it was before.
    pub(crate) async fn leave(&mut self) -> Result<()> {
        let Place::Own { daemon, before } = &self.place else { return Ok(()) };
        let mut cri = Cri::connect(daemon).await?;
        let pods = cri.pods().await?;
        for pod in &pods {
            cri.remove_pod(&pod.id).await?;
        }
        if !pods.is_empty() {
            println!("critest left {} pods, which were removed", pods.len());
        }
        let end = std::time::Instant::now() + SETTLED_WITHIN;
        loop {
            let difference = before.same_as(&census(daemon)?);
            if difference.is_ok() || std::time::Instant::now() > end {
                return difference.context("something is left of critest's pods");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Has every registry looked up in this one.
fn mirror_all(hosts: &Path, registry: &Registry) -> Result<()> {
    let dir = hosts.join("_default");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let text = format!("[host.\"{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", registry.url());
    std::fs::write(dir.join("hosts.toml"), text).with_context(|| format!("writing to {}", dir.display()))
}

fn census(daemon: &Daemon) -> Result<Census> {
    let dirs = WITHOUT_PODS.map(|name| daemon.path(name));
    ensure!(dirs.iter().any(|dir| dir.is_dir()), "the daemon has none of its directories");
    Census::take(daemon.host(), &dirs.each_ref().map(PathBuf::as_path))
}
