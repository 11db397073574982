//! Parts of the operator's own: they may change what a container is made from, and are told of the life of pods and containers.

use async_trait::async_trait;
use oci_spec::runtime::Spec;

use super::PortError;
use crate::model::{ContainerConfig, ContainerSnapshot, PodLimits, Resources, SandboxSnapshot};

/// What just happened, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// All of a sandbox is made, and nobody can see it yet. An error undoes it.
    SandboxMade,
    /// New limits of a sandbox are in force.
    SandboxLimited,
    /// All containers of a sandbox have ended; its network and namespaces are still there.
    SandboxStopped,
    /// Nothing of a sandbox is left but its record.
    SandboxRemoved,
    /// A container was made.
    ContainerMade,
    /// A container is about to start. An error fails the start.
    ContainerStarting,
    /// Its program runs.
    ContainerStarted,
    /// New limits of a container are in force.
    ContainerLimited,
    /// Nothing of a container runs any more. Told once, whatever ended it.
    ContainerStopped,
    /// A container is gone but for its files.
    ContainerRemoved,
}

/// While one is held, nobody joins who would be told of a part of what happens. Held from before something is made until it can be
/// seen; never while waiting for another.
pub struct Turn(#[expect(dead_code, reason = "it is held, not looked at")] Option<Box<dyn Send + Sync>>);

impl Turn {
    /// Of those that nobody joins.
    #[must_use]
    pub fn free() -> Self {
        Self(None)
    }

    /// Ends when `guard` is dropped.
    #[must_use]
    pub fn of(guard: impl Send + Sync + 'static) -> Self {
        Self(Some(Box::new(guard)))
    }
}

/// Parts of the operator's own. Every method that waits is called in a [`Turn`]. Those that are not implemented change nothing and listen to nothing.
#[async_trait]
pub trait Extensions: Send + Sync {
    /// Whether anybody may want to be told. If not, nothing but [`Extensions::adjusts`] and [`Extensions::adjust`] is called.
    fn listens(&self) -> bool {
        false
    }

    /// Waits for a turn.
    async fn turn(&self) -> Turn {
        Turn::free()
    }

    /// Whether [`Extensions::adjust`] might change this container's specification though nobody listens; false saves all that goes with
    /// it. Called out of any turn, where looking at the disk may block.
    fn adjusts(&self, _config: &ContainerConfig) -> bool {
        true
    }

    /// May change the specification of a container that is being made. Not called if [`Extensions::adjusts`] says no and nobody listens.
    ///
    /// # Errors
    /// Undo the container. `Invalid` names what was asked for and can not be.
    async fn adjust(
        &self,
        _sandbox: &SandboxSnapshot,
        _container: &ContainerSnapshot,
        spec: Spec,
    ) -> Result<Spec, PortError> {
        Ok(spec)
    }

    /// May change limits that are about to be written; zero and absent mean unchanged.
    ///
    /// # Errors
    /// Refuse the update.
    async fn limit(
        &self,
        _sandbox: &SandboxSnapshot,
        _container: &ContainerSnapshot,
        asked: Resources,
    ) -> Result<Resources, PortError> {
        Ok(asked)
    }

    /// New limits of a sandbox are about to be written.
    ///
    /// # Errors
    /// Refuse the update.
    async fn limit_sandbox(&self, _sandbox: &SandboxSnapshot, _asked: &PodLimits) -> Result<(), PortError> {
        Ok(())
    }

    /// Tells; `container` is there where the moment is a container's.
    ///
    /// # Errors
    /// See [`Moment`]; those of other moments are for the log.
    async fn tell(
        &self,
        _moment: Moment,
        _sandbox: &SandboxSnapshot,
        _container: Option<&ContainerSnapshot>,
    ) -> Result<(), PortError> {
        Ok(())
    }
}

/// There are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoExtensions;

#[async_trait]
impl Extensions for NoExtensions {
    fn adjusts(&self, _config: &ContainerConfig) -> bool {
        false
    }
}
