//! What plugins may have done: the state of all pods told, limits of containers changed, containers stopped.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use podwright_nri::Host;
use podwright_nri::api::{Container, ContainerEviction, ContainerUpdate, LinuxResources, PodSandbox};
use podwright_podsandbox::{ContainerFilter, Engine, SandboxFilter};
use podwright_types::ContainerId;
use tokio::time::timeout;

use super::{describe, limits};

/// For changing the limits of one container, before its plugin is told that they are not in force yet; it goes on.
const UPDATE_LIMIT: Duration = Duration::from_secs(5);

/// The engine, once there is one.
#[derive(Default)]
pub(super) struct EngineHost(OnceLock<Engine>);

impl EngineHost {
    pub(super) fn serve(&self, engine: Engine) {
        // There is one start.
        let _ = self.0.set(engine);
    }

    async fn update_one(&self, update: &ContainerUpdate) -> Result<(), String> {
        let Some(engine) = self.0.get() else { return Err("the runtime is not up yet".into()) };
        let id: ContainerId = update.container_id.parse().map_err(|error| format!("{error}"))?;
        let nothing = LinuxResources::default();
        let linux = update.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        let asked = limits::asked(linux.unwrap_or(&nothing))
            .map_err(|what| format!("{what} can not be changed in a container that is there"))?;
        match timeout(UPDATE_LIMIT, engine.update_container_quietly(&id, asked)).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it was not done within {} s", UPDATE_LIMIT.as_secs())),
        }
    }
}

#[async_trait]
impl Host for EngineHost {
    async fn state(&self) -> (Vec<PodSandbox>, Vec<Container>) {
        let Some(engine) = self.0.get().cloned() else { return (Vec::new(), Vec::new()) };
        // Each container's specification is read; with thousands of them that is no work for a thread that serves others.
        let described = tokio::task::spawn_blocking(move || {
            let pods = engine.sandboxes(&SandboxFilter::default());
            let containers = engine.containers(&ContainerFilter::default());
            (pods.iter().map(describe::pod).collect(), containers.iter().map(describe::made).collect())
        });
        described.await.unwrap_or_else(|error| {
            tracing::error!(%error, "what is there could not be described to an NRI plugin");
            (Vec::new(), Vec::new())
        })
    }

    async fn update(&self, updates: Vec<ContainerUpdate>) -> Vec<ContainerUpdate> {
        let mut failed = Vec::new();
        for update in updates {
            if let Err(reason) = self.update_one(&update).await {
                tracing::warn!(
                    container = update.container_id,
                    reason,
                    "limits that an NRI plugin asked for are not set"
                );
                if !update.ignore_failure {
                    failed.push(update);
                }
            }
        }
        failed
    }

    async fn evict(&self, evictions: Vec<ContainerEviction>) {
        let Some(engine) = self.0.get() else { return };
        for eviction in evictions {
            let Ok(id) = eviction.container_id.parse::<ContainerId>() else {
                tracing::warn!(container = eviction.container_id, "an NRI plugin evicts what is no container");
                continue;
            };
            tracing::warn!(container = %id, reason = eviction.reason, "an NRI plugin evicts a container");
            let engine = engine.clone();
            // Its end is told to the plugins too; nobody here waits for that.
            tokio::spawn(async move {
                if let Err(error) = engine.stop_container(&id, Duration::ZERO).await {
                    tracing::warn!(container = %id, %error, "a container that an NRI plugin evicts can not be stopped");
                }
            });
        }
    }
}
