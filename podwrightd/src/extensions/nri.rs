//! Plugins of the Node Resource Interface, behind the engine's port: what the engine tells and asks in the words of the protocol, and
//! back. Where there is no plugin nothing here is called but [`Plugins::any`] and [`Plugins::turn`].

mod describe;
mod host;
mod limits;

use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::Spec;
use podwright_cdi::Name;
use podwright_nri::api::Event;
use podwright_nri::{Nri, NriConfig, NriError, PodMoment};
use podwright_podsandbox::Engine;
use podwright_podsandbox::model::{ContainerSnapshot, PodLimits, Resources, SandboxSnapshot};
use podwright_podsandbox::ports::{Moment, PortError, Turn};

use self::host::EngineHost;
use crate::config::Config;

/// Those of this node.
pub(super) struct Plugins {
    nri: Arc<Nri>,
    host: Arc<EngineHost>,
}

impl Plugins {
    /// As configured; none at all if that says so.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let own = &config.nri;
        if !own.enabled {
            return None;
        }
        let host = Arc::new(EngineHost::default());
        let seconds = |number: crate::config::Positive| Duration::from_secs(number.get().into());
        let config = NriConfig {
            socket: own.socket.clone(),
            plugin_dir: own.plugin_dir.clone(),
            config_dir: own.config_dir.clone(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            registration_limit: seconds(own.registration_seconds),
            request_limit: seconds(own.request_seconds),
        };
        Some(Self { nri: Nri::new(config, host.clone()), host })
    }

    /// Launches plugins and takes those that dial in. What does not work is told in the log: pods have to run without, too.
    pub(super) async fn start(&self, engine: Engine) {
        self.host.serve(engine);
        if let Err(error) = self.nri.start().await {
            tracing::warn!(%error, "no NRI plugin can dial in");
        }
    }

    /// Lets go of all of them.
    pub(super) async fn stop(&self) {
        self.nri.stop().await;
    }

    pub(super) fn any(&self) -> bool {
        self.nri.has_plugins()
    }

    pub(super) async fn turn(&self) -> Turn {
        Turn::of(self.nri.turn().await)
    }

    /// Has plugins change a specification. Returns the CDI devices that they ask for.
    pub(super) async fn adjust(
        &self,
        sandbox: &SandboxSnapshot,
        container: &ContainerSnapshot,
        spec: &mut Spec,
    ) -> Result<Vec<Name>, PortError> {
        let described = describe::container(container, spec);
        let collected = self.nri.create(describe::pod(sandbox), described).await.map_err(refused)?;
        let invalid = |error: &dyn std::fmt::Display| PortError::Invalid(error.to_string());
        podwright_nri::apply(&collected.adjust, spec).map_err(|error| invalid(&error))?;
        let names = collected.adjust.cdi_devices.iter().filter(|device| !device.name.starts_with('-'));
        names.map(|device| device.name.parse().map_err(|error: podwright_cdi::Error| invalid(&error))).collect()
    }

    pub(super) async fn limit(
        &self,
        sandbox: &SandboxSnapshot,
        container: &ContainerSnapshot,
        asked: Resources,
    ) -> Result<Resources, PortError> {
        let (pod, described) = (describe::pod(sandbox), describe::made(container));
        let changed = self.nri.update(pod, described, limits::told(&asked)).await.map_err(refused)?;
        let changed = limits::asked(&changed).map_err(|what| {
            PortError::Invalid(format!(
                "NRI plugins asked for {what}, which can not be changed in a container that is there"
            ))
        })?;
        Ok(Resources { oom_score_adj: asked.oom_score_adj, ..changed })
    }

    pub(super) async fn limit_sandbox(&self, sandbox: &SandboxSnapshot, asked: &PodLimits) -> Result<(), PortError> {
        let (overhead, containers) = (limits::told(&asked.overhead), limits::told(&asked.containers));
        self.nri.update_pod(describe::pod(sandbox), overhead, containers).await.map_err(refused)
    }

    pub(super) async fn tell(
        &self,
        moment: Moment,
        sandbox: &SandboxSnapshot,
        container: Option<&ContainerSnapshot>,
    ) -> Result<(), PortError> {
        let pod = describe::pod(sandbox);
        let event = match moment {
            Moment::SandboxMade => return self.nri.pod(PodMoment::Run, pod).await.map_err(refused),
            Moment::SandboxLimited => return self.nri.pod(PodMoment::Updated, pod).await.map_err(refused),
            Moment::SandboxStopped => return self.nri.pod(PodMoment::Stopped, pod).await.map_err(refused),
            Moment::SandboxRemoved => return self.nri.pod(PodMoment::Removed, pod).await.map_err(refused),
            Moment::ContainerMade => Event::PostCreateContainer,
            Moment::ContainerStarting => Event::StartContainer,
            Moment::ContainerStarted => Event::PostStartContainer,
            Moment::ContainerLimited => Event::PostUpdateContainer,
            Moment::ContainerStopped => Event::StopContainer,
            Moment::ContainerRemoved => Event::RemoveContainer,
        };
        let Some(container) = container else { return Ok(()) };
        self.nri.container(event, pod, describe::made(container)).await.map_err(refused)
    }
}

fn refused(error: NriError) -> PortError {
    match error {
        NriError::Plugin { .. } | NriError::Conflict(_) | NriError::Listen(_) => PortError::Failed(error.to_string()),
    }
}
