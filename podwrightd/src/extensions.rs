//! Parts of the operator's own, behind the engine's port: devices by name (CDI), hooks by directory. Each changes the specification in
//! this order, so that a later one sees what an earlier one did.

mod hook_file;
mod hooks;

use std::sync::Arc;

use async_trait::async_trait;
use oci_spec::runtime::Spec;
use podwright_cdi::{Name, Registry, asked_by_annotations};
use podwright_podsandbox::model::{ContainerConfig, ContainerSnapshot, SandboxSnapshot};
use podwright_podsandbox::ports::{Extensions, PortError};

use self::hooks::HookDirectories;
use crate::config::Config;

/// Those that the configuration names.
pub(crate) struct OwnParts {
    devices: Arc<Registry>,
    hooks: Arc<HookDirectories>,
}

impl OwnParts {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            devices: Arc::new(Registry::new(config.cdi.spec_dirs.clone())),
            hooks: Arc::new(HookDirectories::new(config.hooks.dirs.clone())),
        }
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
        on_disk(move || {
            devices.inject(&names, &mut spec).map_err(|error| PortError::Invalid(error.to_string()))?;
            hooks.add(&pod.annotations, &config, &mut spec);
            Ok(spec)
        })
        .await
    }
}
