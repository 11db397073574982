//! The engine: what front ends call.

use std::sync::Arc;
use std::time::Duration;

use podwright_types::{ContainerId, SandboxId};
use tokio::sync::broadcast;

use crate::config::{EngineConfig, Ports};
use crate::error::EngineError;
use crate::events::Event;
use crate::filter::{ContainerFilter, SandboxFilter};
use crate::model::{ContainerConfig, ContainerSnapshot, Resources, SandboxConfig, SandboxSnapshot};
use crate::timeline::TimelineEntry;

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, cut after 16 MiB; the rest is read and dropped.
    pub stdout: Vec<u8>,
    /// Standard error, cut in the same way.
    pub stderr: Vec<u8>,
    /// Exit code; 128 + n after signal n.
    pub code: i32,
}

/// What [`Engine::recover`] found and did; each line is for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Sandboxes that are known now.
    pub sandboxes: usize,
    /// Containers that are known now.
    pub containers: usize,
    /// Containers that were found running and taken over.
    pub running: usize,
    /// Records that were put aside, operations that were undone, and what could not be cleaned yet.
    pub notes: Vec<String>,
}

/// Runs pods and containers. Cheap to clone; all clones are the same engine.
///
/// Every operation runs in a task of its own: a caller that goes away changes nothing. A repeated call joins the operation in
/// flight or gets its result.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
    ports: Ports,
}

#[allow(clippy::unused_async, unused_variables, missing_docs)]
impl Engine {
    /// Builds an engine. Call [`Engine::recover`] before anything else.
    #[must_use]
    pub fn new(config: EngineConfig, ports: Ports) -> Self {
        Self { inner: Arc::new(Inner { config, ports }) }
    }
    pub async fn recover(&self) -> Result<RecoveryReport, EngineError> {
        Ok(RecoveryReport::default())
    }
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, EngineError> {
        nothing()
    }
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), EngineError> {
        nothing()
    }
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), EngineError> {
        nothing()
    }
    pub fn sandbox(&self, id: &SandboxId) -> Result<SandboxSnapshot, EngineError> {
        nothing()
    }
    pub fn sandboxes(&self, filter: &SandboxFilter) -> Vec<SandboxSnapshot> {
        Vec::new()
    }
    pub async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, EngineError> {
        nothing()
    }
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        nothing()
    }
    pub async fn stop_container(&self, id: &ContainerId, timeout: Duration) -> Result<(), EngineError> {
        nothing()
    }
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        nothing()
    }
    pub fn container(&self, id: &ContainerId) -> Result<ContainerSnapshot, EngineError> {
        nothing()
    }
    pub fn containers(&self, filter: &ContainerFilter) -> Vec<ContainerSnapshot> {
        Vec::new()
    }
    /// `timeout` `None`: no limit.
    pub async fn exec_sync(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, EngineError> {
        nothing()
    }
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), EngineError> {
        nothing()
    }
    pub async fn update_container(&self, id: &ContainerId, resources: Resources) -> Result<(), EngineError> {
        nothing()
    }
    pub fn events(&self) -> broadcast::Receiver<Event> {
        broadcast::channel(1).1
    }
    pub fn timeline(&self, id: &SandboxId) -> Result<Vec<TimelineEntry>, EngineError> {
        nothing()
    }
    pub fn network_ready(&self) -> Result<(), String> {
        self.inner.ports.network.ready()
    }
}

fn nothing<T>() -> Result<T, EngineError> {
    Err(EngineError::Unavailable("the engine is being built".into()))
}
