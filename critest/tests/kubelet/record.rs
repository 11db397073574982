//! Records what a kubelet asks and is answered, for critest/fixtures; `PODWRIGHT_RECORD_CALLS=FILE` says where to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poller, Poll};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use podwright_cri_api::v1::ExecSyncRequest;
use podwright_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use podwright_critest::World;
use podwright_critest::calls::message::{Field, Value, decode};
use podwright_critest::calls::raw::{self, RawCodec};
use podwright_critest::calls::{Call, Names};
use serde_json::json;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::node::{Node, with_recorded_node};
use crate::status::PodStatus;

/// Names the file.
const FILE: &str = "PODWRIGHT_RECORD_CALLS";
/// First lines of the file.
const HEAD: &str = "\
# What a kubelet asked and was answered, in the order of the answers: see critest/src/calls.rs. Recorded by the test
# root_the_calls_of_a_pods_life_are_recorded of critest/tests/kubelet/record.rs. Looks that brought nothing new are left out.
";

/// Stands between a kubelet and the daemon.
#[derive(Clone)]
pub(crate) struct Recorder {
    daemon: Channel,
    names: Arc<Names>,
    dir: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recorder {
    /// Serves on `socket`.
    pub(crate) async fn start(world: &World, socket: &Path) -> Result<Self> {
        let mut names = Names::default();
        let dir = world.daemon.path("").display().to_string();
        let dir = dir.trim_end_matches('/').to_owned();
        names.set(&dir, "$DIR");
        names.set(world.registry.address(), "$REGISTRY");
        names.set(&world.daemon.host().cgroup_parent(), "$CGROUP");
        let calls = Arc::new(Mutex::new(Vec::new()));
        let recorder = Self { daemon: world.daemon.channel().await?, names: Arc::new(names), dir, calls };
        let listener = UnixListener::bind(socket).context("listening for the kubelet")?;
        let server = Server::builder()
            .add_service(Runtime(recorder.clone()))
            .add_service(Images(recorder.clone()))
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(server);
        Ok(recorder)
    }

    /// All calls, without looks that brought nothing new.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let mut last = BTreeMap::new();
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_new = |call: &Call| {
            let key = (call.method.clone(), format!("{:?}", call.request));
            if call.is_measure() {
                return last.insert(key, call.answer.clone()).is_none();
            }
            !call.is_read() || last.insert(key, call.answer.clone()).as_ref() != Some(&call.answer)
        };
        let calls: Vec<Call> = calls.into_iter().filter(is_new).collect();
        calls
    }

    fn paths(&self, fields: &[Field], found: &mut Vec<String>) {
        for field in fields {
            match &field.value {
                Value::Message(fields) => self.paths(fields, found),
                Value::Text(text) if text.starts_with(&format!("{}/kubelet/", self.dir)) => {
                    let Ok(about) = std::fs::metadata(text) else { continue };
                    let slash = if about.is_dir() { "/" } else { "" };
                    found.push(format!("{}{slash}", self.names.text(text)));
                }
                Value::Text(_) | Value::Number(_) | Value::Four(_) | Value::Eight(_) | Value::Bytes(_) => {}
            }
        }
    }

    async fn forward(self, method: String, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let internal = |error: anyhow::Error| Status::internal(error.to_string());
        let asked = decode(request.get_ref()).map_err(internal)?;
        let mut paths = Vec::new();
        self.paths(&asked, &mut paths);
        let reply = raw::call(&self.daemon, &method, request).await;
        let answer = match &reply {
            Ok(reply) => Ok(self.names.apply(&decode(reply.get_ref()).map_err(internal)?)),
            Err(status) => Err(status.code().into()),
        };
        let call = Call { method, request: self.names.apply(&asked), answer, paths };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        reply
    }
}

/// The recorder as RuntimeService.
#[derive(Clone)]
struct Runtime(Recorder);

/// The recorder as ImageService.
#[derive(Clone)]
struct Images(Recorder);

impl NamedService for Runtime {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}

impl NamedService for Images {
    const NAME: &'static str = "runtime.v1.ImageService";
}

impl Service<http::Request<Body>> for Runtime {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        serve(&self.0, request)
    }
}

impl Service<http::Request<Body>> for Images {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        serve(&self.0, request)
    }
}

/// A call on its way.
struct Forward(Recorder, String);

impl UnaryService<Bytes> for Forward {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(self.0.clone().forward(self.1.clone(), request))
    }
}

fn serve(recorder: &Recorder, request: http::Request<Body>) -> BoxFuture<http::Response<Body>, Infallible> {
    let method = request.uri().path().trim_start_matches("/runtime.v1.").to_owned();
    let forward = Forward(recorder.clone(), method);
    Box::pin(async move { Ok(Grpc::new(RawCodec).unary(forward, request).await) })
}

/// Tells a container by a file to go on, in a call that is recorded.
async fn tell(node: &Node, pod: &PodStatus, container: &str, file: &str) -> Result<()> {
    let request = ExecSyncRequest {
        container_id: pod.container(container).id().context("no id")?,
        cmd: ["touch", file].map(String::from).into(),
        timeout: 0,
    };
    let recorder = format!("unix://{}", node.world.daemon.path("recorder.sock").display());
    let channel = Endpoint::from_shared(recorder)?.connect().await.context("the recorder")?;
    RuntimeServiceClient::new(channel).exec_sync(request).await.context("ExecSync")?;
    Ok(())
}

#[test]
fn root_the_calls_of_a_pods_life_are_recorded() {
    with_recorded_node(json!({}), async |node| {
        // Each ends a while after it is told to, so that the call that tells it has ended before. Nothing ends by itself, so looks
        // bring the same each time.
        let mut first = node.shell("first", "until test -e /data/word; do sleep 0.2; done; sleep 1");
        let mut side = node.shell("side", "sleep 1000");
        side["restartPolicy"] = json!("Always");
        let mut main = node.shell("main", "until test -e /data/end; do sleep 0.2; done; sleep 1; rm /data/end; exit 3");
        for one in [&mut first, &mut side, &mut main] {
            one["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        }
        main["resources"] = json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
        main["startupProbe"] = json!({"exec": {"command": ["cat", "/data/word"]}, "periodSeconds": 1});
        main["lifecycle"] = json!({"postStart": {"exec": {"command": ["sh", "-c", "echo post >/data/post"]}}});
        let spec = json!({
            "terminationGracePeriodSeconds": 1,
            "initContainers": [first, side], "containers": [main],
            "volumes": [{"name": "data", "emptyDir": {}}],
        });
        node.add_with(
            "life",
            &json!({"labels": {"app": "life"}, "uid": "11111111-2222-4333-8444-555555555555"}),
            &spec,
        )?;
        let pod = node.until("life", "initializing", |pod| pod.container("first").is_running()).await?;
        tell(node, &pod, "first", "/data/word").await?;
        let pod = node.ready("life").await?;
        tell(node, &pod, "main", "/data/end").await?;
        node.until("life", "restarted", |pod| pod.container("main").restarts() == 1 && pod.is_ready()).await?;
        node.kill_kubelet()?;
        node.start_kubelet().await?;
        node.ready("life").await?;
        node.take("life")?;
        let daemon = &node.world.daemon;
        let gone = || Ok(Some(()).filter(|()| daemon.crictl(&["pods", "-q"]).is_ok_and(|all| all.is_empty())));
        node.settled("the sandbox is collected", gone).await?;

        let calls = node.recorded()?;
        let text: String = calls.iter().map(Call::text).collect();
        ensure!(podwright_critest::calls::read(&text)? == calls, "the text is not what was recorded");
        for method in [
            "RunPodSandbox",
            "CreateContainer",
            "StartContainer",
            "ExecSync",
            "StopContainer",
            "RemoveContainer",
            "StopPodSandbox",
            "RemovePodSandbox",
        ] {
            ensure!(calls.iter().any(|call| call.method.ends_with(method)), "{method} was not called");
        }
        if let Some(file) = std::env::var_os(FILE) {
            std::fs::write(file, format!("{HEAD}{text}"))?;
        }
        Ok(())
    });
}
