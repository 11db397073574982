//! A front end on a unix socket, with everything behind it in memory or in a directory of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use podwright_cri::streaming::Streaming;
use podwright_cri::{CgroupDriver, Cri, Host, MAX_MESSAGE_BYTES, NetworkReport, NodeInfo};
use podwright_cri_api::v1;
use podwright_cri_api::v1::image_service_client::ImageServiceClient;
use podwright_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use podwright_imageservice::{ImageConfig, ImageStore, Patience};
use podwright_podsandbox::fakes::World;
use podwright_podsandbox::{Engine, EngineConfig};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Server};

pub(crate) struct FakeHost {
    info: NodeInfo,
    cidrs: Mutex<Vec<String>>,
}

impl FakeHost {
    pub(crate) fn cidrs(&self) -> Vec<String> {
        self.cidrs.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl Host for FakeHost {
    fn info(&self) -> &NodeInfo {
        &self.info
    }

    async fn set_pod_cidrs(&self, cidrs: Vec<String>) -> Result<(), String> {
        *self.cidrs.lock().unwrap() = cidrs;
        Ok(())
    }

    fn network_report(&self) -> NetworkReport {
        NetworkReport { last_load_status: "OK".into(), ..Default::default() }
    }
}

pub(crate) struct Front {
    pub(crate) world: World,
    pub(crate) host: Arc<FakeHost>,
    channel: Channel,
    socket: PathBuf,
    server: tokio::task::JoinHandle<()>,
    streams: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
        self.streams.abort();
    }
}

async fn connect(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://socket").connect_with_connector(connector).await.unwrap()
}

impl Front {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let world = World::new();
        let config =
            EngineConfig { netns_dir: root.join("netns"), ..EngineConfig::new(root.join("root"), root.join("run")) };
        let engine = Engine::new(config, world.ports());
        engine.recover().await.unwrap();
        let patience = Patience { attempts: 1, ..Patience::default() };
        let images = ImageStore::open(
            &root,
            ImageConfig { hosts_dir: None, registries_conf: None, patience, ..ImageConfig::default() },
        );
        let info = NodeInfo {
            version: "1".into(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            recursive_read_only_mounts: true,
            user_namespaces: true,
            config: serde_json::Value::Null,
        };
        let host = Arc::new(FakeHost { info, cidrs: Mutex::default() });
        let (streaming, streams) = Streaming::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let streams = tokio::spawn(streams.serve(engine.clone(), CancellationToken::new()));
        let cri = Cri::new(engine, images.await.unwrap(), host.clone(), streaming);
        let socket = root.join("s");
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let server =
            tokio::spawn(async move { cri.on(Server::builder()).serve_with_incoming(listener).await.unwrap() });
        let channel = connect(socket.clone()).await;
        Self { world, host, channel, socket, server, streams, _dir: dir }
    }

    /// A client with a connection of its own.
    pub(crate) async fn other_client(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(connect(self.socket.clone()).await)
    }

    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        let client = RuntimeServiceClient::new(self.channel.clone()).max_encoding_message_size(2 * MAX_MESSAGE_BYTES);
        client.max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn run_pod(&self, name: &str) -> String {
        let config = Some(sandbox_config(name));
        let request = v1::RunPodSandboxRequest { config, runtime_handler: String::new() };
        self.runtime().run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id
    }

    pub(crate) async fn create(&self, pod: &str, name: &str) -> String {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(container_config(name)),
            sandbox_config: None,
        };
        self.runtime().create_container(request).await.unwrap().into_inner().container_id
    }

    pub(crate) async fn pod_status(&self, pod: &str, verbose: bool) -> Result<v1::PodSandboxStatusResponse, Status> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.into(), verbose };
        self.runtime().pod_sandbox_status(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus, Status> {
        let request = v1::ContainerStatusRequest { container_id: id.into(), verbose: true };
        self.runtime().container_status(request).await.map(|answer| answer.into_inner().status.unwrap())
    }
}

pub(crate) fn sandbox_config(name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.into(),
            namespace: "default".into(),
            uid: format!("uid-{name}"),
            attempt: 0,
        }),
        labels: [("app".to_owned(), name.to_owned())].into(),
        ..Default::default()
    }
}

pub(crate) fn container_config(name: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() }),
        command: vec!["sleep".into()],
        ..Default::default()
    }
}
