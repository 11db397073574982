//! The engine over the fake world. Each engine of a test has a runtime of its own, so that a crash is the end of that runtime.

mod containers;
mod crashes;
mod execs;
mod extensions;
mod failures;
mod records;
mod released;
mod sandboxes;
mod sessions;
mod speed;
mod stats;

use std::path::Path;

use podwright_types::{ContainerId, SandboxId};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::fakes::World;
use crate::model::{ContainerConfig, ContainerState, NamespaceMode, SandboxConfig};
use crate::{Engine, EngineConfig, Ports, RecoveryReport};

/// A node: its disk and its world, which outlive the engines.
struct Node {
    disk: TempDir,
    world: World,
}

/// A daemon on a node.
struct Daemon {
    runtime: Option<Runtime>,
    engine: Engine,
    report: RecoveryReport,
    world: World,
}

impl Node {
    fn new() -> Self {
        Self { disk: tempfile::tempdir().unwrap(), world: World::new() }
    }

    fn start(&self) -> Daemon {
        self.start_after_boot("boot 1")
    }

    fn start_after_boot(&self, boot: &str) -> Daemon {
        self.try_start(boot).unwrap()
    }

    fn try_start(&self, boot: &str) -> Result<Daemon, crate::EngineError> {
        self.try_start_with(boot, self.world.ports())
    }

    fn try_start_with(&self, boot: &str, ports: Ports) -> Result<Daemon, crate::EngineError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let path = self.disk.path();
        let mut config = EngineConfig::new(path.join("root"), path.join("state"));
        config.netns_dir = path.join("netns");
        let engine = Engine::with_boot_id(config, ports, boot.into());
        let report = runtime.block_on(engine.recover())?;
        Ok(Daemon { runtime: Some(runtime), engine, report, world: self.world.clone() })
    }

    /// Everything that a fresh node would not have.
    fn left_over(&self) -> Vec<String> {
        let mut left = self.world.left_over();
        for dir in ["root/sandboxes", "root/containers", "root/quarantine", "state/shm", "netns"] {
            left.extend(entries(&self.disk.path().join(dir)));
        }
        left
    }

    fn assert_empty(&self, when: &str) {
        assert_eq!(self.left_over(), Vec::<String>::new(), "left over after {when}");
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path().display().to_string()).collect()
}

impl Daemon {
    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    /// `kill -9`. What a thread has begun on the disk is waited for: the dead write nothing later.
    fn crash(mut self) {
        self.runtime.take().unwrap().shutdown_timeout(std::time::Duration::from_secs(60));
        self.world.crash();
    }

    fn sandbox(&self, name: &str) -> SandboxId {
        self.run(self.engine.run_sandbox(pod(name))).unwrap()
    }

    fn running(&self, sandbox: &SandboxId, name: &str, program: &str) -> ContainerId {
        let id = self.run(self.engine.create_container(sandbox, ctr(name, program))).unwrap();
        self.run(self.engine.start_container(&id)).unwrap();
        id
    }

    fn state(&self, id: &ContainerId) -> ContainerState {
        self.engine.container(id).unwrap().state
    }

    /// Waits for the end of a container.
    fn ended(&self, id: &ContainerId) -> crate::model::Exit {
        self.run(async {
            let mut events = self.engine.events();
            loop {
                if let ContainerState::Exited { exit, .. } = self.engine.container(id).unwrap().state {
                    return exit;
                }
                tokio::time::timeout(std::time::Duration::from_secs(30), events.recv()).await.unwrap().unwrap();
            }
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn pod(name: &str) -> SandboxConfig {
    SandboxConfig { name: name.into(), namespace: "default".into(), uid: "uid".into(), ..SandboxConfig::default() }
}

fn host_pod(name: &str) -> SandboxConfig {
    let mut config = pod(name);
    config.namespaces.network = NamespaceMode::Node;
    config
}

fn ctr(name: &str, program: &str) -> ContainerConfig {
    ContainerConfig {
        name: name.into(),
        image: "busybox".into(),
        command: vec![program.into()],
        pid_mode: NamespaceMode::Container,
        ..ContainerConfig::default()
    }
}
