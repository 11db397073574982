//! Runtimes that run pods in place of the built-in one, by the names that callers use.

use async_trait::async_trait;

use super::PortError;
use crate::model::Handler;

/// The runtimes that are configured now.
#[async_trait]
pub trait Handlers: Send + Sync {
    /// What a name stands for. It is asked once for a pod, which keeps the answer.
    ///
    /// # Errors
    /// `Invalid` if there is none of this name, or none that can be used; names where was looked.
    async fn find(&self, name: &str) -> Result<Handler, PortError>;
}

/// There is the built-in one only.
pub struct NoHandlers;

#[async_trait]
impl Handlers for NoHandlers {
    async fn find(&self, name: &str) -> Result<Handler, PortError> {
        Err(PortError::Invalid(format!("runtime handler {name:?}: there are none here; leave it empty")))
    }
}
