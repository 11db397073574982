//! [`Shims`] over the launcher.

use std::sync::Arc;

use async_trait::async_trait;
use podwright_podsandbox::ports::{LaunchShim, PortError, Shim, ShimEvent, Shims};
use podwright_shim_api::launcher::{LaunchError, Launcher, RunningShim};
use podwright_types::SandboxId;
use tokio::sync::mpsc;

use super::shim::{ConnectedShim, client_error};
use super::{CgroupDriver, failed_with, whole_text};

/// Events that may wait for the engine.
const EVENTS_QUEUED: usize = 64;

/// Starts and finds shims.
pub(crate) struct ShimLauncher {
    launcher: Launcher,
    driver: CgroupDriver,
    /// Of the pods' cgroups.
    mark: String,
}

impl ShimLauncher {
    pub(crate) fn new(launcher: Launcher, driver: CgroupDriver, mark: String) -> Self {
        Self { launcher, driver, mark }
    }

    fn connected(&self, running: RunningShim) -> (Arc<dyn Shim>, mpsc::Receiver<ShimEvent>) {
        let (sender, receiver) = mpsc::channel(EVENTS_QUEUED);
        tokio::spawn(forward(running.events, sender));
        (Arc::new(ConnectedShim::new(running.client, self.driver.clone())), receiver)
    }
}

/// Passes events on in their order; ends with the last one, or with the listener.
async fn forward(mut events: mpsc::Receiver<podwright_shim_api::Event>, sender: mpsc::Sender<ShimEvent>) {
    while let Some(event) = events.recv().await {
        match super::shim::event(event) {
            Ok(event) => {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            Err(text) => tracing::warn!(error = text, "event of a shim not understood"),
        }
    }
}

#[async_trait]
impl Shims for ShimLauncher {
    async fn launch(&self, request: &LaunchShim) -> Result<(Arc<dyn Shim>, mpsc::Receiver<ShimEvent>), PortError> {
        // With systemd the shim can not move by itself: its scope is made around it.
        let deferred = self.driver.cgroups().deferred();
        let cgroup = (!deferred).then_some(request.cgroup_path.as_str());
        let marked = self.driver.mark(&request.cgroup_path, &self.mark);
        let ((), launched) = tokio::join!(marked, self.launcher.launch(&request.sandbox, cgroup));
        let running = launched.map_err(|error| launch_error(&error))?;
        if deferred {
            let pid = running.client.hello().pid;
            if let Err(error) = self.driver.place(&request.cgroup_path, pid, None).await {
                if let Err(cause) = running.client.shutdown().await {
                    tracing::warn!(sandbox = %request.sandbox, error = whole_text(&cause), "end a shim without a scope");
                }
                return Err(error);
            }
        }
        Ok(self.connected(running))
    }

    async fn connect(
        &self,
        sandbox: &SandboxId,
    ) -> Result<Option<(Arc<dyn Shim>, mpsc::Receiver<ShimEvent>)>, PortError> {
        let running = self.launcher.connect(sandbox).await.map_err(|error| launch_error(&error))?;
        Ok(running.map(|running| self.connected(running)))
    }

    async fn remove_remains(&self, sandbox: &SandboxId) -> Result<(), PortError> {
        self.launcher.remove_remains(sandbox).map_err(|error| launch_error(&error))
    }

    async fn list(&self) -> Result<Vec<SandboxId>, PortError> {
        self.launcher.list().map_err(|error| launch_error(&error))
    }
}

fn launch_error(error: &LaunchError) -> PortError {
    match error {
        LaunchError::Connect { sandbox, source } => {
            client_error(&format!("connect to the shim of sandbox {sandbox}"), source)
        }
        LaunchError::Io { source, .. } => failed_with(source.raw_os_error(), whole_text(error)),
        LaunchError::Ended { .. } => PortError::Failed(whole_text(error)),
    }
}
