//! The runtime of a pod that has not the built-in one: chosen when the pod is made and kept in its record, so that the pod goes on when
//! the configuration does not know it any more.

use std::path::PathBuf;
use std::sync::Arc;

use super::Sandbox;
use crate::error::EngineError;
use crate::ladder::Outcome;
use crate::ports::HandlerPlan;
use crate::record;
use crate::shared::blocking;

impl Sandbox {
    /// Chooses the runtime, if the pod asks for one.
    pub(super) async fn choose_handler(&self) -> Outcome {
        let name = &self.config.runtime_handler;
        if name.is_empty() {
            return Ok(());
        }
        if self.config.namespaces.user.is_some() {
            return Err(EngineError::Invalid(format!(
                "runtime handler {name:?}: it runs no pods with user namespaces; leave it or the user namespace (hostUsers: false) out"
            )));
        }
        let handler = self.shared.ports.handlers.find(name).await?;
        self.live().durable.handler = Some(Arc::new(handler));
        Ok(())
    }

    /// Makes the place for the runtime's state.
    pub(super) async fn make_handler_dir(&self) -> Outcome {
        match self.handler_dir() {
            Some(dir) => blocking("make the place of its runtime's state at", &dir, record::private_dir).await,
            None => Ok(()),
        }
    }

    /// What a container of the pod is run by; `None` for the built-in runtime.
    pub(crate) fn handler_plan(&self) -> Option<HandlerPlan> {
        let handler = self.live().durable.handler.clone()?;
        Some(HandlerPlan { handler, state: self.handler_dir()? })
    }

    fn handler_dir(&self) -> Option<PathBuf> {
        let handler = self.live().durable.handler.clone()?;
        Some(match &handler.root {
            Some(root) => root.join(self.id.as_str()),
            None => self.shared.handler_dir(&self.id),
        })
    }

    /// Removes what the runtime's own commands left of its state. Nothing of the pod runs any more.
    pub(super) async fn remove_handler_dir(&self) -> Outcome {
        match self.handler_dir() {
            Some(dir) => blocking("remove the state of its runtime at", &dir, record::delete_tree).await,
            None => Ok(()),
        }
    }
}
