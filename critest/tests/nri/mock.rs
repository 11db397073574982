//! A mock of a plugin: it speaks the protocol through our own ttrpc crate, and does what the library that plugins are made with would not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use podwright_nri::api::{
    ConfigureResponse, ContainerRequest, CreateContainerResponse, Empty, RegisterPluginRequest, SynchronizeResponse,
    UpdateContainersRequest, UpdateContainersResponse,
};
use podwright_testutil::Daemon;
use podwright_ttrpc::{CallError, Connection, Serve, Status, UNIMPLEMENTED, Wire};
use prost::Message as _;
use tokio::net::UnixStream;

/// What it answers to the making of a container.
#[derive(Debug, Clone, Default)]
pub(crate) enum Answer {
    /// Nothing to change.
    #[default]
    Fine,
    /// This.
    This(Box<CreateContainerResponse>),
    /// None, ever.
    Never,
    /// Bytes that are no message.
    Rubbish,
    /// It hangs up.
    HangUp,
}

/// How one behaves.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    pub(crate) index: &'static str,
    pub(crate) name: &'static str,
    /// Events that it asks for.
    pub(crate) events: i32,
    pub(crate) create: Answer,
    /// Whether it answers a synchronisation.
    pub(crate) is_synchronised: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self { index: "50", name: "mock", events: 0, create: Answer::Fine, is_synchronised: true }
    }
}

struct Server {
    manners: Manners,
    connection: Mutex<Option<Arc<Connection>>>,
    synchronised: tokio::sync::watch::Sender<bool>,
}

#[async_trait]
impl Serve for Server {
    async fn serve(&self, _service: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, Status> {
        let events = self.manners.events;
        match method {
            "Configure" => Ok(ConfigureResponse { events, ..Default::default() }.encode_to_vec()),
            "Synchronize" if !self.manners.is_synchronised => std::future::pending().await,
            "Synchronize" => {
                self.synchronised.send_replace(true);
                Ok(SynchronizeResponse::default().encode_to_vec())
            }
            "CreateContainer" => self.create(&payload).await,
            "Shutdown" | "RunPodSandbox" => Ok(Empty {}.encode_to_vec()),
            _ => Err(Status { code: UNIMPLEMENTED, message: "a mock".into() }),
        }
    }
}

impl Server {
    async fn create(&self, payload: &[u8]) -> Result<Vec<u8>, Status> {
        let request = ContainerRequest::decode(payload).unwrap_or_default();
        // It lets others be.
        if !request.container.is_some_and(|container| container.name.starts_with("victim")) {
            return Ok(CreateContainerResponse::default().encode_to_vec());
        }
        match &self.manners.create {
            Answer::Fine => Ok(CreateContainerResponse::default().encode_to_vec()),
            Answer::This(answer) => Ok(answer.encode_to_vec()),
            Answer::Never => std::future::pending().await,
            Answer::Rubbish => Ok(vec![0xff; 100]),
            Answer::HangUp => {
                let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(connection) = connection {
                    connection.close("it hangs up");
                }
                std::future::pending().await
            }
        }
    }
}

/// One that has dialled in.
pub(crate) struct Mock {
    pub(crate) connection: Arc<Connection>,
    server: Arc<Server>,
}

const LIMIT: Duration = Duration::from_secs(60);

impl Mock {
    /// Dials in and registers.
    pub(crate) async fn dial(daemon: &Daemon, manners: Manners) -> Result<Result<Self, CallError>> {
        let socket = UnixStream::connect(daemon.path("nri.sock")).await.context("dialling in")?;
        let request = RegisterPluginRequest {
            plugin_name: manners.name.into(),
            plugin_idx: manners.index.into(),
            nri_version: "99.0".into(),
        };
        let (connection, synchronised) = (Mutex::default(), tokio::sync::watch::Sender::new(false));
        let server = Arc::new(Server { manners, connection, synchronised });
        let connection = Connection::open(socket, Wire::Shared { calls: 2, serves: 1 }, Some(server.clone()));
        *server.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        let mock = Self { connection, server };
        Ok(mock.call::<_, Empty>("RegisterPlugin", &request).await.map(|_| mock))
    }

    /// The same, and waits until it was told what is there.
    pub(crate) async fn join(daemon: &Daemon, manners: Manners) -> Result<Self> {
        let mock = Self::dial(daemon, manners).await?.context("registering")?;
        let mut synchronised = mock.server.synchronised.subscribe();
        tokio::time::timeout(LIMIT, synchronised.wait_for(|done| *done)).await.context("it was not synchronised")??;
        Ok(mock)
    }

    pub(crate) async fn call<Q: prost::Message, A: prost::Message + Default>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<A, CallError> {
        self.connection.call(("nri.pkg.api.v1alpha1.Runtime", method), request, LIMIT).await
    }

    pub(crate) async fn update(
        &self,
        request: &UpdateContainersRequest,
    ) -> Result<UpdateContainersResponse, CallError> {
        self.call("UpdateContainers", request).await
    }

    /// Waits until the daemon has let go of it.
    pub(crate) async fn is_let_go(&self) -> Result<()> {
        tokio::time::timeout(LIMIT, self.connection.closed()).await.context("the daemon keeps it")?;
        Ok(())
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.connection.close("the test is done with it");
    }
}
