//! The admin API: the daemon's answers beyond the CRI, on a socket of their own. Owns the service and its socket's life; what is looked
//! for on the host is in `leftovers`, how long in `looks`, how pods are told in `why`.

mod leftovers;
mod looks;
mod verify;
mod why;

use std::sync::Arc;
use std::time::Duration;

use podwright_admin_api::SOCKET;
use podwright_admin_api::v1::admin_server::{Admin, AdminServer};
use podwright_admin_api::v1::{
    CheckRequest, CheckResponse, VerifyImagesRequest, VerifyImagesResponse, VersionRequest, VersionResponse,
    WhyRequest, WhyResponse,
};
use podwright_cni::Networks;
use podwright_imageservice::ImageStore;
use podwright_podsandbox::Engine;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::handlers::RuntimeHandlers;
use crate::incoming::connections;
use crate::listener;
use crate::ports::{CgroupDriver, whole_text};
use leftovers::Places;
use looks::Looks;

/// Calls of one client that may be under way at once.
const CALLS_PER_CONNECTION: usize = 16;
/// A look at the network's links and rules takes milliseconds; it waits for pods that are being connected.
const NETWORK_LIMIT: Duration = Duration::from_secs(20);

/// The service.
pub(crate) struct Operator {
    engine: Engine,
    images: ImageStore,
    networks: Networks,
    handlers: RuntimeHandlers,
    places: Arc<Places>,
    looks: Looks,
    version: VersionResponse,
}

impl Operator {
    pub(crate) fn new(
        config: &Config,
        engine: Engine,
        images: ImageStore,
        networks: Networks,
        handlers: RuntimeHandlers,
        mark: String,
        driver: &CgroupDriver,
    ) -> Self {
        let version = VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cgroup_driver: driver.name().to_owned(),
            root: config.root.display().to_string(),
            state: config.state.display().to_string(),
        };
        let places = Arc::new(Places::new(config, mark));
        Self { engine, images, networks, handlers, places, looks: Looks::new(), version }
    }
}

/// Serves until it is aborted. Pods matter more than explanations of them: without its socket the daemon runs on.
pub(crate) fn serve(operator: Operator, config: &Config) -> Option<JoinHandle<()>> {
    let listener = match listener::bind(&config.state.join(SOCKET)) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(error = whole_text(&error), "the admin API is not served");
            return None;
        }
    };
    let server = Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
        .add_service(AdminServer::new(operator))
        .serve_with_incoming(Box::pin(connections(listener)));
    Some(tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::warn!(error = whole_text(&error), "the admin API is not served any more");
        }
    }))
}

/// Ends the service, its socket included.
pub(crate) fn end(server: Option<JoinHandle<()>>, config: &Config) {
    if let Some(server) = server {
        server.abort();
        let _ = std::fs::remove_file(config.state.join(SOCKET));
    }
}

#[tonic::async_trait]
impl Admin for Operator {
    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(self.version.clone()))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyResponse>, Status> {
        let pods = why::find(self.engine.explain(), &request.into_inner().pod)?;
        Ok(Response::new(WhyResponse { pods: pods.into_iter().map(why::told).collect() }))
    }

    async fn verify_images(
        &self,
        request: Request<VerifyImagesRequest>,
    ) -> Result<Response<VerifyImagesResponse>, Status> {
        let found = self.images.verify(request.into_inner().repair).await;
        found.map(|found| Response::new(verify::told(found))).map_err(|error| verify::failed(&error))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let (engine, places) = (self.engine.clone(), Arc::clone(&self.places));
        let repair = request.into_inner().repair;
        let mut found = self.looks.look(move || places.look(&engine, repair)).await?;
        let network = leftovers::network::look(&self.networks, &self.engine, repair);
        let network = tokio::time::timeout(NETWORK_LIMIT, network).await.map_err(|_| {
            Status::deadline_exceeded(format!("check the network: it took longer than {} s", NETWORK_LIMIT.as_secs()))
        })?;
        let handlers = self.handlers.clone();
        let problems = self.looks.look(move || handlers.problems()).await?;
        found.not_checked.extend(
            problems
                .iter()
                .map(|p| format!("runtime handler of {}: it can not be used: {}", p.path.display(), p.reason)),
        );
        found.leftovers.extend(network.leftovers);
        found.not_checked.extend(network.not_checked);
        Ok(Response::new(found))
    }
}
