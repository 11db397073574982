//! What plugins ask of the runtime.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use podwright_ttrpc::{INTERNAL, INVALID_ARGUMENT, Serve, Status, UNIMPLEMENTED, refusal};
use prost::Message as _;
use tokio::sync::oneshot;

use crate::api::{RegisterPluginRequest, UpdateContainersRequest, UpdateContainersResponse};
use crate::plugin::checked_name;
use crate::runtime::Host;

/// What the runtime serves.
const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";

/// The runtime as one plugin sees it.
pub(crate) struct Server {
    /// Who waits for it to register; nobody any more when it has.
    registered: Mutex<Option<oneshot::Sender<RegisterPluginRequest>>>,
    host: Arc<dyn Host>,
}

impl Server {
    pub(crate) fn new(registered: oneshot::Sender<RegisterPluginRequest>, host: Arc<dyn Host>) -> Self {
        Self { registered: Mutex::new(Some(registered)), host }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<RegisterPluginRequest>>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, payload: &[u8]) -> Result<Vec<u8>, Status> {
        let request = RegisterPluginRequest::decode(payload).map_err(|error| refusal(&error))?;
        checked_name(&request.plugin_idx, &request.plugin_name).map_err(|reason| refused(INVALID_ARGUMENT, &reason))?;
        let tell = self.waiting().take().ok_or_else(|| refused(INVALID_ARGUMENT, "it is registered already"))?;
        tell.send(request).map_err(|_| refused(INTERNAL, "it came too late"))?;
        Ok(Vec::new())
    }

    async fn update(&self, payload: &[u8]) -> Result<Vec<u8>, Status> {
        if self.waiting().is_some() {
            return Err(refused(INVALID_ARGUMENT, "it is not registered yet"));
        }
        let request = UpdateContainersRequest::decode(payload).map_err(|error| refusal(&error))?;
        let failed = self.host.update(request.update).await;
        self.host.evict(request.evict).await;
        Ok(UpdateContainersResponse { failed }.encode_to_vec())
    }
}

fn refused(code: i32, message: &str) -> Status {
    Status { code, message: message.to_owned() }
}

#[async_trait]
impl Serve for Server {
    async fn serve(&self, service: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, Status> {
        match (service, method) {
            (RUNTIME_SERVICE, "RegisterPlugin") => self.register(&payload),
            (RUNTIME_SERVICE, "UpdateContainers") => self.update(&payload).await,
            _ => Err(refused(UNIMPLEMENTED, "there is no such call")),
        }
    }
}
