//! Parts of the operator's own, behind the engine's port: devices by name (CDI), hooks by directory, NRI plugins. Each changes the
//! specification in this order, so that a later one sees what an earlier one did.

mod hook_file;
mod hooks;
mod nri;

use std::sync::Arc;

use async_trait::async_trait;
use oci_spec::runtime::Spec;
use podwright_cdi::{Name, Registry, asked_by_annotations};
use podwright_podsandbox::Engine;
use podwright_podsandbox::model::{ContainerConfig, ContainerSnapshot, PodLimits, Resources, SandboxSnapshot};
use podwright_podsandbox::ports::{Extensions, Moment, PortError, Turn};

use self::hooks::HookDirectories;
use self::nri::Plugins;
use crate::config::Config;

/// Those that the configuration names.
pub(crate) struct OwnParts {
    devices: Arc<Registry>,
    hooks: Arc<HookDirectories>,
    plugins: Option<Plugins>,
}

impl OwnParts {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            devices: Arc::new(Registry::new(config.cdi.spec_dirs.clone())),
            hooks: Arc::new(HookDirectories::new(config.hooks.dirs.clone())),
            plugins: Plugins::new(config),
        }
    }

    /// Begins, when all pods are known and before anything is asked of them.
    pub(crate) async fn start(&self, engine: &Engine) {
        if let Some(plugins) = &self.plugins {
            plugins.start(engine.clone()).await;
        }
    }

    /// Ends.
    pub(crate) async fn stop(&self) {
        if let Some(plugins) = &self.plugins {
            plugins.stop().await;
        }
    }

    /// The plugins, if there are any now.
    fn present(&self) -> Option<&Plugins> {
        self.plugins.as_ref().filter(|plugins| plugins.any())
    }
}

/// What a container asks for by name and by annotation.
fn asked(config: &ContainerConfig) -> Result<Vec<Name>, PortError> {
    let refused = |error: podwright_cdi::Error| PortError::Invalid(error.to_string());
    let mut names: Vec<Name> =
        config.cdi_devices.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(refused)?;
    names.extend(asked_by_annotations(&config.annotations).map_err(refused)?);
    Ok(names)
}

/// Does what looks at the disk.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(PortError::Failed(format!("the task ended early: {error}"))))
}

#[async_trait]
impl Extensions for OwnParts {
    fn listens(&self) -> bool {
        self.present().is_some()
    }

    async fn turn(&self) -> Turn {
        match &self.plugins {
            Some(plugins) => plugins.turn().await,
            None => Turn::free(),
        }
    }

    fn adjusts(&self, config: &ContainerConfig) -> bool {
        // What is asked for in vain is refused by `adjust`.
        asked(config).map_or(true, |names| !names.is_empty()) || self.hooks.any()
    }

    async fn adjust(
        &self,
        sandbox: &SandboxSnapshot,
        container: &ContainerSnapshot,
        mut spec: Spec,
    ) -> Result<Spec, PortError> {
        let names = asked(&container.config)?;
        let (devices, hooks) = (self.devices.clone(), self.hooks.clone());
        let (pod, config) = (sandbox.config.clone(), container.config.clone());
        let mut spec = on_disk(move || {
            inject(&devices, &names, &mut spec)?;
            hooks.add(&pod.annotations, &config, &mut spec);
            Ok(spec)
        })
        .await?;
        let Some(plugins) = self.present() else { return Ok(spec) };
        let names = plugins.adjust(sandbox, container, &mut spec).await?;
        if names.is_empty() {
            return Ok(spec);
        }
        let devices = self.devices.clone();
        on_disk(move || inject(&devices, &names, &mut spec).map(|()| spec)).await
    }

    async fn limit(
        &self,
        sandbox: &SandboxSnapshot,
        container: &ContainerSnapshot,
        asked: Resources,
    ) -> Result<Resources, PortError> {
        match self.present() {
            Some(plugins) => plugins.limit(sandbox, container, asked).await,
            None => Ok(asked),
        }
    }

    async fn limit_sandbox(&self, sandbox: &SandboxSnapshot, asked: &PodLimits) -> Result<(), PortError> {
        match self.present() {
            Some(plugins) => plugins.limit_sandbox(sandbox, asked).await,
            None => Ok(()),
        }
    }

    async fn tell(
        &self,
        moment: Moment,
        sandbox: &SandboxSnapshot,
        container: Option<&ContainerSnapshot>,
    ) -> Result<(), PortError> {
        match self.present() {
            Some(plugins) => plugins.tell(moment, sandbox, container).await,
            None => Ok(()),
        }
    }
}

fn inject(devices: &Registry, names: &[Name], spec: &mut Spec) -> Result<(), PortError> {
    devices.inject(names, spec).map_err(|error| PortError::Invalid(error.to_string()))
}
