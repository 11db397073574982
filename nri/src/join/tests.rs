//! Joining and leaving, with plugins that are connections of this process.

use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use podwright_ttrpc::{INVALID_ARGUMENT, Serve, Status};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::api::{
    ContainerEviction, CreateContainerResponse, FailurePolicy, LinuxContainerUpdate, LinuxResources,
    RegisterPluginRequest, UpdateContainerRequest, UpdateContainerResponse,
};
use crate::runtime::{Host, NriConfig};

use super::*;

#[test]
fn a_synchronisation_is_one_message_while_it_fits() {
    assert_eq!(in_parts(Vec::new(), Vec::new()).len(), 1);
    let pods = |count| vec![PodSandbox { id: "x".repeat(1 << 20), ..PodSandbox::default() }; count];
    let containers = |count| vec![Container { id: "c".into(), ..Container::default() }; count];
    assert_eq!(in_parts(pods(2), containers(200)).len(), 1);
    let parts = in_parts(pods(7), containers(2));
    assert_eq!(parts.iter().map(|part| part.pods.len()).collect::<Vec<_>>(), [2, 2, 2, 1]);
    assert_eq!(parts.iter().map(|part| part.containers.len()).sum::<usize>(), 2);
}

/// What the host was asked, and how it behaves.
#[derive(Default)]
struct FakeHost {
    updates: Mutex<Vec<ContainerUpdate>>,
    /// Updates are never done.
    hangs: bool,
}

#[async_trait]
impl Host for FakeHost {
    async fn state(&self) -> (Vec<PodSandbox>, Vec<Container>) {
        (Vec::new(), Vec::new())
    }

    async fn update(&self, updates: Vec<ContainerUpdate>) -> Vec<ContainerUpdate> {
        self.updates.lock().unwrap().extend(updates);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Vec::new()
    }

    async fn evict(&self, _evictions: Vec<ContainerEviction>) {}
}

/// What it does when a container is made.
#[derive(Debug, Clone, Copy, Default)]
enum Fails {
    #[default]
    Not,
    Late,
    Rubbish,
    Refuses,
}

/// A plugin that wants an update of what it is told is there.
#[derive(Default)]
struct FakePlugin {
    /// Told when it is synchronised; it answers when `answers` allows it.
    synchronised: watch::Sender<bool>,
    answers: Option<Arc<Semaphore>>,
    policy: Option<FailurePolicy>,
    fails: Fails,
    /// The container that it updates when one is made.
    updates: &'static str,
    /// What it answers to an update.
    pool: Option<ContainerUpdate>,
    /// What it was told of updates.
    seen: Arc<Mutex<Vec<Option<LinuxResources>>>>,
}

impl FakePlugin {
    async fn create(&self) -> Result<Vec<u8>, Status> {
        match self.fails {
            Fails::Not => {}
            Fails::Late => std::future::pending().await,
            Fails::Rubbish => return Ok(vec![0xff; 9]),
            Fails::Refuses => return Err(Status { code: INVALID_ARGUMENT, message: "no".into() }),
        }
        let update = ContainerUpdate { container_id: self.updates.into(), ..ContainerUpdate::default() };
        Ok(CreateContainerResponse { update: vec![update], ..CreateContainerResponse::default() }.encode_to_vec())
    }
}

#[async_trait]
impl Serve for FakePlugin {
    async fn serve(&self, _service: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, Status> {
        match method {
            "Configure" => {
                Ok(ConfigureResponse { failure_policy: self.policy, ..ConfigureResponse::default() }.encode_to_vec())
            }
            "CreateContainer" => self.create().await,
            "UpdateContainer" => {
                let told = UpdateContainerRequest::decode(payload.as_slice()).unwrap();
                self.seen.lock().unwrap().push(told.linux_resources);
                let update = self.pool.iter().cloned().collect();
                Ok(UpdateContainerResponse { update, evict: Vec::new() }.encode_to_vec())
            }
            "Synchronize" => {
                self.synchronised.send_replace(true);
                if let Some(answers) = &self.answers {
                    answers.acquire().await.unwrap().forget();
                }
                let update = ContainerUpdate { container_id: "one".into(), ..ContainerUpdate::default() };
                Ok(SynchronizeResponse { update: vec![update], more: false }.encode_to_vec())
            }
            _ => Ok(Vec::new()),
        }
    }
}

const LIMIT: Duration = Duration::from_secs(60);

fn nri(host: FakeHost, socket: PathBuf) -> (Arc<Nri>, Arc<FakeHost>) {
    nri_with(host, |config| config.socket = socket)
}

fn nri_with(host: FakeHost, edit: impl FnOnce(&mut NriConfig)) -> (Arc<Nri>, Arc<FakeHost>) {
    let host = Arc::new(host);
    let mut config = NriConfig {
        socket: PathBuf::new(),
        plugin_dir: PathBuf::new(),
        config_dir: PathBuf::new(),
        runtime_version: String::new(),
        registration_limit: LIMIT,
        request_limit: LIMIT,
    };
    edit(&mut config);
    (Nri::new(config, host.clone()), host)
}

/// Registers one at its end of a socket pair. Returns its connection, and the task that has it join.
async fn dial(nri: &Arc<Nri>, plugin: FakePlugin) -> (Arc<Connection>, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let joining = tokio::spawn(nri.clone().join(ours, None));
    let connection = Connection::open(theirs, Wire::Shared { calls: 2, serves: 1 }, Some(Arc::new(plugin)));
    let request = RegisterPluginRequest {
        plugin_name: "fake".into(),
        plugin_idx: "10".into(),
        ..RegisterPluginRequest::default()
    };
    let method = ("nri.pkg.api.v1alpha1.Runtime", "RegisterPlugin");
    connection.call::<_, Empty>(method, &request, LIMIT).await.unwrap();
    (connection, joining)
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let seen = timeout(LIMIT, async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    seen.await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn one_that_dies_while_its_first_updates_are_done_is_let_go_of() {
    let (nri, host) = nri(FakeHost { hangs: true, ..FakeHost::default() }, PathBuf::new());
    let (plugin, joining) = dial(&nri, FakePlugin::default()).await;
    until("its updates are done", || !host.updates.lock().unwrap().is_empty()).await;
    assert!(nri.has_plugins());
    plugin.close("killed");
    until("it stays in the list", || !nri.has_plugins()).await;
    // What is made next does not ask it.
    nri.create(PodSandbox::default(), Container::default()).await.unwrap();
    joining.abort();
}

#[tokio::test]
async fn changes_wait_for_the_first_one_that_joins() {
    let (nri, _host) = nri(FakeHost::default(), PathBuf::new());
    assert!(!nri.has_plugins(), "nobody is waited for");
    let (plugin, answers) = (FakePlugin::default(), Arc::new(Semaphore::new(0)));
    let mut synchronised = plugin.synchronised.subscribe();
    let (plugin, joining) = dial(&nri, FakePlugin { answers: Some(answers.clone()), ..plugin }).await;
    synchronised.wait_for(|told| *told).await.unwrap();
    // It was told what is there: whoever changes that now has somebody to tell, in the next turn.
    assert!(nri.has_plugins() && nri.all().is_empty());
    let mut turn = Box::pin(nri.turn());
    assert!(futures_now(&mut turn).await.is_none(), "the turn is the plugin's");
    answers.add_permits(1);
    drop(timeout(LIMIT, turn).await.unwrap());
    assert_eq!(nri.all().len(), 1, "it is there in the turn after it");
    joining.await.unwrap();
    plugin.close("done");
    until("it stays in the list", || !nri.has_plugins()).await;
}

/// What a future has now.
async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn one_that_is_refused_is_not_waited_for() {
    let (nri, _host) = nri(FakeHost::default(), PathBuf::new());
    nri.ending.send_replace(true);
    let (plugin, joining) = dial(&nri, FakePlugin::default()).await;
    joining.await.unwrap();
    assert!(!nri.has_plugins());
    plugin.closed().await;
}

#[tokio::test]
async fn the_socket_is_gone_when_the_end_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nri.sock");
    let (nri, _host) = nri(FakeHost::default(), socket.clone());
    nri.start().await.unwrap();
    assert!(socket.exists());
    nri.stop().await;
    assert!(!socket.exists());
}

async fn joined(nri: &Arc<Nri>, plugin: FakePlugin) -> Arc<Connection> {
    let (plugin, joining) = dial(nri, plugin).await;
    joining.await.unwrap();
    plugin
}

async fn create(nri: &Nri) -> Result<(), String> {
    let container = Container { id: "new".into(), ..Container::default() };
    nri.create(PodSandbox::default(), container).await.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_failure_is_what_the_plugin_says_it_is() {
    let policy = |fail_request, keep_connected| Some(FailurePolicy { fail_request, keep_connected });
    // Policy, how it fails, whether the request fails, whether it stays.
    for (policy, fails, request_fails, stays) in [
        (None, Fails::Late, true, false),
        (None, Fails::Rubbish, true, false),
        (policy(true, true), Fails::Late, true, true),
        (policy(true, true), Fails::Rubbish, true, false),
        (policy(false, false), Fails::Late, false, false),
        (policy(false, true), Fails::Late, false, true),
        (policy(false, true), Fails::Rubbish, false, false),
        (policy(false, false), Fails::Refuses, true, true),
    ] {
        let case = format!("{policy:?} {fails:?}");
        // Only who is late has to be waited for.
        let request_limit = if matches!(fails, Fails::Late) { Duration::from_millis(20) } else { LIMIT };
        let (nri, _host) = nri_with(FakeHost::default(), |config| config.request_limit = request_limit);
        let plugin = joined(&nri, FakePlugin { policy, fails, ..FakePlugin::default() }).await;
        let made = create(&nri).await;
        assert_eq!(made.is_err(), request_fails, "{case}: {made:?}");
        if stays {
            assert_eq!(nri.all().iter().filter(|plugin| !plugin.connection.has_ended()).count(), 1, "{case}");
            plugin.close("done");
        }
        until(&case, || !nri.has_plugins()).await;
    }
}

#[tokio::test]
async fn what_is_being_made_is_not_updated() {
    let (nri, host) = nri(FakeHost::default(), PathBuf::new());
    let plugin = joined(&nri, FakePlugin { updates: "new", ..FakePlugin::default() }).await;
    let error = create(&nri).await.unwrap_err();
    assert!(error.contains("10-fake") && error.contains("update of new"), "{error}");
    assert!(host.updates.lock().unwrap().iter().all(|update| update.container_id != "new"));
    plugin.close("done");
}

#[tokio::test]
async fn each_sees_what_those_before_it_made_of_an_update() {
    let (nri, _host) = nri(FakeHost::default(), PathBuf::new());
    let cpus = |cpus: &str| {
        let cpu = Some(crate::api::LinuxCpu { cpus: cpus.into(), ..Default::default() });
        LinuxResources { cpu, ..LinuxResources::default() }
    };
    let pool = LinuxContainerUpdate { resources: Some(cpus("7")) };
    let pool = ContainerUpdate { container_id: "one".into(), linux: Some(pool), ignore_failure: false };
    let first = joined(&nri, FakePlugin { pool: Some(pool), ..FakePlugin::default() }).await;
    let seen = Arc::new(Mutex::default());
    let second = joined(&nri, FakePlugin { seen: seen.clone(), ..FakePlugin::default() }).await;
    let container = Container { id: "one".into(), ..Container::default() };
    let merged = nri.update(PodSandbox::default(), container, cpus("0")).await.unwrap();
    assert_eq!(merged, cpus("7"));
    assert_eq!(*seen.lock().unwrap(), [Some(cpus("7"))]);
    first.close("done");
    second.close("done");
}
